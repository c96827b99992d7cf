//! The names of the simulated calls. Faults and the record of requests refer to calls by these names.

use http::Method;
use serde::{Deserialize, Serialize};

/// A simulated service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Service {
    /// Twilio Programmable Messaging.
    Twilio,
    /// IntelePeer SMS API v4.
    Intelepeer,
    /// watsonx Assistant v2, with the token services that clients of it use.
    Watsonx,
}

impl Service {
    /// The service of a path; `None` for the phone page, the control API and unknown paths.
    pub(crate) fn of(path: &str) -> Option<Self> {
        const WATSONX: [&str; 5] = ["/v2/", "/instances/", "/assistant/", "/identity/", "/v1/authorize"];
        if path.starts_with("/2010-04-01/") {
            return Some(Self::Twilio);
        }
        if path.starts_with("/_rest/") {
            return Some(Self::Intelepeer);
        }
        WATSONX.iter().any(|start| path.starts_with(start)).then_some(Self::Watsonx)
    }
}

/// A call that can be made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Route {
    /// `POST …/Messages.json`.
    TwilioSend,
    /// `GET …/Messages/{sid}.json`.
    TwilioFetch,
    /// `GET …/Messages.json`.
    TwilioList,
    /// `GET /2010-04-01/Accounts/{sid}.json`.
    TwilioAccount,
    /// `…/IncomingPhoneNumbers…`.
    TwilioNumbers,
    /// `POST /_rest/v4/authenticate`.
    IntelepeerLogin,
    /// `POST /_rest/v4/app/sms/send`.
    IntelepeerSend,
    /// `/_rest/v4/app/sms/mdr`.
    IntelepeerStatus,
    /// `POST /_rest/v4/my/did/sms/webhook`.
    IntelepeerWebhook,
    /// Opening a session.
    AssistantSession,
    /// Deleting a session.
    AssistantDelete,
    /// A stateful turn.
    AssistantMessage,
    /// A stateless turn.
    AssistantStateless,
    /// `/identity/token` and `/v1/authorize`.
    Token,
}

impl Route {
    /// The call that a request makes, if it is one of these.
    pub(crate) fn of(method: &Method, path: &str) -> Option<Self> {
        let segments: Vec<&str> = path.split('/').filter(|s| !s.is_empty()).collect();
        match Service::of(path)? {
            Service::Twilio => Self::twilio(method, &segments),
            Service::Intelepeer => Self::intelepeer(&segments),
            Service::Watsonx => Self::watsonx(method, &segments),
        }
    }

    fn twilio(method: &Method, segments: &[&str]) -> Option<Self> {
        match segments {
            [_, "Accounts", account] if account.ends_with(".json") => Some(Self::TwilioAccount),
            [_, "Accounts", _, "Messages.json"] if method == Method::POST => Some(Self::TwilioSend),
            [_, "Accounts", _, "Messages.json"] => Some(Self::TwilioList),
            [_, "Accounts", _, "Messages", _] => Some(Self::TwilioFetch),
            [_, "Accounts", _, "IncomingPhoneNumbers.json"] | [_, "Accounts", _, "IncomingPhoneNumbers", _] => {
                Some(Self::TwilioNumbers)
            }
            _ => None,
        }
    }

    fn intelepeer(segments: &[&str]) -> Option<Self> {
        match segments {
            [_, _, "authenticate"] => Some(Self::IntelepeerLogin),
            [_, _, "app", "sms", "send"] => Some(Self::IntelepeerSend),
            [_, _, "app", "sms", "mdr"] => Some(Self::IntelepeerStatus),
            [_, _, "my", "did", "sms", "webhook"] => Some(Self::IntelepeerWebhook),
            _ => None,
        }
    }

    fn watsonx(method: &Method, segments: &[&str]) -> Option<Self> {
        match segments {
            ["identity", "token"] | ["v1", "authorize"] => Some(Self::Token),
            [.., "sessions"] => Some(Self::AssistantSession),
            [.., "sessions", _] if method == Method::DELETE => Some(Self::AssistantDelete),
            [.., "sessions", _, "message"] => Some(Self::AssistantMessage),
            [.., "message"] => Some(Self::AssistantStateless),
            _ => None,
        }
    }

    /// The service of this call.
    #[must_use]
    pub fn service(self) -> Service {
        match self {
            Self::TwilioSend | Self::TwilioFetch | Self::TwilioList | Self::TwilioAccount | Self::TwilioNumbers => {
                Service::Twilio
            }
            Self::IntelepeerLogin | Self::IntelepeerSend | Self::IntelepeerStatus | Self::IntelepeerWebhook => {
                Service::Intelepeer
            }
            Self::AssistantSession
            | Self::AssistantDelete
            | Self::AssistantMessage
            | Self::AssistantStateless
            | Self::Token => Service::Watsonx,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_told_apart_by_method_and_path() {
        let cases = [
            (Method::POST, "/2010-04-01/Accounts/AC1/Messages.json", Some(Route::TwilioSend)),
            (Method::GET, "/2010-04-01/Accounts/AC1/Messages.json", Some(Route::TwilioList)),
            (Method::GET, "/2010-04-01/Accounts/AC1/Messages/SM1.json", Some(Route::TwilioFetch)),
            (Method::GET, "/2010-04-01/Accounts/AC1.json", Some(Route::TwilioAccount)),
            (Method::POST, "/2010-04-01/Accounts/AC1/IncomingPhoneNumbers/PN1.json", Some(Route::TwilioNumbers)),
            (Method::GET, "/2010-04-01/Accounts/AC1/Calls.json", None),
            (Method::POST, "/_rest/v4/authenticate", Some(Route::IntelepeerLogin)),
            (Method::POST, "/_rest/v4/app/sms/send", Some(Route::IntelepeerSend)),
            (Method::GET, "/_rest/v4/app/sms/mdr", Some(Route::IntelepeerStatus)),
            (Method::POST, "/_rest/v4/my/did/sms/webhook", Some(Route::IntelepeerWebhook)),
            (Method::POST, "/v2/assistants/a/sessions", Some(Route::AssistantSession)),
            (Method::DELETE, "/v2/assistants/a/environments/e/sessions/s", Some(Route::AssistantDelete)),
            (Method::POST, "/instances/i/v2/assistants/a/sessions/s/message", Some(Route::AssistantMessage)),
            (Method::POST, "/v2/assistants/a/environments/e/message", Some(Route::AssistantStateless)),
            (Method::POST, "/identity/token", Some(Route::Token)),
            (Method::GET, "/_simulator/state", None),
            (Method::GET, "/", None),
        ];
        for (method, path, route) in cases {
            assert_eq!(Route::of(&method, path), route, "{method} {path}");
            assert!(route.is_none_or(|route| Service::of(path) == Some(route.service())), "{path}");
        }
    }
}
