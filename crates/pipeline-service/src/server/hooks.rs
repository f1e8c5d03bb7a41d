//! Webhooks of vendors. They need no token: what is proved is the webhook itself.

use std::sync::Arc;
use std::time::Duration;

use axum::body::to_bytes;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::http::header::RETRY_AFTER;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use pipeline_core::webhook::Rejection;
use tokio::sync::Semaphore;

use super::App;
use crate::metrics::HookResult;
use crate::settings::WebhookSettings;
use crate::wishes::Taken;

/// Largest body. Events of vendors are smaller than 256 KB.
const LARGEST: usize = 1 << 20;

/// Webhooks that are dealt with at the same time; further ones are sent again by the vendor.
const AT_ONCE: usize = 64;

/// Longest time for a body to arrive.
const PATIENCE: Duration = Duration::from_secs(10);

/// Bounds what webhooks take of the process.
#[derive(Debug)]
pub(super) struct Gate(Arc<Semaphore>);

impl Gate {
    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(AT_ONCE)))
    }
}

/// Receives a webhook. Answers 2xx only when what it asks for is on the disk.
pub(super) async fn receive(
    State(app): State<App>,
    Path(source): Path<String>,
    request: Request,
) -> Response {
    let settings = app.shared.view().and_then(|view| {
        let of = view.settings.iter().find(|known| known.name == source)?;
        of.webhook.clone()
    });
    let Some(settings) = settings else {
        let text = "this source receives no webhooks: it has no [sources.NAME.webhook]\n";
        return (StatusCode::NOT_FOUND, text).into_response();
    };
    let (result, response) = answer(&app, &source, &settings, request).await;
    app.shared.metrics.webhook(&source, result);
    response
}

async fn answer(
    app: &App,
    source: &str,
    settings: &WebhookSettings,
    request: Request,
) -> (HookResult, Response) {
    let Ok(_place) = Arc::clone(&app.gate.0).try_acquire_owned() else {
        return (HookResult::Busy, later("too many webhooks at once\n"));
    };
    if !app.shared.is_ready() {
        return (HookResult::Busy, later("the service is stopping\n"));
    }
    let (parts, body) = request.into_parts();
    let body: Bytes = match tokio::time::timeout(PATIENCE, to_bytes(body, LARGEST)).await {
        Ok(Ok(body)) => body,
        Ok(Err(_)) => {
            let text = "the body is larger than 1 MiB, or broken off\n";
            let response = (StatusCode::PAYLOAD_TOO_LARGE, text).into_response();
            return (HookResult::Refused, response);
        }
        Err(_) => {
            let response = (StatusCode::REQUEST_TIMEOUT, "too slow\n").into_response();
            return (HookResult::Refused, response);
        }
    };
    let now = app.shared.now();
    let hint = match settings.reader.read(&parts.headers, &body, now) {
        Ok(hint) => hint,
        Err(rejection) => return refuse(source, rejection),
    };
    let taken = app
        .shared
        .wishes
        .take(source, &hint, &settings.streams, now);
    match taken.await {
        Ok(taken) => {
            tracing::debug!(source, kind = hint.kind, ?taken, "webhook");
            let (result, word) = match taken {
                Taken::Stored => (HookResult::Accepted, "accepted\n"),
                Taken::Duplicate => (HookResult::Duplicate, "accepted before\n"),
                Taken::Ignored => (HookResult::Ignored, "no stream of this source\n"),
            };
            (result, (StatusCode::OK, word).into_response())
        }
        Err(error) => {
            tracing::error!(source, %error, "a webhook cannot be stored; the vendor sends it again");
            let text = "it cannot be stored\n";
            (HookResult::Busy, later(text))
        }
    }
}

fn refuse(source: &str, rejection: Rejection) -> (HookResult, Response) {
    tracing::debug!(source, %rejection, "webhook refused");
    let response = (StatusCode::BAD_REQUEST, format!("{rejection}\n")).into_response();
    (HookResult::Refused, response)
}

fn later(text: &'static str) -> Response {
    let headers = [(RETRY_AFTER, "1")];
    (StatusCode::SERVICE_UNAVAILABLE, headers, text).into_response()
}
