//! Which texts are answered at all. Each refusal has a name, so that every text is accounted for.

use std::sync::Arc;
use std::time::Duration;

use broker::{Reason, ReasonName};
use integration::{Integration, Options};
use message::{Conversation, Envelope};
use work::{Decision, Outcome, RefusalRule};

use super::TurnHandler;
use crate::assistant::Assistant;

impl TurnHandler {
    /// The integration and the assistant that answer `envelope`, or the decision not to answer it.
    pub(super) fn admit(
        &self,
        envelope: &Envelope,
        has_session: bool,
    ) -> Result<(&Integration, &Arc<dyn Assistant>), Decision> {
        let id = &envelope.integration;
        let (Some(integration), Some(assistant)) = (self.integrations.get(id), self.assistants.get(id)) else {
            let detail = format!("no integration is named {id}");
            return Err(Decision::dead_letter(Reason::new(ReasonName::UnknownIntegration, detail)));
        };
        let options = &integration.options;
        if let Some(reason) = expired(self.clock.age(envelope.age_counts_from()), options) {
            return Err(Decision::dead_letter(reason));
        }
        match refusal(envelope, integration, has_session) {
            Some(rule) => Err(Decision::done(Outcome::Refused(rule))),
            None => Ok((integration, assistant)),
        }
    }
}

/// The rule by which `envelope` is not answered.
fn refusal(envelope: &Envelope, integration: &Integration, has_session: bool) -> Option<RefusalRule> {
    let Conversation { customer, ours } = &envelope.conversation;
    let options = &integration.options;
    if !integration.has_number(ours) {
        return Some(RefusalRule::Number);
    }
    if !customer.is_answerable() {
        return Some(RefusalRule::Unanswerable);
    }
    if !is_allowed_country(&envelope.conversation, options) {
        return Some(RefusalRule::Country);
    }
    (!options.initiate_from_inbound && !has_session).then_some(RefusalRule::SessionNotOpen)
}

fn expired(age: Duration, options: &Options) -> Option<Reason> {
    let age_s = age.as_secs_f64();
    let max_s = options.reply_max_age.as_secs_f64();
    (age_s > max_s)
        .then(|| Reason::new(ReasonName::Expired, format!("{age_s:.0} s old, the integration allows {max_s:.0} s")))
}

/// Numbers without a country, such as short codes, are allowed only where all countries are.
fn is_allowed_country(conversation: &Conversation, options: &Options) -> bool {
    let allowed = &options.allowed_country_codes;
    allowed.is_empty() || conversation.customer.country_code().is_some_and(|code| allowed.contains(&code))
}
