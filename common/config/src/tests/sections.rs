//! How a good configuration is read.

use broker::DEFAULT_PARTITIONS;
use integration::{AssistantAuth, AssistantSettings, CloudPakSecret, Integration, WatsonxSettings};
use message::IntegrationId;
use providers::ProviderSettings;
use providers::intelepeer::IntelepeerAuth;
use secrecy::ExposeSecret as _;

use super::{CLIENTS, WHOLE, environment, from_toml, intelepeer, no_environment, problems, whole_environment};
use crate::sections::report;
use crate::{BrokerUrl, Config, StoreUrl};

fn load(text: &str) -> Config {
    from_toml(text, &whole_environment()).unwrap_or_else(|problems| panic!("{problems}"))
}

fn support(config: &Config) -> Integration {
    Integration::clone(config.integrations.get(&IntegrationId::parse("support").unwrap()).unwrap())
}

fn watsonx(integration: &Integration) -> &WatsonxSettings {
    match &integration.assistant {
        AssistantSettings::Watsonx(settings) => settings,
        AssistantSettings::Scripted(_) => panic!("not watsonx"),
    }
}

#[test]
fn nothing_at_all_is_a_configuration() {
    let config = from_toml("", &no_environment()).unwrap();
    assert_eq!(format!("{config:?}"), format!("{:?}", Config::default()));
}

#[test]
fn the_example_of_the_design_loads_and_equals_the_defaults() {
    let config = load(WHOLE);
    let integration = support(&config);
    let mut defaults = Config::default();
    // Setting the default makes a difference: when it is not set, the number that the broker already has wins.
    defaults.broker.partitions = Some(DEFAULT_PARTITIONS);
    assert_eq!(config.ingress.public_url(), Some("https://sms.example.com"));
    for (read, default) in [
        (format!("{:?}", config.broker), format!("{:?}", defaults.broker)),
        (format!("{:?}", config.store), format!("{:?}", defaults.store)),
        (format!("{:?}", config.worker), format!("{:?}", defaults.worker)),
        (format!("{:?}", config.sender), format!("{:?}", defaults.sender)),
        (format!("{:?}", config.operations), format!("{:?}", defaults.operations)),
        (format!("{:?}", config.ingress.listen), format!("{:?}", defaults.ingress.listen)),
    ] {
        assert_eq!(read, default);
    }
    let ProviderSettings::Twilio(twilio) = &integration.provider else { panic!("not Twilio") };
    assert_eq!(twilio.auth_tokens[0].current().expose_secret(), "twilio-token");
    assert_eq!(twilio.messaging_service_sid.as_deref(), Some("MG0123456789abcdef0123456789abcdef"));
    assert_eq!(integration.options, integration::Options::default());
    assert_eq!(integration.numbers[0].expose(), "+12125550100");
}

#[test]
fn a_backup_inherits_what_it_does_not_say() {
    let integration = support(&load(WHOLE));
    let [first, backup] = &watsonx(&integration).locations[..] else { panic!("not two locations") };
    assert!(backup.url.contains("eu-de"));
    assert_eq!((&backup.assistant_id, &backup.environment_id), (&first.assistant_id, &first.environment_id));
    assert!(matches!(&backup.auth, AssistantAuth::ApiKey(key) if key.current().expose_secret() == "watsonx-key"));

    let own = WHOLE.replace("[integrations.options]", "assistant_id = \"other\"\n[integrations.options]");
    let integration = support(&load(&own));
    let backup = &watsonx(&integration).locations[1];
    assert_eq!((backup.assistant_id.as_str(), &backup.environment_id), ("other", &None));
}

#[test]
fn the_example_of_the_design_loads_for_intelepeer() {
    let integration = support(&load(&intelepeer()));
    let ProviderSettings::Intelepeer(settings) = &integration.provider else { panic!("not IntelePeer") };
    assert_eq!(settings.account_secrets[0].current().expose_secret(), "intelepeer-secret");
    assert!(
        matches!(&settings.auth, IntelepeerAuth::Token(token) if token.current().expose_secret() == "intelepeer-token")
    );
    assert_eq!(settings.login_url, "https://customer.intelepeer.com");
    assert!(!integration.options.mms);
}

#[test]
fn intelepeer_can_log_in() {
    let text = intelepeer()
        .replace("auth_token = { env = \"SUPPORT_INTELEPEER_TOKEN\" }", "username = \"me\"\npassword = \"pw\"");
    let integration = support(&load(&text));
    let ProviderSettings::Intelepeer(settings) = &integration.provider else { panic!("not IntelePeer") };
    let IntelepeerAuth::Login { username, password } = &settings.auth else { panic!("no login") };
    assert_eq!((username.as_str(), password.current().expose_secret()), ("me", "pw"));
}

#[test]
fn every_way_to_prove_ourselves_to_watsonx_is_read() {
    let auth = |auth: &str| {
        let text = WHOLE.replace("{ kind = \"apikey\", apikey = { env = \"WATSONX_APIKEY\" } }", auth);
        watsonx(&support(&load(&text))).locations[0].auth.clone()
    };
    let iam = auth("{ kind = \"iam\", apikey = \"k\" }");
    assert!(matches!(iam, AssistantAuth::Iam { url, .. } if url == "https://iam.cloud.ibm.com"));
    let bearer = auth("{ kind = \"bearer\", token = \"t\" }");
    assert!(matches!(bearer, AssistantAuth::Bearer(token) if token.current().expose_secret() == "t"));
    let cloud_pak = auth("{ kind = \"cloud_pak\", url = \"https://cpd/\", username = \"u\", api_key = \"k\" }");
    assert!(
        matches!(cloud_pak, AssistantAuth::CloudPak { url, secret: CloudPakSecret::ApiKey(_), .. } if url == "https://cpd")
    );
    assert!(matches!(auth("{ kind = \"none\" }"), AssistantAuth::None));
}

#[test]
fn servers_and_embedded_mix() {
    let text = "[broker]\nurl = ['amqp://u:p@one', { env = 'WATSONX_APIKEY_URL' }]\n[store]\nurl = 'rediss://r:6379/3'";
    let env = environment(&[("WATSONX_APIKEY_URL", "amqps://u:p@two:5671/v")]);
    let config = from_toml(text, &env).unwrap();
    let BrokerUrl::Amqp(nodes) = &config.broker.url else { panic!("not RabbitMQ") };
    assert_eq!(
        nodes.iter().map(|n| n.expose_secret()).collect::<Vec<_>>(),
        ["amqp://u:p@one", "amqps://u:p@two:5671/v"]
    );
    assert!(matches!(config.store.url, StoreUrl::Redis(_)));
    let config = from_toml("[store]\nurl = 'redis://r'", &no_environment()).unwrap();
    assert!(matches!((config.broker.url, config.store.url), (BrokerUrl::Embedded, StoreUrl::Redis(_))));
}

#[test]
fn t9_several_public_urls_may_be_given_and_the_first_is_told() {
    let list = r#"["https://sms.example.com/proxy/", "http://old.example.com:80"]"#;
    let config = load(&WHOLE.replace("\"https://sms.example.com\"", list));
    assert_eq!(config.ingress.public_urls, ["https://sms.example.com/proxy", "http://old.example.com:80"]);
    assert!(config.remarks.iter().any(|remark| remark.to_string().starts_with("ingress.public_url[1] is plain http")));
    let report = report(&Ok(config));
    assert!(report.contains("known as https://sms.example.com/proxy, also as http://old.example.com:80"), "{report}");
    assert!(report.contains("webhook    https://sms.example.com/proxy/webhooks/support/messages#rc"), "{report}");
    let variable = ("SWITCHBOARD__INGRESS__PUBLIC_URL".to_owned(), "https://a.example, https://b.example/x".to_owned());
    let config = from_toml("", &std::collections::BTreeMap::from([variable])).unwrap();
    assert_eq!(config.ingress.public_urls, ["https://a.example", "https://b.example/x"]);
}

#[test]
fn a_secret_may_lie_in_a_file_and_tokens_in_a_list() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("token");
    std::fs::write(&path, "from-file\n").unwrap();
    let list = format!("auth_token = [{{ file = {path:?} }}, \"old\"] # ");
    let integration = support(&load(&WHOLE.replace("auth_token = ", &list)));
    let ProviderSettings::Twilio(twilio) = &integration.provider else { panic!("not Twilio") };
    let tokens: Vec<_> = twilio.auth_tokens.iter().map(|token| token.current().expose_secret().to_owned()).collect();
    assert_eq!(tokens, ["from-file", "old"]);
}

#[test]
fn options_without_effect_are_remarked_on_only_where_they_are_set() {
    assert_eq!(from_toml("", &no_environment()).unwrap().remarks, []);
    let keys: Vec<String> = load(WHOLE).remarks.into_iter().map(|remark| remark.key).collect();
    assert_eq!(keys, ["integrations[0].options.mms"]);
    let (without_options, _) = WHOLE.split_once("[integrations.options]").unwrap();
    assert_eq!(load(without_options).remarks, []);
    let plain = load(&without_options.replace("https://sms.example.com", "http://sms.example.com"));
    let remarks: Vec<String> = plain.remarks.iter().map(ToString::to_string).collect();
    assert!(remarks[0].starts_with("ingress.public_url is plain http"), "{remarks:?}");
}

#[test]
fn a_dialogue_that_is_not_here_is_remarked_on() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("dialogue.toml");
    let text = format!(
        "[[integrations]]\nid = 'a'\nprovider = 'twilio'\n\
         twilio = {{ account_sid = 'AC00000000000000000000000000000000', auth_token = 't' }}\n\
         assistant = {{ kind = 'scripted', file = {path:?} }}"
    );
    let remarks = || from_toml(&text, &no_environment()).unwrap().remarks;
    let first = remarks()[0].to_string();
    assert!(first.contains("assistant.file (integration \"a\") is not on this machine"), "{first}");
    std::fs::write(&path, "").unwrap();
    assert_eq!(remarks(), []);
}

#[test]
fn the_report_says_what_to_paste_at_the_provider() {
    insta::assert_snapshot!(report(&from_toml(WHOLE, &whole_environment())));
}

#[test]
fn the_file_is_the_named_one_and_only_the_default_one_may_be_absent() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("named.toml");
    std::fs::write(&path, "worker.concurrency = 7").unwrap();
    assert_eq!(Config::load(Some(&path), &no_environment(), CLIENTS).unwrap().worker.concurrency, 7);
    let named = environment(&[("SWITCHBOARD_CONFIG", path.to_str().unwrap())]);
    assert_eq!(Config::load(None, &named, CLIENTS).unwrap().worker.concurrency, 7);
    assert_eq!(Config::load(None, &no_environment(), CLIENTS).unwrap().worker.concurrency, 256);
    let absent = directory.path().join("absent.toml");
    let problems = Config::load(Some(&absent), &named, CLIENTS).unwrap_err();
    assert!(problems.to_string().contains("absent.toml: cannot be read"), "{problems}");
}

#[test]
fn one_port_is_not_for_two() {
    let text = "[operations]\nlisten = '127.0.0.1:8080'";
    assert!(problems(text, &no_environment())[0].starts_with("operations.listen: is 127.0.0.1:8080, whose port"));
}
