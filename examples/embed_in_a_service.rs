//! A service that syncs two sources every hour, side by side, and stops cleanly on Ctrl-C.
//!
//! Set `STRIPE_API_KEY`, `ZENDESK_SUBDOMAIN`, `ZENDESK_CLIENT_ID`, and `ZENDESK_CLIENT_SECRET`,
//! then `cargo run -p pipeline-examples --example embed_in_a_service`
#![expect(clippy::print_stderr, reason = "a service has a log")]

use std::env;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use connector_stripe::StripeConfig;
use connector_zendesk::ZendeskConfig;
use destination_sqlite::{Deletes, SqliteConfig, SqliteDestination};
use pipeline_core::rate_limit::MemoryLimits;
use pipeline_core::{BuildContext, Clock, ConnectorConfig, Result, SystemClock};
use pipeline_engine::{CancellationToken, Job, Outcome, Selection, Source, Summary, sync};

/// What outlives a single sync.
#[derive(Debug)]
pub(crate) struct Service {
    /// Both sources have their tables in this file.
    pub(crate) database: PathBuf,
    /// What was learned about the vendors' limits, so that the next sync starts with it.
    pub(crate) limits: Arc<MemoryLimits>,
    /// Ends running syncs: each commits what is complete, and the next one continues there.
    pub(crate) stop: CancellationToken,
}

impl Service {
    /// Syncs one source. The connector is built anew each time, so that it learns what has changed
    /// in the account.
    pub(crate) async fn sync(
        &self,
        name: &str,
        config: impl ConnectorConfig,
        streams: Selection,
    ) -> Result<Summary> {
        let connector = config.build(BuildContext::new(name).limits(self.limits.clone()))?;
        let source = Source {
            name: name.to_owned(),
            connector,
            streams,
        };
        let destination = SqliteDestination::open(SqliteConfig {
            path: self.database.clone(),
            deletes: Deletes::Remove,
        })?;
        let run = format!("{name}-{}", SystemClock.now().timestamp_micros());
        sync(Job::new(run, Arc::new(destination), vec![source]).cancel(self.stop.clone())).await
    }
}

/// The endpoints that failed, with the reasons. An error of one source is not one of the other.
pub(crate) fn report(name: &str, result: &Result<Summary>) -> Vec<String> {
    match result {
        Err(error) => vec![format!("{name}: {error}")],
        Ok(summary) => {
            let failed = summary
                .endpoints
                .iter()
                .filter(|endpoint| matches!(endpoint.outcome, Outcome::Failed { .. }));
            failed
                .map(|endpoint| format!("{name}/{}: {:?}", endpoint.id.endpoint, endpoint.outcome))
                .collect()
        }
    }
}

#[tokio::main]
async fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let stripe = StripeConfig::new(env::var("STRIPE_API_KEY")?);
    let zendesk = ZendeskConfig::new(env::var("ZENDESK_SUBDOMAIN")?).client(
        env::var("ZENDESK_CLIENT_ID")?,
        env::var("ZENDESK_CLIENT_SECRET")?,
    );
    let service = Service {
        database: "warehouse.db".into(),
        limits: Arc::default(),
        stop: CancellationToken::new(),
    };
    let stop = service.stop.clone();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            stop.cancel();
        }
    });
    let mut every_hour = tokio::time::interval(Duration::from_hours(1));
    while service
        .stop
        .run_until_cancelled(every_hour.tick())
        .await
        .is_some()
    {
        let payments = service.sync("payments", stripe.clone(), Selection::All);
        let support = service.sync("support", zendesk.clone(), Selection::All);
        let (payments, support) = tokio::join!(payments, support);
        for line in report("payments", &payments)
            .into_iter()
            .chain(report("support", &support))
        {
            eprintln!("{line}");
        }
    }
    Ok(())
}
