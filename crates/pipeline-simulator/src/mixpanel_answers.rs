//! Mixpanel's reports and lists that are small: a table of paths, and what is answered there.

use std::sync::Arc;

use axum::extract::{Path, Query as Pairs, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use chrono::{DateTime, NaiveDate, TimeDelta};
use serde_json::{Map, Value, json};

use crate::mixpanel::{Parameters, authenticate, error, invalid_credentials, is_authentic};
use crate::server::Service;
use crate::world::{draw, hash};

/// The events of the export.
const EVENTS: [&str; 5] = [
    "Page Viewed",
    "Product Viewed",
    "Added To Cart",
    "Checkout Started",
    "Checkout Done",
];

/// Most days that a report covers.
const MAX_DAYS: i64 = 3_660;

/// What an answer is made of.
struct Asked<'a> {
    query: &'a Parameters,
    project: u64,
    seed: u64,
    /// The days asked for, the last month unless said.
    days: Vec<String>,
}

impl Asked<'_> {
    fn parameter(&self, name: &str) -> &str {
        self.query.get(name).map_or("", String::as_str)
    }

    /// A number that depends on the names only.
    fn number(&self, names: &[&str], below: u64) -> u64 {
        names
            .iter()
            .fold(self.seed, |seed, name| draw(seed, hash(name.as_bytes())))
            % below
    }

    /// One number for each day.
    fn by_day(&self, segment: &str) -> Value {
        self.days
            .iter()
            .map(|day| (day.clone(), json!(self.number(&[segment, day], 500))))
            .collect::<Map<_, _>>()
            .into()
    }

    fn segments(&self, segments: &[&str]) -> Value {
        let values: Map<_, _> = segments
            .iter()
            .map(|segment| ((*segment).to_owned(), self.by_day(segment)))
            .collect();
        json!({ "data": { "series": self.days, "values": values }, "legend_size": segments.len() })
    }
}

type Answer = fn(&Asked<'_>) -> Option<Value>;

/// What `GET /api/query/PATH` answers; all of it is counted.
const QUERIES: [(&str, Answer); 15] = [
    ("funnels/list", |_| {
        Some(
            json!([{ "funnel_id": 7509, "name": "Checkout" }, { "funnel_id": 9070, "name": "Signup" }]),
        )
    }),
    ("funnels", funnel),
    ("events/names", |_| Some(json!(EVENTS))),
    ("events/top", |asked| {
        let event = |name: &&str| json!({ "amount": asked.number(&["top", name], 900), "event": name, "percent_change": 0.25 });
        Some(json!({ "events": EVENTS.iter().map(event).collect::<Vec<_>>(), "type": "general" }))
    }),
    ("events", |asked| {
        let names: Vec<&str> = serde_json::from_str(asked.parameter("event")).ok()?;
        Some(asked.segments(&names))
    }),
    ("events/properties", |asked| {
        Some(asked.segments(&["Chrome", "Firefox"]))
    }),
    ("events/properties/top", |_| {
        Some(json!({ "$browser": { "count": 295 }, "Amount": { "count": 91 } }))
    }),
    ("events/properties/values", |_| {
        Some(json!(["Chrome", "Firefox", "Safari"]))
    }),
    ("segmentation", |asked| {
        Some(if asked.parameter("on").is_empty() {
            asked.segments(&[asked.parameter("event")])
        } else {
            asked.segments(&["free", "pro"])
        })
    }),
    ("segmentation/numeric", |asked| {
        Some(asked.segments(&["0 - 100", "100 - 200"]))
    }),
    ("segmentation/sum", |asked| {
        Some(
            json!({ "status": "ok", "computed_at": "2026-11-01T00:00:00+00:00", "results": asked.by_day("sum") }),
        )
    }),
    ("segmentation/average", |asked| {
        Some(json!({ "status": "ok", "results": asked.by_day("average") }))
    }),
    ("retention", |asked| {
        let group = |day: &String| {
            (
                day.clone(),
                json!({ "counts": [asked.number(&[day], 9), 1], "first": 10 }),
            )
        };
        Some(asked.days.iter().map(group).collect::<Map<_, _>>().into())
    }),
    ("retention/addiction", |asked| {
        let counts = |day: &String| (day.clone(), json!([asked.number(&[day], 500), 107, 60]));
        Some(json!({ "data": asked.days.iter().map(counts).collect::<Map<_, _>>() }))
    }),
    ("engage/revenue", |asked| {
        let mut results: Map<_, _> = asked
            .days
            .iter()
            .map(|day| {
                (
                    day.clone(),
                    json!({ "amount": 7.25, "count": 62, "paid_count": 2 }),
                )
            })
            .collect();
        results.insert(
            "$overall".to_owned(),
            json!({ "amount": 7.25, "count": 124, "paid_count": 2 }),
        );
        Some(json!({ "results": results, "session_id": "s-1", "status": "ok" }))
    }),
];

fn funnel(asked: &Asked<'_>) -> Option<Value> {
    let id = asked.parameter("funnel_id");
    if !["7509", "9070"].contains(&id) {
        return None;
    }
    let step = |name: &str, count: u64| json!({ "count": count, "avg_time": null, "avg_time_from_start": null, "step_conv_ratio": 1, "overall_conv_ratio": 1, "goal": name, "event": name });
    let day = |day: &String| {
        let (first, last) = (
            asked.number(&[id, day], 500),
            asked.number(&[id, day, "last"], 100),
        );
        let analysis =
            json!({ "completion": last, "starting_amount": first, "steps": 2, "worst": 1 });
        (
            day.clone(),
            json!({ "steps": [step(EVENTS[0], first), step(EVENTS[4], last)], "analysis": analysis }),
        )
    };
    Some(
        json!({ "meta": { "dates": asked.days }, "data": asked.days.iter().map(day).collect::<Map<_, _>>() }),
    )
}

/// What `GET /api/app/PATH` answers below the project; none of it is counted.
const LISTS: [(&str, Answer); 5] = [
    ("annotations", |_| {
        let user = json!({ "id": 9, "first_name": "Ana", "last_name": "Reis" });
        let note = |id: u64, text: &str| json!({ "id": id, "date": "2026-10-01 12:00:00", "description": text, "user": user, "tags": [] });
        Some(json!({ "status": "ok", "results": [note(55, "launch"), note(56, "rollback")] }))
    }),
    ("annotations/tags", |asked| {
        Some(
            json!([{ "id": 3, "name": "release", "project_id": asked.project, "has_annotations": true }]),
        )
    }),
    ("schemas", |_| {
        let schema = |name: &&str| json!({ "entityType": "event", "name": name, "schemaJson": { "description": "", "properties": {} } });
        Some(json!({ "status": "ok", "results": EVENTS.iter().map(schema).collect::<Vec<_>>() }))
    }),
    ("warehouse-sources/imports", |_| {
        let import = json!({ "id": 1, "import_type": "event_stream", "sync_mode": "time_based", "created": "2026-01-03T10:00:00Z" });
        Some(json!({ "status": "ok", "results": [import] }))
    }),
    ("warehouse-sources/imports/1/history", |_| {
        let run = json!({ "status": "SUCCEEDED", "start_time": 1_763_600_000, "end_time": 1_763_600_100, "num_events_imported": 42 });
        Some(json!({ "status": "ok", "results": { "runs": [run] } }))
    }),
];

/// The answer to a query, if it is one of the table's. Its cost is the caller's business.
pub(crate) fn query(
    service: &Service,
    path: &str,
    query: &Parameters,
) -> Result<Response, Response> {
    let found = QUERIES
        .iter()
        .find(|(known, _)| *known == path)
        .ok_or_else(|| error(StatusCode::NOT_FOUND, "not found"))?;
    respond(service, found.1, query)
}

/// `GET /api/app/projects/PROJECT/…`: lists that the account may see.
pub(crate) async fn app(
    State(service): State<Arc<Service>>,
    Path((project, path)): Path<(String, String)>,
    Pairs(query): Pairs<Parameters>,
    headers: HeaderMap,
) -> Response {
    if !is_authentic(&service, &headers) {
        return invalid_credentials();
    }
    let is_known = project == service.simulation.mixpanel.project_id.to_string();
    match LISTS.iter().find(|(known, _)| is_known && *known == path) {
        Some((_, answer)) => respond(&service, *answer, &query).unwrap_or_else(|refused| refused),
        None => error(StatusCode::NOT_FOUND, "not found"),
    }
}

/// `GET /lookup-tables`, of the ingestion host.
pub(crate) async fn lookup_tables(
    State(service): State<Arc<Service>>,
    Pairs(query): Pairs<Parameters>,
    headers: HeaderMap,
) -> Response {
    let table = json!({ "id": "55b4fb2b-e8de-466c-930f-8b36640b9b5e", "name": "Accounts" });
    let answer = authenticate(&service, &query, &headers)
        .map(|()| axum::Json(json!({ "code": 200, "status": "OK", "results": [table] })));
    answer.map_or_else(
        |refused| refused,
        axum::response::IntoResponse::into_response,
    )
}

fn respond(service: &Service, answer: Answer, query: &Parameters) -> Result<Response, Response> {
    let day = |name: &str| {
        query
            .get(name)
            .and_then(|day| day.parse::<NaiveDate>().ok())
    };
    let today = DateTime::from_timestamp(service.now(), 0)
        .unwrap_or_default()
        .date_naive();
    let last = day("to_date").unwrap_or(today);
    let first = day("from_date")
        .unwrap_or(last - TimeDelta::days(29))
        .max(last - TimeDelta::days(MAX_DAYS));
    let days = first
        .iter_days()
        .take_while(|day| *day <= last)
        .map(|day| day.to_string())
        .collect();
    let asked = Asked {
        query,
        project: service.simulation.mixpanel.project_id,
        seed: service.simulation.seed,
        days,
    };
    let value = answer(&asked).ok_or_else(|| error(StatusCode::NOT_FOUND, "not found"))?;
    Ok(axum::Json(value).into_response())
}
