//! What an error of lapin or RabbitMQ means for the caller.

use lapin::ErrorKind;
use message::failure::{Failure, FailureKind};

/// Reply codes that only an operator can resolve: access refused, precondition failed (a queue declared otherwise), not
/// allowed (no such virtual host). <https://www.rabbitmq.com/amqp-0-9-1-reference#constants>
const MISCONFIGURED: [u16; 3] = [403, 406, 530];

/// The failure of a step before anything was published.
pub(super) fn of_setup(what: &str, error: &lapin::Error) -> Failure {
    let kind = match reply_code(error) {
        Some(code) if MISCONFIGURED.contains(&code) => FailureKind::Misconfigured,
        _ => FailureKind::Transient,
    };
    described(kind, what, error)
}

/// The failure of a publish that the broker may have accepted.
pub(super) fn of_publish(error: &lapin::Error) -> Failure {
    described(FailureKind::Unknown, "the broker did not confirm", error)
}

/// Whether the broker says that a queue or exchange does not exist.
pub(super) fn is_not_found(error: &lapin::Error) -> bool {
    reply_code(error) == Some(404)
}

/// Whether the broker says that a queue belongs to another connection.
pub(super) fn is_locked(error: &lapin::Error) -> bool {
    reply_code(error) == Some(405)
}

/// The broker's reply code, if the error is its reply.
pub(super) fn reply_code(error: &lapin::Error) -> Option<u16> {
    match error.kind() {
        ErrorKind::ProtocolError(reply) => Some(reply.get_id()),
        _ => None,
    }
}

fn described(kind: FailureKind, what: &str, error: &lapin::Error) -> Failure {
    let failure = Failure::new(kind, format!("{what}: {error}"));
    match reply_code(error) {
        Some(code) => failure.with_code(code.to_string()),
        None => failure,
    }
}
