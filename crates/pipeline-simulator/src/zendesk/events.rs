//! What happened to tickets: the source of their events, comments and audits.

use std::collections::BTreeSet;

use chrono::DateTime;
use serde_json::{Value, json};

use crate::timeline::Timeline;
use crate::world::{World, draw};

/// The first id. Events are ten apart, so that their parts have ids of their own.
const FIRST: u64 = 320_000_000_000;
const STEP: u64 = 10;
/// Time between two events of a ticket.
const GAP: i64 = 2 * 3600;

/// One event.
#[derive(Clone, Copy)]
struct Event {
    time: i64,
    ticket: u32,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The ticket is made, with its first comment.
    Open,
    /// A comment, and another status.
    Reply,
    /// Another priority.
    Touch,
    /// The comment of this event is blackened.
    Redact(u32),
}

/// All events, in order of time.
pub(crate) struct EventLog {
    events: Vec<Event>,
    of_ticket: Vec<Vec<u32>>,
    redacted: BTreeSet<u32>,
}

/// What is read of the log.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogTable {
    Events,
    Comments,
    Audits,
}

impl LogTable {
    pub(crate) const ALL: [LogTable; 3] = [LogTable::Events, LogTable::Comments, LogTable::Audits];

    pub(crate) fn name(self) -> &'static str {
        match self {
            LogTable::Events => "ticket_events",
            LogTable::Comments => "ticket_comments",
            LogTable::Audits => "ticket_audits",
        }
    }

    /// The id of the record that an event has in the table.
    pub(crate) fn id(self, event: u32) -> u64 {
        let own = FIRST + STEP * u64::from(event);
        if self == LogTable::Comments {
            own + 1
        } else {
            own
        }
    }

    pub(crate) fn named(name: &str) -> Option<LogTable> {
        Self::ALL.into_iter().find(|table| table.name() == name)
    }
}

impl EventLog {
    /// So many events, spread over the tickets: the last one of each is when the ticket changed
    /// last.
    pub(crate) fn new(tickets: &Timeline, count: u64, key: u64) -> EventLog {
        let each = |ticket: u64| {
            count / tickets.count.max(1) + u64::from(ticket < count % tickets.count.max(1))
        };
        let mut events = Vec::with_capacity(usize::try_from(count).unwrap_or(0));
        for ticket in 0..tickets.count {
            let (number, last) = (each(ticket), tickets.at(ticket));
            for (position, left) in (0..number).zip((0..number).rev()) {
                let kind = match (position, draw(key ^ 7, ticket * 64 + position) % 2) {
                    (0, _) => Kind::Open,
                    (_, 0) => Kind::Reply,
                    _ => Kind::Touch,
                };
                let time = last - GAP * i64::try_from(left).unwrap_or(0);
                events.push(Event {
                    time,
                    ticket: u32::try_from(ticket).unwrap_or(u32::MAX),
                    kind,
                });
            }
        }
        events.sort_by_key(|event| event.time);
        let mut log = EventLog {
            events: Vec::new(),
            of_ticket: Vec::new(),
            redacted: BTreeSet::new(),
        };
        for event in events {
            log.push(event);
        }
        log
    }

    fn push(&mut self, event: Event) {
        let ticket = event.ticket as usize;
        if self.of_ticket.len() <= ticket {
            self.of_ticket.resize(ticket + 1, Vec::new());
        }
        self.of_ticket[ticket].push(u32::try_from(self.events.len()).unwrap_or(u32::MAX));
        self.events.push(event);
    }

    /// Adds an event, which happens now.
    pub(crate) fn add(&mut self, ticket: u64, kind: Kind, now: i64) {
        self.push(Event {
            time: now,
            ticket: u32::try_from(ticket).unwrap_or(u32::MAX),
            kind,
        });
    }

    /// Blackens the first comment of a ticket. False when it has none.
    pub(crate) fn redact(&mut self, ticket: u64, now: i64) -> bool {
        let known = usize::try_from(ticket)
            .ok()
            .and_then(|ticket| self.of_ticket.get(ticket));
        let Some(first) = known.and_then(|events| {
            events
                .iter()
                .copied()
                .find(|event| self.has_comment(*event))
        }) else {
            return false;
        };
        self.redacted.insert(first);
        self.add(ticket, Kind::Redact(first), now);
        true
    }

    /// Blackens all comments of a ticket, of which no event tells.
    pub(crate) fn blacken(&mut self, ticket: u64) {
        let comments: Vec<u32> = self
            .of(ticket)
            .iter()
            .copied()
            .filter(|event| self.has_comment(*event))
            .collect();
        self.redacted.extend(comments);
    }

    /// What the comments of a ticket say now, the first one first.
    pub(crate) fn texts(&self, ticket: u64) -> Vec<String> {
        let comments = self
            .of(ticket)
            .iter()
            .filter(|event| self.has_comment(**event) && !self.redacted.contains(event));
        comments.map(|event| self.body(*event)).collect()
    }

    fn has_comment(&self, event: u32) -> bool {
        matches!(self.events[event as usize].kind, Kind::Open | Kind::Reply)
    }

    /// The events from a time on, up to `until`, inclusive.
    pub(crate) fn from(&self, time: i64, until: i64) -> impl Iterator<Item = (i64, u64)> + '_ {
        let start = self.events.partition_point(|event| event.time < time);
        let events = self.events[start..].iter().zip(start as u64..);
        events
            .map(|(event, index)| (event.time, index))
            .take_while(move |(time, _)| *time <= until)
    }

    /// The events of one ticket.
    pub(crate) fn of(&self, ticket: u64) -> &[u32] {
        usize::try_from(ticket)
            .ok()
            .and_then(|ticket| self.of_ticket.get(ticket))
            .map_or(&[], Vec::as_slice)
    }

    /// The records of a table of the log, as positions, that are older than a second.
    pub(crate) fn shown(&self, table: LogTable, until: i64) -> impl Iterator<Item = u32> + '_ {
        let events = self
            .events
            .iter()
            .zip(0_u32..)
            .filter(move |(event, _)| event.time < until)
            .map(|(_, index)| index);
        events.filter(move |index| table != LogTable::Comments || self.has_comment(*index))
    }

    /// A record as the API sends it: of an event the one with whole comments, of a comment the one
    /// within.
    pub(crate) fn record(&self, world: &World, table: LogTable, event: u32) -> Value {
        match table {
            LogTable::Events => self.export(world, event, true),
            LogTable::Comments => self.comment_event(world, event),
            LogTable::Audits => self.audit(world, event),
        }
    }

    /// The record of the export, with whole comments if they are asked for.
    pub(crate) fn export(&self, world: &World, event: u32, with_comments: bool) -> Value {
        let Event { time, ticket, kind } = self.events[event as usize];
        let id = LogTable::Events.id(event);
        let comment = || {
            if with_comments {
                return self.comment_event(world, event);
            }
            json!({ "id": id + 1, "via": "Web form", "via_reference_id": null, "event_type": "Comment", "comment_present": true, "comment_public": true })
        };
        let child = |kind: &str, more: Value| {
            let mut child = json!({ "id": id + 2, "via": "Web form", "via_reference_id": null, "event_type": kind });
            merge(&mut child, more);
            child
        };
        let children = match kind {
            Kind::Open => vec![
                child("Create", json!({ "status": "new", "priority": "normal" })),
                comment(),
            ],
            Kind::Reply => vec![
                comment(),
                child(
                    "Change",
                    json!({ "status": "open", "previous_value": "new" }),
                ),
            ],
            Kind::Touch => vec![child(
                "Change",
                json!({ "priority": "high", "previous_value": "normal" }),
            )],
            Kind::Redact(redacted) => {
                vec![child(
                    "CommentRedactionEvent",
                    json!({ "comment_id": LogTable::Comments.id(redacted) }),
                )]
            }
        };
        json!({
            "id": id,
            "ticket_id": ticket_id(world, ticket),
            "timestamp": time,
            "created_at": iso(time),
            "updater_id": updater(world, event),
            "via": "Web form",
            "via_reference_id": null,
            "system": { "client": "Mozilla/5.0", "location": "Utrecht, Netherlands" },
            "metadata": { "system": {}, "custom": {} },
            "event_type": "Audit",
            "child_events": children,
        })
    }

    /// The body of a comment as it is now.
    fn body(&self, event: u32) -> String {
        if self.redacted.contains(&event) {
            return "\u{2587}\u{2587}\u{2587}\u{2587}".to_owned();
        }
        format!(
            "Message {} about the order",
            draw(u64::from(event), 11) % 1_000_000
        )
    }

    /// A comment within the event that it came with. Of some the channel is a plain text.
    fn comment_event(&self, world: &World, event: u32) -> Value {
        let id = LogTable::Comments.id(event);
        let body = self.body(event);
        let via = if event.is_multiple_of(5) {
            json!("Mail")
        } else {
            json!({ "channel": "web", "source": { "from": {}, "to": {}, "rel": null } })
        };
        json!({
            "id": id, "type": "Comment", "author_id": updater(world, event), "body": body, "html_body": format!("<p>{body}</p>"),
            "plain_body": body, "public": !event.is_multiple_of(3), "attachments": [], "audit_id": id - 1, "via": via,
            "created_at": iso(self.events[event as usize].time), "event_type": "Comment", "via_reference_id": null,
        })
    }

    /// A comment in the list of its ticket.
    pub(crate) fn comment(&self, world: &World, event: u32) -> Option<Value> {
        if !self.has_comment(event) {
            return None;
        }
        let mut comment = self.comment_event(world, event);
        let members = comment.as_object_mut()?;
        members.retain(|name, _| name != "event_type" && name != "via_reference_id");
        members.insert(
            "via".to_owned(),
            json!({ "channel": "web", "source": { "from": {}, "to": {}, "rel": null } }),
        );
        members.insert("metadata".to_owned(), json!({ "system": {}, "custom": {} }));
        Some(comment)
    }

    /// The same in the list of audits of its ticket.
    pub(crate) fn audit(&self, world: &World, event: u32) -> Value {
        let Event { time, ticket, kind } = self.events[event as usize];
        let id = LogTable::Audits.id(event);
        let field = |kind: &str, field: &str, value: &str, previous: Option<&str>| {
            let mut event =
                json!({ "id": id + 2, "type": kind, "field_name": field, "value": value });
            if let Some(previous) = previous {
                event["previous_value"] = previous.into();
            }
            event
        };
        let comment = || {
            let body = self.body(event);
            json!({
                "id": id + 1, "type": "Comment", "author_id": updater(world, event), "body": body, "html_body": format!("<p>{body}</p>"),
                "plain_body": body, "public": true, "attachments": [], "audit_id": id,
            })
        };
        let events = match kind {
            Kind::Open => vec![comment(), field("Create", "status", "new", None)],
            Kind::Reply => vec![comment(), field("Change", "status", "open", Some("new"))],
            Kind::Touch => vec![field("Change", "priority", "high", Some("normal"))],
            Kind::Redact(redacted) => {
                vec![
                    json!({ "id": id + 2, "type": "CommentRedactionEvent", "comment_id": LogTable::Comments.id(redacted) }),
                ]
            }
        };
        json!({
            "id": id, "ticket_id": ticket_id(world, ticket), "created_at": iso(time), "author_id": updater(world, event),
            "metadata": { "system": {}, "custom": {} }, "via": { "channel": "web", "source": { "from": {}, "to": {}, "rel": null } },
            "events": events,
        })
    }
}

fn ticket_id(world: &World, ticket: u32) -> Value {
    let id = world.tables[world.table("tickets")].id(u64::from(ticket));
    id.parse::<u64>().map_or(Value::Null, Value::from)
}

/// Who did it: some user, or the system.
fn updater(world: &World, event: u32) -> Value {
    if event.is_multiple_of(11) {
        return json!(-1);
    }
    let table = world.table("users");
    let user = draw(u64::from(event), 5) % world.count(table).max(1);
    world.tables[table]
        .id(user)
        .parse::<u64>()
        .map_or(Value::Null, Value::from)
}

pub(crate) fn iso(seconds: i64) -> String {
    DateTime::from_timestamp(seconds, 0)
        .unwrap_or_default()
        .format("%Y-%m-%dT%H:%M:%SZ")
        .to_string()
}

fn merge(into: &mut Value, more: Value) {
    if let (Some(into), Value::Object(more)) = (into.as_object_mut(), more) {
        into.extend(more);
    }
}
