//! Guesses which name was meant.

/// `did you mean …` with the nearest of `names`, if any is near enough to be a slip.
pub(crate) fn did_you_mean(name: &str, names: &[&str]) -> Option<String> {
    nearest(name, names).map(|nearest| format!("did you mean `{nearest}`?"))
}

fn nearest<'n>(name: &str, names: &[&'n str]) -> Option<&'n str> {
    // Comparing costs the product of the lengths, and no name of ours is long.
    if name.len() > 64 {
        return None;
    }
    let name = name.to_ascii_lowercase();
    // Of two equally near names, the one with the same first character wins.
    let begins_otherwise = |known: &str| known.chars().next() != name.chars().next();
    let distance = |known: &&'n str| (strsim::damerau_levenshtein(&name, known), begins_otherwise(known));
    let is_near = |known: &&&'n str| distance(known).0 <= (known.len() / 3).max(1);
    names.iter().filter(is_near).min_by_key(|known| distance(known)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_recognised_and_strangers_are_not() {
        let names = ["listen", "public_url", "url", "auth_token"];
        assert_eq!(nearest("lisen", &names), Some("listen"));
        assert_eq!(nearest("publicUrl", &names), Some("public_url"));
        assert_eq!(nearest("auth_tokens", &names), Some("auth_token"));
        assert_eq!(nearest("uri", &names), Some("url"));
        assert_eq!(nearest("wroker", &["broker", "worker"]), Some("worker"));
        assert_eq!(nearest("colour", &names), None);
        assert_eq!(nearest(&"x".repeat(100_000), &names), None);
    }
}
