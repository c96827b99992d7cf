//! What makes a secret look wrong: characters that people and their tools put around it by mistake. Each finding names
//! a kind of mistake and how to mend it, and shows nothing of the secret.

/// What is suspicious, and how to mend it.
type Suspicion = (&'static str, &'static str);

const QUOTES: &str = "\"'`´“”„‟‘’‚‛«»‹›";
const SCHEMES: [&str; 4] = ["bearer ", "basic ", "token ", "authorization:"];

/// The first thing that looks wrong with `secret`.
pub(crate) fn of(secret: &str) -> Option<Suspicion> {
    let bare = secret.trim_matches(is_blank);
    let is_quoted = |text: &str| text.starts_with(is_quote) || text.ends_with(is_quote);
    if is_quoted(bare) {
        return Some(("has a quotation mark at its beginning or end", "remove it, unless it belongs to the secret"));
    }
    if bare.len() < secret.len() {
        return Some(("has a blank or an invisible character at its beginning or end", "remove it"));
    }
    if secret.chars().any(|c| c.is_control() || is_invisible(c)) {
        return Some(("has a line end or an invisible character in it", "leave nothing but the secret itself"));
    }
    let lower = secret.to_lowercase();
    if SCHEMES.iter().any(|scheme| lower.starts_with(scheme)) {
        return Some(("begins like a header", "leave nothing but the secret itself: the scheme is added"));
    }
    if is_assignment(secret) {
        return Some(("begins with a name and =", "leave nothing but what stands behind the ="));
    }
    if is_reference(secret) {
        return Some(("looks like a reference that was not replaced", "put the secret itself there"));
    }
    None
}

fn is_quote(c: char) -> bool {
    QUOTES.contains(c)
}

fn is_blank(c: char) -> bool {
    c.is_whitespace() || c.is_control() || is_invisible(c)
}

/// Characters that take no room: they come along when a secret is copied from a page or a file with a byte order mark.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2064}' | '\u{feff}')
}

/// `TWILIO_AUTH_TOKEN=…`: a whole line of an environment file.
fn is_assignment(secret: &str) -> bool {
    let Some((name, value)) = secret.split_once('=') else { return false };
    let name = name.strip_prefix("export ").unwrap_or(name);
    let is_name = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_';
    // The end of a base64 text is no assignment.
    name.len() >= 3 && name.contains('_') && name.bytes().all(is_name) && !value.trim_matches('=').is_empty()
}

/// `${TOKEN}`, `$TOKEN`, `{{ token }}`, `<your token>`, `{ env = "TOKEN" }` as text, `%TOKEN%`.
fn is_reference(secret: &str) -> bool {
    let is_between = |start: &str, end: &str| secret.len() > 2 && secret.starts_with(start) && secret.ends_with(end);
    let name = secret.strip_prefix('$').unwrap_or("");
    let is_variable = !name.is_empty() && name.bytes().all(|b| b.is_ascii_uppercase() || b == b'_');
    is_variable || [("${", "}"), ("$(", ")"), ("{", "}"), ("<", ">"), ("%", "%")].iter().any(|(a, b)| is_between(a, b))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn t14_what_is_put_around_a_secret_by_mistake_is_seen() {
        for (secret, what) in [
            ("\"0123456789abcdef\"", "quotation"),
            ("'0123456789abcdef'", "quotation"),
            ("“0123456789abcdef”", "quotation"),
            ("„0123456789abcdef“", "quotation"),
            ("«0123456789abcdef»", "quotation"),
            ("0123456789abcdef\"", "quotation"),
            (" \"0123456789abcdef\" ", "quotation"),
            (" 0123456789abcdef", "blank"),
            ("0123456789abcdef\t", "blank"),
            ("0123456789abcdef\n", "blank"),
            ("\u{feff}0123456789abcdef", "invisible"),
            ("0123456789abcdef\u{a0}", "blank"),
            ("0123456789\u{200b}abcdef", "invisible"),
            ("01234567\n89abcdef", "line end"),
            ("0123\0", "invisible"),
            ("Bearer 0123456789abcdef", "header"),
            ("basic 0123456789abcdef", "header"),
            ("Authorization: 0123456789abcdef", "header"),
            ("TWILIO_AUTH_TOKEN=0123456789abcdef", "name and ="),
            ("export TWILIO_AUTH_TOKEN=0123456789abcdef", "name and ="),
            ("${TWILIO_AUTH_TOKEN}", "reference"),
            ("$TWILIO_AUTH_TOKEN", "reference"),
            ("{{ token }}", "reference"),
            ("<your token>", "reference"),
            ("{ env = \"TWILIO_AUTH_TOKEN\" }", "reference"),
        ] {
            let (found, mend) = of(secret).unwrap_or_else(|| panic!("{secret:?} is not seen"));
            assert!(found.contains(what), "{secret:?}: {found}");
            assert!(!mend.is_empty());
        }
    }

    #[test]
    fn t14_odd_secrets_that_may_be_right_are_left_alone() {
        for secret in ["0123456789abcdef", "pass word", "it's", "a=b", "dGVzdA==", "$2b$12$x", "p{a}s", "Größe", "A_B="]
        {
            assert_eq!(of(secret), None, "{secret}");
        }
    }

    proptest! {
        #[test]
        fn t14_no_token_of_letters_and_digits_is_suspicious(secret in "[A-Za-z0-9_-]{1,64}={0,2}") {
            prop_assert_eq!(of(&secret), None);
        }
    }
}
