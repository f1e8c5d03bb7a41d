//! Lists: by cursor, numbered, and in one answer.

use axum::http::StatusCode;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::DateTime;
use serde_json::{Value, json};

use super::answer::{bad_cursor, close, error, open};
use super::brands;
use super::query::Query;
use super::table::{Listing, Pages, Range};
use crate::server::Service;
use crate::world::{DAY, Row, World};

/// Records of a list's page, at most and by default.
const LIST_PAGE: usize = 100;
/// Numbered pages end here.
const LAST_PAGE: i64 = 100;
/// Closed tickets are archived after so long.
const ARCHIVED_AFTER: i64 = 120 * DAY;

/// Answers for one list; `owner` is the record that the list belongs to, if it belongs to one.
pub(super) fn list(
    service: &Service,
    table: usize,
    owner: Option<Row>,
    query: &Query,
) -> Result<Response, Response> {
    let Some(list) = &service.world.tables[table].list else {
        return Err(super::answer::unknown());
    };
    let indexes = rows(service, table, owner, list, query);
    let is_numbered = list.pages == Pages::Offset || query.get("page[size]").is_none();
    let (from, size) = match list.pages {
        Pages::Single => (0, indexes.len()),
        _ if is_numbered => numbered(service, query)?,
        _ => (
            after(&service.world, table, &indexes, query)?,
            query.page_size(service, "page[size]", LIST_PAGE)?,
        ),
    };
    let page = &indexes[from.min(indexes.len())..(from + size).min(indexes.len())];
    let more = from + page.len() < indexes.len();
    let mut body = open(&list.key);
    service.world.write_all(table, page, &[], &mut body);
    let tail = match list.pages {
        Pages::Single => json!({}),
        _ if is_numbered => {
            let number = from / size.max(1) + 1;
            let link = |number: usize| {
                format!(
                    "{}/api/v2/{}.json?page={number}&per_page={size}",
                    query.base(service),
                    query.path
                )
            };
            let previous = (number > 1).then(|| link(number - 1));
            json!({ "count": indexes.len(), "next_page": more.then(|| link(number + 1)), "previous_page": previous })
        }
        _ => cursor_tail(service, table, list, page, more, query),
    };
    Ok(close(body, &tail))
}

/// Links and cursor are there on the last page too, where only `has_more` tells; the Help Center
/// drops the link there.
fn cursor_tail(
    service: &Service,
    table: usize,
    list: &Listing,
    page: &[u64],
    more: bool,
    query: &Query,
) -> Value {
    let known = &service.world.tables[table];
    let edge = |index: Option<&u64>| {
        index.map(|index| STANDARD.encode(json!({ "o": "id", "v": known.id(*index) }).to_string()))
    };
    let (begin, end) = (edge(page.first()), edge(page.last()));
    let size = query.get("page[size]").unwrap_or("100");
    let link = |side: &str, cursor: &Option<String>| {
        cursor.as_ref().map(|cursor| {
            let encoded = cursor
                .replace('+', "%2B")
                .replace('/', "%2F")
                .replace('=', "%3D");
            let suffix = if list.help_center { "" } else { ".json" };
            format!(
                "{}/api/v2/{}{suffix}?page%5B{side}%5D={encoded}&page%5Bsize%5D={size}",
                query.base(service),
                query.path
            )
        })
    };
    let mut links = json!({ "next": link("after", &end), "prev": link("before", &begin) });
    if list.help_center && !more {
        links = json!({ "first": link("before", &begin), "last": link("after", &end) });
    }
    json!({ "meta": { "has_more": more, "after_cursor": end, "before_cursor": begin }, "links": links })
}

/// Where a numbered page begins, and how long it is.
fn numbered(service: &Service, query: &Query) -> Result<(usize, usize), Response> {
    let size = query.page_size(service, "per_page", LIST_PAGE)?;
    let page = query.number("page")?.unwrap_or(1).max(1);
    if page > LAST_PAGE {
        let text = "Page parameter must be between 1 and 100 when using offset pagination";
        return Err(error(
            StatusCode::BAD_REQUEST,
            "InvalidPaginationDepth",
            text,
        ));
    }
    Ok((size * usize::try_from(page - 1).unwrap_or(0), size))
}

/// Where the page after a cursor begins. The record in the cursor needn't be there any more.
fn after(world: &World, table: usize, indexes: &[u64], query: &Query) -> Result<usize, Response> {
    let Some(cursor) = query.get("page[after]") else {
        return Ok(0);
    };
    let id = position(cursor).ok_or_else(bad_cursor)?;
    let known = &world.tables[table];
    if let Some(found) = known
        .index(&id)
        .and_then(|index| indexes.iter().position(|known| *known == index))
    {
        return Ok(found + 1);
    }
    let rank = known.rank(&id).ok_or_else(bad_cursor)?;
    Ok(indexes.partition_point(|index| *index < rank))
}

/// The id inside a list's cursor.
fn position(cursor: &str) -> Option<String> {
    let value: Value = serde_json::from_slice(&STANDARD.decode(cursor).ok()?).ok()?;
    Some(value.get("v")?.as_str()?.to_owned())
}

/// The records of a list, in its order.
fn rows(
    service: &Service,
    table: usize,
    owner: Option<Row>,
    list: &Listing,
    query: &Query,
) -> Vec<u64> {
    let world = &*service.world;
    let row = |index: u64| Row { table, index };
    let mut indexes: Vec<u64> = match owner {
        Some(owner) if world.tables[table].parent.is_some() => world.children(owner, table),
        Some(owner) => [owner.index]
            .into_iter()
            .filter(|index| world.exists(row(*index)))
            .collect(),
        None => (0..world.count(table))
            .filter(|index| world.exists(row(*index)) && brands::shows(service, query, row(*index)))
            .collect(),
    };
    if list.hides_deleted && query.get("exclude_deleted") != Some("false") {
        indexes.retain(|index| world.field(row(*index), "deleted").as_deref() != Some(b"true"));
    }
    if world.tables[table].name == "ticket_metrics" {
        indexes.retain(|index| !is_archived(service, *index));
    }
    if let Some(span) = span(list, query) {
        indexes.retain(|index| span.contains(&world.seconds(row(*index))));
    }
    if query.get("sort_by").is_some_and(|by| by == "updated_at")
        || query.get("sort") == Some("-created_at")
    {
        indexes.sort_by_key(|index| std::cmp::Reverse((world.time(row(*index)), *index)));
    }
    indexes
}

/// True for a ticket that lists leave out.
pub(super) fn is_archived(service: &Service, ticket: u64) -> bool {
    let world = &*service.world;
    let row = Row {
        table: world.table("tickets"),
        index: ticket,
    };
    world.field(row, "status").as_deref() == Some(b"\"closed\"")
        && world.seconds(row) < service.now() - ARCHIVED_AFTER
}

/// The span of time that is asked for.
fn span(list: &Listing, query: &Query) -> Option<std::ops::Range<i64>> {
    let iso = |text: &str| {
        DateTime::parse_from_rfc3339(text)
            .ok()
            .map(|time| time.timestamp())
    };
    let seconds = |name: &str| query.get(name).and_then(|text| text.parse::<i64>().ok());
    match list.range? {
        Range::Created => {
            let mut bounds = query.all("filter[created_at][]").filter_map(iso);
            Some(bounds.next()?..bounds.next()? + 1)
        }
        Range::StartEnd => Some(
            seconds("start_time").unwrap_or(i64::MIN)
                ..seconds("end_time").map_or(i64::MAX, |end| end + 1),
        ),
        Range::Since => Some(iso(query.get("since")?)?..i64::MAX),
    }
}
