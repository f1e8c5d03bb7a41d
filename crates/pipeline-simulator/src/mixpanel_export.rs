//! Mixpanel's raw export: the events of whole days as one answer of any length.

use std::io::Write as _;
use std::ops::Range;
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
use crate::mixpanel_history::{Merge, Shown};
use crate::server::{Service, accepts_gzip};
use crate::world::{DAY, Row, World};

/// The export's body is written in pieces of about this size.
const PIECE: usize = 64 * 1024;
/// Bodies up to this size aren't compressed.
const PLAIN: usize = 1400;
/// The most rows that `limit` may ask for.
const MOST_ROWS: u64 = 100_000;

/// `GET /api/2.0/export`: the events of whole UTC days as lines of JSON, in one answer of any
/// length.
pub(crate) async fn export(
    State(service): State<Arc<Service>>,
    Pairs(query): Pairs<Parameters>,
    headers: HeaderMap,
) -> Response {
    let gzip = accepts_gzip(&headers);
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
    /// The exported times that are asked for, in milliseconds.
    times: Range<i64>,
    /// The second at which it is asked: what is processed later is not there yet. None when all of
    /// it is.
    at: Option<i64>,
    /// Whether to break off half-way.
    terminated: bool,
    /// The lines of the events that merge users, which come last.
    merges: Vec<u8>,
}

impl Export {
    fn plan(
        service: &Service,
        query: &Parameters,
        headers: &HeaderMap,
    ) -> Result<Export, Response> {
        authenticate(service, query, headers)?;
        let admitted = service.admit(
            Vendor::Mixpanel,
            "GET /api/2.0/export",
            crate::limits::Gate::mixpanel_export,
        );
        admitted.map_err(|wait| throttled(whole_seconds(wait)))?;
        let (from, to) = (day(query, "from_date")?, day(query, "to_date")?);
        let world = Arc::clone(&service.world);
        if to
            > world
                .history
                .exported(1000 * service.now())
                .div_euclid(1000 * DAY)
                * DAY
        {
            return Err(error(
                StatusCode::BAD_REQUEST,
                "to_date cannot be later than today",
            ));
        }
        let (events, rows) = (events(query)?, rows(query)?);
        let times = narrowed(query, 1000 * from..1000 * (to + DAY))?;
        let table = world.table("export");
        // A wall clock is a day off at most.
        let around = if world.history.is_local() {
            1000 * DAY
        } else {
            0
        };
        let days = world.tables[table].between(times.start - around..times.end + around);
        if days.end - days.start > service.simulation.mixpanel.export_rows {
            return Err((StatusCode::GATEWAY_TIMEOUT, "upstream request timeout").into_response());
        }
        let at = service.simulation.shown_until.map(|_| service.now());
        let milliseconds = query
            .get("time_in_ms")
            .is_some_and(|value| value == "true" || value == "1");
        let merges = merges(&world, &times, at, events.as_deref(), milliseconds);
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
        Ok(Export {
            table,
            next: days.start,
            end,
            rows,
            events,
            milliseconds,
            times,
            at,
            terminated,
            merges,
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
            let shown = self
                .world
                .history
                .shown(&self.world, row, self.at.unwrap_or(i64::MAX));
            let is_there = self.at.is_none_or(|at| shown.processed < 1000 * at);
            if is_there && self.times.contains(&shown.time) && self.wanted(row) {
                self.rows -= 1;
                self.line(row, &shown, &mut out);
            }
        }
        if self.finished() && self.terminated {
            out.extend_from_slice(b"export terminated early\n");
        } else if self.finished() && self.rows > 0 {
            out.append(&mut self.merges);
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

    /// The template has an event that was not late, of a project in UTC, its time in milliseconds.
    fn line(&self, row: Row, shown: &Shown, out: &mut Vec<u8>) {
        let start = out.len();
        self.world.write(row, &[], out);
        let time = self.world.time(row);
        if !self.milliseconds {
            replace(
                out,
                start,
                b"\"time\":",
                format!("{}", shown.time.div_euclid(1000)).as_bytes(),
            );
        } else if shown.time != time {
            replace(
                out,
                start,
                b"\"time\":",
                format!("{}", shown.time).as_bytes(),
            );
        }
        if shown.processed - time > 1300 {
            replace(
                out,
                start,
                b"\"$mp_api_timestamp_ms\":",
                format!("{}", shown.processed - 400).as_bytes(),
            );
            replace(
                out,
                start,
                b"\"mp_processing_time_ms\":",
                format!("{}", shown.processed).as_bytes(),
            );
        }
        if let Some(Merge { former, user, .. }) = &shown.merge {
            let value = format!(
                "\"{user}\",\"$distinct_id_before_identity\":\"{former}\",\"$is_reshuffled\":true"
            );
            replace(out, start, b"\"distinct_id\":", value.as_bytes());
        }
        out.push(b'\n');
    }
}

/// The lines of the events that merge users.
fn merges(
    world: &World,
    times: &Range<i64>,
    at: Option<i64>,
    wanted: Option<&[String]>,
    milliseconds: bool,
) -> Vec<u8> {
    const NAME: &str = "$identify";
    if wanted.is_some_and(|names| !names.iter().any(|name| name == NAME)) {
        return Vec::new();
    }
    let is_there = |merge: &Merge| {
        times.contains(&merge.time) && at.is_none_or(|at| merge.processed < 1000 * at)
    };
    let line = |merge: Merge| {
        let properties = serde_json::json!({
            "time": if milliseconds { merge.time } else { merge.time.div_euclid(1000) },
            "distinct_id": merge.user, "$insert_id": merge.insert_id(), "$identified_id": merge.user, "$anon_id": merge.former,
            "$mp_api_timestamp_ms": merge.processed - 400, "mp_processing_time_ms": merge.processed,
        });
        format!(
            "{}\n",
            serde_json::json!({ "event": NAME, "properties": properties })
        )
    };
    world
        .history
        .merges(world)
        .filter(is_there)
        .map(line)
        .collect::<String>()
        .into_bytes()
}

/// Puts another value in the place of one without a comma.
fn replace(out: &mut Vec<u8>, start: usize, name: &[u8], value: &[u8]) {
    if let Some(found) = out[start..]
        .windows(name.len())
        .position(|window| window == name)
    {
        let from = start + found + name.len();
        let length = out[from..]
            .iter()
            .take_while(|byte| **byte != b',' && **byte != b'}')
            .count();
        out.splice(from..from + length, value.iter().copied());
    }
}

/// What a `where` expression leaves of the time asked for. Only bounds of `$time` are simulated.
fn narrowed(query: &Parameters, mut times: Range<i64>) -> Result<Range<i64>, Response> {
    let Some(expression) = query.get("where") else {
        return Ok(times);
    };
    for condition in expression.split(" and ") {
        let bound = condition
            .strip_prefix("properties[\"$time\"] ")
            .and_then(|rest| rest.split_once(" datetime("));
        let bound = bound
            .and_then(|(sign, rest)| Some((sign, rest.strip_suffix(')')?.parse::<i64>().ok()?)));
        match bound {
            Some((">=", second)) => times.start = times.start.max(1000 * second),
            Some(("<", second)) => times.end = times.end.min(1000 * second),
            _ => {
                return Err(error(
                    StatusCode::BAD_REQUEST,
                    "this where expression is not simulated",
                ));
            }
        }
    }
    Ok(times)
}

/// The names to keep, if not all.
fn events(query: &Parameters) -> Result<Option<Vec<String>>, Response> {
    let refuse = |text| Err(error(StatusCode::BAD_REQUEST, text));
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
