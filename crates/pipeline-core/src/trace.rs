//! Events as `tracing` events, for programs that have a subscriber.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use tracing::Span;
use tracing::field::Empty;

use crate::event::{Attempt, Event, Observer};

/// Passes every event on to `tracing`: failures as warnings and errors, the course of a run as
/// `info`, what happens per page and per request as `debug`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Trace;

impl Observer for Trace {
    fn observe(&self, event: &Event<'_>) {
        match event {
            Event::SyncStarted { run } => tracing::info!(run, "sync started"),
            Event::EndpointStarted {
                endpoint,
                slices,
                resumed,
                ..
            } => tracing::info!(%endpoint, slices, resumed, "endpoint started"),
            Event::Planned {
                endpoint,
                requests,
                limit,
                until,
            } => tracing::info!(%endpoint, requests, limit, %until, "planned"),
            Event::Attempt(attempt) => trace_attempt(attempt),
            Event::Waiting {
                source,
                endpoint,
                limit,
                wait,
            } => tracing::debug!(source, endpoint, limit, ?wait, "waiting for a limit"),
            Event::Retrying {
                source,
                endpoint,
                reason,
                wait,
            } => tracing::warn!(source, endpoint, reason, ?wait, "retrying"),
            Event::BreakerOpened { host, wait } => {
                tracing::warn!(host, ?wait, "the host fails; requests to it are paused");
            }
            Event::PageRead {
                endpoint,
                records,
                bytes,
            } => tracing::debug!(%endpoint, records, bytes, "page read"),
            Event::SliceSplit { endpoint } => tracing::debug!(%endpoint, "slice split"),
            Event::PassedOver {
                endpoint,
                unit,
                reason,
            } => tracing::warn!(%endpoint, unit, "passed over: {reason}"),
            Event::Drift {
                source,
                stream,
                field,
                reason,
                records,
            } => tracing::warn!(source, stream, field, records, "{reason}"),
            Event::Notice {
                source,
                endpoint,
                message,
            } => tracing::warn!(source, endpoint, "{message}"),
            Event::Repaired {
                source,
                endpoint,
                characters,
            } => tracing::warn!(source, endpoint, characters, "half characters replaced"),
            Event::Checked {
                source,
                endpoint,
                availability,
            } => tracing::info!(source, endpoint, ?availability, "checked"),
            Event::Committed {
                sequence,
                rows,
                bytes,
            } => tracing::info!(sequence, rows, bytes, "committed"),
            Event::EndpointFinished {
                endpoint,
                error: None,
            } => tracing::info!(%endpoint, "endpoint finished"),
            Event::EndpointFinished {
                endpoint,
                error: Some(error),
            } => tracing::error!(%endpoint, %error, "endpoint failed"),
            Event::SyncFinished { run } => tracing::info!(run, "sync finished"),
        }
    }
}

/// Passes the events of one run on as [`Trace`] does, inside spans: `run` with the source's and the
/// run's name, in it `endpoint` for each endpoint, and in that `request` with the vendor's id for
/// each attempt.
#[derive(Debug)]
pub struct TraceRun {
    run: Span,
    endpoints: Mutex<BTreeMap<String, Span>>,
}

impl TraceRun {
    /// The spans of a run that is about to start.
    pub fn new(source: &str) -> Self {
        Self {
            run: tracing::info_span!("run", source, run = Empty),
            endpoints: Mutex::default(),
        }
    }

    /// The span of an endpoint, which begins with the first event that names it.
    fn endpoint(&self, name: &str) -> Span {
        let mut endpoints = self
            .endpoints
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(span) = endpoints.get(name) {
            return span.clone();
        }
        let span = tracing::info_span!(parent: &self.run, "endpoint", endpoint = name);
        endpoints.insert(name.to_owned(), span.clone());
        span
    }
}

impl Observer for TraceRun {
    fn observe(&self, event: &Event<'_>) {
        let span = match event {
            Event::SyncStarted { run } => {
                self.run.record("run", run);
                self.run.clone()
            }
            Event::Attempt(attempt) => {
                let endpoint = self.endpoint(attempt.endpoint);
                let (path, request_id) = (attempt.path, attempt.request_id);
                tracing::info_span!(parent: &endpoint, "request", path, request_id)
            }
            Event::EndpointStarted { endpoint, .. }
            | Event::Planned { endpoint, .. }
            | Event::PageRead { endpoint, .. }
            | Event::SliceSplit { endpoint }
            | Event::PassedOver { endpoint, .. } => self.endpoint(&endpoint.endpoint),
            Event::Waiting { endpoint, .. } | Event::Retrying { endpoint, .. } => {
                self.endpoint(endpoint)
            }
            Event::EndpointFinished { endpoint, .. } => {
                let span = self.endpoint(&endpoint.endpoint);
                let mut endpoints = self
                    .endpoints
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner);
                endpoints.remove(&endpoint.endpoint);
                span
            }
            _ => self.run.clone(),
        };
        span.in_scope(|| Trace.observe(event));
    }
}

fn trace_attempt(attempt: &Attempt<'_>) {
    let Attempt {
        source,
        endpoint,
        path,
        attempt: number,
        latency,
        limit_wait,
        bytes,
        ..
    } = attempt;
    let (status, request_id) = (
        attempt.status.map(|status| status.as_u16()),
        attempt.request_id,
    );
    match attempt.failure {
        None => tracing::debug!(
            source,
            endpoint,
            path,
            number,
            status,
            bytes,
            ?latency,
            ?limit_wait,
            request_id,
            "request"
        ),
        Some(failure) => {
            tracing::warn!(
                source,
                endpoint,
                path,
                number,
                status,
                bytes,
                ?latency,
                ?limit_wait,
                request_id,
                failure,
                "request failed"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fmt::{Debug, Write};
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use tracing::field::{Field, Visit};
    use tracing::span::{Attributes, Id, Record};
    use tracing::{Metadata, Subscriber};

    use super::*;
    use crate::error::{Error, ErrorKind};
    use crate::model::state::EndpointId;

    /// Writes events down, one a line.
    #[derive(Clone, Debug, Default)]
    struct Lines(Arc<Mutex<String>>);

    impl Subscriber for Lines {
        fn enabled(&self, _metadata: &Metadata<'_>) -> bool {
            true
        }

        fn new_span(&self, _span: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }

        fn record(&self, _span: &Id, _values: &Record<'_>) {}

        fn record_follows_from(&self, _span: &Id, _follows: &Id) {}

        fn event(&self, event: &tracing::Event<'_>) {
            let mut line = format!("{:5}", event.metadata().level());
            event.record(&mut Fields(&mut line));
            self.0.lock().unwrap().push_str(&(line + "\n"));
        }

        fn enter(&self, _span: &Id) {}

        fn exit(&self, _span: &Id) {}
    }

    struct Fields<'a>(&'a mut String);

    impl Visit for Fields<'_> {
        fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
            write!(self.0, " {field}={value:?}").unwrap();
        }
    }

    #[test]
    fn events_carry_where_they_happened() {
        let lines = Lines::default();
        let endpoint = EndpointId::new("shop", "orders");
        let refused = Error::new(ErrorKind::PermissionDenied, "the key may not read this")
            .with_context("request_id", "req_1");
        tracing::subscriber::with_default(lines.clone(), || {
            Trace.observe(&Event::PageRead {
                endpoint: &endpoint,
                records: 100,
                bytes: 4_000,
            });
            Trace.observe(&Event::Retrying {
                source: "shop",
                endpoint: "orders",
                reason: "the server failed",
                wait: Duration::from_secs(2),
            });
            Trace.observe(&Event::Committed {
                sequence: 7,
                rows: 100,
                bytes: 4_000,
            });
            Trace.observe(&Event::EndpointFinished {
                endpoint: &endpoint,
                error: Some(&refused),
            });
        });
        insta::assert_snapshot!(lines.0.lock().unwrap(), @r#"
        DEBUG message=page read endpoint=shop/orders records=100 bytes=4000
        WARN  message=retrying source="shop" endpoint="orders" reason="the server failed" wait=2s
        INFO  message=committed sequence=7 rows=100 bytes=4000
        ERROR message=endpoint failed endpoint=shop/orders error=the key may not read this (request_id: req_1)
        "#);
    }
}
