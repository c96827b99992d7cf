//! Every mistake is named, with its key and how to mend it.

use super::{WHOLE, environment, from_toml, intelepeer, no_environment, problems, whole_environment};
use crate::Config;
use crate::sections::report;

const FIVE_MISTAKES: &str = r#"
[ingress]
lisen = "0.0.0.0:8080"
public_url = "https://sms.example.com/?"

[worker]
concurrency = 0

[[integrations]]
id = "support"
provider = "twillio"
numbers = ["212-555-0100"]

[integrations.twilio]
account_sid = "AC0123456789abcdef0123456789abcdef"
auth_token = "a-secret-that-nobody-must-see"

[integrations.assistant]
kind = "scripted"
"#;

#[test]
fn five_mistakes_are_named_at_once() {
    insta::assert_snapshot!(report(&from_toml(FIVE_MISTAKES, &no_environment())));
}

#[test]
fn c15_addresses_on_channels_are_taken_and_a_wrong_spelling_is_named() {
    let with = |numbers: &str| WHOLE.replacen("\"+12125550100\"", numbers, 1);
    let good = "\"RCS:+1 303 555 0142\", \"rcs:brand_agent\", \"whatsapp:+13035550142\", \"messenger:110774245409935\", \"AT&T\"";
    let config = from_toml(&with(good), &whole_environment()).unwrap();
    let numbers: Vec<_> = config.integrations.iter().flat_map(|it| &it.numbers).map(|it| it.expose()).collect();
    assert!(numbers.starts_with(&["rcs:+13035550142", "rcs:brand_agent", "whatsapp:+13035550142"]), "{numbers:?}");
    for wrong in ["whatsapp:13035550142", "rcs:", "rcs: brand agent", "rcs:brand agent", "3035550142"] {
        let listed = format!("\"+12125550100\", \"{wrong}\"");
        assert_problem("\"+12125550100\"", &listed, "integrations[0].numbers[1]: is \"", "behind a channel's name");
    }
    assert_problem(
        "\"+12125550100\"",
        "\"rcs:a_b\",\"RCS:a_b\"",
        "integrations[0].numbers[1]",
        "which integrations[0] has",
    );
}

#[test]
fn a_syntax_error_is_told_by_line_and_column_without_the_text() {
    let text = "[broker]\nurl = \"embedded\"\n\n[store\nurl = hunter2\n";
    insta::assert_snapshot!(report(&from_toml(text, &no_environment())));
}

/// Asserts the first problem of the whole example after one replacement: how it starts and what it contains.
#[track_caller]
fn assert_problem(from: &str, to: &str, starts: &str, contains: &str) {
    let base = if WHOLE.contains(from) { WHOLE.to_owned() } else { intelepeer() };
    assert!(base.contains(from), "{from} is not in the example");
    let found = problems(&base.replacen(from, to, 1), &whole_environment());
    assert_eq!(found.len(), 1, "{to}: {found:#?}");
    assert!(found[0].starts_with(starts) && found[0].contains(contains), "{to}: {found:#?}");
}

#[test]
fn mistakes_about_the_services_are_named() {
    assert_problem("\"./data\"", "3", "data_dir: is 3", "double quotes");
    assert_problem("partitions = 16", "partitions = 1025", "broker.partitions: is 1025", "from 1 to 1024");
    assert_problem("partitions = 16", "partitions = -1", "broker.partitions: is -1", "from 1 to 1024");
    assert_problem("max_length = 1000000", "max_length = 0", "broker.max_length: is 0", "from 1 to 2000000000");
    assert_problem("\"switchboard\"", "\"a b\"", "broker.prefix: is \"a b\"", "leave the other");
    assert_problem("\"embedded\"", "\"kafka://h\"", "broker.url: is \"kafka://h\"", "amqp:// or amqps://");
    assert_problem("\"embedded\"", "[]", "broker.url: is an empty list", "at least one");
    assert_problem("\"embedded\"", "[\"embedded\"]", "broker.url[0]: is \"***\"", "amqp://");
    assert_problem("\"embedded\"", "\"amqp://u:pw@\"", "broker.url: is \"amqp://", "correct the URL");
    assert_problem("0.0.0.0:8080", "localhost:8080", "ingress.listen: ", "write \"127.0.0.1:8080\"");
    assert_problem("0.0.0.0:8080", ":8080", "ingress.listen: ", "write \"0.0.0.0:8080\"");
    assert_problem(
        "https://sms.example.com",
        "https://sms.example.com/x?y",
        "ingress.public_url",
        "write \"https://sms",
    );
    assert_problem("\"https://sms.example.com\"", "[]", "ingress.public_url: is an empty list", "the provider sees");
    assert_problem("data_dir", "shutdown_grace = 30\ndata_dir", "shutdown_grace: is 30", "\"30s\" for seconds");
    assert_problem("[worker]", "[wroker]\n[worker]", "wroker: is not a known key", "did you mean `worker`?");
}

#[test]
fn an_address_that_its_client_does_not_understand_is_refused() {
    for (section, url) in
        [("broker", "amqp://u:hunter2@h/v?heartbeat=often"), ("store", "redis://:hunter2@h/99999999999999999999")]
    {
        let found = problems(&format!("[{section}]\nurl = '{url}'"), &no_environment());
        assert_eq!(found.len(), 1, "{url}: {found:?}");
        assert!(found[0].contains("behind the `?`") && !found[0].contains("hunter2"), "{found:?}");
    }
}

#[test]
fn a_bad_redis_url_is_named_without_its_password() {
    let found = problems("[store]\nurl = 'redis://:hunter2@h/x'", &no_environment());
    assert!(found[0].starts_with("store.url: is \"redis://***@h/x\""), "{found:?}");
    assert!(found[0].contains("number of the database"), "{found:?}");
}

#[test]
fn mistakes_about_an_integration_are_named() {
    assert_problem("id = \"support\"", "id = \"Sup port\"", "integrations[0].id: is \"Sup port\"", "lower-case");
    assert_problem("id = \"support\"", "", "integrations[0].id: is missing", "under [[integrations]]");
    assert_problem("[\"+12125550100\"]", "\"+12125550100\"", "integrations[0].numbers: ", "in brackets");
    assert_problem("[\"+12125550100\"]", "[12125550100]", "integrations[0].numbers[0]: is a number", "double quotes");
    assert_problem("+12125550100\"", "hello world?\"", "integrations[0].numbers[0]: is \"***** ****d?\"", "E.164");
    assert_problem("+12125550100\"", "+12125550100\",\"+1 212 555 0100\"", "integrations[0].numbers[1]", "*00, which");
    assert_problem(
        "[integrations.a",
        "[integrations.intelepeer]\n[integrations.a",
        "integrations[0].intelepeer",
        "remove",
    );
    assert_problem("AC0", "AC", "integrations[0].twilio.account_sid: is \"AC1234", "32 hexadecimal digits");
    assert_problem("MG0", "AC0", "integrations[0].twilio.messaging_service_sid: is \"AC0", "Twilio console");
    assert_problem("SUPPORT_TWILIO", "MY", "integrations[0].twilio.auth_token: names the environ", "set MY_AUTH_TOKEN");
    assert_problem(
        "{ env = \"SUPPORT_TWILIO_AUTH_TOKEN\" }",
        "\"\"",
        "integrations[0].twilio.auth_token: is empty",
        "env =",
    );
    assert_problem(
        "{ env = \"SUPPORT_TWILIO_AUTH_TOKEN\" }",
        "[]",
        "integrations[0].twilio.auth_token: is an empty",
        "env =",
    );
    assert_problem(
        "{ env = \"SUPPORT_TWILIO_AUTH_TOKEN\" }",
        "{}",
        "integrations[0].twilio.auth_token: has neither",
        "env =",
    );
    assert_problem(
        "{ env = \"SUPPORT_TWILIO_AUTH_TOKEN\" }",
        "{ file = \"/x/y\" }",
        "integrations[0].twilio.auth_token: names the file",
        "path",
    );
    assert_problem(
        "{ env = \"SUPPORT_TWILIO_AUTH_TOKEN\" }",
        "{ env = \"a-b\" }",
        "integrations[0].twilio.auth_token.env: is text",
        "name",
    );
    assert_problem("auth_token = ", "#", "integrations[0].twilio.auth_token: is missing", "[integrations.twilio]");
}

#[test]
fn t11_half_an_api_key_is_named_and_its_secret_is_not_shown() {
    let (sid, secret) = ("api_key_sid = \"SK0123456789abcdef0123456789abcdef\"", "api_key_secret = \"hunter2hunter2\"");
    let with = |lines: &str| WHOLE.replacen("auth_token = ", &format!("{lines}\nauth_token = "), 1);
    let key = |config: &Config| match &config.integrations.iter().next().unwrap().provider {
        providers::ProviderSettings::Twilio(settings) => settings.api_key.clone(),
        providers::ProviderSettings::Intelepeer(_) => None,
    };
    let config = from_toml(&with(&format!("{sid}\n{secret}")), &whole_environment()).unwrap();
    assert_eq!(key(&config).unwrap().sid, "SK0123456789abcdef0123456789abcdef");
    assert!(!format!("{config:?}").contains("hunter2"), "{config:?}");
    assert!(key(&from_toml(WHOLE, &whole_environment()).unwrap()).is_none());
    let to = |lines: &str| format!("{lines}\nauth_token = ");
    assert_problem("auth_token = ", &to(sid), "integrations[0].twilio.api_key_secret: is missing", "add the other one");
    assert_problem("auth_token = ", &to(secret), "integrations[0].twilio.api_key_sid: is missing", "add the other one");
    let wrong = to(&format!("api_key_sid = \"AC0123456789abcdef0123456789abcdef\"\n{secret}"));
    assert_problem("auth_token = ", &wrong, "integrations[0].twilio.api_key_sid", "`SK` and 32");
}

#[test]
fn b4_what_to_do_with_an_unknown_outcome_is_an_option_of_every_provider() {
    use providers::UnknownOutcome::{DeadLetter, Resend};
    let read = |text: &str| {
        let config = from_toml(text, &whole_environment()).unwrap_or_else(|problems| panic!("{problems}"));
        config.integrations.iter().next().unwrap().options.unknown_outcome
    };
    let option = |text: &str, value: &str| {
        text.replacen("[integrations.options]", &format!("[integrations.options]\nunknown_outcome = \"{value}\""), 1)
    };
    let section = intelepeer().replacen("account_secret = ", "unknown_outcome = \"dead_letter\"\naccount_secret = ", 1);
    assert_eq!(read(WHOLE), Resend);
    assert_eq!(read(&option(WHOLE, "dead_letter")), DeadLetter);
    assert_eq!(read(&section), DeadLetter, "where it stood before");
    assert_eq!(read(&option(&section, "resend")), Resend, "the option wins");
}

#[test]
fn mistakes_about_intelepeer_are_named() {
    let account = "integrations[0].intelepeer";
    assert_problem(
        "auth_token = { env = \"SUPPORT_INTELEPEER_TOKEN\" }",
        "",
        &format!("{account}.auth_token: is missing"),
        "username",
    );
    assert_problem("auth_token = { env = \"SUPPORT_INTELEPEER_TOKEN\" }", "username = \"u\"", account, "only one");
    assert_problem(
        "auth_token = { env = \"SUPPORT_INTELEPEER_TOKEN\" }",
        "auth_token = \"t\"\nusername = \"u\"",
        account,
        "keep one",
    );
    assert_problem(
        "base_url = \"https://api.intelepeer.com\"",
        "unknown_outcome = \"dead-letter\"",
        account,
        "did you mean `dead_letter`?",
    );
    assert_problem(
        "base_url = \"https://api.intelepeer.com\"",
        "login_url = \"https://u:p@h\"",
        account,
        "is \"https://***@h/\"",
    );
    let found =
        problems("[[integrations]]\nid='a'\nprovider='intelepeer'\nassistant.kind='scripted'", &no_environment());
    assert!(found[0].starts_with("integrations[0].intelepeer: is missing"), "{found:#?}");
}

#[test]
fn mistakes_about_the_assistant_are_named() {
    let assistant = "integrations[0].assistant";
    assert_problem(
        "\"watsonx\"",
        "\"watson\" #",
        &format!("{assistant}.kind: is \"watson\""),
        "did you mean `watsonx`?",
    );
    assert_problem("\"watsonx\"", "\"http\" #", &format!("{assistant}.kind: is \"http\", which comes later"), "choose");
    assert_problem("https://api.us-south", "api.us-south", &format!("{assistant}.url: "), "correct the URL");
    assert_problem("2222-222222222222", "/../", &format!("{assistant}.assistant_id: "), "settings page");
    assert_problem("2024-08-25", "2024-13-01", &format!("{assistant}.version: is \"2024-13-01\""), "\"2024-08-25\"");
    assert_problem(
        "kind = \"apikey\"",
        "kind = \"none\"",
        &format!("{assistant}.auth.apikey: is not a known key"),
        "kind",
    );
    assert_problem("kind = \"apikey\"", "kind = \"key\"", &format!("{assistant}.auth.kind: is \"key\""), "cloud_pak");
    assert_problem("timeout = \"30s\"", "timeout = 30", &format!("{assistant}.timeout: is 30"), "\"30s\" for seconds");
    assert_problem("timeout = \"30s\"", "timeout = \"0s\"", &format!("{assistant}.timeout: is \"0s\""), "from \"1ms\"");
    assert_problem("retries = 2", "retries = \"2\"", &format!("{assistant}.retries: is \"2\""), "without quotes");
    assert_problem(
        "[integrations.options]",
        "retries = 1\n[integrations.options]",
        &format!("{assistant}.backups[0].retries"),
        "not a known",
    );
}

#[test]
fn mistakes_about_options_are_named() {
    let options = "integrations[0].options";
    assert_problem(
        "rate_per_second = 1",
        "rate_per_second = 0",
        &format!("{options}.rate_per_second: is 0"),
        "above 0",
    );
    assert_problem(
        "rate_per_second = 1",
        "rate_per_second = nan",
        &format!("{options}.rate_per_second: is nan"),
        "above 0",
    );
    assert_problem(
        "rate_per_second = 1",
        "max_part_chars = 1601",
        &format!("{options}.max_part_chars: is 1601"),
        "1 to 1600",
    );
    assert_problem(
        "codes = []",
        "codes = [\"+1\"]",
        &format!("{options}.allowed_country_codes[0]: is \"+1\""),
        "without +",
    );
    assert_problem("codes = []", "codes = [1]", &format!("{options}.allowed_country_codes[0]: is 1"), "double quotes");
    assert_problem(
        "session_timeout = \"1h\"",
        "session_timeout = \"1 hour\"",
        &format!("{options}.session_timeout"),
        "\"1h30m\"",
    );
    assert_problem("= false", "= \"no\"", &format!("{options}.notify_on_session_timeout: is \"no\""), "true or false");
    assert_problem("\"We're", "\"\" # \"We're", &format!("{options}.failure_message: is empty"), "1600");
}

#[test]
fn what_must_differ_between_integrations_is_compared() {
    let one = "[[integrations]]\nid = 'a'\nprovider = 'twilio'\nnumbers = ['+12125550100']\nassistant.kind = 'scripted'\n\
        [integrations.twilio]\naccount_sid = 'AC0123456789abcdef0123456789abcdef'\nauth_token = 't'\n";
    let found = problems(&format!("{one}{one}"), &no_environment());
    assert_eq!(found.len(), 2, "{found:#?}");
    assert!(found[0].starts_with("integrations[1].id: is \"a\", which integrations[0] has"), "{found:#?}");
    assert!(found[1].starts_with("integrations[1].numbers[0]: is +*********00, which integrations[0]"), "{found:#?}");
}

#[test]
fn a_problem_names_the_integration() {
    let text = "[[integrations]]\nid = 'support'\n";
    let problems = from_toml(text, &environment(&[])).unwrap_err();
    assert!(problems.iter().all(|problem| problem.integration.as_deref() == Some("support")), "{problems}");
    let keys: Vec<_> = problems.iter().map(|problem| problem.key.as_str()).collect();
    assert_eq!(keys, ["integrations[0].provider", "integrations[0].assistant.kind"]);
}

#[test]
fn one_table_is_not_a_list_of_tables() {
    let found = problems("[integrations]\nid = 'support'", &no_environment());
    assert!(found[0].starts_with("integrations: is a table") && found[0].contains("[[…]]"), "{found:#?}");
}

#[test]
fn no_whole_number_is_shown() {
    for numbers in
        ["'+13105550199'", "['+13105550199', '+13105550199']", "['13105550199']", "[13105550199]", "['+13105550199?']"]
    {
        let text = format!("[[integrations]]\nid = 'a'\nprovider = 'twilio'\nnumbers = {numbers}");
        let shown = report(&from_toml(&text, &no_environment()));
        assert!(!shown.contains("3105550199"), "{shown}");
    }
}
