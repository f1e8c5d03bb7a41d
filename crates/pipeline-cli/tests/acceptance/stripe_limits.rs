//! The limits of Stripe's lists: none of them wasted, whatever the distribution in time.

use std::sync::Arc;
use std::time::Duration;

use chrono::DateTime;
use connector_stripe::{Stripe, StripeConfig};
use destination_sqlite::{SqliteConfig, SqliteDestination};
use pipeline_core::engine::{Job, Selection, Source, sync};
use pipeline_core::{BuildContext, TokioClock};
use pipeline_simulator::{Limits, Simulation, Simulator, StripeWorld};
use pipeline_testkit::InProcess;

use crate::account::{UNTIL, setting, timed};

const STREAMS: [&str; 8] = ["charges", "customers", "disputes", "invoice_payments", "payment_intents", "payouts", "refunds", "top_ups"];

/// One list, and then all of them, have nine tenths of their objects in the last twentieth of the time.
/// `PIPELINE_STRIPE_OBJECTS=100000` is the large account: so many objects in each of the eight lists.
#[tokio::test(start_paused = true)]
async fn eight_lists_use_the_whole_limit_of_the_account() {
    for skewed in [&STREAMS[..1], &STREAMS] {
        use_the_whole_limit(skewed).await;
    }
}

async fn use_the_whole_limit(skewed: &[&str]) {
    let objects = setting("PIPELINE_STRIPE_OBJECTS", 10_000);
    let counts = STREAMS.map(|name| (name.to_owned(), objects)).into();
    let recent_shares = skewed.iter().map(|name| ((*name).to_owned(), 0.9)).collect();
    let stripe = StripeWorld {
        live: true,
        charges: objects,
        customers: objects,
        counts,
        recent_share: 0.05,
        recent_shares,
        ..StripeWorld::default()
    };
    let limits = Limits { stripe_operation: Some(25), stripe_global: Some(100), ..Limits::default() };
    let simulation =
        Simulation { stripe, limits, latency: Duration::from_millis(150), shown_until: Some(UNTIL), until: UNTIL, ..Simulation::default() };
    let simulator = Arc::new(Simulator::without_port(simulation).unwrap());
    let answering = Arc::clone(&simulator);
    let transport = Arc::new(InProcess::new(move |request| answering.answer(request)));
    let clock = Arc::new(TokioClock::starting_at(DateTime::from_timestamp(UNTIL + 120, 0).unwrap()));
    let context = BuildContext { transport: Some(transport), clock: clock.clone(), seed: Some(7), ..BuildContext::default() };
    let mut config = StripeConfig::new("sk_live_sim");
    config.rate_share = 1.0;
    let connector = Arc::new(Stripe::new(config, context).unwrap());
    let folder = tempfile::tempdir().unwrap();
    let config: SqliteConfig = serde_json::from_value(serde_json::json!({ "path": folder.path().join("stripe.db") })).unwrap();
    let streams = Selection::Named(STREAMS.map(str::to_owned).to_vec());
    let source = Source { name: "stripe".to_owned(), connector, streams };
    let job = Job { clock, ..Job::new("run", Arc::new(SqliteDestination::open(config).unwrap()), vec![source]) };
    let (summary, took) = timed(async { sync(job).await.unwrap() }).await;
    assert_eq!(summary.failure(), None, "{summary:#?}");

    let stats = simulator.stats();
    let mut accepted: Vec<Duration> = stats.operations.values().flat_map(|operation| operation.accepted.iter().copied()).collect();
    accepted.sort();
    let refused: usize = stats.operations.values().map(|operation| operation.rejected.len()).sum();
    let (from, until) = (accepted[0] + Duration::from_secs(2), accepted[accepted.len() - 1]);
    let within = accepted.iter().filter(|time| **time >= from).count();
    let pages = STREAMS.len() as u64 * objects.div_ceil(100);
    #[expect(clippy::cast_precision_loss, reason = "ratios")]
    let (used, refused_of_thousand, shortest) =
        (within as f64 / ((until - from).as_secs_f64() * 100.0), refused as f64 * 1000.0 / accepted.len() as f64, pages as f64 / 100.0);
    println!("skewed: {}", skewed.join(", "));
    println!("{} objects in {} lists: {pages} pages, {} requests, {refused} refused", 8 * objects, STREAMS.len(), accepted.len());
    println!("limit of the account, from the third second to the end: {:.1} % used", 100.0 * used);
    println!("429s per 1,000 requests: {refused_of_thousand:.1}");
    println!("took {:.1} s, at least {shortest:.1} s: {:.3} times", took.as_secs_f64(), took.as_secs_f64() / shortest);
    for stream in &summary.endpoints {
        let rows: u64 = stream.streams.iter().map(|stream| stream.rows).sum();
        assert_eq!(rows, if stream.id.endpoint == "changes" { 0 } else { objects }, "{}", stream.id);
    }
    assert!(used >= 0.9, "{used}");
    assert!(refused_of_thousand <= 5.0, "{refused_of_thousand}");
    assert!(accepted.len() as u64 <= pages + pages / 20 + 60, "{} requests for {pages} pages", accepted.len());
}
