//! The check of request bodies; it refuses those that the real service refuses.

use serde_json::Value;

use super::refusal::Refusal;

/// The longest `input.text`, in characters.
const MAX_TEXT: usize = 2048;
const MAX_ATTACHMENTS: usize = 5;
const MAX_CONTEXT_BYTES: usize = 100 * 1024;
const MAX_STATELESS_CONTEXT_BYTES: usize = 250 * 1024;

/// Reads and checks a message request; an empty body is an empty request.
pub(super) fn read(body: &[u8], stateless: bool) -> Result<Value, Refusal> {
    let not_json = |_| Refusal::invalid("", "request body is not valid JSON");
    let request: Value = if body.is_empty() {
        Value::Object(serde_json::Map::new())
    } else {
        serde_json::from_slice(body).map_err(not_json)?
    };
    object(&request, "")?;
    for (part, path) in [("input", ".input"), ("context", ".context")] {
        request.get(part).map_or(Ok(()), |part| object(part, path))?;
    }
    input(request.get("input").unwrap_or(&Value::Null))?;
    user_id(request.get("user_id").unwrap_or(&Value::Null))?;
    let limit = if stateless { MAX_STATELESS_CONTEXT_BYTES } else { MAX_CONTEXT_BYTES };
    if request.get("context").is_some_and(|context| context.to_string().len() > limit) {
        return Err(Refusal::invalid(".context", "context is too large"));
    }
    Ok(request)
}

fn object(value: &Value, path: &str) -> Result<(), Refusal> {
    if value.is_object() || value.is_null() { Ok(()) } else { Err(Refusal::invalid(path, "must be an object")) }
}

fn input(input: &Value) -> Result<(), Refusal> {
    if let Some(text) = input.get("text").filter(|text| !text.is_null()) {
        let text = text.as_str().ok_or_else(|| Refusal::invalid(".input.text", "text must be a string"))?;
        if text.contains(['\t', '\n', '\r']) {
            let message = "text can not contain the following characters: tab, new line, carriage return.";
            return Err(Refusal::invalid(".input.text", message));
        }
        if text.chars().count() > MAX_TEXT {
            return Err(Refusal::invalid(".input.text", "text cannot be longer than 2048 characters."));
        }
    }
    let message_type = input.get("message_type").filter(|kind| !kind.is_null());
    if message_type.is_some_and(|kind| kind != "text" && kind != "search") {
        return Err(Refusal::invalid(".input.message_type", "message_type must be text or search"));
    }
    if let Some(attachments) = input.get("attachments").filter(|list| !list.is_null()) {
        let list = attachments.as_array().ok_or_else(|| Refusal::invalid(".input.attachments", "must be an array"))?;
        if list.len() > MAX_ATTACHMENTS || list.iter().any(|one| !one.get("url").is_some_and(Value::is_string)) {
            return Err(Refusal::invalid(".input.attachments", "at most 5 attachments, each with a url"));
        }
    }
    input.get("options").map_or(Ok(()), |options| object(options, ".input.options"))
}

/// Checks a user id, which must be a valid header value.
fn user_id(id: &Value) -> Result<(), Refusal> {
    let legal = match id {
        Value::Null => true,
        Value::String(id) => !id.chars().any(char::is_control),
        _ => false,
    };
    if legal { Ok(()) } else { Err(Refusal::invalid(".user_id", "user_id is not a valid header value")) }
}
