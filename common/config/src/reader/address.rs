//! Reads addresses: URLs that may hold a password. Says what is wrong with an address without showing the password.

use url::Url;

use super::Clients;

/// What is expected of an address, and how to mend it.
pub(crate) type Complaint = (&'static str, String);

/// What [`public`] expects.
pub(crate) const PUBLIC: &str =
    "the URL that the provider sees, such as \"https://sms.example.com\", up to where /webhooks/ begins";

/// An `http` or `https` URL of a server, without a trailing slash.
pub(crate) fn server(text: &str) -> Result<String, Complaint> {
    let expected = "a URL that starts with https://";
    let url = http(text, expected)?;
    if url.query().is_some() || url.fragment().is_some() {
        return Err((expected, "remove the part from `?` or `#` on".to_owned()));
    }
    Ok(text.trim_end_matches('/').to_owned())
}

/// The URL that a provider knows us by: scheme, host, port, and the path where a proxy has put us. Without a slash at
/// its end, otherwise unchanged.
pub(crate) fn public(text: &str) -> Result<String, Complaint> {
    let expected = PUBLIC;
    let url = http(text, expected)?;
    let (_, rest) = text.split_once("://").unwrap_or_default();
    let (authority, path) = rest.find('/').map_or((rest, ""), |slash| rest.split_at(slash));
    let (path, seen) = (path.trim_end_matches('/'), url.path().trim_end_matches('/'));
    if rest.contains(['?', '#']) || authority.ends_with(':') || path != seen {
        return Err((expected, format!("write \"{}{seen}\"", url.origin().ascii_serialization())));
    }
    if path.contains("/webhooks/") && (path.ends_with("/messages") || path.ends_with("/status")) {
        return Err((expected, "leave out what begins with /webhooks/: it is added for each integration".to_owned()));
    }
    // Twilio refuses such hosts as status callbacks.
    if url.host_str().is_some_and(|host| host.contains('_')) {
        return Err((expected, "use a host name without an underscore: Twilio refuses others".to_owned()));
    }
    Ok(text.trim_end_matches('/').to_owned())
}

/// A RabbitMQ node.
pub(crate) fn amqp(text: &str, clients: Clients) -> Result<String, Complaint> {
    let expected = "\"embedded\", or amqp://user:password@host:5672/vhost (amqps:// with TLS)";
    unambiguous(text, expected)?;
    parse(text, expected, &["amqp", "amqps"])?;
    if !(clients.amqp)(text) {
        return Err((expected, "correct the vhost, or what stands behind the `?`".to_owned()));
    }
    Ok(text.to_owned())
}

/// A Redis server.
pub(crate) fn redis(text: &str, clients: Clients) -> Result<String, Complaint> {
    let expected = "\"embedded\", or redis://host:6379/0 (rediss:// with TLS)";
    unambiguous(text, expected)?;
    let url = parse(text, expected, &["redis", "rediss"])?;
    let database = url.path().trim_start_matches('/');
    if !database.bytes().all(|b| b.is_ascii_digit()) {
        return Err((expected, "end the URL with the number of the database, such as /0".to_owned()));
    }
    if !(clients.redis)(text) {
        return Err((expected, "correct the number of the database, or what stands behind the `?`".to_owned()));
    }
    Ok(text.to_owned())
}

/// Whether a RabbitMQ URL ends with the slash that names the vhost without a name.
pub(crate) fn names_the_empty_vhost(text: &str) -> bool {
    Url::parse(text).is_ok_and(|url| url.path() == "/")
}

/// Refuses an ambiguous URL: one in which part of the password could be taken for the host or the path, or which spells
/// another password than was meant. The URL parser itself accepts such URLs.
fn unambiguous(text: &str, expected: &'static str) -> Result<(), Complaint> {
    let escape = "write these characters of user and password as % and two digits: \
                  `%` as %25, `/` as %2F, `@` as %40, `?` as %3F, `#` as %23, `:` as %3A";
    let refuse = |mend: &str| Err((expected, mend.to_owned()));
    if text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '\\') {
        return refuse("write it without blanks, line ends and backslashes");
    }
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or("");
    let is_escape = |digits: &str| digits.len() >= 2 && digits.bytes().take(2).all(|b| b.is_ascii_hexdigit());
    let has_loose_percent = !rest.split('%').skip(1).all(is_escape);
    let has_user = authority.contains('@');
    if rest.matches('@').count() > usize::from(has_user) || has_loose_percent {
        return refuse(escape);
    }
    Ok(())
}

/// The service URL without the API path, which we add ourselves, in case it was copied along.
pub(crate) fn without_api_path(url: &str) -> &str {
    let end = url.find("/v2/assistants").or_else(|| url.ends_with("/v2").then(|| url.len() - "/v2".len()));
    end.and_then(|end| url.get(..end)).unwrap_or(url)
}

/// The address without user, password and query. If it is doubtful where the password ends, everything is hidden.
pub(crate) fn masked(text: &str) -> String {
    let scheme = text.split_once("://").map_or("", |(scheme, _)| scheme);
    let is_scheme = !scheme.is_empty() && scheme.len() <= 10 && scheme.bytes().all(|b| b.is_ascii_alphanumeric());
    let hidden = if is_scheme { format!("{scheme}://***") } else { "***".to_owned() };
    let Ok(mut url) = Url::parse(text) else { return hidden };
    let has_user = has_user(&url);
    let is_clear = url.host().is_some() && url.set_username("").is_ok() && url.set_password(None).is_ok();
    // An unescaped `/`, `?`, `#` or `@` in a password makes the rest of it look like a path.
    if !is_clear || url.as_str().contains('@') || (!has_user && text.contains('@')) {
        return hidden;
    }
    url.set_query(None);
    url.set_fragment(None);
    if has_user { url.as_str().replacen("://", "://***@", 1) } else { url.into() }
}

fn http(text: &str, expected: &'static str) -> Result<Url, Complaint> {
    let url = parse(text, expected, &["https", "http"])?;
    if has_user(&url) || text.contains('@') {
        return Err((expected, "remove the user and password: credentials have keys of their own".to_owned()));
    }
    // The parser overlooks these slips, but they would stay in what is called, signed and pasted.
    let is_slip = |c: char| c.is_whitespace() || c.is_control() || c == '\\';
    if !text.contains("://") || text.contains(is_slip) {
        return Err((expected, "write it with :// after the scheme, without blanks and backslashes".to_owned()));
    }
    Ok(url)
}

fn parse(text: &str, expected: &'static str, schemes: &[&str]) -> Result<Url, Complaint> {
    let mend = |why: String| (expected, why);
    let url = Url::parse(text).map_err(|why| mend(format!("correct the URL ({why})")))?;
    if !schemes.contains(&url.scheme()) {
        return Err(mend(format!("begin it with {}://", schemes.join(":// or "))));
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err(mend("name the host after ://".to_owned()));
    }
    Ok(url)
}

fn has_user(url: &Url) -> bool {
    !url.username().is_empty() || url.password().is_some()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tests::CLIENTS;

    #[test]
    fn passwords_are_masked() {
        for (url, shown) in [
            ("amqp://user:hunter2@rabbit:5672/v", "amqp://***@rabbit:5672/v"),
            ("redis://:hunter2@redis:6379/0", "redis://***@redis:6379/0"),
            ("redis://redis:6379/0?password=hunter2", "redis://redis:6379/0"),
            ("amqp://user:hunter2/x@rabbit", "amqp://***"),
            ("amqp://user:12/hunter2@rabbit", "amqp://***"),
            ("amqp:user:hunter2@rabbit", "***"),
            ("hunter2", "***"),
            ("amqp://app:kq7@hunter2/x@rabbit:5672", "amqp://***"),
            ("amqp://app:1#hunter2@rabbit:5672", "amqp://***"),
            ("redis://app:1?hunter2@redis", "redis://***"),
            ("https://app:a@hunter2\\x@h", "https://***"),
            ("app:hunter2@rabbit:5672", "***"),
        ] {
            assert_eq!(masked(url), shown, "{url}");
        }
    }

    #[test]
    fn t13_a_url_whose_password_can_be_taken_for_something_else_is_refused() {
        for password in
            ["a@b", "a@b/c", "1/b", "a/b", "1#b", "a#b", "1?b", "a?b", "a%b", "a%", "a%4", "a b", "a\nb", "a\\b"]
        {
            assert!(amqp(&format!("amqp://app:{password}@host:5672/v"), CLIENTS).is_err(), "{password:?} for RabbitMQ");
            assert!(redis(&format!("redis://app:{password}@host:6379/0"), CLIENTS).is_err(), "{password:?} for Redis");
            assert!(redis(&format!("rediss://:{password}@host:6379/0"), CLIENTS).is_err(), "{password:?} for Redis");
            assert!(server(&format!("https://app:{password}@host")).is_err(), "{password:?} for a server");
        }
        for url in [
            "amqp://app:kq7@Zt9secretpart/x@host:5672",
            "amqp://host:5672/v@w",
            " amqp://app:a@host",
            "amqp://app:a@host\n",
        ] {
            assert!(amqp(url, CLIENTS).is_err(), "{url:?}");
        }
        for password in ["a:b", "a%40b%2Fc%25", "a!$&'()*+,;=b", "a[b]", "ä"] {
            assert!(amqp(&format!("amqp://app:{password}@host:5672/v"), CLIENTS).is_ok(), "{password:?}");
        }
    }

    #[test]
    fn t13_the_slash_that_names_a_vhost_without_a_name_is_seen() {
        for (url, is_empty) in [
            ("amqp://u:p@h:5672/", true),
            ("amqps://u:p@h/?heartbeat=5", true),
            ("amqp://u:p@h:5672", false),
            ("amqp://u:p@h:5672/%2F", false),
            ("amqp://u:p@h/v", false),
        ] {
            assert_eq!(names_the_empty_vhost(url), is_empty, "{url}");
        }
    }

    #[test]
    fn c19_a_service_url_that_was_copied_with_the_api_s_path_is_cut() {
        let bare = "https://h/instances/x";
        for copied in [bare, "https://h/instances/x/v2", "https://h/instances/x/v2/assistants/y/sessions"] {
            assert_eq!(without_api_path(copied), bare);
        }
        assert_eq!(without_api_path("https://v2.h/v2/instances/x"), "https://v2.h/v2/instances/x");
    }

    #[test]
    fn t9_a_public_url_is_an_origin_and_perhaps_a_path() {
        for (url, read) in [
            ("https://sms.example.com", "https://sms.example.com"),
            ("https://sms.example.com/", "https://sms.example.com"),
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("https://SMS.example.com:443/proxy/Sms/", "https://SMS.example.com:443/proxy/Sms"),
            ("https://[::1]:8443/webhooks", "https://[::1]:8443/webhooks"),
            ("https://sms.example.com/a%20b", "https://sms.example.com/a%20b"),
        ] {
            assert_eq!(public(url).unwrap(), read, "{url}");
        }
        for (url, right) in [
            ("https://sms.example.com/sms?x=1", "https://sms.example.com/sms"),
            ("https://sms.example.com/#rc=3", "https://sms.example.com"),
            ("https://sms.example.com:", "https://sms.example.com"),
            ("https://sms.example.com/a/../b/", "https://sms.example.com/b"),
            ("https://sms.example.com/ü", "https://sms.example.com/%C3%BC"),
        ] {
            assert_eq!(public(url).unwrap_err().1, format!("write \"{right}\""), "{url}");
        }
        let whole = "https://sms.example.com/webhooks/support/messages";
        assert!(public(whole).unwrap_err().1.contains("leave out"), "{whole}");
        for url in
            ["sms.example.com", "ftp://sms.example.com", "https://u:p@sms.example.com", "https://sms_1.example.com"]
        {
            assert!(public(url).is_err(), "{url}");
        }
    }

    #[test]
    fn slips_that_a_url_parser_overlooks_are_refused() {
        for url in [
            "https:a.example",
            r"https:\\a.example",
            r"https://a.example\b",
            " https://a.example",
            "https://a.example ",
            "https://a.exa\tmple",
            "https://a.example/b c",
        ] {
            assert!(public(url).is_err(), "{url:?} as our URL");
            assert!(server(url).is_err(), "{url:?} as a server's");
        }
    }

    proptest! {
        #[test]
        fn t13_no_part_of_a_password_is_shown(password in "[!-~]{8,20}", scheme in "amqp|redis|https") {
            let shown = masked(&format!("{scheme}://user:{password}@host:1/v"));
            let whole = format!("{scheme}://***@host:1/v");
            prop_assert!([whole, format!("{scheme}://***")].contains(&shown), "{}", shown);
        }
    }
}
