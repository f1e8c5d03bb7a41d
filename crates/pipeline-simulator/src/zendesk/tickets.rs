//! What is read of single tickets, and the search index.

use axum::response::Response;
use serde_json::{Value, json};

use super::answer::{close, not_found, open};
use super::events::EventLog;
use super::lists;
use super::query::Query;
use crate::server::Service;
use crate::world::{Row, World};

/// Records of a page of a ticket's comments or audits.
const PAGE: usize = 100;

/// The ticket with this id, which must not be deleted.
pub(super) fn find(service: &Service, id: &str) -> Result<u64, Response> {
    let world = &*service.world;
    let (tickets, live) = (world.table("tickets"), world.table("ticket_metrics"));
    let index = world.tables[tickets].index(id);
    index
        .filter(|index| {
            world.exists(Row {
                table: live,
                index: *index,
            })
        })
        .ok_or_else(not_found)
}

/// A ticket's audits. Those of an archived ticket come all at once.
pub(super) fn audits(service: &Service, ticket: u64, query: &Query) -> Result<Response, Response> {
    let world = &*service.world;
    let events = world.events();
    let all: Vec<Value> = events
        .of(ticket)
        .iter()
        .map(|event| events.audit(world, *event))
        .collect();
    let in_one = lists::is_archived(service, ticket);
    answer(service, "audits", all, in_one, query)
}

/// A ticket's comments.
pub(super) fn comments(
    service: &Service,
    ticket: u64,
    query: &Query,
) -> Result<Response, Response> {
    let world = &*service.world;
    let events = world.events();
    let all = comments_of(&events, world, ticket);
    answer(service, "comments", all, false, query)
}

fn comments_of(events: &EventLog, world: &World, ticket: u64) -> Vec<Value> {
    events
        .of(ticket)
        .iter()
        .filter_map(|event| events.comment(world, *event))
        .collect()
}

fn answer(
    service: &Service,
    key: &str,
    all: Vec<Value>,
    in_one: bool,
    query: &Query,
) -> Result<Response, Response> {
    let mut body = open(key);
    let total = all.len();
    let size = query.page_size(service, "page[size]", PAGE)?;
    let from = query
        .get("page[after]")
        .and_then(|after| after.parse::<usize>().ok())
        .unwrap_or(0);
    let is_paged = query.get("page[size]").is_some() && !in_one;
    let page: Vec<String> = if is_paged {
        all.into_iter()
            .skip(from)
            .take(size)
            .map(|record| record.to_string())
            .collect()
    } else {
        all.into_iter().map(|record| record.to_string()).collect()
    };
    body.extend_from_slice(page.join(",").as_bytes());
    let tail = if is_paged {
        let end = from + page.len();
        let link = format!(
            "{}/api/v2/{}.json?page%5Bafter%5D={end}&page%5Bsize%5D={size}",
            query.base(service),
            query.path
        );
        json!({ "meta": { "has_more": end < total, "after_cursor": end.to_string(), "before_cursor": from.to_string() }, "links": { "next": link, "prev": null } })
    } else {
        json!({ "count": total, "next_page": null, "previous_page": null })
    };
    Ok(close(body, &tail))
}

/// The search index, which knows no deleted tickets.
pub(super) fn search(service: &Service, query: &Query) -> Result<Response, Response> {
    let world = &*service.world;
    let tickets = world.table("tickets");
    let bound = |operator: &str| {
        let text = query
            .get("query")?
            .split(' ')
            .find_map(|term| term.strip_prefix("updated_at")?.strip_prefix(operator))?;
        chrono::DateTime::parse_from_rfc3339(text)
            .ok()
            .map(|time| time.timestamp())
    };
    let span = bound(">=").unwrap_or(i64::MIN)..=bound("<=").unwrap_or(i64::MAX);
    let live = world.table("ticket_metrics");
    let found = (0..world.count(tickets)).filter(|index| {
        world.exists(Row {
            table: live,
            index: *index,
        })
    });
    let found = found.filter(|index| {
        world
            .entry(Row {
                table: tickets,
                index: *index,
            })
            .is_some_and(|entry| span.contains(&entry.updated))
    });
    let record = |index: u64| {
        let mut text = Vec::new();
        world.write(
            Row {
                table: tickets,
                index,
            },
            &[],
            &mut text,
        );
        let mut record: Value = serde_json::from_slice(&text).unwrap_or_default();
        record["result_type"] = "ticket".into();
        record
    };
    answer(
        service,
        "results",
        found.map(record).collect(),
        false,
        query,
    )
}
