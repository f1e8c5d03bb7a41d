//! Access to the page and its buttons.
//!
//! Without a token only this machine can connect, and a request has to name this machine: a page of
//! another site, whose name was made to lead here, does not. With a token each request shows it, or
//! the cookie of a person who has. What changes something has to come from this page.

use std::fmt::Write as _;

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, COOKIE, HOST, ORIGIN};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use hmac::{Hmac, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;

use super::App;

const COOKIE_NAME: &str = "pipeline_session";

/// Ends a session.
pub(super) const NO_COOKIE: &str =
    "pipeline_session=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0";

/// Proves tokens and cookies.
#[derive(Debug)]
pub(super) struct Guard {
    token: Option<SecretString>,
}

impl Guard {
    pub(super) fn new(token: Option<SecretString>) -> Self {
        Self { token }
    }

    pub(super) fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// The cookie of whoever shows the token. It follows from the token but does not reveal it, and
    /// ends with it.
    pub(super) fn log_in(&self, shown: &SecretString) -> Option<String> {
        let token = self.token.as_ref()?;
        is_same(token.expose_secret(), shown.expose_secret()).then(|| {
            let session = session(token);
            format!("{COOKIE_NAME}={session}; Path=/; HttpOnly; SameSite=Strict")
        })
    }

    fn admits(&self, headers: &HeaderMap) -> bool {
        let Some(token) = &self.token else {
            return names_this_machine(headers);
        };
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let bearer = text(AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer "));
        if bearer.is_some_and(|shown| is_same(token.expose_secret(), shown)) {
            return true;
        }
        let session = session(token);
        headers
            .get_all(COOKIE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split("; "))
            .filter_map(|cookie| cookie.split_once('='))
            .any(|(name, value)| name == COOKIE_NAME && is_same(&session, value))
    }
}

/// Refuses requests without access.
pub(super) async fn check(State(app): State<App>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    if !app.guard.admits(headers) {
        let wants_page = request.method() == Method::GET
            && headers
                .get("accept")
                .and_then(|value| value.to_str().ok())
                .is_some_and(|accepts| accepts.contains("text/html"));
        return match (app.guard.has_token(), wants_page) {
            (true, true) => Redirect::to("/login").into_response(),
            (true, false) => {
                let headers = [("www-authenticate", "Bearer")];
                (StatusCode::UNAUTHORIZED, headers, "a token is required\n").into_response()
            }
            (false, _) => (StatusCode::FORBIDDEN, "use the name localhost\n").into_response(),
        };
    }
    if request.method() != Method::GET && request.method() != Method::HEAD && is_foreign(headers) {
        return (StatusCode::FORBIDDEN, "this comes from another site\n").into_response();
    }
    next.run(request).await
}

/// Adds headers that restrict what a browser does with the page.
pub(super) async fn headers(request: Request, next: Next) -> Response {
    const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self' data:; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in [
        ("content-security-policy", POLICY),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers
        .entry("cache-control")
        .or_insert(HeaderValue::from_static("no-store"));
    response
}

/// True for a request that a page of another site has made. A browser says so; what is not a
/// browser has no cookies that another site could use.
pub(super) fn is_foreign(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(site) = text("sec-fetch-site") {
        return !matches!(site, "same-origin" | "none");
    }
    let Some(origin) = text(ORIGIN.as_str()) else {
        return false;
    };
    let host = origin.split_once("://").map(|(_, host)| host);
    host.is_none() || host != text(HOST.as_str())
}

/// True when the name that the request was sent to is one of this machine.
fn names_this_machine(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(HOST).and_then(|value| value.to_str().ok()) else {
        return false;
    };
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name == "localhost"
        || name
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

fn session(token: &SecretString) -> String {
    let code = code(token.expose_secret(), "pipeline run: session");
    let mut text = String::with_capacity(2 * code.len());
    for byte in code {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Compares by keyed hashes, so that the time that it takes says nothing of how much is right.
fn is_same(expected: &str, shown: &str) -> bool {
    code("compare", expected) == code("compare", shown)
}

fn code(key: &str, text: &str) -> [u8; 32] {
    // A key of any length is one.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key.as_bytes()) else {
        unreachable!("HMAC takes keys of every length")
    };
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().into()
}
