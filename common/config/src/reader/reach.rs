//! What the host in a URL tells: whether it is this machine, and whether a provider on the Internet can reach it.

use std::net::{Ipv4Addr, Ipv6Addr};

use url::{Host, Url};

/// Whether the traffic to this server can be read on the way: plain http to another machine.
pub(crate) fn is_plain_and_remote(text: &str) -> bool {
    let Ok(url) = Url::parse(text) else { return false };
    url.scheme() == "http" && !is_local(&url)
}

/// Whether the server at `text` is this machine, as a simulator is.
pub(crate) fn is_this_machine(text: &str) -> bool {
    Url::parse(text).is_ok_and(|url| is_local(&url))
}

fn is_local(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// Whether a provider on the Internet can reach the host of `text`, as far as its name or number tells.
pub(crate) fn is_reachable_from_outside(text: &str) -> bool {
    let Ok(url) = Url::parse(text) else { return false };
    match url.host() {
        Some(Host::Domain(name)) => is_public_name(&name.trim_end_matches('.').to_ascii_lowercase()),
        Some(Host::Ipv4(address)) => is_public_v4(address),
        Some(Host::Ipv6(address)) => is_public_v6(address),
        None => false,
    }
}

/// Whether `name` may be public: it has a dot and does not end with a name that is reserved or customary for private
/// networks: <https://www.iana.org/assignments/special-use-domain-names/>.
fn is_public_name(name: &str) -> bool {
    const PRIVATE: [&str; 13] = [
        "local",
        "localhost",
        "localdomain",
        "internal",
        "intranet",
        "lan",
        "home",
        "corp",
        "private",
        "home.arpa",
        "test",
        "invalid",
        "svc",
    ];
    let is_below = |private: &&str| name == *private || name.ends_with(&format!(".{private}"));
    name.contains('.') && !PRIVATE.iter().any(is_below)
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [first, second, ..] = address.octets();
    // 100.64.0.0/10 lies behind a carrier's NAT.
    let is_shared = first == 100 && (64..128).contains(&second);
    let is_private = address.is_private() || address.is_loopback() || address.is_link_local() || is_shared;
    !is_private && first != 0 && first < 224
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    match address.to_ipv4_mapped() {
        Some(mapped) => is_public_v4(mapped),
        // Only 2000::/3 is given out for use on the Internet.
        None => address.segments()[0] >> 13 == 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_http_to_another_machine_is_readable_on_the_way() {
        assert!(is_plain_and_remote("http://api.example.com"));
        for url in ["https://api.example.com", "http://127.0.0.1:1", "http://[::1]", "http://localhost:8080"] {
            assert!(!is_plain_and_remote(url), "{url}");
        }
    }

    #[test]
    fn t15_hosts_that_a_provider_cannot_reach_are_known() {
        for host in [
            "localhost",
            "localhost.",
            "app.localhost",
            "127.0.0.1",
            "127.9.9.9",
            "[::1]",
            "0.0.0.0",
            "[::]",
            "10.1.2.3",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "[fd00::1]",
            "[fe80::1]",
            "[::ffff:10.0.0.1]",
            "224.0.0.1",
            "255.255.255.255",
            "switchboard",
            "PRINTER.local",
            "sms.internal",
            "sms.lan",
            "sms.corp",
            "sms.home.arpa",
            "ingress.default.svc",
            "ingress.default.svc.cluster.local",
            "sms.test",
        ] {
            assert!(!is_reachable_from_outside(&format!("https://{host}:8443")), "{host}");
        }
        for host in [
            "sms.example.com",
            "8.8.8.8",
            "172.32.0.1",
            "172.15.0.1",
            "100.128.0.1",
            "[2001:db8::1]",
            "[::ffff:8.8.8.8]",
            "local.example.com",
            "xn--bcher-kva.example",
            "abc.ngrok-free.app",
        ] {
            assert!(is_reachable_from_outside(&format!("https://{host}")), "{host}");
        }
        assert!(!is_reachable_from_outside("no URL"));
    }
}
