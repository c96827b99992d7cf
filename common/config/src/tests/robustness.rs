//! Nothing in a configuration makes the reader panic, and no secret comes out of it.

use proptest::prelude::*;

use super::{WHOLE, environment, from_toml, intelepeer, no_environment, whole_environment};
use crate::sections::report;

/// Configurations with `«secret»` wherever a secret may stand, each with other mistakes around.
const WITH_SECRETS: [&str; 8] = [
    "[broker]\nurl = 'amqp://user:«secret»@host:5672/v'\npartitons = 1\n[store]\nurl = 'redis://:«secret»@h:6379/x'",
    "[broker]\nurl = ['amqp://user:«secret»@', 'http://u:«secret»@h', '«secret»']\n[store]\nurl = '«secret»'",
    "[ingress]\npublic_url = 'https://user:«secret»@sms.example.com/'\n[store]\nurl = ['redis://:«secret»@h']",
    "[[integrations]]\nid = 'a'\nprovider = 'twilio'\n[integrations.twilio]\naccount_sid = 'AC'\n\
     auth_token = ['«secret»', '«secret»', 3]\nauth_tokn = '«secret»'\nbase_url = 'https://u:«secret»@h'",
    "[[integrations]]\nid = 'a'\nprovider = 'twilio'\ntwilio = '«secret»'\nintelepeer = ['«secret»']\n\
     assistant = '«secret»'",
    "[[integrations]]\nid = 'A'\nprovider = 'intelepeer'\n[integrations.intelepeer]\naccount_secret = '«secret»'\n\
     auth_token = { env = '«secret»-' }\nusername = 'u'\npassword = '«secret»'\nlogin_url = 'ftp://h'",
    "[[integrations]]\nid = 'a'\nassistant.kind = 'watsonx'\n[integrations.assistant.auth]\nkind = 'apikey'\n\
     apikey = { secret = '«secret»' }\ntoken = '«secret»'",
    "[[integrations]]\nid = 'a'\nassistant.kind = 'watsonx'\nassistant.url = 'https://u:«secret»@h'\n\
     [integrations.assistant.auth]\nkind = 'cloud_pak'\nurl = '?«secret»'\npassword = '«secret»'\napi_key = ['«secret»']",
];

/// The keys that hold secrets, to be set by variables.
const SECRET_VARIABLES: [&str; 7] = [
    "SWITCHBOARD__BROKER__URL",
    "SWITCHBOARD__STORE__URL",
    "SWITCHBOARD__INTEGRATIONS__0__TWILIO__AUTH_TOKEN",
    "SWITCHBOARD__INTEGRATIONS__0__TWILIO__AUTH_TOKN",
    "SWITCHBOARD__INTEGRATIONS__0__TWILIO__AUTH_TOKEN__FIEL",
    "SWITCHBOARD__INTEGRATIONS__0__ASSISTANT__AUTH__APIKEY",
    "SWITCHBOARD__INTEGRATIONS__0__ASSISTANT__AUTH",
];

fn everything_shown(text: &str, variables: &[(&str, &str)]) -> String {
    let mut all = whole_environment();
    all.extend(environment(variables));
    let result = from_toml(text, &all);
    format!("{result:?}\n{}", report(&result))
}

/// Anything that is TOML.
fn any_value() -> impl Strategy<Value = toml::Value> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(toml::Value::Boolean),
        any::<i64>().prop_map(toml::Value::Integer),
        any::<f64>().prop_map(toml::Value::Float),
        "\\PC{0,12}".prop_map(toml::Value::String),
        "(embedded|twilio|watsonx|scripted|apikey|30s|\\+12125550100|a)".prop_map(toml::Value::String),
    ];
    leaf.prop_recursive(5, 48, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(toml::Value::Array),
            proptest::collection::btree_map(any_key(), inner, 0..8)
                .prop_map(|pairs| toml::Value::Table(pairs.into_iter().collect())),
        ]
    })
}

fn any_key() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "(broker|store|ingress|integrations|id|provider|numbers|twilio|intelepeer|assistant|options)",
        4 => "(url|auth_token|account_secret|auth|kind|apikey|env|backups|timeout|mms|listen|prefix|public_url)",
        1 => "\\PC{0,8}",
    ]
}

proptest! {
    #[test]
    fn no_secret_is_ever_shown(secret in "[!-&(-\\[\\]-~]{10,24}", which in 0..WITH_SECRETS.len()) {
        let shown = everything_shown(&WITH_SECRETS[which].replace("«secret»", &secret), &[]);
        prop_assert!(!shown.contains(&secret), "{}", shown);
    }

    #[test]
    fn no_secret_of_a_good_configuration_is_shown(secret in "[!-&(-\\[\\]-~]{10,24}") {
        for text in [WHOLE.to_owned(), intelepeer()] {
            let all = whole_environment().into_keys().map(|name| (name, secret.clone())).collect();
            let result = from_toml(&text, &all);
            prop_assert!(result.is_ok());
            let shown = format!("{result:?}\n{}", report(&result));
            prop_assert!(!shown.contains(&secret), "{}", shown);
        }
    }

    #[test]
    fn no_secret_in_a_variable_is_shown(secret in "[ -~]{10,24}", name in prop::sample::select(&SECRET_VARIABLES[..])) {
        for text in [WHOLE, "[worker]\nconcurrency = 0"] {
            let shown = everything_shown(text, &[(name, &secret)]);
            prop_assert!(!shown.contains(&secret) && !shown.contains(secret.trim()), "{}", shown);
        }
    }

    #[test]
    fn no_secret_near_a_syntax_error_is_shown(secret in "[!-~]{10,24}", quote in "[\"']?") {
        let shown = everything_shown(&format!("[[integrations]]\ntwilio.auth_token = {quote}{secret}\n= {secret}"), &[]);
        prop_assert!(!shown.contains(&secret), "{}", shown);
    }

    #[test]
    fn no_text_panics(text in "[\\PC\\n]{0,200}") {
        drop(from_toml(&text, &no_environment()));
    }

    #[test]
    fn no_toml_panics(table in proptest::collection::btree_map(any_key(), any_value(), 0..10)) {
        let table: toml::Table = table.into_iter().collect();
        let text = toml::to_string(&table).unwrap();
        let shown = report(&from_toml(&text, &no_environment()));
        prop_assert!(!shown.is_empty());
    }

    #[test]
    fn no_damage_to_the_example_panics(at in 0..WHOLE.len(), length in 0_usize..40, text in "\\PC{0,10}") {
        let damaged: String = WHOLE.chars().take(at).chain(text.chars()).chain(WHOLE.chars().skip(at + length)).collect();
        drop(from_toml(&damaged, &whole_environment()));
    }

    #[test]
    fn no_variable_panics(
        pairs in proptest::collection::btree_map("SWITCHBOARD__(INTEGRATIONS|BROKER|[0-2_A-Z]{0,4})(__(0|1|ID|URL|TWILIO|[0-9]{1,22}|\\PC{0,3})){0,12}", "\\PC{0,12}", 0..8)
    ) {
        for text in ["", WHOLE] {
            drop(from_toml(text, &pairs));
        }
    }
}
