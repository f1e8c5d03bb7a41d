//! The HTTP server: the page and its buttons, metrics, health, and webhooks of vendors.

mod guard;
mod hooks;
mod page;
mod plot;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Form, Router};
use futures::Stream;
use secrecy::SecretString;
use serde::Deserialize;
use tokio::net::TcpListener;

use self::guard::Guard;
use self::hooks::Gate;
use crate::service::Command;
use crate::view::{Shared, View};

/// How often an open page is renewed.
const LIVE: Duration = Duration::from_secs(1);

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Clone, Debug)]
struct App {
    shared: Arc<Shared>,
    guard: Arc<Guard>,
    gate: Arc<Gate>,
}

/// Serves until it is aborted.
pub(crate) async fn serve(listener: TcpListener, shared: Arc<Shared>, token: Option<SecretString>) {
    let router = router(shared, token);
    if let Err(error) = axum::serve(listener, router).await {
        tracing::error!(%error, "the HTTP server has ended");
    }
}

fn router(shared: Arc<Shared>, token: Option<SecretString>) -> Router {
    let app = App {
        shared,
        guard: Arc::new(Guard::new(token)),
        gate: Arc::new(Gate::new()),
    };
    let guarded = Router::new()
        .route("/", get(overview))
        .route("/sources/{source}", get(source))
        .route("/sources/{source}/{action}", post(act))
        .route("/live", get(live))
        .route("/metrics", get(metrics))
        .route("/logout", post(logout))
        .layer(middleware::from_fn_with_state(app.clone(), guard::check));
    Router::new()
        .route("/health", get(health))
        .route("/ready", get(ready))
        .route("/hooks/{source}", post(hooks::receive))
        .route("/login", get(login).post(log_in))
        .route("/style.css", get(style))
        .route("/page.js", get(script))
        .merge(guarded)
        .layer(middleware::from_fn(guard::headers))
        .with_state(app)
}

/// Returns 200 while the loop makes progress: a liveness probe.
async fn health(State(app): State<App>) -> Response {
    word(app.shared.is_alive(), "alive", "stuck")
}

/// Returns 200 while schedules run, but not while the service stops: a readiness probe.
async fn ready(State(app): State<App>) -> Response {
    word(app.shared.is_ready(), "ready", "not ready")
}

fn word(is_well: bool, well: &'static str, ill: &'static str) -> Response {
    let (status, text) = if is_well {
        (StatusCode::OK, well)
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, ill)
    };
    (status, format!("{text}\n")).into_response()
}

async fn metrics(State(app): State<App>, headers: HeaderMap) -> Response {
    let accepts = headers.get(ACCEPT).and_then(|value| value.to_str().ok());
    let metrics = &app.shared.metrics;
    if accepts.is_some_and(|accepts| accepts.contains("application/openmetrics-text")) {
        ([(CONTENT_TYPE, OPENMETRICS)], metrics.openmetrics()).into_response()
    } else {
        let kind = prometheus_client::encoding::prometheus_text::CONTENT_TYPE;
        ([(CONTENT_TYPE, kind)], metrics.prometheus()).into_response()
    }
}

async fn overview(State(app): State<App>) -> Response {
    show(&app, |view| {
        Some(page::overview(view, app.guard.has_token()))
    })
}

async fn source(State(app): State<App>, Path(source): Path<String>) -> Response {
    show(&app, |view| {
        page::source(view, &source, app.guard.has_token())
    })
}

fn show(app: &App, page: impl FnOnce(&View) -> Option<maud::Markup>) -> Response {
    let Some(view) = app.shared.view_now() else {
        return word(false, "", "not ready");
    };
    match page(&view) {
        Some(page) => Html(page.into_string()).into_response(),
        None => (StatusCode::NOT_FOUND, "unknown source\n").into_response(),
    }
}

/// Sends an event when the page has changed, at most once a second. The page then fetches itself, so
/// that it is rendered in one place.
async fn live(State(app): State<App>) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let start = (app, tokio::time::interval(LIVE), None::<String>);
    let changes = futures::stream::unfold(start, |(app, mut tick, mut shown)| async move {
        loop {
            tick.tick().await;
            let mark = app.shared.view_now().map(|view| page::mark(&view));
            if mark != shown {
                shown = mark;
                return Some((Ok(Event::default().data("changed")), (app, tick, shown)));
            }
        }
    });
    Sse::new(changes).keep_alive(KeepAlive::default())
}

/// Carries out what a button requests.
async fn act(
    State(app): State<App>,
    Path((source, action)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    let is_known = app
        .shared
        .view()
        .is_some_and(|view| view.sources.contains_key(&source));
    if !is_known {
        return (StatusCode::NOT_FOUND, "unknown source\n").into_response();
    }
    let command = match action.as_str() {
        "run" => Command::RunNow(source),
        "pause" => Command::Pause(source),
        "resume" => Command::Resume(source),
        "stop" => Command::Stop(source),
        _ => return (StatusCode::NOT_FOUND, "unknown action\n").into_response(),
    };
    app.shared.send(command);
    let is_page = headers
        .get(ACCEPT)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|accepts| accepts.contains("text/html"));
    if is_page {
        Redirect::to("/").into_response()
    } else {
        (StatusCode::ACCEPTED, "accepted\n").into_response()
    }
}

async fn login(State(app): State<App>) -> Response {
    if app.guard.has_token() {
        Html(page::login(false).into_string()).into_response()
    } else {
        Redirect::to("/").into_response()
    }
}

#[derive(Deserialize)]
struct Login {
    token: SecretString,
}

async fn log_in(State(app): State<App>, headers: HeaderMap, Form(login): Form<Login>) -> Response {
    if guard::is_foreign(&headers) {
        return (StatusCode::FORBIDDEN, "this comes from another site\n").into_response();
    }
    if let Some(cookie) = app.guard.log_in(&login.token) {
        return ([("set-cookie", cookie)], Redirect::to("/")).into_response();
    }
    // Slows down guessing.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let page = page::login(true).into_string();
    (StatusCode::UNAUTHORIZED, Html(page)).into_response()
}

async fn logout() -> Response {
    ([("set-cookie", guard::NO_COOKIE)], Redirect::to("/login")).into_response()
}

async fn style() -> Response {
    asset("text/css; charset=utf-8", include_str!("server/style.css"))
}

async fn script() -> Response {
    asset(
        "text/javascript; charset=utf-8",
        include_str!("server/page.js"),
    )
}

fn asset(kind: &'static str, text: &'static str) -> Response {
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static(kind)),
        (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    (headers, text).into_response()
}

#[cfg(test)]
mod tests;
