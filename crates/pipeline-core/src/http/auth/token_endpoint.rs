//! The token endpoint as the OAuth library sees it: asked by a client of its own, and made to speak
//! as the standard says.

use std::fmt;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use oauth2::basic::BasicErrorResponse;
use oauth2::{AsyncHttpClient, HttpRequest, HttpResponse};
use secrecy::SecretString;
use url::Url;

use crate::error::{Error, ErrorKind, Result};
use crate::http::auth::{Authenticator, CredentialGeneration};
use crate::http::client::address::root;
use crate::http::client::classify::is_web_page;
use crate::http::client::{HttpClient, redact};
use crate::http::{
    BuildContext, Call, Classifier, HeaderValue, Method, ResponseAction, RetryPolicy, StatusCode,
};
use crate::memory::MemoryBudget;
use crate::message::{Request, ResponseView};

/// Longest time for one request to the token endpoint.
const TIMEOUT: Duration = Duration::from_mins(1);
/// Largest answer of the token endpoint.
const MAX_ANSWER: u64 = 1 << 20;
/// Attempts at the token endpoint, and their delays. A minute that the server asks for is drawn out
/// by up to a tenth.
const RETRY: RetryPolicy = RetryPolicy {
    max_attempts: 4,
    min_delay: Duration::from_millis(500),
    max_delay: Duration::from_secs(10),
    max_server_delay: Duration::from_secs(66),
    max_elapsed: Duration::from_mins(5),
};
/// The token endpoint in events and errors. It counts against no quota of the API's.
const CALL: Call<'static> = Call {
    endpoint: "token",
    buckets: &[],
};

/// Where tokens come from.
pub(crate) struct TokenEndpoint {
    url: Url,
    /// Parameters beyond the standard's.
    pub(crate) params: Vec<(String, String)>,
    /// Send a JSON object where the standard says a form.
    pub(crate) json: bool,
    client: HttpClient,
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
        let mut context = context.clone().max_body(MAX_ANSWER);
        context.read_timeout = context.read_timeout.min(TIMEOUT);
        context.total_timeout = context.total_timeout.min(TIMEOUT);
        let client = HttpClient::builder(&context, root(url))
            .authenticator(Carried::default())
            .classifier(TokenAnswers)
            .retry(RETRY)
            .unquoted()
            .build()?;
        Ok(Self {
            url: url.clone(),
            params: Vec::new(),
            json: false,
            client,
        })
    }

    /// Sends a request to the token endpoint, and again while it fails for a passing reason.
    async fn request(&self, request: HttpRequest) -> Result<HttpResponse> {
        let request = self.encode(request)?;
        // The request that needs the token holds memory already, and so may all others that wait
        // for it: a token that waited for memory could wait for them.
        let room = MemoryBudget::unlimited().hold();
        let answer = room.scope(self.client.send(&request, &CALL)).await?;
        let body = normalized(&answer.body).unwrap_or_else(|| answer.body.to_vec());
        let mut response = http::Response::new(body);
        // Vendors answer 201, too, and not all say that it is JSON.
        *response.status_mut() = if answer.status.is_success() {
            StatusCode::OK
        } else {
            answer.status
        };
        *response.headers_mut() = answer.headers;
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

/// The credential of a token request, which the OAuth library has put where the vendor wants it:
/// nothing is added, and it is not shown.
#[derive(Debug, Default)]
struct Carried(Mutex<(CredentialGeneration, Vec<SecretString>)>);

#[async_trait]
impl Authenticator for Carried {
    async fn authenticate(&self, request: &mut Request) -> Result<CredentialGeneration> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *held = (held.0 + 1, secrets(request));
        Ok(held.0)
    }

    async fn refresh(&self, _refused: CredentialGeneration) -> Result<bool> {
        Ok(false)
    }

    async fn secrets(&self) -> Vec<SecretString> {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.1.clone()
    }
}

/// What a token request carries that must not be shown.
fn secrets(request: &Request) -> Vec<SecretString> {
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
    header
        .into_iter()
        .flatten()
        .chain(values)
        .map(SecretString::from)
        .collect()
}

/// Classifies responses of a token endpoint. A refusal as the OAuth standard defines it is left to
/// the OAuth library; any other comes from a proxy or a gateway.
#[derive(Debug)]
struct TokenAnswers;

impl Classifier for TokenAnswers {
    fn classify(&self, answer: &ResponseView<'_>) -> Option<ResponseAction> {
        let fail = |kind, help: &str| Some(ResponseAction::Fail(kind, Some(help.to_owned())));
        match answer.status.as_u16() {
            200..=299 if !is_web_page(answer) => None,
            407 | 408 | 425 | 429 | 500.. => None,
            400..=499 if serde_json::from_slice::<BasicErrorResponse>(answer.body).is_ok() => {
                Some(ResponseAction::Accept)
            }
            401 | 403 => fail(
                ErrorKind::Unauthenticated,
                "check the client's id and secret, and what it may do",
            ),
            _ => fail(
                ErrorKind::Refused,
                "check the base URL, the network and the proxy settings",
            ),
        }
    }
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
