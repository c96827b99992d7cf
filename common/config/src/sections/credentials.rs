//! Reads how we authenticate to an assistant.

use integration::{AssistantAuth, CloudPakSecret};
use secret::Secret;

use crate::reader::Section;
use crate::reader::entry::Entry;

const DEFAULT_IAM_URL: &str = "https://iam.cloud.ibm.com";

#[derive(Clone, Copy)]
enum AuthKind {
    ApiKey,
    Iam,
    Bearer,
    CloudPak,
    None,
}

const AUTH_KINDS: [(&str, AuthKind); 5] = [
    ("apikey", AuthKind::ApiKey),
    ("iam", AuthKind::Iam),
    ("bearer", AuthKind::Bearer),
    ("cloud_pak", AuthKind::CloudPak),
    ("none", AuthKind::None),
];

pub(crate) fn read(mut section: Section<'_>) -> Option<AssistantAuth> {
    let kind = section.require("kind", "\"apikey\", \"iam\", \"bearer\", \"cloud_pak\" or \"none\"");
    let auth = match kind?.choice(&AUTH_KINDS)? {
        AuthKind::ApiKey => key(&mut section).map(AssistantAuth::ApiKey),
        AuthKind::Iam => {
            let apikey = key(&mut section);
            let url = section.take("url").map_or_else(|| Some(DEFAULT_IAM_URL.to_owned()), Entry::server);
            apikey.zip(url).map(|(apikey, url)| AssistantAuth::Iam { apikey, url })
        }
        AuthKind::Bearer => section.require("token", "the token").and_then(Entry::secret).map(AssistantAuth::Bearer),
        AuthKind::CloudPak => cloud_pak(&mut section),
        AuthKind::None => Some(AssistantAuth::None),
    };
    section.finish();
    auth
}

fn key(section: &mut Section<'_>) -> Option<Secret> {
    section.require("apikey", "the service's API key").and_then(Entry::secret)
}

fn cloud_pak(section: &mut Section<'_>) -> Option<AssistantAuth> {
    let url = section.require("url", "the URL of the cluster").and_then(Entry::server);
    let username = section.require("username", "a user of the cluster").and_then(|entry| entry.text("a user's name"));
    let password = section.take("password").map(Entry::secret);
    let api_key = section.take("api_key").map(Entry::secret);
    let secret = match (password, api_key) {
        (Some(password), None) => password.map(CloudPakSecret::Password),
        (None, Some(api_key)) => api_key.map(CloudPakSecret::ApiKey),
        (password, _) => {
            let found = if password.is_some() { "stands beside api_key" } else { "is missing" };
            section.place.key("password").problem(found, "password or api_key", "give exactly one of the two");
            None
        }
    };
    Some(AssistantAuth::CloudPak { url: url?, username: username?, secret: secret? })
}
