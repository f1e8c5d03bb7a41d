//! Syncs two streams of a Stripe account into SQLite. Run it again: it reads what is new.
//!
//! `STRIPE_API_KEY=rk_test_… cargo run -p pipeline-examples --example sync_into_sqlite`
#![expect(clippy::print_stdout, reason = "printing is what the example does")]

use std::env;
use std::path::Path;
use std::sync::Arc;

use connector_stripe::{StripeConfig, StripeConnector};
use destination_sqlite::{Deletes, SqliteConfig, SqliteDestination};
use pipeline_core::{BuildContext, Clock, Result, SystemClock};
use pipeline_engine::{Job, Selection, Source, Summary, sync};

#[tokio::main]
async fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let mut config = StripeConfig::new(env::var("STRIPE_API_KEY")?);
    if let Ok(url) = env::var("STRIPE_BASE_URL") {
        config.base_url = url;
    }
    let summary = sync_into(config, Path::new("warehouse.db")).await?;
    for endpoint in &summary.endpoints {
        let rows: u64 = endpoint.streams.iter().map(|stream| stream.rows).sum();
        println!(
            "{}: {rows} rows, {:?}",
            endpoint.id.endpoint, endpoint.outcome
        );
    }
    Ok(())
}

/// Reads what is new into the tables `payments_charges` and `payments_customers`. The checkpoints
/// are in the same file.
pub(crate) async fn sync_into(config: StripeConfig, path: &Path) -> Result<Summary> {
    let connector = Arc::new(StripeConnector::new(config, BuildContext::new("payments"))?);
    let streams = Selection::Named(vec!["charges".to_owned(), "customers".to_owned()]);
    let source = Source {
        name: "payments".to_owned(),
        connector,
        streams,
    };
    let destination = SqliteDestination::open(SqliteConfig {
        path: path.to_owned(),
        deletes: Deletes::Remove,
    })?;
    // The name of a run is its own: it stands in the commit log and in the list of runs.
    let run = SystemClock.now().format("%Y%m%dT%H%M%S%.6fZ").to_string();
    sync(Job::new(run, Arc::new(destination), vec![source])).await
}
