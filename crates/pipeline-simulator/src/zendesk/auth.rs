//! Zendesk's credentials: API tokens, and OAuth access tokens with rotating refresh tokens.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::server::Service;

/// How long an access token lives when the request doesn't say.
const DEFAULT_LIFE: Duration = Duration::from_mins(30);
/// What `expires_in` may ask for.
const LIVES: std::ops::RangeInclusive<u64> = 300..=172_800;

/// The tokens that are valid.
pub(crate) struct Tokens {
    /// Access tokens and when they expire.
    access: HashMap<String, Instant>,
    refresh: String,
    /// The access token of the pair that `refresh` belongs to.
    paired: Option<String>,
    issued: u64,
}

impl Tokens {
    pub(crate) fn new(refresh: String) -> Tokens {
        Tokens {
            access: HashMap::new(),
            refresh,
            paired: None,
            issued: 0,
        }
    }

    fn issue(&mut self, life: Duration, now: Instant) -> String {
        self.issued += 1;
        let token = format!("sim_access_{}", self.issued);
        self.access.insert(token.clone(), now + life);
        token
    }

    /// A refresh kills both old tokens.
    fn rotate(&mut self, life: Duration, now: Instant) -> (String, String) {
        if let Some(old) = self.paired.take() {
            self.access.remove(&old);
        }
        let access = self.issue(life, now);
        self.refresh = format!("sim_refresh_{}", self.issued);
        self.paired = Some(access.clone());
        (access, self.refresh.clone())
    }
}

/// The body of a token request; scopes and the life of the refresh token are accepted and ignored.
#[derive(Deserialize)]
struct TokenRequest {
    grant_type: String,
    #[serde(default)]
    client_id: String,
    #[serde(default)]
    client_secret: String,
    #[serde(default)]
    refresh_token: String,
    expires_in: Option<u64>,
}

/// `POST /oauth/tokens` for client credentials and refresh tokens.
pub(crate) async fn issue(State(service): State<Arc<Service>>, body: Bytes) -> Response {
    let Ok(request) = serde_json::from_slice::<TokenRequest>(&body) else {
        return refuse(
            StatusCode::BAD_REQUEST,
            "invalid_request",
            "The request is missing a required parameter.",
        );
    };
    let account = &service.simulation.zendesk;
    if request.client_id != account.client_id || request.client_secret != account.client_secret {
        return refuse(
            StatusCode::UNAUTHORIZED,
            "invalid_client",
            "Client authentication failed.",
        );
    }
    if request
        .expires_in
        .is_some_and(|seconds| !LIVES.contains(&seconds))
    {
        return refuse(
            StatusCode::BAD_REQUEST,
            "invalid_request",
            "expires_in must be between 300 and 172800.",
        );
    }
    let asked = request.expires_in.map_or(DEFAULT_LIFE, Duration::from_secs);
    let (life, now, mut state) = (
        asked.min(account.token_lifetime),
        Instant::now(),
        service.state(),
    );
    let mut answer = json!({ "token_type": "bearer", "scope": "read" });
    match request.grant_type.as_str() {
        "client_credentials" => answer["access_token"] = Value::from(state.tokens.issue(life, now)),
        "refresh_token" if request.refresh_token == state.tokens.refresh => {
            let (access, refresh) = state.tokens.rotate(life, now);
            answer["access_token"] = Value::from(access);
            answer["refresh_token"] = Value::from(refresh);
        }
        "refresh_token" => {
            return refuse(
                StatusCode::BAD_REQUEST,
                "invalid_grant",
                "The refresh token is invalid, expired or already used.",
            );
        }
        _ => {
            return refuse(
                StatusCode::BAD_REQUEST,
                "unsupported_grant_type",
                "The grant type is not supported.",
            );
        }
    }
    // Zendesk tells the life of a token only to those who asked for one.
    if request.expires_in.is_some() {
        answer["expires_in"] = Value::from(life.as_secs());
    }
    (StatusCode::OK, axum::Json(answer)).into_response()
}

fn refuse(status: StatusCode, error: &str, description: &str) -> Response {
    (
        status,
        axum::Json(json!({ "error": error, "error_description": description })),
    )
        .into_response()
}

/// Accepts `Basic email/token:token` and bearer tokens that were issued and live.
pub(crate) fn authenticate(service: &Service, headers: &HeaderMap) -> Result<(), Response> {
    let header = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    if let Some(token) = header.strip_prefix("Bearer ") {
        let expires = service.state().tokens.access.get(token).copied();
        return if expires.is_some_and(|expires| Instant::now() < expires) {
            Ok(())
        } else {
            Err(super::invalid_token())
        };
    }
    let account = &service.simulation.zendesk;
    let expected = STANDARD.encode(format!("{}/token:{}", account.email, account.token));
    if header.strip_prefix("Basic ") == Some(expected.as_str()) {
        Ok(())
    } else {
        let body = json!({ "error": "Couldn't authenticate you" });
        Err((StatusCode::UNAUTHORIZED, axum::Json(body)).into_response())
    }
}
