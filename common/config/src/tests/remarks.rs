//! What is legal but suspicious gets a remark with the key and how to mend it, and the configuration is still good.

use super::{WHOLE, environment, from_toml, no_environment, whole_environment};
use crate::Remark;
use crate::sections::report;

fn remarks(text: &str) -> Vec<Remark> {
    let config = from_toml(text, &whole_environment()).unwrap_or_else(|problems| panic!("{problems}"));
    config.remarks.into_iter().filter(|remark| !remark.found.contains("no effect yet")).collect()
}

/// The only remark about [`WHOLE`] with `new` in the place of `old`.
fn the_remark(old: &str, new: &str) -> Remark {
    assert!(WHOLE.contains(old), "{old}");
    let mut remarks = remarks(&WHOLE.replace(old, new));
    let remark = remarks.pop().unwrap_or_else(|| panic!("no remark about {new}"));
    assert_eq!(remarks, [], "{new}");
    remark
}

#[test]
fn an_ordinary_configuration_has_no_remark() {
    assert_eq!(remarks(WHOLE), []);
}

#[test]
fn t14_a_secret_in_quotes_is_remarked_on_wherever_it_stands() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("token");
    std::fs::write(&path, "\"hunter2\"\n").unwrap();
    let token = "{ env = \"SUPPORT_TWILIO_AUTH_TOKEN\" }";
    for quoted in ["'\"hunter2\"'".to_owned(), "'“hunter2”'".to_owned(), format!("{{ file = {path:?} }}")] {
        let remark = the_remark(token, &quoted);
        assert_eq!(remark.key, "integrations[0].twilio.auth_token");
        assert_eq!(remark.integration.as_deref(), Some("support"));
        assert!(remark.found.contains("quotation mark"), "{remark}");
        assert!(!format!("{remark:?}").contains("hunter2"), "{remark:?}");
    }
    let in_a_list = the_remark(token, "['right', ' wrong']");
    assert_eq!(in_a_list.key, "integrations[0].twilio.auth_token[1]");
    let for_the_assistant = the_remark("{ env = \"WATSONX_APIKEY\" }", "'Bearer hunter2'");
    assert_eq!(for_the_assistant.key, "integrations[0].assistant.auth.apikey");
}

#[test]
fn t14_a_variable_that_kept_its_quotes_is_named() {
    let mut variables = whole_environment();
    variables.insert("SWITCHBOARD__INTEGRATIONS__0__TWILIO__AUTH_TOKEN".to_owned(), "'hunter2'".to_owned());
    let config = from_toml(WHOLE, &variables).unwrap();
    let shown = config.remarks[0].to_string();
    assert!(shown.contains("set by SWITCHBOARD__INTEGRATIONS__0__TWILIO__AUTH_TOKEN"), "{shown}");
}

#[test]
fn t15_a_public_url_that_no_provider_reaches_is_remarked_on() {
    for host in ["localhost:8080", "192.168.1.7", "switchboard.local", "ingress"] {
        let remark = the_remark("https://sms.example.com", &format!("https://{host}"));
        assert_eq!(remark.key, "ingress.public_url");
        assert!(remark.mend.contains("21609"), "{remark}");
    }
    let simulated = WHOLE.replace("https://sms.example.com", "http://127.0.0.1:8080");
    assert_eq!(
        remarks(&simulated.replace("https://api.twilio.com", "http://127.0.0.1:8081")),
        [],
        "a simulator is here"
    );
}

#[test]
fn b10_an_age_beyond_the_ledgers_memory_is_remarked_on() {
    assert_eq!(remarks(&WHOLE.replace("reply_max_age = \"6h\"", "reply_max_age = \"72h\"")), []);
    let remark = the_remark("reply_max_age = \"6h\"", "reply_max_age = \"720h\"");
    assert_eq!(remark.key, "integrations[0].options.reply_max_age");
    assert!(remark.mend.contains("72h"), "{remark}");
}

#[test]
fn b10_an_assistant_that_may_take_longer_than_a_turn_is_remarked_on() {
    let remark = the_remark("timeout = \"30s\"", "timeout = \"10m\"");
    assert_eq!(remark.key, "integrations[0].assistant.timeout");
    assert!(remark.found.contains("1h8s"), "three calls at two places, and twice two pauses: {remark}");
}

#[test]
fn c19_a_service_url_that_was_copied_with_the_api_s_path_works_and_is_remarked_on() {
    let instance = "11111111-1111-1111-1111-111111111111";
    let remark = the_remark(instance, &format!("{instance}/v2/"));
    assert_eq!(remark.key, "integrations[0].assistant.url");
    let config = from_toml(&WHOLE.replace(instance, &format!("{instance}/v2")), &whole_environment());
    assert!(report(&config).contains(&format!("/instances/{instance}, then ")), "{}", report(&config));
}

#[test]
fn t13_the_vhost_without_a_name_is_remarked_on() {
    let remark = the_remark("url = \"embedded\"                         # or amqp", "url = \"amqp://u:p@h:5672/\" #");
    assert_eq!(remark.key, "broker.url");
}

#[test]
fn t13_a_url_that_shows_a_part_of_its_password_is_a_problem_and_shows_nothing() {
    for url in [
        "amqp://app:kq7@Zt9secretpart/x@host:5672",
        "amqp://app:1#Zt9secretpart@host",
        "amqp://app:%Zt9secretpart@host",
    ] {
        let shown = report(&from_toml(&format!("[broker]\nurl = '{url}'"), &no_environment()));
        assert!(shown.contains("broker.url: is \"amqp://***"), "{shown}");
        assert!(!shown.contains("Zt9secretpart") && !shown.contains("kq7"), "{shown}");
        let in_a_variable = environment(&[("SWITCHBOARD__STORE__URL", &url.replace("amqp", "redis"))]);
        let shown = report(&from_toml("", &in_a_variable));
        assert!(shown.contains("store.url: is \"redis://***"), "{shown}");
        assert!(!shown.contains("Zt9secretpart") && !shown.contains("kq7"), "{shown}");
    }
}

#[test]
fn the_report_ends_with_the_remarks() {
    let text = WHOLE.replace("reply_max_age = \"6h\"", "reply_max_age = \"720h\"");
    let shown = report(&from_toml(&text, &whole_environment()));
    let (_, remarks) = shown.split_once("\nremarks\n").unwrap();
    assert!(remarks.contains("integrations[0].options.reply_max_age"), "{remarks}");
}
