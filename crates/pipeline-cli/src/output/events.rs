//! Events as JSON: all of them for `--output json`, attempts for `--log-requests`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pipeline_core::{Attempt, Clock, Event, Observer, SystemClock};
use serde_json::{Value, json};

use super::lines::Lines;
use crate::console::Console;

/// Writes every event as a line.
#[derive(Debug)]
pub(crate) struct EventLog {
    pub(crate) lines: Arc<Lines>,
    pub(crate) console: Arc<Console>,
}

impl Observer for EventLog {
    fn observe(&self, event: &Event<'_>) {
        if let Some(mut value) = event_json(event, &self.console) {
            value["time"] = json!(SystemClock.now());
            self.lines.push(&value);
        }
    }
}

/// Writes every attempt as a line.
#[derive(Debug)]
pub(crate) struct RequestLog(pub(crate) Arc<Lines>);

impl Observer for RequestLog {
    fn observe(&self, event: &Event<'_>) {
        if let Event::Attempt(attempt) = event {
            self.0.push(&attempt_json(attempt));
        }
    }
}

/// Prints the notices of connectors before the first endpoint is read, and how long the plan will
/// take. Later notices are in the summary.
#[derive(Debug)]
pub(crate) struct Preface {
    pub(crate) console: Arc<Console>,
    pub(crate) begun: AtomicBool,
}

impl Observer for Preface {
    fn observe(&self, event: &Event<'_>) {
        match event {
            Event::Planned {
                endpoint,
                requests,
                limit,
                until,
            } => {
                let until = until.format("%Y-%m-%d %H:%M UTC");
                self.console.note(&format!(
                    "{endpoint}: {requests} requests planned ({limit}), the last of them by {until}"
                ));
            }
            Event::EndpointStarted { .. } => self.begun.store(true, Ordering::Relaxed),
            Event::Notice {
                source, message, ..
            } if !self.begun.load(Ordering::Relaxed) => {
                self.console.note(&format!("{source}: {message}"));
            }
            _ => {}
        }
    }
}

/// Milliseconds, the unit of every duration in JSON.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn attempt_json(attempt: &Attempt<'_>) -> Value {
    json!({
        "time": attempt.at,
        "source": attempt.source,
        "endpoint": attempt.endpoint,
        "path": attempt.path,
        "attempt": attempt.attempt,
        "status": attempt.status.map(|status| status.as_u16()),
        "latency_ms": millis(attempt.latency),
        "bytes": attempt.bytes,
        "limit_wait_ms": millis(attempt.limit_wait),
        "limit": attempt.limit,
        "throttled": attempt.throttled,
        "failure": attempt.failure,
        "request_id": attempt.request_id,
    })
}

/// An event as JSON. The end of a run is reported by [`Report`](super::json::Report), which has
/// more details.
fn event_json(event: &Event<'_>, console: &Console) -> Option<Value> {
    Some(match event {
        Event::SyncStarted { run } => json!({ "event": "sync_started", "run": run }),
        Event::EndpointStarted {
            endpoint,
            streams,
            slices,
            resumed,
        } => json!({
            "event": "endpoint_started", "source": endpoint.source, "endpoint": endpoint.endpoint,
            "streams": streams, "slices": slices, "resumed": resumed,
        }),
        Event::Planned {
            endpoint,
            requests,
            limit,
            until,
        } => json!({
            "event": "planned", "source": endpoint.source, "endpoint": endpoint.endpoint, "requests": requests, "limit": limit, "until": until,
        }),
        Event::Attempt(attempt) => {
            let mut value = attempt_json(attempt);
            value["event"] = json!("request");
            value
        }
        Event::Waiting {
            source,
            endpoint,
            limit,
            wait,
        } => json!({
            "event": "waiting", "source": source, "endpoint": endpoint, "limit": limit, "wait_ms": millis(*wait),
        }),
        Event::Retrying {
            source,
            endpoint,
            reason,
            wait,
        } => json!({
            "event": "retrying", "source": source, "endpoint": endpoint, "reason": reason, "wait_ms": millis(*wait),
        }),
        Event::BreakerOpened { host, wait } => {
            json!({ "event": "breaker_opened", "host": host, "wait_ms": millis(*wait) })
        }
        Event::PageRead {
            endpoint,
            records,
            bytes,
        } => json!({
            "event": "page_read", "source": endpoint.source, "endpoint": endpoint.endpoint, "records": records, "bytes": bytes,
        }),
        Event::SliceSplit { endpoint } => {
            json!({ "event": "slice_split", "source": endpoint.source, "endpoint": endpoint.endpoint })
        }
        Event::PassedOver {
            endpoint,
            unit,
            reason,
        } => json!({
            "event": "passed_over", "source": endpoint.source, "endpoint": endpoint.endpoint, "unit": unit, "reason": console.redact(reason),
        }),
        Event::Drift {
            source,
            stream,
            field,
            reason,
            records,
        } => json!({
            "event": "drift", "source": source, "stream": stream, "field": field, "reason": reason, "records": records,
        }),
        Event::Repaired {
            source,
            endpoint,
            characters,
        } => json!({
            "event": "repaired", "source": source, "endpoint": endpoint, "characters": characters,
        }),
        Event::Notice {
            source,
            endpoint,
            message,
        } => json!({
            "event": "notice", "source": source, "endpoint": endpoint, "message": console.redact(message),
        }),
        Event::Committed {
            sequence,
            rows,
            bytes,
        } => json!({ "event": "committed", "sequence": sequence, "rows": rows, "bytes": bytes }),
        Event::EndpointFinished { endpoint, error } => json!({
            "event": "endpoint_finished", "source": endpoint.source, "endpoint": endpoint.endpoint,
            "error": error.map(|error| console.redact(&error.to_string())),
        }),
        _ => return None,
    })
}
