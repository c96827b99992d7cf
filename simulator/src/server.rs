//! A running simulator: one listener, with all services below one base URL.

use std::io;
use std::sync::Arc;

use axum::{Router, middleware};
use tokio::net::TcpListener;
use tokio_util::sync::DropGuard;

use crate::config::{Receipts, SimulatorConfig, WebhookMethod};
use crate::faults::FaultPlan;
use crate::journal::{Callback, Direction, Event, Message, RequestRecord};
use crate::line::{Line, Lines};
use crate::phone::Phone;
use crate::route::Route;
use crate::twilio::TwilioQuirks;
use crate::watsonx::AssistantHandle;
use crate::world::{World, lock};
use crate::{desk, intelepeer, phone, twilio, watsonx};

/// A running simulator. Dropping it stops it without waiting.
#[derive(Debug)]
pub struct Simulator {
    world: Arc<World>,
    _stop_on_drop: DropGuard,
}

impl Simulator {
    /// Binds the listener and serves until it is stopped. The simulator answers calls as soon as this returns.
    ///
    /// # Errors
    /// When the address cannot be bound, or TLS for webhooks cannot be set up.
    pub async fn start(config: SimulatorConfig) -> io::Result<Self> {
        let listener = TcpListener::bind(config.listen).await?;
        let address = listener.local_addr()?;
        let url = config.public_url.clone().unwrap_or_else(|| format!("http://{address}"));
        let world = Arc::new(World::new(config, url).map_err(io::Error::other)?);
        let app = Router::new()
            .merge(twilio::routes())
            .merge(intelepeer::routes())
            .merge(watsonx::routes())
            .merge(phone::routes())
            .layer(middleware::from_fn_with_state(Arc::clone(&world), desk::pass))
            .with_state(Arc::clone(&world))
            .into_make_service_with_connect_info::<Line>();
        let lines = Lines { listener, stopped: world.stopped.clone() };
        world.spawn(async move {
            if let Err(error) = axum::serve(lines, app).await {
                tracing::error!(%error, "the simulator's listener failed");
            }
        });
        let stop_on_drop = world.stopped.clone().drop_guard();
        Ok(Self { world, _stop_on_drop: stop_on_drop })
    }

    /// The base URL of all services and of the phone page, such as `http://127.0.0.1:4010`, without a slash at the end.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.world.url
    }

    /// Closes the listener and every connection, and waits until the port is free and no webhook is being posted.
    pub async fn stop(self) {
        self.world.stopped.cancel();
        self.world.tasks.close();
        self.world.tasks.wait().await;
    }

    /// The customers' phones.
    #[must_use]
    pub fn phone(&self) -> Phone {
        Phone::new(Arc::clone(&self.world))
    }

    /// The simulated watsonx Assistant.
    #[must_use]
    pub fn assistant(&self) -> AssistantHandle {
        AssistantHandle::new(Arc::clone(&self.world))
    }

    /// Posts later texts to `number` to `url`. Returns false when no account has that number.
    pub fn set_webhook(&self, number: &str, url: &str) -> bool {
        self.world.change_number(number, |line| line.webhook = Some(url.to_owned()))
    }

    /// Sets the method of a Twilio number's webhook. Returns false when no account has that number.
    pub fn set_webhook_method(&self, number: &str, method: WebhookMethod) -> bool {
        self.world.change_number(number, |line| line.method = method)
    }

    /// Makes calls of `route` fail: a bare [`crate::Fault`] strikes once, a plan as often as it says. Plans of one
    /// route strike in the order in which they were added.
    pub fn fail(&self, route: Route, plan: impl Into<FaultPlan>) {
        self.world.faults.add(route, plan.into());
        self.world.journal.tell(Event::Changed);
    }

    /// Removes all faults that have not struck yet.
    pub fn clear_faults(&self) {
        self.world.faults.clear();
        self.world.journal.tell(Event::Changed);
    }

    /// Sets the states and reports of texts that are accepted from now on.
    pub fn set_receipts(&self, receipts: Receipts) {
        *lock(&self.world.receipts) = receipts;
    }

    /// Sets what Twilio does to texts, lists and callbacks from now on.
    pub fn set_twilio_quirks(&self, quirks: TwilioQuirks) {
        *lock(&self.world.twilio_quirks) = quirks;
    }

    /// Blocks or unblocks texts from `number` to `customer`, as Twilio does after STOP and START.
    pub fn opt_out(&self, customer: &str, number: &str, out: bool) {
        self.world.opt_outs.set(customer, number, out);
        self.world.journal.tell(Event::Changed);
    }

    /// Makes all IntelePeer tokens that were issued so far expire.
    pub fn expire_intelepeer_tokens(&self) {
        self.world.intelepeer_tokens.expire_all();
    }

    /// The texts that providers accepted for customers, in the order of acceptance.
    #[must_use]
    pub fn messages(&self) -> Vec<Message> {
        self.world.journal.messages(|m| m.direction == Direction::Outbound)
    }

    /// The calls that the simulated services received, in the order in which they were answered.
    #[must_use]
    pub fn requests(&self) -> Vec<RequestRecord> {
        self.world.journal.requests()
    }

    /// The delivery receipts that were posted.
    #[must_use]
    pub fn callbacks(&self) -> Vec<Callback> {
        self.world.journal.callbacks()
    }

    /// Waits until `look` returns a value. It is called again after every change. The wait has no deadline of its own;
    /// use `tokio::time::timeout`. Returns `None` when the simulator stops first.
    pub async fn wait_for<T>(&self, mut look: impl FnMut(&Self) -> Option<T>) -> Option<T> {
        self.world.journal.wait_for(|| look(self)).await
    }
}
