//! Zendesk: `/api/v2/...`.

use std::sync::Arc;

use axum::extract::{Query as Pairs, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::Vendor;
use crate::limits::{Budget, whole_seconds};
use crate::server::Service;
use crate::world::{Row, World, draw};
use crate::zendesk_auth::authenticate;

/// Records of an export page, at most and by default.
const EXPORT_PAGE: usize = 1000;
/// Exports refuse to start later than so many seconds ago.
const TOO_RECENT: i64 = 60;

/// The query, first value of each name.
struct Query(Vec<(String, String)>);

impl Query {
    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// A number, if there is one; refused as Zendesk does if it isn't a number.
    fn number(&self, name: &str) -> Result<Option<i64>, Response> {
        let parsed = self.get(name).map(str::parse).transpose();
        parsed.map_err(|_| error(StatusCode::BAD_REQUEST, "InvalidValue", &format!("{name} is not an integer")))
    }

    fn page_size(&self, name: &str, most: usize) -> Result<usize, Response> {
        let asked = self.number(name)?.and_then(|number| usize::try_from(number).ok());
        Ok(asked.unwrap_or(most).clamp(1, most))
    }

    fn includes(&self, name: &str) -> bool {
        self.get("include").is_some_and(|list| list.split(',').any(|included| included == name))
    }

    /// The parameters that a link to the next page keeps.
    fn kept(&self) -> String {
        let kept = ["include", "per_page", "support_type_scope", "exclude_deleted"];
        kept.iter().filter_map(|name| Some(["&", name, "=", self.get(name)?].concat())).collect()
    }
}

/// Answers any request under `/api/v2/`.
pub(crate) async fn get(
    State(service): State<Arc<Service>>,
    uri: Uri,
    Pairs(pairs): Pairs<Vec<(String, String)>>,
    headers: HeaderMap,
) -> Response {
    let path = uri.path().trim_start_matches("/api/v2/").trim_end_matches(".json");
    let query = Query(pairs);
    let mut budget = None;
    let answer = authenticate(&service, &headers)
        .and_then(|()| admit(&service, path).map(|left| budget = Some(left)))
        .and_then(|()| route(&service, path, &query));
    let mut response = answer.unwrap_or_else(|refused| refused);
    if let Some(budget) = budget {
        announce(budget, &mut response);
    }
    let id = format!("{:016x}", draw(service.state().stats.requests, 1));
    if let Ok(id) = HeaderValue::try_from(id) {
        response.headers_mut().insert("x-request-id", id);
    }
    response
}

fn route(service: &Service, path: &str, query: &Query) -> Result<Response, Response> {
    match path {
        "incremental/tickets/cursor" => cursor_export(service, "tickets", query),
        "incremental/users/cursor" => cursor_export(service, "users", query),
        "incremental/organizations" => time_export(service, query),
        "groups" => groups(service, query),
        "users/me" => Ok(me(&service.world)),
        _ => Err(error(StatusCode::NOT_FOUND, "InvalidEndpoint", "Not found")),
    }
}

/// Every request counts against the account; all exports together have a budget of their own besides.
fn admit(service: &Service, path: &str) -> Result<Budget, Response> {
    let export = path.starts_with("incremental/");
    let admitted = service.admit(Vendor::Zendesk, &format!("GET /api/v2/{path}"), |gate, now| gate.zendesk(export, now));
    admitted.map_err(|(account, wait)| {
        let mut response = if account.remaining == 0 { account_limited() } else { export_limited() };
        announce(account, &mut response);
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(whole_seconds(wait)));
        response
    })
}

/// No header shows the export budget: these are the account's numbers on every answer.
fn announce(budget: Budget, response: &mut Response) {
    let headers = response.headers_mut();
    headers.insert("x-rate-limit", HeaderValue::from(budget.limit));
    headers.insert("x-rate-limit-remaining", HeaderValue::from(budget.remaining));
    headers.insert("ratelimit-limit", HeaderValue::from(budget.limit));
    headers.insert("ratelimit-remaining", HeaderValue::from(budget.remaining));
    headers.insert("ratelimit-reset", HeaderValue::from(whole_seconds(budget.reset)));
}

/// Tickets and users, ordered by (time, id), continued from a cursor that says where it stands.
fn cursor_export(service: &Service, name: &str, query: &Query) -> Result<Response, Response> {
    let world = &*service.world;
    let table = world.table(name);
    let from = match (query.get("cursor"), query.number("start_time")?) {
        (Some(cursor), _) => after(world, table, cursor).ok_or_else(bad_cursor)?,
        (None, Some(time)) => world.tables[table].first_since(recent_enough(service, time)?),
        (None, None) => {
            return Err(error(StatusCode::BAD_REQUEST, "InvalidValue", "start_time is required"));
        }
    };
    let limit = query.page_size("per_page", EXPORT_PAGE)?;
    let shown = |index: &u64| visible(world, Row { table, index: *index }, query);
    let mut rest = from..world.tables[table].count();
    let indexes: Vec<u64> = rest.by_ref().filter(shown).take(limit).collect();
    // Without a new record the reader keeps the cursor it has, if it has one.
    let cursor = indexes.last().map(|last| cursor(world, Row { table, index: *last }));
    let cursor = cursor.or_else(|| query.get("cursor").map(str::to_owned));
    let end = !rest.any(|index| shown(&index));
    let requested: &[&str] = if query.includes("metric_sets") { &["metric_set"] } else { &[] };
    let mut body = open(name);
    world.write_all(table, &indexes, requested, &mut body);
    if name == "users" && query.includes("identities") {
        body.extend_from_slice(b"],\"identities\":[");
        world.write_all(world.table("user_identities"), &indexes, &[], &mut body);
    }
    let after_url = cursor.as_ref().map(|cursor| {
        let encoded = cursor.replace('=', "%3D");
        format!("{}/api/v2/incremental/{name}/cursor.json?cursor={encoded}{}", service.url(), query.kept())
    });
    let tail = json!({
        "after_cursor": cursor, "after_url": after_url, "before_cursor": null, "before_url": null, "end_of_stream": end,
    });
    Ok(close(body, &tail))
}

/// Deleted tickets show unless excluded; those of AI agents only to who asks for them.
fn visible(world: &World, row: Row, query: &Query) -> bool {
    if world.tables[row.table].name != "tickets" {
        return true;
    }
    let scope = query.get("support_type_scope").unwrap_or("agent");
    let in_scope = || world.field(row, "support_type").is_some_and(|kind| kind == format!("\"{scope}\"").as_bytes());
    let deleted = || !world.exists(Row { table: world.table("ticket_metrics"), index: row.index });
    (scope == "all" || in_scope()) && !(query.get("exclude_deleted") == Some("true") && deleted())
}

/// `base64("<seconds>.0||<id>|")` of the last record read.
fn cursor(world: &World, row: Row) -> String {
    STANDARD.encode(format!("{}.0||{}|", world.seconds(row), world.tables[row.table].id(row.index)))
}

/// The first record after a cursor, which needn't be that of a record that exists.
fn after(world: &World, table: usize, cursor: &str) -> Option<u64> {
    let text = String::from_utf8(STANDARD.decode(cursor).ok()?).ok()?;
    let (time, id) = text.strip_suffix('|')?.split_once("||")?;
    let (time, id) = (time.strip_suffix(".0")?.parse::<i64>().ok()?, id.parse::<u64>().ok()?);
    let table = &world.tables[table];
    let mut second = table.between(time..time + 1);
    let end = second.end;
    Some(second.find(|index| table.id(*index).parse::<u64>().is_ok_and(|known| known > id)).unwrap_or(end))
}

/// Organizations, inclusive of `start_time`, so that the second at a page's border comes twice.
fn time_export(service: &Service, query: &Query) -> Result<Response, Response> {
    let world = &*service.world;
    let ordinal = world.table("organizations");
    let table = &world.tables[ordinal];
    let Some(start) = query.number("start_time")? else {
        return Err(error(StatusCode::BAD_REQUEST, "InvalidValue", "start_time is required"));
    };
    let from = table.first_since(recent_enough(service, start)?);
    let limit = query.page_size("per_page", EXPORT_PAGE)? as u64;
    let mut to = (from + limit).min(table.count());
    let last = |to: u64| {
        if to > from { table.timeline.at(to - 1) } else { start }
    };
    let mut end_time = last(to);
    // A page within one second is filled up with the rest of that second and continues after it.
    if to - from == limit && table.timeline.at(from) == end_time {
        to = table.first_since(end_time + 1);
        end_time += 1;
    }
    let indexes: Vec<u64> = (from..to).collect();
    let mut body = open("organizations");
    world.write_all(ordinal, &indexes, &[], &mut body);
    let found = !indexes.is_empty();
    let next = format!("{}/api/v2/incremental/organizations.json?start_time={end_time}{}", service.url(), query.kept());
    let tail = json!({
        "count": indexes.len(),
        "end_time": found.then_some(end_time),
        "next_page": found.then_some(next),
        "end_of_stream": to == table.count(),
    });
    Ok(close(body, &tail))
}

/// A list with cursor pagination. Links and cursor are there on the last page too: only `has_more` tells.
fn groups(service: &Service, query: &Query) -> Result<Response, Response> {
    let world = &*service.world;
    let ordinal = world.table("groups");
    let table = &world.tables[ordinal];
    let size = query.page_size("page[size]", 100)?;
    let from = match query.get("page[after]") {
        Some(cursor) => position(cursor).and_then(|id| table.index(&id)).ok_or_else(bad_cursor)? + 1,
        None => 0,
    };
    let indexes: Vec<u64> = (from..table.count()).take(size).collect();
    let edge = |index: Option<&u64>| index.map(|index| STANDARD.encode(json!({ "o": "id", "v": table.id(*index) }).to_string()));
    let (first, last) = (edge(indexes.first()), edge(indexes.last()));
    let link = |side: &str, cursor: &Option<String>| {
        cursor.as_ref().map(|cursor| {
            let encoded = cursor.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
            format!("{}/api/v2/groups.json?page%5B{side}%5D={encoded}&page%5Bsize%5D={size}", service.url())
        })
    };
    let mut body = open("groups");
    world.write_all(ordinal, &indexes, &[], &mut body);
    let has_more = from + (indexes.len() as u64) < table.count();
    let tail = json!({
        "meta": { "has_more": has_more, "after_cursor": last, "before_cursor": first },
        "links": { "next": link("after", &last), "prev": link("before", &first) },
    });
    Ok(close(body, &tail))
}

/// The id inside a list's cursor.
fn position(cursor: &str) -> Option<String> {
    let value: Value = serde_json::from_slice(&STANDARD.decode(cursor).ok()?).ok()?;
    Some(value.get("v")?.as_str()?.to_owned())
}

/// The first user, who is the administrator that the credentials belong to.
fn me(world: &World) -> Response {
    let mut text = Vec::new();
    world.write(Row { table: world.table("users"), index: 0 }, &[], &mut text);
    let mut user: Value = serde_json::from_slice(&text).unwrap_or_default();
    user["role"] = Value::from("admin");
    axum::Json(json!({ "user": user })).into_response()
}

fn recent_enough(service: &Service, time: i64) -> Result<i64, Response> {
    if time > service.now() - TOO_RECENT {
        let text = "Too recent start_time. Use a start_time older than 60 seconds";
        return Err(error(StatusCode::UNPROCESSABLE_ENTITY, "InvalidValue", text));
    }
    Ok(time)
}

fn bad_cursor() -> Response {
    error(StatusCode::BAD_REQUEST, "InvalidPaginationParameter", "cursor is not valid")
}

/// `{"name":[`
fn open(name: &str) -> Vec<u8> {
    format!("{{\"{name}\":[").into_bytes()
}

/// Ends the array and adds the members of `tail`.
fn close(mut body: Vec<u8>, tail: &Value) -> Response {
    body.extend_from_slice(b"],");
    body.extend_from_slice(tail.to_string().trim_start_matches('{').as_bytes());
    ([(header::CONTENT_TYPE, "application/json; charset=utf-8")], body).into_response()
}

/// 401 to a bearer token that isn't known, was replaced or has expired.
pub(crate) fn invalid_token() -> Response {
    let description = "The access token provided is expired, revoked, malformed or invalid for other reasons.";
    let body = json!({ "error": "invalid_token", "error_description": description });
    (StatusCode::UNAUTHORIZED, axum::Json(body)).into_response()
}

/// The account's 429 is plain text.
fn account_limited() -> Response {
    let text = "Number of allowed API requests per minute exceeded";
    (StatusCode::TOO_MANY_REQUESTS, [(header::CONTENT_TYPE, "text/plain")], text).into_response()
}

fn export_limited() -> Response {
    let text = "Number of allowed incremental export API requests per minute exceeded";
    error(StatusCode::TOO_MANY_REQUESTS, "APIRateLimitExceeded", text)
}

/// An injected 429.
pub(crate) fn throttled(retry_after: u64) -> Response {
    let mut response = export_limited();
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(retry_after));
    response
}

fn error(status: StatusCode, error: &str, description: &str) -> Response {
    (status, axum::Json(json!({ "error": error, "description": description }))).into_response()
}
