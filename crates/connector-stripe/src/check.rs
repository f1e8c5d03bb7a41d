//! What the key may read: one object of every list.

use chrono::TimeDelta;
use futures::future::try_join_all;
use pipeline_core::http::{Call, HttpClient, Method, Request, Response};
use pipeline_core::{Availability, CheckReport, Clock, Error, ErrorKind, RawRecord, Result};

use crate::config::Key;
use crate::streams::{ACCOUNT, Place, Stream, streams};

/// Probes under way at the same time.
const PARALLEL: usize = 8;

/// In the place of an id, where a list belongs to a record: Stripe looks at the permission first, so what is said of a
/// record that does not exist tells whether its list may be read.
const NOBODY: &str = "none";

/// See [`Connector::check`](pipeline_core::Connector::check).
pub(crate) async fn check(client: &HttpClient, clock: &dyn Clock, key: Key, names: &[&str]) -> Result<CheckReport> {
    let (kind, mode) = key.describe();
    let mut facts = vec![("key".to_owned(), kind.to_owned()), ("mode".to_owned(), mode.to_owned())];
    let is_wanted = |stream: &&Stream| !matches!(stream.place, Place::Inside { .. }) && (names.is_empty() || names.contains(&stream.name));
    let mut wanted: Vec<&'static Stream> = streams().filter(is_wanted).collect();
    wanted.sort_by_key(|stream| stream.name);
    let mut endpoints = Vec::with_capacity(wanted.len());
    let mut version = None;
    for some in wanted.chunks(PARALLEL) {
        for (stream, (availability, answered)) in some.iter().zip(try_join_all(some.iter().map(|stream| probe(client, stream))).await?) {
            version = version.or(answered);
            endpoints.extend(inside(stream).map(|inner| (inner.to_owned(), availability.clone())));
            endpoints.push((stream.name.to_owned(), availability));
        }
    }
    endpoints.sort_by(|(one, _), (other, _)| one.cmp(other));
    facts.extend(version.map(|version| ("api_version".to_owned(), version)));
    // Restricted keys often may not read the account itself. That says nothing about the streams.
    facts.extend(account(client).await.ok().flatten().map(|account| ("account".to_owned(), account)));
    facts.push(("clock".to_owned(), describe_skew(client.now() - clock.now())));
    Ok(CheckReport { facts, endpoints })
}

/// The streams inside the records of a stream, which are read with it.
fn inside(stream: &Stream) -> impl Iterator<Item = &'static str> {
    streams().filter_map(|inner| matches!(inner.place, Place::Inside { parent, .. } if parent == stream.name).then_some(inner.name))
}

/// How far Stripe's clock, which syncs go by, is from this machine's.
fn describe_skew(ahead: TimeDelta) -> String {
    match ahead.num_seconds() {
        -1..=1 => "right".to_owned(),
        seconds @ 2.. => format!("{seconds} s behind Stripe's"),
        seconds => format!("{} s ahead of Stripe's", -seconds),
    }
}

/// Asks a list for one object: whether it may be read, and the version that Stripe answers in.
async fn probe(client: &HttpClient, stream: &Stream) -> Result<(Availability, Option<String>)> {
    let path = match (stream.path.split_once('{'), stream.path.split_once('}')) {
        (Some((before, _)), Some((_, after))) => format!("{before}{NOBODY}{after}"),
        _ => stream.path.to_owned(),
    };
    let mut request = request(client, &path)?;
    request.query.extend(stream.parameters().map(|(name, value)| (name, value.replace("{id}", NOBODY))));
    if stream.paged {
        request.set_query("limit", "1");
    }
    match client.send(&request, &Call { endpoint: stream.name, buckets: &stream.buckets() }).await {
        Ok(response) => Ok((Availability::Available, version(&response))),
        Err(error) => match error.kind() {
            ErrorKind::PermissionDenied | ErrorKind::NotFound => Ok((Availability::Unavailable(describe(&error)), None)),
            ErrorKind::Unexpected | ErrorKind::Decode => Ok((Availability::Failed(describe(&error)), None)),
            _ => Err(error),
        },
    }
}

/// Learns Stripe's time before a run cuts windows by it: any answer tells it, a refusal as well.
pub(crate) async fn learn_time(client: &HttpClient) -> Result<()> {
    match account(client).await {
        Err(error) if matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::NotFound | ErrorKind::Unexpected) => Ok(()),
        answer => answer.map(|_| ()),
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
