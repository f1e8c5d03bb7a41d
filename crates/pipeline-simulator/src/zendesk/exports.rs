//! Incremental exports: by cursor, by time, and feeds of changes.

use axum::http::StatusCode;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::answer::{bad_cursor, close, error, open};
use super::brands;
use super::changes::{ZendeskAccount, ZendeskChange};
use super::query::Query;
use super::table::Pages;
use crate::server::Service;
use crate::world::{Row, World};

/// Records of an export page, at most and by default.
const EXPORT_PAGE: usize = 1000;
/// Exports refuse to start later than so many seconds ago, and withhold what is newer.
const TOO_RECENT: i64 = 60;
/// Records of a feed's page.
const FEED_PAGE: usize = 100;

/// The newest second that exports show.
pub(super) fn newest(service: &Service) -> i64 {
    (service.now() - TOO_RECENT).min(service.world.shown_until().saturating_sub(1))
}

fn start_time(service: &Service, query: &Query) -> Result<Option<i64>, Response> {
    let Some(time) = query.number("start_time")? else {
        return Ok(None);
    };
    if time > service.now() - TOO_RECENT {
        let text = "Too recent start_time. Use a start_time older than 60 seconds";
        return Err(error(
            StatusCode::UNPROCESSABLE_ENTITY,
            "InvalidValue",
            text,
        ));
    }
    Ok(Some(time))
}

fn no_start() -> Response {
    error(
        StatusCode::BAD_REQUEST,
        "InvalidValue",
        "start_time is required",
    )
}

/// Lets tickets change while a page is on its way.
fn churn(service: &Service) {
    let count = service.simulation.zendesk.changes_per_page;
    ZendeskAccount { service }.change("tickets", ZendeskChange::Update, count);
}

/// Records ordered by (time, id), continued from a cursor that says where it stands.
pub(super) fn by_cursor(
    service: &Service,
    table: usize,
    parent: Option<u64>,
    query: &Query,
) -> Result<Response, Response> {
    let world = &*service.world;
    let from = match (query.get("cursor"), start_time(service, query)?) {
        (Some(cursor), _) => after(world, table, cursor).ok_or_else(bad_cursor)?,
        (None, Some(time)) => (time, 0),
        (None, None) => return Err(no_start()),
    };
    let limit = query.page_size(service, "per_page", EXPORT_PAGE)?;
    let (indexes, end) = match parent {
        None => exported(service, table, from, limit, query),
        Some(parent) => {
            let owner = Row {
                table: world.tables[table].parent.map_or(0, |(owner, ..)| owner),
                index: parent,
            };
            let all = world
                .children(owner, table)
                .into_iter()
                .map(|index| (world.seconds(Row { table, index }), index));
            take(all.filter(|at| *at >= from), limit)
        }
    };
    churn(service);
    // Without a new record the reader keeps the cursor it has, if it has one.
    let cursor = indexes.last().map(|(time, index)| {
        cursor(
            world,
            *time,
            Row {
                table,
                index: *index,
            },
        )
    });
    let cursor = cursor.or_else(|| query.get("cursor").map(str::to_owned));
    let indexes: Vec<u64> = indexes.into_iter().map(|(_, index)| index).collect();
    let requested: &[&str] = if query.includes("metric_sets") {
        &["metric_set"]
    } else {
        &[]
    };
    let key = world.tables[table]
        .list
        .as_ref()
        .map_or("", |list| &list.key);
    let mut body = open(key);
    world.write_all(table, &indexes, requested, &mut body);
    if key == "users" && query.includes("identities") {
        let identities = world.table("user_identities");
        let identified: Vec<u64> = indexes
            .into_iter()
            .filter(|index| {
                world.exists(Row {
                    table: identities,
                    index: *index,
                })
            })
            .collect();
        body.extend_from_slice(b"],\"identities\":[");
        world.write_all(identities, &identified, &[], &mut body);
    }
    let after_url = cursor.as_ref().map(|cursor| {
        let encoded = cursor.replace('=', "%3D");
        format!(
            "{}/api/v2/{}.json?cursor={encoded}{}",
            query.base(service),
            query.path,
            query.kept()
        )
    });
    let tail = json!({
        "after_cursor": cursor, "after_url": after_url, "before_cursor": null, "before_url": null, "end_of_stream": end,
    });
    Ok(close(body, &tail))
}

/// The first so many records from a place on that the query lets through, and whether that is all.
/// The ledger isn't held while records are looked at, which need it themselves.
fn exported(
    service: &Service,
    table: usize,
    mut from: (i64, u64),
    limit: usize,
    query: &Query,
) -> (Vec<(i64, u64)>, bool) {
    let (world, newest) = (&*service.world, newest(service));
    let mut page = Vec::new();
    loop {
        let rows: Vec<(i64, u64)> = match world.tables[table].ledger() {
            Some(ledger) => ledger
                .from(from.0, from.1, newest)
                .take(limit + 1)
                .collect(),
            None => Vec::new(),
        };
        let Some((time, index)) = rows.last().copied() else {
            return (page, true);
        };
        from = (time, index + 1);
        for row in rows.into_iter().filter(|(_, index)| {
            visible(
                world,
                Row {
                    table,
                    index: *index,
                },
                query,
            )
        }) {
            if page.len() == limit {
                return (page, false);
            }
            page.push(row);
        }
    }
}

/// The first so many, and whether that is all.
fn take(mut rows: impl Iterator<Item = (i64, u64)>, limit: usize) -> (Vec<(i64, u64)>, bool) {
    let page: Vec<(i64, u64)> = rows.by_ref().take(limit).collect();
    let end = rows.next().is_none();
    (page, end)
}

/// Deleted tickets show unless excluded; those of AI agents only to who asks for them.
fn visible(world: &World, row: Row, query: &Query) -> bool {
    if world.tables[row.table].name != "tickets" {
        return true;
    }
    let scope = query.get("support_type_scope").unwrap_or("agent");
    let in_scope = || {
        world
            .field(row, "support_type")
            .is_some_and(|kind| kind == format!("\"{scope}\"").as_bytes())
    };
    let deleted = || {
        !world.exists(Row {
            table: world.table("ticket_metrics"),
            index: row.index,
        })
    };
    (scope == "all" || in_scope()) && !(query.get("exclude_deleted") == Some("true") && deleted())
}

/// `base64("<seconds>.0||<id>|")` of the last record read.
fn cursor(world: &World, time: i64, row: Row) -> String {
    STANDARD.encode(format!(
        "{time}.0||{}|",
        world.tables[row.table].id(row.index)
    ))
}

/// The place after a cursor, which needn't be that of a record that exists.
fn after(world: &World, table: usize, cursor: &str) -> Option<(i64, u64)> {
    let text = String::from_utf8(STANDARD.decode(cursor).ok()?).ok()?;
    let (time, id) = text.strip_suffix('|')?.split_once("||")?;
    Some((
        time.strip_suffix(".0")?.parse().ok()?,
        world.tables[table].rank(id)?,
    ))
}

/// A page of an export by time.
struct TimePage {
    indexes: Vec<u64>,
    end_time: i64,
    is_last: bool,
}

/// Cuts a page, inclusive of its start, so that the second at a page's border comes twice. A page
/// within one second is filled up with the rest of that second and continues after it, unless the
/// server has the defect not to.
fn time_page(
    rows: impl Iterator<Item = (i64, u64)>,
    start: i64,
    limit: usize,
    cuts_seconds: bool,
) -> TimePage {
    let mut rows = rows.peekable();
    let mut page: Vec<(i64, u64)> = rows.by_ref().take(limit).collect();
    let (first, last) = (
        page.first().map_or(start, |row| row.0),
        page.last().map_or(start, |row| row.0),
    );
    let mut end_time = last;
    if page.len() == limit && first == last && !cuts_seconds {
        while let Some(row) = rows.next_if(|row| row.0 == last) {
            page.push(row);
        }
        end_time = last + 1;
    }
    TimePage {
        indexes: page.into_iter().map(|(_, index)| index).collect(),
        end_time,
        is_last: rows.peek().is_none(),
    }
}

/// Exports by time.
pub(super) fn by_time(
    service: &Service,
    table: usize,
    query: &Query,
) -> Result<Response, Response> {
    let world = &*service.world;
    let start = start_time(service, query)?.ok_or_else(no_start)?;
    let limit = query.page_size(service, "per_page", EXPORT_PAGE)?;
    let Some(list) = &world.tables[table].list else {
        return Err(super::answer::unknown());
    };
    let page = {
        let Some(ledger) = world.tables[table].ledger() else {
            return Err(super::answer::unknown());
        };
        let shown = ledger.from(start, 0, newest(service)).filter(|(_, index)| {
            brands::shows(
                service,
                query,
                Row {
                    table,
                    index: *index,
                },
            )
        });
        time_page(shown, start, limit, service.simulation.zendesk.cuts_seconds)
    };
    let mut body = open(&list.key);
    world.write_all(table, &page.indexes, &[], &mut body);
    Ok(time_tail(
        service,
        query,
        body,
        &page,
        list.pages == Pages::Time,
    ))
}

fn time_tail(
    service: &Service,
    query: &Query,
    body: Vec<u8>,
    page: &TimePage,
    says_end: bool,
) -> Response {
    let found = !page.indexes.is_empty();
    let next = format!(
        "{}/api/v2/{}.json?start_time={}{}",
        query.base(service),
        query.path,
        page.end_time,
        query.kept()
    );
    let mut tail = json!({
        "count": page.indexes.len(),
        "end_time": found.then_some(page.end_time),
        "next_page": found.then_some(next),
    });
    if says_end {
        tail["end_of_stream"] = page.is_last.into();
    }
    close(body, &tail)
}

/// The events of tickets.
pub(super) fn ticket_events(service: &Service, query: &Query) -> Result<Response, Response> {
    let world = &*service.world;
    let start = start_time(service, query)?.ok_or_else(no_start)?;
    let limit = query.page_size(service, "per_page", EXPORT_PAGE)?;
    let mut body = open("ticket_events");
    let page = {
        let events = world.events();
        let page = time_page(
            events.from(start, newest(service)),
            start,
            limit,
            service.simulation.zendesk.cuts_seconds,
        );
        for (position, index) in page.indexes.iter().enumerate() {
            if position > 0 {
                body.push(b',');
            }
            let event = u32::try_from(*index).unwrap_or(u32::MAX);
            body.extend_from_slice(
                events
                    .export(world, event, query.includes("comment_events"))
                    .to_string()
                    .as_bytes(),
            );
        }
        page
    };
    churn(service);
    Ok(time_tail(service, query, body, &page, true))
}

/// A feed: the link to the next page is there even when nothing follows.
pub(super) fn feed(service: &Service, table: usize, query: &Query) -> Result<Response, Response> {
    let world = &*service.world;
    let Some(list) = &world.tables[table].list else {
        return Err(super::answer::unknown());
    };
    let from = match query.get("cursor") {
        Some(cursor) => after(world, table, cursor).ok_or_else(bad_cursor)?,
        None => (i64::MIN, 0),
    };
    let page = {
        let Some(ledger) = world.tables[table].ledger() else {
            return Err(super::answer::unknown());
        };
        take(ledger.from(from.0, from.1, newest(service)), FEED_PAGE).0
    };
    let cursor = page.last().map(|(time, index)| {
        cursor(
            world,
            *time,
            Row {
                table,
                index: *index,
            },
        )
    });
    let cursor = cursor
        .or_else(|| query.get("cursor").map(str::to_owned))
        .unwrap_or_default();
    let (end_time, count) = (page.last().map(|row| row.0), page.len());
    let mut body = open(&list.key);
    world.write_all(
        table,
        &page
            .into_iter()
            .map(|(_, index)| index)
            .collect::<Vec<u64>>(),
        &[],
        &mut body,
    );
    let next = format!(
        "{}/api/v2/{}?cursor={}",
        query.base(service),
        query.path,
        cursor.replace('=', "%3D")
    );
    Ok(close(
        body,
        &json!({ "count": count, "end_time": end_time, "next_page": (!cursor.is_empty()).then_some(Value::from(next)) }),
    ))
}
