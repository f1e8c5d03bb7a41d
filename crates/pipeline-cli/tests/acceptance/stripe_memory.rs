//! How much memory a sync of Stripe takes: the real binary, over a socket.

use std::fs;

use pipeline_simulator::{Simulation, Simulator, StripeWorld};
use pipeline_testkit::acceptance::setting;

use crate::mixpanel_day::Sync;

/// `PIPELINE_STRIPE_ROWS=1000000` is the large account.
#[tokio::test(flavor = "multi_thread")]
async fn c52_memory_does_not_grow_with_the_rows() {
    // Half of them are more than a commit holds: what grows until then is bounded by the size of
    // commits.
    let rows = setting("PIPELINE_STRIPE_ROWS", 100_000);
    let (few, many) = (peak(rows / 2).await, peak(rows).await);
    println!("{} rows: {few} KiB; {rows} rows: {many} KiB", rows / 2);
    assert!(few > 0 && many < few + few / 4, "{few} and {many} KiB");
}

/// The most memory that a sync of so many charges holds, in KiB.
async fn peak(charges: u64) -> u64 {
    let stripe = StripeWorld {
        charges,
        customers: 0,
        others: 0,
        ..StripeWorld::default()
    };
    let simulator = Simulator::start(Simulation {
        stripe,
        ..Simulation::default()
    })
    .await
    .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let config = format!(
        "[destination]\ntype = \"jsonl\"\npath = \"lines\"\n\n[sources.payments]\nconnector = \
         \"stripe\"\napi_key = \"sk_test_sim\"\naccount_rps = 10000\nlist_rps = 10000\nbase_url = \
         \"{}\"\nstreams = [\"charges\"]\n",
        simulator.url()
    );
    fs::write(folder.path().join("pipeline.toml"), config).unwrap();
    let (cost, succeeded) = Sync::start(folder.path()).end().await;
    assert!(succeeded);
    cost.memory
}
