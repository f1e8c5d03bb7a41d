//! A fixture case for every stream: the connector reads it from a stand-in that answers with
//! objects of the specification's shapes, and what is said is recorded.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use connector_stripe::tables::{Stripe, streams};
use connector_stripe::{API_VERSION, StripeConfig, StripeConnector};
use futures::TryStreamExt;
use pipeline_core::declarative::ListDef;
use pipeline_core::http::{
    HeaderMap, HttpService, RawResponse, Request, StatusCode, TransportError,
};
use pipeline_core::slice::TimeRange;
use pipeline_core::{BuildContext, Connector, SessionExt, TokioClock};
use serde_json::{Value, json};

use super::super::Result;
use super::super::openapi::Spec;
use super::columns::is_sent;
use super::examples::{list, object};

/// How the folders of these cases begin.
const PREFIX: &str = "stream-";

/// When the reading begins.
const NOW: &str = "2026-01-31T00:00:00Z";

/// Every file of the cases and its text, below the folder of the connector's fixtures.
pub(super) fn cases(spec: &Arc<Spec>) -> Result<BTreeMap<PathBuf, String>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()?;
    let mut files = BTreeMap::new();
    for stream in streams() {
        let exchanges = runtime
            .block_on(record(spec, stream))
            .map_err(|error| format!("stream `{}`: {error}", stream.name))?;
        let folder = PathBuf::from(format!("{PREFIX}{}", stream.name));
        let case = json!({
            "origin": "documented",
            "source": format!("Shape of the object `{}` and of its list in Stripe's OpenAPI file, API version {API_VERSION}", stream.facts.object),
            "config": { "api_key": "sk_test_fixture" },
            "streams": [stream.name],
            "now": NOW,
        });
        files.insert(folder.join("case.json"), text(&case)?);
        for (index, exchange) in exchanges.iter().enumerate() {
            files.insert(
                folder.join(format!("{:03}.json", index + 1)),
                text(exchange)?,
            );
        }
    }
    Ok(files)
}

fn text(value: &Value) -> Result<String> {
    Ok(serde_json::to_string_pretty(value)? + "\n")
}

/// The files of such cases that are there although they are not among these.
pub(super) fn stale(folder: &Path, files: &BTreeMap<PathBuf, String>) -> Result<Vec<PathBuf>> {
    let mut stale = Vec::new();
    for case in fs::read_dir(folder)? {
        let case = case?.path();
        let is_ours = case
            .file_name()
            .and_then(|name| name.to_str())
            .is_some_and(|name| name.starts_with(PREFIX));
        if !is_ours {
            continue;
        }
        for file in fs::read_dir(&case)? {
            let file = file?.path();
            let is_exchange = file
                .extension()
                .is_some_and(|extension| extension == "json");
            if is_exchange && !files.contains_key(file.strip_prefix(folder)?) {
                stale.push(file);
            }
        }
    }
    Ok(stale)
}

/// What is said while a stream is read.
async fn record(spec: &Arc<Spec>, stream: &'static ListDef<Stripe>) -> Result<Vec<Value>> {
    let stand_in = Arc::new(StandIn {
        spec: Arc::clone(spec),
        stream,
        exchanges: Mutex::default(),
    });
    let clock = Arc::new(TokioClock::starting_at(NOW.parse()?));
    let context = BuildContext::default()
        .transport(stand_in.clone())
        .clock(clock);
    let stripe = Arc::new(StripeConnector::new(
        StripeConfig::new("sk_test_fixture"),
        context,
    )?);
    let run = stripe.open(&[stream.name]).await?;
    let records: Vec<_> = run
        .records(stream.name, TimeRange::all())
        .try_collect()
        .await?;
    if records.is_empty() {
        return Err("the stand-in has nothing for it".into());
    }
    Ok(std::mem::take(
        &mut *stand_in
            .exchanges
            .lock()
            .unwrap_or_else(PoisonError::into_inner),
    ))
}

/// Answers every list with two objects, a list of parents with one, and tells the account.
#[derive(Debug)]
struct StandIn {
    spec: Arc<Spec>,
    /// The stream that is read.
    stream: &'static ListDef<Stripe>,
    exchanges: Mutex<Vec<Value>>,
}

#[async_trait]
impl HttpService for StandIn {
    async fn call(&self, request: Request) -> Result<RawResponse, TransportError> {
        let path = request.url.path();
        let mut exchanges = self
            .exchanges
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let body = if path == "/v1/account" {
            Value::Object(object(&self.spec, "account", 1, |member| {
                ["id", "object"].contains(&member)
            }))
        } else {
            let listed = listed(&request)
                .ok_or_else(|| TransportError::Refused(format!("no stream lists {path}")))?;
            let first = 2 * exchanges.len() as u64 - 1;
            let last = if listed.name == self.stream.name {
                first + 1
            } else {
                first
            };
            list(
                path,
                (first..=last)
                    .map(|number| self.object(listed, number))
                    .collect(),
            )
        };
        let query: BTreeMap<_, _> = request.query.iter().cloned().collect();
        let headers = BTreeMap::from([
            ("content-type", "application/json"),
            ("stripe-version", API_VERSION),
        ]);
        exchanges.push(json!({
            "request": { "method": "GET", "path": path, "query": query },
            "response": { "status": 200, "headers": headers, "body": body },
        }));
        Ok(RawResponse::full(
            StatusCode::OK,
            HeaderMap::new(),
            body.to_string(),
        ))
    }
}

impl StandIn {
    /// An object of a stream; that of the parent holds the list of the stream that is read.
    fn object(&self, listed: &ListDef<Stripe>, number: u64) -> serde_json::Map<String, Value> {
        let mut members = object(&self.spec, listed.facts.object, number, |member| {
            is_sent(listed, member)
        });
        let id = members
            .get("id")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        if let (Some(parent), Some(member)) = (self.stream.parent, self.stream.embedded)
            && parent.list == listed.name
        {
            let entries = (1..=2).map(|number| {
                object(&self.spec, self.stream.facts.object, number, |member| {
                    is_sent(self.stream, member)
                })
            });
            let url = self.stream.path.split_once('{').map_or(
                self.stream.path.to_owned(),
                |(before, rest)| {
                    format!(
                        "{before}{id}{}",
                        rest.split_once('}').map_or("", |(_, after)| after)
                    )
                },
            );
            members.insert(member.to_owned(), list(&url, entries.collect()));
        }
        members
    }
}

/// The stream whose list a request asks for: the one of that path with the most parameters of its
/// own.
fn listed(request: &Request) -> Option<&'static ListDef<Stripe>> {
    let segments: Vec<&str> = request.url.path().split('/').collect();
    let is_path = |template: &str| {
        let template: Vec<&str> = template.split('/').collect();
        template.len() == segments.len()
            && template
                .iter()
                .zip(&segments)
                .all(|(one, other)| one == other || one.starts_with('{'))
    };
    let is_sent = |(name, value): &(&str, &str)| {
        request
            .query
            .iter()
            .any(|(known, sent)| known == name && (value.contains('{') || sent == value))
    };
    let fitting =
        streams().filter(|stream| is_path(stream.path) && stream.params.iter().all(is_sent));
    fitting.max_by_key(|stream| stream.params.len())
}

/// Names of the streams whose lists no case asks for.
pub(super) fn without_case(folder: &Path) -> Vec<&'static str> {
    let cases: BTreeSet<String> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|case| case.ok()?.file_name().into_string().ok())
        .collect();
    streams()
        .map(|stream| stream.name)
        .filter(|name| !cases.contains(&format!("{PREFIX}{name}")))
        .collect()
}
