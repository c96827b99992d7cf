//! Finds the outcome of a call whose outcome is unknown: a receipt proves it, or the provider's list shows it.

use std::time::Duration;

use message::failure::Failure;
use providers::{Candidate, Carrier, Sms, Trace};
use store::Interrupted;

use crate::ledger::{Entry, Ledger, Place};

/// Providers tell times in whole seconds.
const RESOLUTION: Duration = Duration::from_secs(1);

/// The result of an inquiry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Finding {
    /// The provider has it, under this name.
    Found(String),
    /// The provider does not list it.
    Absent,
    /// The provider lists a text that is the same, but another sender may still claim it: ask again after this long.
    Early(Duration),
    /// The provider lists a text that may be the part: its words were hidden or changed.
    Unclear,
    /// This provider cannot be asked.
    Unsupported,
}

/// A question about one part.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Inquiry<'a> {
    pub(crate) carrier: &'a dyn Carrier,
    pub(crate) ledger: &'a Ledger,
    pub(crate) place: &'a Place,
    pub(crate) entry: &'a Entry,
    /// A text younger than this may not be claimed by its sender yet.
    pub(crate) quiet: Duration,
    /// How long reading the provider's whole list may take.
    pub(crate) deadline: Duration,
}

impl Inquiry<'_> {
    /// Asks the provider. The inner `Err` is a failure of the provider, which says nothing about the part.
    pub(crate) async fn ask(&self, sms: &Sms<'_>) -> Result<Result<Finding, Failure>, Interrupted> {
        let look = tokio::time::timeout(self.deadline, self.carrier.find(sms)).await;
        let look = look.unwrap_or_else(|_| Err(Failure::transient("the provider's list was not read in time")));
        match look {
            Ok(Trace::Listed(candidates)) => self.choose(candidates).await.map(Ok),
            Ok(Trace::Unsupported) => Ok(Ok(Finding::Unsupported)),
            Err(failure) => Ok(Err(failure)),
        }
    }

    /// Chooses which of `candidates` is the part; those that are known to be other parts are left out.
    async fn choose(&self, candidates: Vec<Candidate>) -> Result<Finding, Interrupted> {
        let free = candidates.into_iter().filter(|candidate| !self.entry.known.contains(&candidate.name));
        let (same, similar): (Vec<_>, Vec<_>) = free.partition(|candidate| candidate.is_same);
        for Candidate { name, age, .. } in same {
            if !self.carrier.lists_other_conversations() {
                return Ok(Finding::Found(name));
            }
            let early = (self.quiet + RESOLUTION).saturating_sub(age.unwrap_or(Duration::MAX));
            if early.is_zero() {
                if self.ledger.claim(self.place, &name).await? {
                    return Ok(Finding::Found(name));
                }
            } else if self.ledger.is_free(self.place, &name).await? {
                return Ok(Finding::Early(early));
            }
        }
        let mut is_unclear = false;
        for Candidate { name, .. } in similar {
            is_unclear |= !self.carrier.lists_other_conversations() || self.ledger.is_free(self.place, &name).await?;
        }
        Ok(if is_unclear { Finding::Unclear } else { Finding::Absent })
    }
}
