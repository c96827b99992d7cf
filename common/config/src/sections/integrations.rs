//! Reads the integrations, and checks what must differ between them.

use std::collections::BTreeMap;

use integration::{Integration, Integrations};
use message::{Address, IntegrationId};

use super::{assistant, options, provider};
use crate::reader::entry::Entry;
use crate::reader::{KeyPath, Section};

/// What must differ, and where it was first seen.
#[derive(Default)]
struct Seen {
    ids: BTreeMap<IntegrationId, usize>,
    numbers: BTreeMap<(&'static str, Address), usize>,
}

pub(crate) fn read(sections: Vec<Section<'_>>) -> Integrations {
    let mut seen = Seen::default();
    let one = |(index, section)| integration(section, index, &mut seen);
    sections.into_iter().enumerate().filter_map(one).collect()
}

fn integration(mut section: Section<'_>, index: usize, seen: &mut Seen) -> Option<Integration> {
    let known_id = section.peek_text("id").and_then(|text| IntegrationId::parse(text).ok());
    section.place.integration = known_id.map(|id| id.to_string());
    let id = section.require("id", "a name for the webhook URL, such as \"support\"").and_then(id);
    let numbers = section.take("numbers").map(numbers).unwrap_or_default();
    let numbers_place = section.place.key("numbers");
    let provider = provider::read(&mut section);
    let assistant = assistant::read(section.section("assistant"));
    let options = options::read(section.section("options"), provider.as_ref());
    if let Some(id) = &id {
        refuse_second_id(&section.place.key("id"), id, index, seen);
    }
    section.finish();
    let provider = provider?;
    for (position, number) in &numbers {
        refuse_second_number(&numbers_place.item(*position), provider.name(), number, index, seen);
    }
    let numbers = numbers.into_iter().map(|(_, number)| number).collect();
    Some(Integration { id: id?, numbers, provider, assistant: assistant?, options })
}

fn id(entry: Entry<'_>) -> Option<IntegrationId> {
    let expected = "1 to 64 lower-case letters, digits, '-' or '_'";
    entry.parsed(expected, |text| {
        IntegrationId::parse(text)
            .map_err(|_| "leave the other characters out: it stands in the webhook URL".to_owned())
    })
}

/// The numbers that are numbers, each with its position.
fn numbers(entry: Entry<'_>) -> Vec<(usize, Address)> {
    entry
        .items()
        .into_iter()
        .map(number)
        .enumerate()
        .filter_map(|(position, number)| Some((position, number?)))
        .collect()
}

fn number(entry: Entry<'_>) -> Option<Address> {
    let expected = "a phone number in E.164, such as \"+12125550100\", a short code, an alphanumeric sender or a channel \
                    address, such as \"rcs:brand_agent\"";
    // Ten digits alone would be read as if they began with a country code, which they usually do not.
    let is_explicit = |text: &str, address: &Address| text.contains('+') || address.number().is_none();
    let read = |text: &str| Address::parse(text).ok().filter(|it| it.is_usual() && is_explicit(text, it));
    let number = entry.value.as_str().and_then(read);
    if number.is_none() {
        let mend = "write it in double quotes, a number with + and the country code, also behind a channel's name";
        match entry.value.as_str() {
            Some(text) if !text.is_empty() => entry.place.problem(format!("is \"{}\"", masked(text)), expected, mend),
            _ => entry.refuse_hidden(expected, mend),
        }
    }
    number
}

/// Something like a number, with all but its last two letters and digits hidden.
fn masked(text: &str) -> String {
    let shown_from = text.chars().count().saturating_sub(2);
    let mask = |(i, c): (usize, char)| if i < shown_from && !" +-().:".contains(c) { '*' } else { c };
    let masked: String = text.chars().enumerate().map(mask).take(40).collect();
    masked.escape_debug().to_string()
}

fn refuse_second_id(place: &KeyPath<'_>, id: &IntegrationId, index: usize, seen: &mut Seen) {
    let Some(first) = seen.ids.insert(id.clone(), index) else { return };
    let found = format!("is \"{id}\", which integrations[{first}] has");
    place.problem(found, "an id that no other integration has", "rename one of the two");
}

fn refuse_second_number(place: &KeyPath<'_>, provider: &'static str, number: &Address, index: usize, seen: &mut Seen) {
    let Some(first) = seen.numbers.insert((provider, number.clone()), index) else { return };
    let found = format!("is {number}, which integrations[{first}] has");
    place.problem(found, "a number that no other integration of this provider has", "remove it from one of the two");
}
