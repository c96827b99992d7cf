//! Variables win over the file and mean what the file would.

use integration::{AssistantAuth, AssistantSettings, Integration};
use providers::ProviderSettings;
use secrecy::ExposeSecret as _;

use super::{WHOLE, environment, from_toml, no_environment, problems, whole_environment};
use crate::{BrokerUrl, Config};

fn load(text: &str, pairs: &[(&str, &str)]) -> Config {
    let mut all = whole_environment();
    all.extend(environment(pairs));
    from_toml(text, &all).unwrap_or_else(|problems| panic!("{problems}"))
}

fn first(config: &Config) -> Integration {
    Integration::clone(config.integrations.iter().next().unwrap())
}

#[test]
fn a_variable_wins_over_the_file_and_is_read_as_the_right_type() {
    let config = load(
        WHOLE,
        &[
            ("SWITCHBOARD__INGRESS__LISTEN", "127.0.0.1:1"),
            ("SWITCHBOARD__WORKER__CONCURRENCY", "3"),
            ("SWITCHBOARD__SHUTDOWN_GRACE", "1m"),
            ("SWITCHBOARD__INTEGRATIONS__0__OPTIONS__MMS", "false"),
            ("SWITCHBOARD__INTEGRATIONS__0__OPTIONS__RATE_PER_SECOND", "2.5"),
            ("SWITCHBOARD__INTEGRATIONS__0__OPTIONS__ALLOWED_COUNTRY_CODES", "1, 44"),
            ("SWITCHBOARD__INTEGRATIONS__0__NUMBERS", "['+12125550101']"),
            ("SWITCHBOARD__BROKER__URL", "amqp://u:p@one,amqp://u:p@two"),
            ("SWITCHBOARD_LOG", "debug"),
        ],
    );
    let integration = first(&config);
    assert_eq!((config.ingress.listen.port(), config.worker.concurrency), (1, 3));
    assert_eq!(config.shutdown_grace.as_secs(), 60);
    assert!(!integration.options.mms);
    assert!((integration.options.rate_per_second - 2.5).abs() < f64::EPSILON);
    assert_eq!(integration.options.allowed_country_codes, ["1", "44"]);
    assert_eq!(integration.numbers[0].expose(), "+12125550101");
    assert!(matches!(config.broker.url, BrokerUrl::Amqp(nodes) if nodes.len() == 2));
}

#[test]
fn the_environment_alone_is_enough() {
    let config = load(
        "",
        &[
            ("SWITCHBOARD__INTEGRATIONS__0__ID", "support"),
            ("SWITCHBOARD__INTEGRATIONS__0__PROVIDER", "twilio"),
            ("SWITCHBOARD__INTEGRATIONS__0__TWILIO__ACCOUNT_SID", "AC0123456789abcdef0123456789abcdef"),
            ("SWITCHBOARD__INTEGRATIONS__0__TWILIO__AUTH_TOKEN", "has, a comma"),
            ("SWITCHBOARD__INTEGRATIONS__0__ASSISTANT__KIND", "scripted"),
        ],
    );
    let ProviderSettings::Twilio(twilio) = first(&config).provider else { panic!("not Twilio") };
    assert_eq!(twilio.auth_tokens[0].current().expose_secret(), "has, a comma");
}

#[test]
fn a_secret_in_a_variable_may_refer_or_list() {
    for (name, value, expected) in [
        ("SWITCHBOARD__INTEGRATIONS__0__TWILIO__AUTH_TOKEN", "{ env = 'OTHER' }", vec!["elsewhere"]),
        ("SWITCHBOARD__INTEGRATIONS__0__TWILIO__AUTH_TOKEN", "['new', { env = 'OTHER' }]", vec!["new", "elsewhere"]),
        ("SWITCHBOARD__INTEGRATIONS__0__TWILIO__AUTH_TOKEN__ENV", "OTHER", vec!["elsewhere"]),
        ("SWITCHBOARD__INTEGRATIONS__0__TWILIO__AUTH_TOKEN", "{not toml\n", vec!["{not toml"]),
    ] {
        let config = load(WHOLE, &[("OTHER", "elsewhere\r\n"), (name, value)]);
        let ProviderSettings::Twilio(twilio) = first(&config).provider else { panic!("not Twilio") };
        let tokens: Vec<_> =
            twilio.auth_tokens.iter().map(|token| token.current().expose_secret().to_owned()).collect();
        assert_eq!(tokens, expected, "{value}");
    }
}

#[test]
fn a_table_in_a_variable_is_read_as_toml() {
    let name = "SWITCHBOARD__INTEGRATIONS__0__ASSISTANT__AUTH";
    let config = load(WHOLE, &[(name, "{ kind = 'bearer', token = 't' }")]);
    let AssistantSettings::Watsonx(watsonx) = first(&config).assistant else { panic!("not watsonx") };
    assert!(matches!(&watsonx.locations[0].auth, AssistantAuth::Bearer(_)));
}

#[test]
fn ten_integrations_keep_their_order() {
    let pairs: Vec<(String, String)> = (0..11)
        .flat_map(|i| {
            let key = move |key: &str| format!("SWITCHBOARD__INTEGRATIONS__{i}__{key}");
            [
                (key("ID"), format!("number-{i}")),
                (key("PROVIDER"), "twilio".to_owned()),
                (key("TWILIO__ACCOUNT_SID"), "AC0123456789abcdef0123456789abcdef".to_owned()),
                (key("TWILIO__AUTH_TOKEN"), "token".to_owned()),
                (key("ASSISTANT__KIND"), "scripted".to_owned()),
            ]
        })
        .collect();
    let pairs: Vec<(&str, &str)> = pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(load("", &pairs).integrations.iter().count(), 11);
}

#[test]
fn a_variable_that_sets_nothing_known_is_a_problem() {
    for (name, start) in [
        ("SWITCHBOARD__INGRES__LISTEN", "ingres: is not a known key"),
        ("SWITCHBOARD__INGRESS__LISTN", "ingress.listn: is not a known key"),
        ("SWITCHBOARD__", "SWITCHBOARD__: names no key"),
        ("SWITCHBOARD____LISTEN", "SWITCHBOARD____LISTEN: names no key"),
        ("SWITCHBOARD__INTEGRATIONS__1__ID", "SWITCHBOARD__INTEGRATIONS__1__ID: names item 1"),
        ("SWITCHBOARD__A__B__C__D__E__F__G__H__I__J__K", "SWITCHBOARD__A"),
    ] {
        let found = problems("", &environment(&[(name, "x")]));
        assert!(found[0].starts_with(start), "{name}: {found:?}");
    }
}

#[test]
fn a_problem_names_the_variable_that_caused_it() {
    let env = environment(&[("SWITCHBOARD__WORKER__CONCURRENCY", "many")]);
    let problems = from_toml("", &env).unwrap_err();
    let problem = problems.iter().next().unwrap();
    assert_eq!(problem.variable.as_deref(), Some("SWITCHBOARD__WORKER__CONCURRENCY"));
    assert_eq!(problem.found, "is \"many\"");
}

#[test]
fn a_whole_and_its_part_contradict() {
    let env = environment(&[("SWITCHBOARD__INTEGRATIONS", "[]"), ("SWITCHBOARD__INTEGRATIONS__0__ID", "x")]);
    let found = problems("", &env);
    assert!(found[0].contains("sets a part of what SWITCHBOARD__INTEGRATIONS sets"), "{found:?}");
}

#[test]
fn text_in_the_file_is_no_number() {
    let found = problems("[worker]\nconcurrency = \"3\"", &no_environment());
    assert!(found[0].starts_with("worker.concurrency: is \"3\""), "{found:?}");
}
