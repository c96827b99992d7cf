//! `GET …/Messages/{sid}.json` and `GET …/Messages.json` with its filters and pages.

use std::sync::Arc;

use axum::Json;
use axum::extract::{OriginalUri, Path, State};
use http::{HeaderMap, Uri};
use jiff::Timestamp;
use jiff::civil::Date;
use serde_json::{Value, json};

use super::refusal::Refusal;
use super::{authorize, resource};
use crate::journal::{Message, MessageState};
use crate::route::Service;
use crate::world::{World, lock};

const DEFAULT_PAGE_SIZE: usize = 50;
const MAX_PAGE_SIZE: usize = 1000;
/// The prefix of a page token; the id of the last text of the page before follows it.
const TOKEN_PREFIX: &str = "PA";

pub(super) async fn fetch(
    State(world): State<Arc<World>>,
    Path((account, file)): Path<(String, String)>,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
) -> Result<Json<Value>, Refusal> {
    authorize(&world, &headers, &account, uri.path())?;
    let sid = file.strip_suffix(".json").unwrap_or(&file);
    let found = world.journal.find(sid).filter(|message| message.service == Service::Twilio);
    let quirks = lock(&world.twilio_quirks).clone();
    found.map(|m| Json(resource::show(&account, &m, &quirks))).ok_or_else(|| Refusal::not_found(uri.path()))
}

pub(super) async fn list(
    State(world): State<Arc<World>>,
    Path(account): Path<String>,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
) -> Result<Json<Value>, Refusal> {
    authorize(&world, &headers, &account, uri.path())?;
    let query = Query::parse(&uri)?;
    let (quirks, now) = (lock(&world.twilio_quirks).clone(), crate::clock::now());
    let mut matching = world.journal.messages(|message| query.wants(message) && quirks.lists(message, now));
    // Newest first. A page continues after the text that its token names, so new texts do not shift it.
    matching.reverse();
    if let Some(last) = &query.after {
        let next = matching.iter().position(|m| &m.sid == last).map_or(matching.len(), |at| at + 1);
        matching.drain(..next);
    }
    let more = matching.len() > query.page_size;
    matching.truncate(query.page_size);
    let shown = matching.iter().map(|message| resource::show(&account, message, &quirks)).collect();
    let next = matching.last().filter(|_| more).map(|last| query.uri(uri.path(), query.page + 1, Some(&last.sid)));
    Ok(Json(page(&uri, &query, shown, next)))
}

fn page(uri: &Uri, query: &Query, messages: Vec<Value>, next: Option<String>) -> Value {
    let start = query.page * query.page_size;
    let end = start + messages.len().saturating_sub(1);
    json!({
        "messages": messages,
        "page": query.page,
        "page_size": query.page_size,
        "start": start,
        "end": end,
        "first_page_uri": query.uri(uri.path(), 0, None),
        "next_page_uri": next,
        "previous_page_uri": null,
        "uri": uri.path_and_query().map(|whole| whole.as_str()),
    })
}

/// The filters, and the position in the list.
struct Query {
    filters: Vec<(String, String)>,
    sent: Vec<(Bound, Moment)>,
    page_size: usize,
    page: usize,
    after: Option<String>,
}

#[derive(Clone, Copy)]
enum Bound {
    On,
    NotAfter,
    NotBefore,
}

/// A day, or an instant.
#[derive(Clone, Copy)]
enum Moment {
    Day(Date),
    Instant(Timestamp),
}

impl Query {
    fn parse(uri: &Uri) -> Result<Self, Refusal> {
        let mut query =
            Self { filters: Vec::new(), sent: Vec::new(), page_size: DEFAULT_PAGE_SIZE, page: 0, after: None };
        for (name, value) in form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()).into_owned() {
            match name.as_str() {
                "PageSize" => {
                    let size: usize = value.parse().map_err(|_| invalid(&name))?;
                    query.page_size = size.clamp(1, MAX_PAGE_SIZE);
                }
                "Page" => query.page = value.parse().map_err(|_| invalid(&name))?,
                "PageToken" => query.after = value.strip_prefix(TOKEN_PREFIX).map(str::to_owned),
                "DateSent" | "DateSent<" | "DateSent>" => {
                    let bound = match name.as_str() {
                        "DateSent<" => Bound::NotAfter,
                        "DateSent>" => Bound::NotBefore,
                        _ => Bound::On,
                    };
                    query.sent.push((bound, moment(&value).ok_or_else(|| invalid(&name))?));
                    query.filters.push((name, value));
                }
                "To" | "From" => query.filters.push((name, value)),
                _ => {}
            }
        }
        Ok(query)
    }

    fn wants(&self, message: &Message) -> bool {
        let ends = self.filters.iter().all(|(name, value)| match name.as_str() {
            "To" => &message.to == value,
            "From" => &message.from == value && message.state != MessageState::Accepted,
            _ => true,
        });
        ends && message.service == Service::Twilio
            && self.sent.iter().all(|(bound, moment)| message.sent_at.is_some_and(|at| within(at, *bound, *moment)))
    }

    fn uri(&self, path: &str, page: usize, after: Option<&str>) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(&self.filters);
        query.append_pair("PageSize", &self.page_size.to_string()).append_pair("Page", &page.to_string());
        if let Some(last) = after {
            query.append_pair("PageToken", &format!("{TOKEN_PREFIX}{last}"));
        }
        format!("{path}?{}", query.finish())
    }
}

fn invalid(name: &str) -> Refusal {
    Refusal::bad_request(20001, format!("Parameter '{name}' is invalid"))
}

/// A day or an instant: `2026-04-01` or `2026-04-01T10:00:00Z`.
fn moment(value: &str) -> Option<Moment> {
    if let Ok(at) = value.parse() {
        return Some(Moment::Instant(at));
    }
    value.parse().ok().map(Moment::Day)
}

fn within(at: Timestamp, bound: Bound, moment: Moment) -> bool {
    match moment {
        Moment::Day(day) => {
            let date = jiff::tz::TimeZone::UTC.to_datetime(at).date();
            match bound {
                Bound::On => date == day,
                Bound::NotAfter => date <= day,
                Bound::NotBefore => date >= day,
            }
        }
        Moment::Instant(instant) => match bound {
            Bound::On => at.as_second() == instant.as_second(),
            Bound::NotAfter => at <= instant,
            Bound::NotBefore => at >= instant,
        },
    }
}
