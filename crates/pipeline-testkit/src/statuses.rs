//! Every status that a server can answer with, and what the client of a connector makes of it.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use pipeline_core::http::{
    Call, HeaderMap, HttpClientBuilder, HttpService, Method, RawResponse, Request, StatusCode,
    TransportError,
};
use pipeline_core::{BuildContext, Error, ErrorKind, TokioClock};
use url::Url;

/// Statuses that are not a success, to the last that HTTP can carry.
const STATUSES: std::ops::RangeInclusive<u16> = 300..=999;

/// Answers every request alike, and counts them.
#[derive(Debug)]
struct Always {
    status: StatusCode,
    body: &'static str,
    requests: AtomicUsize,
}

#[async_trait]
impl HttpService for Always {
    async fn call(&self, _request: Request) -> Result<RawResponse, TransportError> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        Ok(RawResponse::full(self.status, HeaderMap::new(), self.body))
    }
}

/// Sends a request for `path` (with its query) that is answered with each status from 300 to 999
/// and each of the bodies, and lists what comes of it: the statuses, the kind of error, and how
/// many requests were sent. Time has to be paused.
///
/// # Panics
/// When an answer is taken for a defect of the program, for a success, or for something to ask
/// about without end.
pub async fn every_status(
    build: impl Fn(&BuildContext, Url) -> HttpClientBuilder,
    path: &str,
    bodies: &[(&str, &'static str)],
) -> String {
    let mut tables: Vec<(String, String)> = Vec::new();
    for (name, body) in bodies {
        let mut table = String::new();
        let mut groups: Vec<(u16, u16, String)> = Vec::new();
        for status in STATUSES {
            let outcome = outcome(&build, path, status, body).await;
            match groups.last_mut() {
                Some((_, last, same)) if *same == outcome => *last = status,
                _ => groups.push((status, status, outcome)),
            }
        }
        for (first, last, outcome) in groups {
            let statuses = if first == last {
                first.to_string()
            } else {
                format!("{first}-{last}")
            };
            writeln!(table, "    {statuses}: {outcome}").unwrap_or_default();
        }
        match tables.iter_mut().find(|(_, same)| *same == table) {
            Some((names, _)) => *names = format!("{names}, {name}"),
            None => tables.push(((*name).to_owned(), table)),
        }
    }
    tables
        .into_iter()
        .map(|(names, table)| names + "\n" + &table)
        .collect()
}

#[expect(clippy::unwrap_used, reason = "a check that fails a test")]
async fn outcome(
    build: impl Fn(&BuildContext, Url) -> HttpClientBuilder,
    path: &str,
    status: u16,
    body: &'static str,
) -> String {
    let transport = Arc::new(Always {
        status: StatusCode::from_u16(status).unwrap(),
        body,
        requests: AtomicUsize::new(0),
    });
    let clock = Arc::new(TokioClock::starting_at(
        chrono::DateTime::UNIX_EPOCH + chrono::TimeDelta::days(20_000),
    ));
    let context = BuildContext::default()
        .transport(Arc::clone(&transport) as _)
        .clock(clock)
        .seed(7);
    let base: Url = "https://api.test".parse().unwrap();
    let client = build(&context, base.clone()).build().unwrap();
    let full = base.join(path).unwrap();
    let mut request = Request::new(Method::GET, full.clone());
    request.query = full.query_pairs().into_owned().collect();
    request.url.set_query(None);
    let error: Error = match client
        .send(
            &request,
            &Call {
                endpoint: "list",
                buckets: &[],
            },
        )
        .await
    {
        Ok(_) => return "taken as an empty page".to_owned(),
        Err(error) => error,
    };
    let requests = transport.requests.load(Ordering::Relaxed);
    assert!(
        error.kind() != ErrorKind::Unexpected,
        "{status} is no defect of the program: {error:?}"
    );
    assert!(
        error.context_value("status") == Some(&status.to_string()),
        "{status} is named: {error:?}"
    );
    // A refusal by a limit is waited out, for as long as a request may take.
    let is_limited = error.kind() == ErrorKind::RateLimited;
    assert!(
        requests <= 8 || is_limited,
        "{status} was asked about {requests} times: {error:?}"
    );
    let times = if is_limited {
        "again and again".to_owned()
    } else {
        format!("{requests} x")
    };
    format!("{}, {times}", error.kind())
}
