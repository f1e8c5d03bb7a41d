//! What the key may read: one object of every list.

use futures::future::try_join_all;
use pipeline_core::http::{Call, HttpClient, Method, Request, Response};
use pipeline_core::{Availability, CheckReport, Error, ErrorKind, RawRecord, Result};

use crate::config::Key;
use crate::streams::{ACCOUNT, Place, Stream, streams};

/// Probes under way at the same time.
const PARALLEL: usize = 8;

/// See [`Connector::check`](pipeline_core::Connector::check).
pub(crate) async fn check(client: &HttpClient, key: Key, names: &[&str]) -> Result<CheckReport> {
    let (kind, mode) = key.describe();
    let mut facts = vec![("key".to_owned(), kind.to_owned()), ("mode".to_owned(), mode.to_owned())];
    let is_wanted = |stream: &&Stream| matches!(stream.place, Place::Account) && (names.is_empty() || names.contains(&stream.name));
    let streams: Vec<&'static Stream> = streams().filter(is_wanted).collect();
    let mut probes = Vec::with_capacity(streams.len());
    for some in streams.chunks(PARALLEL) {
        let outcomes = try_join_all(some.iter().map(|stream| probe(client, stream))).await?;
        probes.extend(some.iter().map(|stream| stream.name).zip(outcomes));
    }
    let version = probes.iter().find_map(|(_, (_, version))| version.clone());
    facts.extend(version.map(|version| ("api_version".to_owned(), version)));
    // Restricted keys often may not read the account itself. That says nothing about the streams.
    facts.extend(account(client).await.ok().flatten().map(|account| ("account".to_owned(), account)));
    let endpoints = probes.into_iter().map(|(name, (availability, _))| (name.to_owned(), availability)).collect();
    Ok(CheckReport { facts, endpoints })
}

/// Asks a list for one object: whether it may be read, and the version that Stripe answers in.
async fn probe(client: &HttpClient, stream: &Stream) -> Result<(Availability, Option<String>)> {
    let mut request = request(client, stream.path)?;
    request.query.extend(stream.parameters().chain([("limit".to_owned(), "1".to_owned())]));
    match client.send(&request, &Call { endpoint: stream.name, buckets: &stream.buckets() }).await {
        Ok(response) => Ok((Availability::Available, version(&response))),
        Err(error) => match error.kind() {
            ErrorKind::PermissionDenied | ErrorKind::NotFound => Ok((Availability::Unavailable(describe(&error)), None)),
            ErrorKind::Unexpected | ErrorKind::Decode => Ok((Availability::Failed(describe(&error)), None)),
            _ => Err(error),
        },
    }
}

/// The id of the key's account, or of the one that the configuration names.
async fn account(client: &HttpClient) -> Result<Option<String>> {
    let request = request(client, "/v1/account")?;
    let response = client.send(&request, &Call { endpoint: "account", buckets: &[ACCOUNT.into()] }).await?;
    Ok(RawRecord::upsert(response.body).scalar("id"))
}

fn request(client: &HttpClient, path: &str) -> Result<Request> {
    let invalid = |error| Error::new(ErrorKind::Unexpected, "the list's path is not a URL path").with_source(error);
    Ok(Request::new(Method::GET, client.base().join(path).map_err(invalid)?))
}

fn version(response: &Response) -> Option<String> {
    Some(response.headers.get("stripe-version")?.to_str().ok()?.to_owned())
}

/// What the user can do about it says more than the answer; without that, everything that is known.
fn describe(error: &Error) -> String {
    error.help().map_or_else(|| error.to_string(), |help| format!("{}: {help}", error.message()))
}
