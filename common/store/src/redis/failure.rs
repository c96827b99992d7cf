//! What an error of Redis means for the caller.

use message::failure::{Failure, FailureKind};
use redis::{ErrorKind, RedisError};

/// The failure of connecting: nothing was asked yet.
pub(super) fn of_connect(error: &RedisError) -> Failure {
    let kind = if is_misconfigured(error) { FailureKind::Misconfigured } else { FailureKind::Transient };
    described(kind, "cannot connect to redis", error)
}

/// The failure of a read, which changes nothing whatever went wrong.
pub(super) fn of_read(error: &RedisError) -> Failure {
    let kind = if is_misconfigured(error) { FailureKind::Misconfigured } else { FailureKind::Transient };
    described(kind, "redis did not answer a read", error)
}

/// The failure of a write. Only a server's own refusal says that nothing happened: most writes that timed out had been
/// made. A script is refused before its first write (full, read-only, cannot save), so a refusal is never half a
/// commit.
pub(super) fn of_write(error: &RedisError) -> Failure {
    let kind = if is_misconfigured(error) {
        FailureKind::Misconfigured
    } else if error.code().is_some() || error.is_connection_refusal() {
        FailureKind::Transient
    } else {
        FailureKind::Unknown
    };
    described(kind, "redis did not confirm a write", error)
}

/// Whether an operator has to fix credentials, permissions or the address first. `MOVED` comes from a cluster, which
/// wants a client (or a proxy) that knows all its nodes.
fn is_misconfigured(error: &RedisError) -> bool {
    matches!(error.kind(), ErrorKind::AuthenticationFailed | ErrorKind::InvalidClientConfig)
        || matches!(error.code(), Some("NOAUTH" | "WRONGPASS" | "NOPERM" | "MOVED" | "CROSSSLOT"))
}

/// Keeps the server's own code (`OOM`, `LOADING`, …), but not its message, which may quote a key.
fn described(kind: FailureKind, what: &str, error: &RedisError) -> Failure {
    match error.code() {
        Some(code) => Failure::new(kind, what).with_code(code),
        None => Failure::new(kind, format!("{what}: {}", error.category())),
    }
}
