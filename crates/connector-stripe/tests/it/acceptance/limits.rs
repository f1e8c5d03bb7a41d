//! The limits of Stripe's lists: none of them wasted, whatever the distribution in time.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use chrono::DateTime;
use connector_stripe::{StripeConfig, StripeConnector};
use destination_sqlite::{SqliteConfig, SqliteDestination};
use pipeline_core::{BuildContext, Event, Observer, TokioClock};
use pipeline_engine::{Job, Options, Selection, Source, sync};
use pipeline_simulator::{Limits, Simulation, Simulator, StripeWorld};
use pipeline_testkit::InProcess;
use pipeline_testkit::acceptance::{UNTIL, setting, timed};
use rusqlite::Connection;

const STREAMS: [&str; 8] = [
    "charges",
    "customers",
    "disputes",
    "invoice_payments",
    "payment_intents",
    "payouts",
    "refunds",
    "top_ups",
];

/// One list, and then all of them, have nine tenths of their objects in the last twentieth of the
/// time. `PIPELINE_STRIPE_OBJECTS=100000` is the large account: so many objects in each of the
/// eight lists.
#[tokio::test(start_paused = true)]
async fn eight_lists_use_the_whole_limit_of_the_account() {
    for skewed in [&STREAMS[..1], &STREAMS] {
        use_the_whole_limit(skewed).await;
    }
}

/// A sync of these streams into a database in the folder, as fast as the simulator answers.
fn job(simulator: &Arc<Simulator>, folder: &Path, streams: &[&str]) -> Job {
    let answering = Arc::clone(simulator);
    let transport = Arc::new(InProcess::new(move |request| answering.answer(request)));
    let clock = Arc::new(TokioClock::starting_at(
        DateTime::from_timestamp(UNTIL + 120, 0).unwrap(),
    ));
    let context = BuildContext::default()
        .transport(transport)
        .clock(clock.clone())
        .seed(7);
    let mut config = StripeConfig::new("sk_live_sim");
    config.rate_share = 1.0;
    let connector = Arc::new(StripeConnector::new(config, context).unwrap());
    let config: SqliteConfig =
        serde_json::from_value(serde_json::json!({ "path": folder.join("stripe.db") })).unwrap();
    let streams = Selection::Named(streams.iter().map(|name| (*name).to_owned()).collect());
    let source = Source {
        name: "stripe".to_owned(),
        connector,
        streams,
    };
    Job::new(
        "run",
        Arc::new(SqliteDestination::open(config).unwrap()),
        vec![source],
    )
    .clock(clock)
}

async fn use_the_whole_limit(skewed: &[&str]) {
    let objects = setting("PIPELINE_STRIPE_OBJECTS", 10_000);
    let counts = STREAMS.map(|name| (name.to_owned(), objects)).into();
    let recent_shares = skewed
        .iter()
        .map(|name| ((*name).to_owned(), 0.9))
        .collect();
    let stripe = StripeWorld {
        live: true,
        charges: objects,
        customers: objects,
        counts,
        recent_share: 0.05,
        recent_shares,
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
        latency: Duration::from_millis(150),
        shown_until: Some(UNTIL),
        until: UNTIL,
        ..Simulation::default()
    };
    let simulator = Arc::new(Simulator::without_port(simulation).unwrap());
    let folder = tempfile::tempdir().unwrap();
    let job = job(&simulator, folder.path(), &STREAMS);
    let (summary, took) = timed(async { sync(job).await.unwrap() }).await;
    assert_eq!(summary.failure(), None, "{summary:#?}");

    let stats = simulator.stats();
    let mut accepted: Vec<Duration> = stats
        .operations
        .values()
        .flat_map(|operation| operation.accepted.iter().copied())
        .collect();
    accepted.sort();
    let refused: usize = stats
        .operations
        .values()
        .map(|operation| operation.rejected.len())
        .sum();
    let (from, until) = (
        accepted[0] + Duration::from_secs(2),
        accepted[accepted.len() - 1],
    );
    let within = accepted.iter().filter(|time| **time >= from).count();
    let pages = STREAMS.len() as u64 * objects.div_ceil(100);
    #[expect(clippy::cast_precision_loss, reason = "ratios")]
    let (used, refused_of_thousand, shortest) = (
        within as f64 / ((until - from).as_secs_f64() * 100.0),
        refused as f64 * 1000.0 / accepted.len() as f64,
        pages as f64 / 100.0,
    );
    println!("skewed: {}", skewed.join(", "));
    println!(
        "{} objects in {} lists: {pages} pages, {} requests, {refused} refused",
        8 * objects,
        STREAMS.len(),
        accepted.len()
    );
    println!(
        "limit of the account, from the third second to the end: {:.1} % used",
        100.0 * used
    );
    println!("429s per 1,000 requests: {refused_of_thousand:.1}");
    println!(
        "took {:.1} s, at least {shortest:.1} s: {:.3} times",
        took.as_secs_f64(),
        took.as_secs_f64() / shortest
    );
    for stream in &summary.endpoints {
        let rows: u64 = stream.streams.iter().map(|stream| stream.rows).sum();
        let is_list = !["changes", "settling"].contains(&&*stream.id.endpoint);
        assert_eq!(rows, if is_list { objects } else { 0 }, "{}", stream.id);
    }
    assert!(used >= 0.9, "{used}");
    assert!(refused_of_thousand <= 5.0, "{refused_of_thousand}");
    assert!(
        accepted.len() as u64 <= pages + pages / 20 + 60,
        "{} requests for {pages} pages",
        accepted.len()
    );
}

/// Counts the slices that were split.
#[derive(Debug, Default)]
struct Splits(AtomicUsize);

impl Observer for Splits {
    fn observe(&self, event: &Event<'_>) {
        self.0.fetch_add(
            usize::from(matches!(event, Event::SliceSplit { .. })),
            Ordering::Relaxed,
        );
    }
}

/// The case lets the page that shows how much there is be thrown away; here it is kept, and so is
/// every other.
#[tokio::test(start_paused = true)]
async fn c10_a_large_window_is_split_while_it_is_read_and_no_page_is_wasted() {
    const CHARGES: u64 = 5_000;
    let mut read = Vec::new();
    for workers in [1, 12] {
        let stripe = StripeWorld {
            live: true,
            charges: CHARGES,
            recent_share: 0.9,
            ..StripeWorld::default()
        };
        let latency = Duration::from_millis(150);
        let simulation = Simulation {
            stripe,
            latency,
            shown_until: Some(UNTIL),
            until: UNTIL,
            ..Simulation::default()
        };
        let simulator = Arc::new(Simulator::without_port(simulation).unwrap());
        let (folder, splits) = (tempfile::tempdir().unwrap(), Arc::new(Splits::default()));
        let options = Options::default().max_slices_per_endpoint(workers);
        let job = job(&simulator, folder.path(), &["charges"])
            .options(options)
            .observer(splits.clone());
        let (summary, took) = timed(async { sync(job).await.unwrap() }).await;
        assert_eq!(summary.failure(), None, "{summary:#?}");
        let records: u64 = summary
            .endpoints
            .iter()
            .flat_map(|endpoint| &endpoint.streams)
            .map(|stream| stream.records)
            .sum();
        assert_eq!(records, CHARGES, "each was sent once");
        let database = Connection::open(folder.path().join("stripe.db")).unwrap();
        let mut select = database
            .prepare("SELECT id || ' ' || amount || ' ' || created FROM stripe_charges ORDER BY id")
            .unwrap();
        let rows: Vec<String> = select
            .query_map([], |row| row.get(0))
            .unwrap()
            .map(Result::unwrap)
            .collect();
        let pages = simulator.stats().operations["GET /v1/charges"]
            .accepted
            .len();
        read.push((rows, pages, splits.0.load(Ordering::Relaxed), took));
    }
    let [
        (alone, pages, unsplit, slow),
        (together, more, splits, fast),
    ] = &read[..]
    else {
        unreachable!()
    };
    println!(
        "one after the other {pages} pages in {slow:?}; split {splits} times {more} in {fast:?}"
    );
    assert!(
        alone.len() as u64 == CHARGES && alone == together,
        "the rows are the same"
    );
    assert!(*unsplit == 0 && *splits > 5, "{unsplit} and {splits} times");
    assert!(
        more <= &(pages + splits),
        "each part ends with a page that is not full: {more} pages, {pages} and {splits} splits"
    );
    assert!(
        *fast * 2 < *slow,
        "{fast:?} and {slow:?}, with 25 requests a second at most"
    );
}
