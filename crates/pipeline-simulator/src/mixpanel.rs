//! Mixpanel: the raw export, the Query API's profiles and cohorts, and the App API's `me`.

use std::collections::HashMap;
use std::io::Write as _;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Query as Pairs, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use chrono::NaiveDate;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures::stream;
use serde_json::{Value, json};

use crate::Vendor;
use crate::limits::{Budget, whole_seconds};
use crate::server::Service;
use crate::world::{DAY, Row, World};

/// The export's body is written in pieces of about this size.
const PIECE: usize = 64 * 1024;
/// Bodies up to this size aren't compressed.
const PLAIN: usize = 1400;
/// The most rows that `limit` may ask for.
const MOST_ROWS: u64 = 100_000;
/// Profiles on a page unless asked otherwise, and at most.
const PROFILES: u64 = 1000;

/// Parameters by name.
type Parameters = HashMap<String, String>;

/// `GET /api/2.0/export`: the events of whole UTC days as lines of JSON, in one answer of any length.
pub(crate) async fn export(
    State(service): State<Arc<Service>>,
    Pairs(query): Pairs<Parameters>,
    headers: HeaderMap,
) -> Response {
    let gzip = headers
        .get(header::ACCEPT_ENCODING)
        .is_some_and(|value| value.to_str().is_ok_and(|all| all.contains("gzip")));
    match Export::plan(&service, &query, &headers) {
        Ok(export) => export.respond(gzip),
        Err(refused) => refused,
    }
}

/// An export under way.
struct Export {
    world: Arc<World>,
    table: usize,
    next: u64,
    end: u64,
    /// How many rows may still be written.
    rows: u64,
    events: Option<Vec<String>>,
    milliseconds: bool,
    /// Whether to break off half-way.
    terminated: bool,
}

impl Export {
    fn plan(
        service: &Service,
        query: &Parameters,
        headers: &HeaderMap,
    ) -> Result<Export, Response> {
        authenticate(service, query, headers)?;
        let admitted = service.admit(Vendor::Mixpanel, "GET /api/2.0/export", |gate, now| {
            gate.mixpanel_export(now)
        });
        admitted.map_err(|wait| throttled(whole_seconds(wait)))?;
        let (from, to) = (day(query, "from_date")?, day(query, "to_date")?);
        if to > service.now().div_euclid(DAY) * DAY {
            return Err(error(
                StatusCode::BAD_REQUEST,
                "to_date cannot be later than today",
            ));
        }
        if query.contains_key("where") {
            return Err(error(
                StatusCode::BAD_REQUEST,
                "where expressions are not simulated",
            ));
        }
        let events = query
            .get("event")
            .map(|names| serde_json::from_str(names))
            .transpose();
        let events = events.map_err(|_| {
            error(
                StatusCode::BAD_REQUEST,
                "event must be a JSON array of names",
            )
        })?;
        let rows = match query.get("limit").map(|limit| limit.parse::<u64>()) {
            None => u64::MAX,
            Some(Ok(rows)) if rows <= MOST_ROWS => rows,
            Some(_) => {
                return Err(error(
                    StatusCode::BAD_REQUEST,
                    "limit must be an integer of at most 100000",
                ));
            }
        };
        let world = Arc::clone(&service.world);
        let table = world.table("export");
        let days = world.tables[table].between(1000 * from..1000 * (to + DAY));
        let mut state = service.state();
        state.exports += 1;
        let every = state.faults.export_terminated_every;
        let terminated = every > 0
            && state.exports.is_multiple_of(every)
            && state.faults.affects(Vendor::Mixpanel);
        let end = if terminated {
            days.start.midpoint(days.end)
        } else {
            days.end
        };
        let milliseconds = query
            .get("time_in_ms")
            .is_some_and(|value| value == "true" || value == "1");
        Ok(Export {
            table,
            next: days.start,
            end,
            rows,
            events,
            milliseconds,
            terminated,
            world,
        })
    }

    fn respond(mut self, gzip: bool) -> Response {
        let kind = [(header::CONTENT_TYPE, "text/plain")];
        let first = self.piece();
        if self.finished() && (!gzip || first.len() <= PLAIN) {
            return (kind, first).into_response();
        }
        let encoder = gzip.then(|| GzEncoder::new(Vec::new(), Compression::fast()));
        // The first piece is written already; `None` after the last one.
        let body = stream::unfold(Some((self, encoder, first)), |state| async move {
            let (mut export, mut encoder, piece) = state?;
            let finished = export.finished();
            let bytes = compress(&mut encoder, piece, finished);
            let rest = if finished {
                None
            } else {
                Some((export.piece(), export))
            };
            Some((bytes, rest.map(|(piece, export)| (export, encoder, piece))))
        });
        let mut response = (kind, Body::from_stream(body)).into_response();
        if gzip {
            response
                .headers_mut()
                .insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        response
    }

    fn finished(&self) -> bool {
        self.next >= self.end || self.rows == 0
    }

    /// The next lines.
    fn piece(&mut self) -> Vec<u8> {
        let mut out = Vec::with_capacity(PIECE + 2048);
        while !self.finished() && out.len() < PIECE {
            let row = Row {
                table: self.table,
                index: self.next,
            };
            self.next += 1;
            if self.wanted(row) {
                self.rows -= 1;
                self.line(row, &mut out);
            }
        }
        if self.finished() && self.terminated {
            out.extend_from_slice(b"export terminated early\n");
        }
        out
    }

    fn wanted(&self, row: Row) -> bool {
        let Some(names) = &self.events else {
            return true;
        };
        let event = self.world.field(row, "event").unwrap_or_default();
        names
            .iter()
            .any(|name| event == format!("\"{name}\"").as_bytes())
    }

    /// The template has the time in milliseconds; whole seconds are the default.
    fn line(&self, row: Row, out: &mut Vec<u8>) {
        const TIME: &[u8] = b"\"time\":";
        let start = out.len();
        self.world.write(row, &[], out);
        if !self.milliseconds
            && let Some(found) = out[start..]
                .windows(TIME.len())
                .position(|window| window == TIME)
        {
            let digits = start + found + TIME.len();
            let length = out[digits..]
                .iter()
                .take_while(|byte| byte.is_ascii_digit())
                .count();
            out.drain(digits + length.saturating_sub(3)..digits + length);
        }
        out.push(b'\n');
    }
}

/// Compression into memory can't fail.
fn compress(
    encoder: &mut Option<GzEncoder<Vec<u8>>>,
    piece: Vec<u8>,
    last: bool,
) -> std::io::Result<Bytes> {
    let Some(gzip) = encoder else {
        return Ok(piece.into());
    };
    gzip.write_all(&piece)?;
    if last {
        gzip.try_finish()?;
    }
    Ok(std::mem::take(gzip.get_mut()).into())
}

/// The start of a day given as `YYYY-MM-DD`.
fn day(query: &Parameters, name: &str) -> Result<i64, Response> {
    let text = query.get(name).map(String::as_str).unwrap_or_default();
    let parsed = NaiveDate::parse_from_str(text, "%Y-%m-%d");
    let date = parsed.map_err(|_| {
        error(
            StatusCode::BAD_REQUEST,
            &format!("Error in {name}: invalid date"),
        )
    })?;
    let midnight = date.and_time(chrono::NaiveTime::MIN).and_utc().timestamp();
    if midnight < 30 * 365 * DAY {
        return Err(error(
            StatusCode::BAD_REQUEST,
            &format!("Error in {name}: invalid date, bad year"),
        ));
    }
    Ok(midnight)
}

/// `POST /api/query/...`: parameters come in the URL, as a form or as JSON; the body wins.
pub(crate) async fn query(
    State(service): State<Arc<Service>>,
    Path(path): Path<String>,
    Pairs(mut query): Pairs<Parameters>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    query.extend(parameters(&body));
    let answer = authenticate(&service, &query, &headers).and_then(|()| match path.as_str() {
        "engage" => engage(&service, &query),
        "cohorts/list" => cohorts(&service),
        _ => Err(error(StatusCode::NOT_FOUND, "not found")),
    });
    answer.unwrap_or_else(|refused| refused)
}

/// A body is a JSON object or a form, whatever its declared type.
fn parameters(body: &[u8]) -> Parameters {
    if let Ok(Value::Object(members)) = serde_json::from_slice(body) {
        let text = |value: Value| {
            if let Value::String(text) = value {
                text
            } else {
                value.to_string()
            }
        };
        return members
            .into_iter()
            .map(|(name, value)| (name, text(value)))
            .collect();
    }
    let uri = format!("/?{}", String::from_utf8_lossy(body))
        .parse()
        .unwrap_or_default();
    Pairs::try_from_uri(&uri)
        .map(|Pairs(pairs)| pairs)
        .unwrap_or_default()
}

fn engage(service: &Service, query: &Parameters) -> Result<Response, Response> {
    let number = |name: &str| query.get(name).and_then(|value| value.parse::<u64>().ok());
    let (page, size) = (
        number("page").unwrap_or(0),
        number("page_size").unwrap_or(PROFILES).clamp(1, PROFILES),
    );
    let session = query
        .get("session_id")
        .filter(|session| !session.is_empty());
    let session = match session {
        // Pages of an open session aren't counted.
        Some(session) if known(service, session) => session.clone(),
        None if page == 0 => {
            counted(service, "POST /api/query/engage")?;
            let mut state = service.state();
            state.sessions += 1;
            format!("{}-{}", service.simulation.until, state.sessions)
        }
        _ => {
            return Err(error(
                StatusCode::BAD_REQUEST,
                "request for page in uncached query for params",
            ));
        }
    };
    let world = &*service.world;
    let table = world.table("engage");
    let total = world.tables[table].count();
    let indexes: Vec<u64> = (page.saturating_mul(size)..total)
        .take(usize::try_from(size).unwrap_or(0))
        .collect();
    let mut body = b"{\"results\":[".to_vec();
    world.write_all(table, &indexes, &[], &mut body);
    let mut tail =
        json!({ "page": page, "page_size": size, "session_id": session, "status": "ok" });
    if page == 0 {
        tail["total"] = Value::from(total);
    }
    body.extend_from_slice(b"],");
    body.extend_from_slice(tail.to_string().trim_start_matches('{').as_bytes());
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}

/// Whether a session was opened here.
fn known(service: &Service, session: &str) -> bool {
    let number = session
        .strip_prefix(&format!("{}-", service.simulation.until))
        .and_then(|text| text.parse::<u64>().ok());
    number.is_some_and(|number| (1..=service.state().sessions).contains(&number))
}

/// An array without an envelope.
fn cohorts(service: &Service) -> Result<Response, Response> {
    counted(service, "POST /api/query/cohorts/list")?;
    let world = &*service.world;
    let table = world.table("cohorts");
    let indexes: Vec<u64> = (0..world.tables[table].count()).collect();
    let mut body = b"[".to_vec();
    world.write_all(table, &indexes, &[], &mut body);
    body.push(b']');
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}

/// `GET /api/app/me`: what the account may see. It costs no Query budget.
pub(crate) async fn me(State(service): State<Arc<Service>>, headers: HeaderMap) -> Response {
    if !authentic(&service, &headers) {
        return invalid_credentials();
    }
    let project = service.simulation.mixpanel.project_id.to_string();
    let organization = json!({ "id": 1, "name": "Simulated" });
    let entry = json!({
        "name": "Simulated Shop", "organization_id": 1, "timezone": "UTC", "domain": "mixpanel.com",
        "has_workspaces": false, "type": "PROJECT",
    });
    let results = json!({ "organizations": { "1": organization }, "projects": { project: entry }, "workspaces": {} });
    axum::Json(json!({ "status": "ok", "results": results })).into_response()
}

/// Takes one request from the hour's quota.
fn counted(service: &Service, operation: &str) -> Result<(), Response> {
    let admitted = service.admit(Vendor::Mixpanel, operation, |gate, now| {
        gate.mixpanel_query(now)
    });
    admitted.map_err(|budget| quota_exceeded(service, operation, budget))
}

fn quota_exceeded(service: &Service, operation: &str, budget: Budget) -> Response {
    let (limit, wait) = (budget.limit, whole_seconds(budget.reset));
    let project = service.simulation.mixpanel.project_id;
    let text = format!(
        "Query rate limit exceeded for project {project}: {}/{limit} queries per hour",
        limit + 1
    );
    let request = operation.trim_start_matches("POST ");
    let body = json!({ "request": format!("{request}?project_id={project}"), "error": text });
    let mut response = (StatusCode::TOO_MANY_REQUESTS, axum::Json(body)).into_response();
    let policy = format!("\"project\";q={limit};w=3600");
    let left = format!("\"project\";r=0;t={wait}");
    for (name, value) in [
        ("ratelimit-policy", policy),
        ("ratelimit", left),
        ("retry-after", wait.to_string()),
    ] {
        if let Ok(value) = HeaderValue::try_from(value) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

fn authentic(service: &Service, headers: &HeaderMap) -> bool {
    let project = &service.simulation.mixpanel;
    let expected = format!(
        "Basic {}",
        STANDARD.encode(format!("{}:{}", project.username, project.secret))
    );
    headers
        .get(header::AUTHORIZATION)
        .is_some_and(|value| value.as_bytes() == expected.as_bytes())
}

/// A service account has to name the project with every request but `me`.
fn authenticate(
    service: &Service,
    query: &Parameters,
    headers: &HeaderMap,
) -> Result<(), Response> {
    if !authentic(service, headers) {
        return Err(invalid_credentials());
    }
    match query.get("project_id") {
        Some(id) if *id == service.simulation.mixpanel.project_id.to_string() => Ok(()),
        Some(_) => Err(error(StatusCode::NOT_FOUND, "project not found")),
        None => Err(error(
            StatusCode::BAD_REQUEST,
            "project_id is required for service accounts",
        )),
    }
}

/// 401 to wrong, revoked or expired credentials.
pub(crate) fn invalid_credentials() -> Response {
    error(StatusCode::UNAUTHORIZED, "Unable to authenticate request")
}

/// 429 of the raw export, whose body isn't documented beyond the status.
pub(crate) fn throttled(retry_after: u64) -> Response {
    let mut response = error(StatusCode::TOO_MANY_REQUESTS, "rate limit exceeded");
    response
        .headers_mut()
        .insert(header::RETRY_AFTER, HeaderValue::from(retry_after));
    response
}

/// The usual error body.
pub(crate) fn error(status: StatusCode, text: &str) -> Response {
    (
        status,
        axum::Json(json!({ "error": text, "status": "error" })),
    )
        .into_response()
}
