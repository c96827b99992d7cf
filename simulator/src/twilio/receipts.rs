//! Lets an accepted text proceed, and posts signed status callbacks about it.
//! See <https://www.twilio.com/docs/messaging/guides/track-outbound-message-status>.

use std::sync::Arc;
use std::time::Duration;

use super::inbound::post;
use crate::config::WebhookMethod;
use crate::journal::{Callback, Message, MessageState};
use crate::world::{World, lock};

/// Takes the text through the configured steps. Each step is reported if the sender asked for reports.
pub(crate) async fn follow(world: Arc<World>, message: Message) {
    let receipts = lock(&world.receipts).clone();
    for step in receipts.steps {
        tokio::time::sleep(receipts.pause).await;
        let (state, error_code) = step.state();
        world.journal.advance(&message.sid, state, error_code);
        if let Some(url) = &message.status_callback {
            let delay_ms = lock(&world.twilio_quirks).callback_delay_ms;
            tokio::time::sleep(Duration::from_millis(delay_ms)).await;
            report(&world, url, &message, state, error_code).await;
        }
    }
}

async fn report(world: &World, url: &str, message: &Message, state: MessageState, error_code: Option<u32>) {
    let form = parameters(world, message, state, error_code);
    let answer = post(world, url, WebhookMethod::Post, &form).await;
    world.journal.add_callback(Callback {
        at: crate::clock::now(),
        sid: message.sid.clone(),
        state,
        url: url.to_owned(),
        status: answer.ok().map(|answer| answer.status),
    });
}

fn parameters(world: &World, message: &Message, state: MessageState, error_code: Option<u32>) -> Vec<(String, String)> {
    let mut form = vec![
        ("AccountSid", world.config.twilio.account_sid.clone()),
        ("ApiVersion", "2010-04-01".to_owned()),
        ("MessageSid", message.sid.clone()),
        ("MessageStatus", state.word().to_owned()),
        ("SmsSid", message.sid.clone()),
        ("SmsStatus", state.word().to_owned()),
        ("To", message.to.clone()),
    ];
    if let Some(from) = lock(&world.twilio_quirks).from(&message.from) {
        form.push(("From", from.to_owned()));
    }
    if let Some(service) = &message.messaging_service_sid {
        form.push(("MessagingServiceSid", service.clone()));
    }
    if let Some(code) = error_code {
        form.push(("ErrorCode", code.to_string()));
    }
    if matches!(state, MessageState::Delivered | MessageState::Undelivered) {
        form.push(("RawDlrDoneDate", crate::clock::now().strftime("%y%m%d%H%M").to_string()));
    }
    form.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}
