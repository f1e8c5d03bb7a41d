//! Mixpanel's raw export: the events of whole days as one answer of any length.

use std::io::Write as _;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Query as Pairs, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use chrono::NaiveDate;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures::stream;

use crate::Vendor;
use crate::limits::whole_seconds;
use crate::mixpanel::{Parameters, authenticate, error, throttled};
use crate::server::Service;
use crate::world::{DAY, Row, World};

/// The export's body is written in pieces of about this size.
const PIECE: usize = 64 * 1024;
/// Bodies up to this size aren't compressed.
const PLAIN: usize = 1400;
/// The most rows that `limit` may ask for.
const MOST_ROWS: u64 = 100_000;

/// `GET /api/2.0/export`: the events of whole UTC days as lines of JSON, in one answer of any length.
pub(crate) async fn export(State(service): State<Arc<Service>>, Pairs(query): Pairs<Parameters>, headers: HeaderMap) -> Response {
    let gzip = headers.get(header::ACCEPT_ENCODING).is_some_and(|value| value.to_str().is_ok_and(|all| all.contains("gzip")));
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
    fn plan(service: &Service, query: &Parameters, headers: &HeaderMap) -> Result<Export, Response> {
        authenticate(service, query, headers)?;
        let admitted = service.admit(Vendor::Mixpanel, "GET /api/2.0/export", crate::limits::Gate::mixpanel_export);
        admitted.map_err(|wait| throttled(whole_seconds(wait)))?;
        let (from, to) = (day(query, "from_date")?, day(query, "to_date")?);
        if to > service.now().div_euclid(DAY) * DAY {
            return Err(error(StatusCode::BAD_REQUEST, "to_date cannot be later than today"));
        }
        let (events, rows) = (events(query)?, rows(query)?);
        let world = Arc::clone(&service.world);
        let table = world.table("export");
        let days = world.tables[table].between(1000 * from..1000 * (to + DAY));
        let mut state = service.state();
        state.exports += 1;
        let every = state.faults.export_terminated_every;
        let terminated = every > 0 && state.exports.is_multiple_of(every) && state.faults.affects(Vendor::Mixpanel);
        let end = if terminated { days.start.midpoint(days.end) } else { days.end };
        let milliseconds = query.get("time_in_ms").is_some_and(|value| value == "true" || value == "1");
        Ok(Export { table, next: days.start, end, rows, events, milliseconds, terminated, world })
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
            let rest = if finished { None } else { Some((export.piece(), export)) };
            Some((bytes, rest.map(|(piece, export)| (export, encoder, piece))))
        });
        let mut response = (kind, Body::from_stream(body)).into_response();
        if gzip {
            response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
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
            let row = Row { table: self.table, index: self.next };
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
        names.iter().any(|name| event == format!("\"{name}\"").as_bytes())
    }

    /// The template has the time in milliseconds; whole seconds are the default.
    fn line(&self, row: Row, out: &mut Vec<u8>) {
        const TIME: &[u8] = b"\"time\":";
        let start = out.len();
        self.world.write(row, &[], out);
        if !self.milliseconds
            && let Some(found) = out[start..].windows(TIME.len()).position(|window| window == TIME)
        {
            let digits = start + found + TIME.len();
            let length = out[digits..].iter().take_while(|byte| byte.is_ascii_digit()).count();
            out.drain(digits + length.saturating_sub(3)..digits + length);
        }
        out.push(b'\n');
    }
}

/// The names to keep, if not all.
fn events(query: &Parameters) -> Result<Option<Vec<String>>, Response> {
    let refuse = |text| Err(error(StatusCode::BAD_REQUEST, text));
    if query.contains_key("where") {
        return refuse("where expressions are not simulated");
    }
    match query.get("event").map(|names| serde_json::from_str(names)) {
        None => Ok(None),
        Some(Ok(names)) => Ok(Some(names)),
        Some(Err(_)) => refuse("event must be a JSON array of names"),
    }
}

/// How many rows to send: a limit cuts the answer without a mark.
fn rows(query: &Parameters) -> Result<u64, Response> {
    let text = "limit must be an integer of at most 100000";
    match query.get("limit").map(|limit| limit.parse()) {
        None => Ok(u64::MAX),
        Some(Ok(rows)) if rows <= MOST_ROWS => Ok(rows),
        Some(_) => Err(error(StatusCode::BAD_REQUEST, text)),
    }
}

/// Compression into memory can't fail.
fn compress(encoder: &mut Option<GzEncoder<Vec<u8>>>, piece: Vec<u8>, last: bool) -> std::io::Result<Bytes> {
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
    let date = parsed.map_err(|_| error(StatusCode::BAD_REQUEST, &format!("Error in {name}: invalid date")))?;
    let midnight = date.and_time(chrono::NaiveTime::MIN).and_utc().timestamp();
    if midnight < 30 * 365 * DAY {
        return Err(error(StatusCode::BAD_REQUEST, &format!("Error in {name}: invalid date, bad year")));
    }
    Ok(midnight)
}
