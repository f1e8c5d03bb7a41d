//! How many requests Mixpanel answers at once: queries, and raw exports until their last byte.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use futures::StreamExt as _;
use serde_json::json;
use tokio::time::Instant;

use crate::Vendor;
use crate::mixpanel::{rate_headers, throttled};
use crate::server::Service;

/// Seconds that a refused request is asked to wait.
const WAIT: u64 = 10;

/// What counts together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SlotKind {
    Query = 0,
    Export = 1,
}

/// A place among the requests that are being answered; free again when it is dropped.
pub(crate) struct Slot(Arc<Service>, SlotKind);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.state().under_way[self.1 as usize] -= 1;
    }
}

impl Slot {
    /// A place for a request, or the refusal; neither where no limit applies.
    pub(crate) fn take(
        service: &Arc<Service>,
        method: &Method,
        path: &str,
    ) -> Result<Option<Slot>, Response> {
        let limits = service.simulation.limits;
        let (kind, limit) = match path {
            "/api/2.0/export" => (SlotKind::Export, limits.mixpanel_exports_at_once),
            path if path.starts_with("/api/query/") => {
                (SlotKind::Query, limits.mixpanel_queries_at_once)
            }
            _ => return Ok(None),
        };
        let Some(limit) = limit else { return Ok(None) };
        let mut state = service.state();
        if state.under_way[kind as usize] < limit {
            state.under_way[kind as usize] += 1;
            return Ok(Some(Slot(Arc::clone(service), kind)));
        }
        let now = Instant::now();
        state.stats.record(
            Vendor::Mixpanel,
            &format!("{method} {path}"),
            now - service.started,
            false,
        );
        let left = state.gate.mixpanel_queries_left(now);
        drop(state);
        Err(match kind {
            SlotKind::Export => throttled(WAIT),
            SlotKind::Query => refusal(service, path, limit, left),
        })
    }

    /// Keeps the place until the answer's last byte.
    pub(crate) fn until_the_end_of(self, response: Response) -> Response {
        response.map(|body| {
            Body::from_stream(body.into_data_stream().map(move |piece| {
                let Slot(..) = &self;
                piece
            }))
        })
    }
}

fn refusal(service: &Service, path: &str, limit: u32, left: u32) -> Response {
    let project = service.simulation.mixpanel.project_id;
    let text = format!(
        "Query rate limit exceeded for project {project}: {}/{limit} concurrent queries",
        limit + 1
    );
    let body = json!({ "request": format!("{path}?project_id={project}"), "error": text });
    let mut response = (StatusCode::TOO_MANY_REQUESTS, axum::Json(body)).into_response();
    rate_headers(
        service,
        &mut response,
        &format!("\"project\";r={left}, \"project-concurrency\";r=0;t={WAIT}"),
        WAIT,
    );
    response
}
