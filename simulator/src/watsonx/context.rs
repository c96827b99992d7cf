//! Merging contexts: objects are merged member by member; any other value is replaced.

use serde_json::Value;

/// Merges `new` into `old`.
pub(super) fn merge(old: &mut Value, new: &Value) {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            for (name, value) in new {
                merge(old.entry(name.clone()).or_insert(Value::Null), value);
            }
        }
        (old, new) => *old = new.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn objects_merge_and_the_rest_is_replaced() {
        let mut context = json!({ "a": { "x": 1, "y": [1, 2] }, "b": "old" });
        merge(&mut context, &json!({ "a": { "y": [3], "z": true }, "b": { "c": 1 } }));
        assert_eq!(context, json!({ "a": { "x": 1, "y": [3], "z": true }, "b": { "c": 1 } }));
    }
}
