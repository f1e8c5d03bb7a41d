//! The token endpoint as the OAuth library sees it: over our own transport, retried, and made to
//! speak as the standard says.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http::header::{AUTHORIZATION, CONTENT_TYPE};
use oauth2::{AsyncHttpClient, HttpRequest, HttpResponse};
use tokio::time::{sleep, timeout};
use url::Url;

use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::http::client::redact;
use crate::http::client::redact::Secrets;
use crate::http::client::retry::{Backoff, RetryPolicy};
use crate::http::transport::{transport, transport_error};
use crate::http::{BuildContext, HeaderValue, HttpService, Method, StatusCode, body};
use crate::message::Request;
use crate::rate_limit::retry_after;

/// Longest time for one request to the token endpoint.
const TIMEOUT: Duration = Duration::from_mins(1);
/// Largest answer of the token endpoint.
const MAX_ANSWER: u64 = 1 << 20;
/// Attempts at the token endpoint, and their delays.
const RETRY: RetryPolicy = RetryPolicy {
    max_attempts: 4,
    min_delay: Duration::from_millis(500),
    max_delay: Duration::from_secs(10),
    max_server_delay: Duration::from_mins(1),
    max_elapsed: Duration::from_mins(5),
};

/// Where tokens come from.
pub(crate) struct TokenEndpoint {
    url: Url,
    /// Parameters beyond the standard's.
    pub(crate) params: Vec<(String, String)>,
    /// Send a JSON object where the standard says a form.
    pub(crate) json: bool,
    transport: Arc<dyn HttpService>,
    clock: Arc<dyn Clock>,
    seed: Option<u64>,
}

impl fmt::Debug for TokenEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenEndpoint")
            .field("path", &self.url.path())
            .finish_non_exhaustive()
    }
}

impl<'c> AsyncHttpClient<'c> for TokenEndpoint {
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<HttpResponse>> + Send + 'c>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(self.request(request))
    }
}

impl TokenEndpoint {
    pub(crate) fn new(context: &BuildContext, url: &Url) -> Result<Self> {
        Ok(Self {
            url: url.clone(),
            params: Vec::new(),
            json: false,
            transport: transport(context)?,
            clock: Arc::clone(&context.clock),
            seed: context.seed,
        })
    }

    /// Sends a request to the token endpoint, and again while it fails for a passing reason.
    async fn request(&self, request: HttpRequest) -> Result<HttpResponse> {
        let request = self.encode(request)?;
        let rng = self
            .seed
            .map_or_else(fastrand::Rng::new, fastrand::Rng::with_seed);
        let mut backoff = Backoff::new(&RETRY, rng);
        let mut attempt = 1;
        loop {
            let (error, after) = match timeout(TIMEOUT, self.call_once(request.clone())).await {
                Ok(Ok(answer)) if !is_passing(answer.status()) => return Ok(answer),
                Ok(Ok(answer)) => {
                    let error =
                        Error::new(ErrorKind::Unavailable, "the token endpoint failed").temporary();
                    let error = error.with_context("status", answer.status().as_u16().to_string());
                    (error, retry_after(answer.headers(), self.clock.now()))
                }
                Ok(Err(error)) => (error, None),
                Err(_) => (
                    Error::new(
                        ErrorKind::Unavailable,
                        "the token endpoint did not answer in time",
                    )
                    .temporary(),
                    None,
                ),
            };
            let wait = backoff.next(after);
            if attempt == RETRY.max_attempts
                || !error.is_temporary()
                || wait > RETRY.max_server_delay.mul_f64(1.2)
            {
                return Err(error);
            }
            attempt += 1;
            sleep(wait).await;
        }
    }

    async fn call_once(&self, request: Request) -> Result<HttpResponse> {
        let secrets = secrets(&request);
        let raw = self
            .transport
            .call(request)
            .await
            .map_err(transport_error)?;
        let (status, headers) = (raw.status, raw.headers.clone());
        let chunks = body::decoded(raw, TIMEOUT, body::IN_MEMORY)
            .await
            .map_err(transport_error)?;
        let body = body::read_small(chunks, MAX_ANSWER).await?;
        if let Some(error) = somebody_else(status, &body, &secrets) {
            return Err(error);
        }
        let mut response = http::Response::new(normalized(&body).unwrap_or_else(|| body.to_vec()));
        // Vendors answer 201, too, and not all say that it is JSON.
        *response.status_mut() = if status.is_success() {
            StatusCode::OK
        } else {
            status
        };
        *response.headers_mut() = headers;
        response
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Ok(response)
    }

    fn encode(&self, request: HttpRequest) -> Result<Request> {
        let (parts, body) = request.into_parts();
        let mut encoded = Request::new(Method::POST, self.url.clone());
        encoded.headers = parts.headers;
        encoded.body = body.into();
        if self.json {
            let pairs = url::form_urlencoded::parse(&encoded.body);
            let members: serde_json::Map<_, _> = pairs
                .map(|(name, value)| (name.to_string(), self.json_value(&name, &value)))
                .collect();
            encoded
                .headers
                .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            let invalid = |error| {
                Error::new(ErrorKind::Unexpected, "the token request cannot be encoded")
                    .with_source(error)
            };
            encoded.body = serde_json::to_vec(&members).map_err(invalid)?.into();
        }
        Ok(encoded)
    }

    fn json_value(&self, name: &str, value: &str) -> serde_json::Value {
        match value.parse::<u64>() {
            Ok(number) if self.params.iter().any(|(known, _)| known == name) => number.into(),
            _ => value.into(),
        }
    }
}

/// The error of an answer that is not the token endpoint's: a redirect, or a web page. Nothing of
/// it is quoted but its title.
fn somebody_else(status: StatusCode, body: &[u8], secrets: &Secrets) -> Option<Error> {
    let is_page = status.is_success() && body.trim_ascii_start().starts_with(b"<");
    let message = if status.is_redirection() {
        "the token endpoint redirects elsewhere, and redirects are not followed"
    } else if is_page {
        "a web page answered instead of the token endpoint (proxy or captive portal)"
    } else {
        return None;
    };
    let error = Error::new(ErrorKind::Refused, message)
        .with_help("check the base URL, the network and the proxy settings")
        .with_context("status", status.as_u16().to_string());
    let title = redact::excerpt(body, secrets).filter(|_| is_page);
    Some(match title {
        Some(title) => error.with_context("answer", title),
        None => error,
    })
}

/// What a token request carries that must not be shown.
fn secrets(request: &Request) -> Secrets {
    const NAMES: [&str; 2] = ["client_secret", "refresh_token"];
    let header = request
        .headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .map(redact::header_values);
    let json: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(&request.body).unwrap_or_default();
    let members = json
        .iter()
        .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())));
    let form = url::form_urlencoded::parse(&request.body)
        .into_owned()
        .chain(members);
    let values = form
        .filter(|(name, _)| NAMES.contains(&&**name))
        .map(|(_, value)| value);
    Secrets::new(header.into_iter().flatten().chain(values))
}

/// Answers with which the token endpoint says nothing about the credential.
fn is_passing(status: StatusCode) -> bool {
    status.is_server_error() || matches!(status.as_u16(), 408 | 425 | 429)
}

/// Makes an answer what the standard asks for: vendors leave out the type, and write the life as
/// text or as nonsense.
fn normalized(body: &[u8]) -> Option<Vec<u8>> {
    let mut members: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(body).ok()?;
    if members.contains_key("access_token") {
        members
            .entry("token_type")
            .or_insert_with(|| "bearer".into());
    }
    if let Some(life) = members.remove("expires_in") {
        let number = life.as_f64().or_else(|| life.as_str()?.trim().parse().ok());
        if let Some(seconds) = number.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        {
            members.insert("expires_in".to_owned(), seconds.as_secs().into());
        }
    }
    serde_json::to_vec(&members).ok()
}
