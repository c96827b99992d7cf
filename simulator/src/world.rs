//! The state that all simulated services share: accounts, numbers, the journal, and the tasks that post webhooks.

use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use reqwest::redirect::Policy;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::{Number, Receipts, SimulatorConfig};
use crate::faults::Faults;
use crate::intelepeer::Tokens;
use crate::journal::{Event, Journal};
use crate::route::Service;
use crate::twilio::{OptOuts, TwilioQuirks};
use crate::watsonx::Assistant;

/// The longest time that Twilio waits for a webhook, see <https://www.twilio.com/docs/api/errors/11200>.
const WEBHOOK_TIMEOUT: Duration = Duration::from_secs(15);

/// The state behind every route.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) config: SimulatorConfig,
    /// The base URL, without a slash at the end.
    pub(crate) url: String,
    pub(crate) journal: Journal,
    pub(crate) faults: Faults,
    pub(crate) numbers: Mutex<Vec<OwnedNumber>>,
    pub(crate) receipts: Mutex<Receipts>,
    pub(crate) opt_outs: OptOuts,
    pub(crate) twilio_quirks: Mutex<TwilioQuirks>,
    /// The number of texts that messaging services accepted. Each text leaves from the next number of its pool.
    pub(crate) pooled: AtomicUsize,
    pub(crate) intelepeer_tokens: Tokens,
    pub(crate) assistant: Assistant,
    pub(crate) http: reqwest::Client,
    pub(crate) tasks: TaskTracker,
    pub(crate) stopped: CancellationToken,
}

/// A number and its service.
#[derive(Clone, Debug)]
pub(crate) struct OwnedNumber {
    pub(crate) service: Service,
    pub(crate) line: Number,
}

impl World {
    pub(crate) fn new(config: SimulatorConfig, url: String) -> reqwest::Result<Self> {
        let http = reqwest::Client::builder()
            .timeout(WEBHOOK_TIMEOUT)
            .redirect(Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .build()?;
        let owned = |service| move |line: &Number| OwnedNumber { service, line: line.clone() };
        let twilio = config.twilio.numbers.iter().map(owned(Service::Twilio));
        let numbers = twilio.chain(config.intelepeer.numbers.iter().map(owned(Service::Intelepeer))).collect();
        Ok(Self {
            journal: Journal::new(config.keep),
            faults: Faults::new(config.fault_seed),
            numbers: Mutex::new(numbers),
            receipts: Mutex::new(config.receipts.clone()),
            opt_outs: OptOuts::default(),
            twilio_quirks: Mutex::default(),
            pooled: AtomicUsize::new(0),
            intelepeer_tokens: Tokens::default(),
            assistant: Assistant::new(&config.watsonx, &url, config.keep),
            http,
            tasks: TaskTracker::new(),
            stopped: CancellationToken::new(),
            config,
            url,
        })
    }

    pub(crate) fn number(&self, number: &str) -> Option<OwnedNumber> {
        lock(&self.numbers).iter().find(|n| n.line.number == number).cloned()
    }

    /// Changes a number's settings; returns false when no account has the number.
    pub(crate) fn change_number(&self, number: &str, change: impl FnOnce(&mut Number)) -> bool {
        let found = lock(&self.numbers).iter_mut().find(|n| n.line.number == number).map(|n| change(&mut n.line));
        if found.is_some() {
            self.journal.tell(Event::Changed);
        }
        found.is_some()
    }

    /// Runs `task` until it ends or the simulator stops.
    pub(crate) fn spawn(self: &Arc<Self>, task: impl Future<Output = ()> + Send + 'static) {
        let stopped = self.stopped.clone();
        self.tasks.spawn(async move { stopped.run_until_cancelled_owned(task).await.unwrap_or(()) });
    }
}

/// Locks the mutex. A panic in another holder does not spread.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// 32 hexadecimal digits, fresh on each call.
pub(crate) fn fresh_hex() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}
