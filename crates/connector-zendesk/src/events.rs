//! What stands in the children of ticket events: what happened, what was said, and which fields
//! were changed.
//!
//! What was said goes to the stream of comments and nowhere else. Zendesk redacts a comment in
//! place, so a copy in the event that first showed it would stay for ever.

use std::borrow::Cow;

use pipeline_core::{Added, RawRecord, Result};
use serde_json::value::RawValue;

/// Children that are comments.
const COMMENTS: [&str; 2] = ["Comment", "VoiceComment"];

/// Children that change fields of the ticket.
const CHANGES: [&str; 2] = ["Create", "Change"];

/// Members of a child that quote what people said or sent, whatever its type.
const TEXTS: [&str; 13] = [
    "attachments",
    "body",
    "data",
    "formatted_from",
    "formatted_to",
    "history",
    "html_body",
    "message",
    "metadata",
    "plain_body",
    "subject",
    "uploads",
    "value",
];

/// The field that repeats the first comment.
const DESCRIPTION: &str = "description";

/// The field of a child that holds those of custom fields, by their id.
const CUSTOM_FIELDS: &str = "custom_ticket_fields";

/// Members of a child that changes fields which are no fields.
const NO_FIELDS: [&str; 11] = [
    "id",
    "type",
    "event_type",
    "via",
    "via_reference_id",
    "audit_id",
    "created_at",
    "previous_value",
    "added_tags",
    "removed_tags",
    "metadata",
];

/// A child of an event.
struct Child {
    kind: String,
    record: RawRecord,
}

/// Children of a ticket event that have a type. Anything but a list of objects has none.
fn children(event: &RawRecord) -> Vec<Child> {
    let children: Vec<&RawValue> = event
        .member("child_events")
        .and_then(|json| serde_json::from_str(json).ok())
        .unwrap_or_default();
    let typed = |child: &RawValue| {
        let record = RawRecord::upsert(child.get().to_owned());
        Some(Child {
            kind: record
                .scalar("event_type")
                .or_else(|| record.scalar("type"))?,
            record,
        })
    };
    children.into_iter().filter_map(typed).collect()
}

impl Child {
    fn is_comment(&self) -> bool {
        COMMENTS.contains(&&*self.kind)
    }

    fn is_change(&self) -> bool {
        CHANGES.contains(&&*self.kind)
    }

    /// True for a child that changes comments of the past in place, and does not show them.
    fn rewrites(&self) -> bool {
        self.kind.contains("Redact") || self.kind.contains("PrivacyChange")
    }

    /// The child without what it quotes.
    fn without_texts(&self) -> Result<RawRecord> {
        let members = self.record.members()?;
        let named = |names: &[&str]| members.iter().any(|(name, _)| names.contains(&&**name));
        let is_description = || {
            named(&[DESCRIPTION])
                || self.record.scalar("field_name").as_deref() == Some(DESCRIPTION)
        };
        let dropped: &[&str] = match self.is_change() {
            true if is_description() => &[DESCRIPTION, "value", "previous_value"],
            true => &[],
            false => &TEXTS,
        };
        if !named(dropped) {
            return Ok(self.record.clone());
        }
        Ok(self.record.clone().with(&Added::without(dropped)))
    }
}

/// The event with children that say what happened, and not what was said.
#[expect(
    clippy::unnecessary_wraps,
    reason = "others that take its place can fail"
)]
pub(crate) fn without_texts(event: &RawRecord) -> Result<RawRecord> {
    let Some(json) = event.member("child_events") else {
        return Ok(event.clone());
    };
    let children: Vec<&RawValue> = serde_json::from_str(json).unwrap_or_default();
    let (mut lean, mut is_changed) = (String::from("["), false);
    for child in children {
        let record = RawRecord::upsert(child.get().to_owned());
        let kind = record
            .scalar("event_type")
            .or_else(|| record.scalar("type"))
            .unwrap_or_default();
        // What is no object is none that the reference has, and may quote anything.
        let Ok(kept) = (Child { kind, record }).without_texts() else {
            continue;
        };
        is_changed |= kept.len() != child.get().len();
        if lean.len() > 1 {
            lean.push(',');
        }
        lean.push_str(&String::from_utf8_lossy(&kept.as_bytes()));
    }
    if !is_changed {
        return Ok(event.clone());
    }
    lean.push(']');
    let lean = Added::instead([("child_events", &*lean)]);
    Ok(event.clone().with(&lean))
}

/// The comments among the children of a ticket event, each with what only the event knows: its
/// ticket and time.
pub(crate) fn comments(event: &RawRecord) -> Result<Vec<RawRecord>> {
    let comments = children(event).into_iter().filter(Child::is_comment);
    comments
        .map(|comment| {
            of_event(
                &comment.record,
                event,
                &["ticket_id", "timestamp", "via_reference_id"],
            )
        })
        .collect()
}

/// A child with members of its event, where it has no value of its own.
fn of_event(child: &RawRecord, event: &RawRecord, names: &[&'static str]) -> Result<RawRecord> {
    let members = child.members()?;
    let is_missing = |name: &str| {
        !members
            .iter()
            .any(|(known, value)| known == name && *value != "null")
    };
    let added: Vec<(&str, &str)> = names
        .iter()
        .filter(|name| is_missing(name))
        .filter_map(|name| Some((*name, event.member(name)?)))
        .collect();
    let names: Vec<&str> = added.iter().map(|(name, _)| *name).collect();
    let child = child.clone().with(&Added::without(&names));
    Ok(child.with(&Added::after(added)))
}

/// One row for every field that a ticket event set or changed.
pub(crate) fn field_changes(event: &RawRecord) -> Result<Vec<RawRecord>> {
    let mut rows = Vec::new();
    for child in children(event).iter().filter(|child| child.is_change()) {
        let members = child.record.members()?;
        let previous = child.record.member("previous_value");
        let named = child.record.scalar("field_name");
        if let Some(field) = named.as_deref().filter(|field| *field != DESCRIPTION) {
            rows.push(change(
                event,
                child,
                field,
                child.record.member("value"),
                previous,
            )?);
        }
        for (field, value) in members
            .iter()
            .filter(|(field, _)| named.is_none() && !NO_FIELDS.contains(&&**field))
        {
            match &**field {
                DESCRIPTION => {}
                CUSTOM_FIELDS => rows.extend(custom_changes(event, child, value, previous)?),
                field => rows.push(change(event, child, field, Some(value), previous)?),
            }
        }
    }
    Ok(rows)
}

/// The custom fields that a child changed, by their id.
fn custom_changes(
    event: &RawRecord,
    child: &Child,
    values: &str,
    previous: Option<&str>,
) -> Result<Vec<RawRecord>> {
    let values = RawRecord::upsert(values.to_owned());
    let before = previous
        .filter(|json| json.starts_with('{'))
        .map(|json| RawRecord::upsert(json.to_owned()));
    let Ok(fields) = values.members() else {
        return Ok(Vec::new());
    };
    let row = |(id, value): &(Cow<'_, str>, &str)| {
        let known = before.as_ref().map_or(previous, |before| before.member(id));
        change(
            event,
            child,
            &format!("custom_field_{id}"),
            Some(value),
            known,
        )
    };
    fields.iter().map(row).collect()
}

/// One change of one field. Values are texts: what is none is its JSON.
fn change(
    event: &RawRecord,
    child: &Child,
    field: &str,
    value: Option<&str>,
    previous: Option<&str>,
) -> Result<RawRecord> {
    let null = || "null".to_owned();
    let text = |json: Option<&str>| json.map_or_else(null, as_text);
    let (field, value, previous) = (as_text(field), text(value), text(previous));
    let row = RawRecord::from_members([
        ("id", child.record.member("id").unwrap_or("null")),
        ("field", &*field),
        ("value", &*value),
        ("previous_value", &*previous),
        ("event_type", &*as_text(&child.kind)),
        ("event_id", event.member("id").unwrap_or("null")),
    ]);
    of_event(&row, event, &OF_EVENT)
}

/// What every row that is made of a child has of the event.
const OF_EVENT: [&str; 4] = ["ticket_id", "timestamp", "created_at", "updater_id"];

/// A JSON text of what is one already, or null, and of the JSON otherwise.
fn as_text(json: &str) -> String {
    if json == "null" || json.starts_with('"') {
        return json.to_owned();
    }
    serde_json::to_string(json).unwrap_or_else(|_| unreachable!("a string is always JSON"))
}

/// One row for every time that a ticket event put the ticket on another schedule of business hours.
pub(crate) fn schedule_assignments(event: &RawRecord) -> Result<Vec<RawRecord>> {
    let assignments = children(event)
        .into_iter()
        .filter(|child| child.kind == "ScheduleAssignment");
    let row = |child: Child| {
        let member = |name: &str| child.record.member(name).unwrap_or("null");
        let row = RawRecord::from_members([
            ("id", member("id")),
            ("schedule_id", member("new_schedule_id")),
            ("previous_schedule_id", member("previous_schedule_id")),
            ("event_id", event.member("id").unwrap_or("null")),
        ]);
        of_event(&row, event, &OF_EVENT)
    };
    assignments.map(row).collect()
}

/// The ticket of an event that changed comments of the past in place.
#[expect(
    clippy::unnecessary_wraps,
    reason = "others that take its place can fail"
)]
pub(crate) fn rewritten_ticket(event: &RawRecord) -> Result<Option<RawRecord>> {
    if !children(event).iter().any(Child::rewrites) {
        return Ok(None);
    }
    Ok(event
        .member("ticket_id")
        .map(|ticket| RawRecord::from_members([("ticket_id", ticket)])))
}
