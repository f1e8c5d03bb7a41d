//! Lists inside objects, and lists that grew fast: the limits are used up here as well.
//! `PIPELINE_STRIPE_OBJECTS=20000` is the larger account.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use chrono::DateTime;
use connector_stripe::{StripeConfig, StripeConnector};
use destination_sqlite::{SqliteConfig, SqliteDestination};
use futures::{StreamExt, stream};
use pipeline_core::{BuildContext, TokioClock};
use pipeline_engine::{Job, Selection, Source, Summary, sync};
use pipeline_simulator::{Limits, Simulation, Simulator, StripeWorld};
use pipeline_testkit::acceptance::{UNTIL, setting};
use pipeline_testkit::{InProcess, Pieces};
use tokio::time::Instant;

/// Requests a second that each path allows.
const RATE: f64 = 25.0;

const LATENCY: Duration = Duration::from_millis(150);

/// Invoices, of which one in twenty has 25 lines; the others have three.
struct Invoices {
    count: u64,
    /// Seconds from one to the next.
    apart: i64,
    paths: Mutex<BTreeMap<&'static str, Path>>,
    started: Instant,
}

/// What is left of the limit of a path, and what it let through.
struct Path {
    tokens: f64,
    filled: Instant,
    accepted: Vec<Duration>,
    refused: usize,
}

impl Invoices {
    fn new(count: u64, apart: i64) -> Arc<Self> {
        Arc::new(Self {
            count,
            apart,
            paths: Mutex::default(),
            started: Instant::now(),
        })
    }

    fn created(&self, number: u64) -> i64 {
        UNTIL - 3600 - i64::try_from(self.count - number).unwrap() * self.apart
    }

    async fn answer(self: Arc<Self>, request: http::Request<Bytes>) -> http::Response<Pieces> {
        let path = request.uri().path().to_owned();
        let query: BTreeMap<String, String> =
            url_pairs(request.uri().query().unwrap_or_default()).collect();
        let operation = match path.split('/').skip(2).collect::<Vec<_>>()[..] {
            ["invoices"] => "invoices",
            ["invoices", _, "lines"] => "lines",
            _ => "others",
        };
        let is_free = self.take(operation);
        tokio::time::sleep(LATENCY).await;
        let (status, body) = match operation {
            _ if !is_free => (429, r#"{"error":{"type":"invalid_request_error","code":"rate_limit","message":"slow down"}}"#.to_owned()),
            "invoices" => (200, self.list(&query)),
            "lines" => (200, lines(path.split('/').nth(3).unwrap(), &query)),
            _ if path == "/v1/account" => (200, r#"{"id":"acct_1","object":"account"}"#.to_owned()),
            _ => (200, r#"{"object":"list","has_more":false,"data":[]}"#.to_owned()),
        };
        let body: Pieces = stream::once(async move { Ok(body.into()) }).boxed();
        http::Response::builder()
            .status(status)
            .header("content-type", "application/json")
            .body(body)
            .unwrap()
    }

    /// Counts a request against the limit of its path: a bucket that holds a second's worth.
    fn take(&self, operation: &'static str) -> bool {
        let now = Instant::now();
        let mut paths = self.paths.lock().unwrap();
        let path = paths.entry(operation).or_insert(Path {
            tokens: RATE,
            filled: now,
            accepted: Vec::new(),
            refused: 0,
        });
        path.tokens =
            (path.tokens + now.duration_since(path.filled).as_secs_f64() * RATE).min(RATE);
        path.filled = now;
        let is_free = path.tokens >= 1.0;
        if is_free {
            path.tokens -= 1.0;
            path.accepted.push(now - self.started);
        } else {
            path.refused += 1;
        }
        is_free
    }

    fn list(&self, query: &BTreeMap<String, String>) -> String {
        let bound = |name: &str| query.get(name).map(|second| second.parse::<i64>().unwrap());
        let (since, until) = (
            bound("created[gte]").unwrap_or(i64::MIN),
            bound("created[lt]").unwrap_or(i64::MAX),
        );
        let before = query
            .get("starting_after")
            .map_or(u64::MAX, |id| id[3..].parse().unwrap());
        let within =
            |number: &u64| *number < before && (since..until).contains(&self.created(*number));
        let mut numbers = (0..self.count).rev().filter(within);
        let page: Vec<String> = numbers
            .by_ref()
            .take(100)
            .map(|number| self.invoice(number))
            .collect();
        format!(
            r#"{{"object":"list","has_more":{},"data":[{}]}}"#,
            numbers.next().is_some(),
            page.join(",")
        )
    }

    fn invoice(&self, number: u64) -> String {
        let (id, count) = (
            format!("in_{number:06}"),
            if number % 20 == 7 { 25 } else { 3 },
        );
        let first: Vec<String> = (0..count.min(10))
            .map(|line| self::line(&id, line))
            .collect();
        let lines = format!(
            r#"{{"object":"list","has_more":{},"total_count":{count},"data":[{}]}}"#,
            count > 10,
            first.join(",")
        );
        format!(
            r#"{{"id":"{id}","object":"invoice","created":{},"lines":{lines}}}"#,
            self.created(number)
        )
    }

    /// How much of its limit a path used, from the third second to its last request, and what it
    /// refused.
    fn used(&self, operation: &str) -> (f64, usize) {
        let paths = self.paths.lock().unwrap();
        let path = &paths[operation];
        (used(&path.accepted, RATE), path.refused)
    }
}

fn line(invoice: &str, line: u32) -> String {
    format!(
        r#"{{"id":"il_{invoice}_{line:02}","object":"line_item","amount":{line},"invoice":"{invoice}"}}"#
    )
}

fn lines(invoice: &str, query: &BTreeMap<String, String>) -> String {
    let after = query.get("starting_after").map_or(0, |id| {
        id.rsplit('_').next().unwrap().parse::<u32>().unwrap() + 1
    });
    let rest: Vec<String> = (after..25).map(|number| line(invoice, number)).collect();
    format!(
        r#"{{"object":"list","has_more":false,"total_count":25,"data":[{}]}}"#,
        rest.join(",")
    )
}

fn url_pairs(query: &str) -> impl Iterator<Item = (String, String)> + '_ {
    let decoded = |text: &str| text.replace("%5B", "[").replace("%5D", "]");
    query.split('&').filter_map(move |pair| {
        pair.split_once('=')
            .map(|(name, value)| (decoded(name), value.to_owned()))
    })
}

/// The part of a rate that was used, from the third second to the end.
#[expect(clippy::cast_precision_loss, reason = "a ratio")]
fn used(accepted: &[Duration], rate: f64) -> f64 {
    let mut accepted = accepted.to_vec();
    accepted.sort();
    let (from, until) = (
        accepted[0] + Duration::from_secs(2),
        accepted[accepted.len() - 1],
    );
    let within = accepted.iter().filter(|time| **time >= from).count();
    within as f64 / ((until - from).as_secs_f64() * rate)
}

async fn read(transport: InProcess, streams: &[&str]) -> (Summary, Duration, tempfile::TempDir) {
    let clock = Arc::new(TokioClock::starting_at(
        DateTime::from_timestamp(UNTIL + 120, 0).unwrap(),
    ));
    let context = BuildContext::default()
        .transport(Arc::new(transport))
        .clock(clock.clone())
        .seed(7);
    let mut config = StripeConfig::new("sk_live_sim");
    config.rate_share = 1.0;
    let connector = Arc::new(StripeConnector::new(config, context).unwrap());
    let folder = tempfile::tempdir().unwrap();
    let config: SqliteConfig =
        serde_json::from_value(serde_json::json!({ "path": folder.path().join("stripe.db") }))
            .unwrap();
    let streams = Selection::Named(streams.iter().map(|name| (*name).to_owned()).collect());
    let source = Source {
        name: "stripe".to_owned(),
        connector,
        streams,
    };
    let job = Job::new(
        "run",
        Arc::new(SqliteDestination::open(config).unwrap()),
        vec![source],
    )
    .clock(clock);
    let started = Instant::now();
    let summary = sync(job).await.unwrap();
    assert_eq!(summary.failure(), None, "{summary:#?}");
    (summary, started.elapsed(), folder)
}

#[tokio::test(start_paused = true)]
async fn b5_lists_inside_objects_are_completed_at_the_limit() {
    for apart in [1, 60, 3600] {
        let invoices = Invoices::new(8_000, apart);
        let answering = Arc::clone(&invoices);
        let transport = InProcess::new(move |request| Arc::clone(&answering).answer(request));
        let (summary, took, folder) = read(transport, &["invoices", "invoice_line_items"]).await;
        let (used, refused) = invoices.used("lines");
        println!(
            "one in {apart} s: {:.1} % of the limit of lines, {refused} refused, {took:.1?}",
            100.0 * used
        );
        let database = rusqlite::Connection::open(folder.path().join("stripe.db")).unwrap();
        let count = |table: &str| {
            database
                .query_row(&format!("SELECT count(*) FROM stripe_{table}"), [], |row| {
                    row.get(0)
                })
                .unwrap()
        };
        let (rows, lines): (i64, i64) = (count("invoices"), count("invoice_line_items"));
        assert_eq!((rows, lines), (8_000, 400 * 25 + 7_600 * 3), "{summary:#?}");
        assert!(used >= 0.92, "{used}");
    }
}

#[tokio::test(start_paused = true)]
async fn b5_five_lists_that_grew_fast_use_the_whole_limit_of_the_account() {
    const STREAMS: [&str; 5] = [
        "charges",
        "customers",
        "disputes",
        "payment_intents",
        "refunds",
    ];
    let objects = setting("PIPELINE_STRIPE_OBJECTS", 12_000);
    let stripe = StripeWorld {
        live: true,
        charges: objects,
        customers: objects,
        counts: STREAMS.map(|name| (name.to_owned(), objects)).into(),
        recent_share: 0.9,
        ..StripeWorld::default()
    };
    let limits = Limits {
        stripe_operation: Some(25),
        stripe_global: Some(100),
        ..Limits::default()
    };
    let simulation = Simulation {
        stripe,
        limits,
        latency: LATENCY,
        shown_until: Some(UNTIL),
        until: UNTIL,
        ..Simulation::default()
    };
    let simulator = Arc::new(Simulator::without_port(simulation).unwrap());
    let answering = Arc::clone(&simulator);
    let (summary, took, _folder) = read(
        InProcess::new(move |request| answering.answer(request)),
        &STREAMS,
    )
    .await;
    let stats = simulator.stats();
    let accepted: Vec<Duration> = stats
        .operations
        .values()
        .flat_map(|operation| operation.accepted.iter().copied())
        .collect();
    let refused: usize = stats
        .operations
        .values()
        .map(|operation| operation.rejected.len())
        .sum();
    let used = used(&accepted, 100.0);
    println!(
        "{:.1} % of the limit of the account, {} requests, {refused} refused, {took:.1?}",
        100.0 * used,
        accepted.len()
    );
    assert!(used >= 0.92, "{used}: {summary:#?}");
}
