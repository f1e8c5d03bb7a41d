//! A sync from the configuration to its summary: what `pipeline sync` and `pipeline run` share, so
//! that a run which a schedule starts is the same as one that a person starts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use pipeline_core::{
    BuildContext, Clock, Connector, Error, ErrorKind, Observer, RunRecord, SystemClock,
};
use pipeline_engine::{CancellationToken, Delivery, Job, Options, Selection, Source, Summary};

use crate::config::{Config, SyncConfig, build_all, stream_names, suggest_or};
use crate::console::Console;
use crate::exit::{Exit, Failure, Result};
use crate::setup::Target;
use crate::{connectors, setup};

/// Longest time that a request waits for a rate limit when nothing else is said.
pub(crate) const MAX_WAIT: Duration = Duration::from_mins(10);

/// What is to be read, and how.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    /// Sources; all when none are named.
    pub(crate) sources: Vec<String>,
    /// Streams; those of the configuration when none are named.
    pub(crate) streams: Vec<String>,
    /// Streams whose newest records are wanted, without what else there is to read; none:
    /// everything.
    pub(crate) targets: BTreeSet<String>,
    pub(crate) full_refresh: bool,
    pub(crate) dry_run: bool,
    /// Time after which it commits what it has and stops.
    pub(crate) max_duration: Option<Duration>,
    /// Longest time that a request waits for a rate limit.
    pub(crate) max_wait: Duration,
}

/// A sync that can start: its sources are built and its destination is open.
#[derive(Debug)]
pub(crate) struct Ready {
    job: Job,
    max_duration: Option<Duration>,
    console: Arc<Console>,
}

/// Builds the sources and opens the destination. A failure is recorded at the destination, if that
/// exists: it is a run that failed before it started.
pub(crate) async fn prepare(
    order: &Order,
    config: &Config,
    target: &Target,
    observer: Arc<dyn Observer>,
    cancel: CancellationToken,
    console: &Arc<Console>,
) -> Result<Ready> {
    let context = patient(
        setup::context(config, Arc::clone(&observer)),
        order.max_wait,
    );
    let (run, started) = (run_id(), SystemClock.now());
    let sources = match sources(order, config, &context, console) {
        Ok(sources) => sources,
        Err(failure) => {
            if !order.dry_run {
                remember(&failure, run, started, order, config, target, console).await;
            }
            return Err(failure);
        }
    };
    let destination = target.open().await?;
    let budgets = config
        .sources
        .iter()
        .map(|source| (source.name.clone(), source.budget()))
        .collect();
    let contracts = config
        .sources
        .iter()
        .map(|source| (source.name.clone(), source.contracts()))
        .collect();
    let quality = config
        .sources
        .iter()
        .map(|source| (source.name.clone(), source.quality()))
        .collect();
    let job = Job::new(run, destination, sources)
        .options(options(order, &config.sync))
        .budgets(budgets)
        .targets(targets(order))
        .quality(quality)
        .contracts(contracts)
        .observer(observer)
        .cancel(cancel);
    Ok(Ready {
        job,
        max_duration: order.max_duration,
        console: Arc::clone(console),
    })
}

impl Ready {
    /// What the destination promises.
    pub(crate) fn delivery(&self) -> Delivery {
        self.job.destination.delivery()
    }

    /// The run's name.
    pub(crate) fn run(&self) -> &str {
        &self.job.run
    }

    /// The connectors of its sources.
    pub(crate) fn connectors(&self) -> Vec<Arc<dyn Connector>> {
        self.job
            .sources
            .iter()
            .map(|source| Arc::clone(&source.connector))
            .collect()
    }

    /// Runs it to its end, or to its deadline.
    pub(crate) async fn sync(self) -> Result<Summary, Error> {
        let (cancel, console) = (self.job.cancel.clone(), self.console);
        let sync = pipeline_engine::sync(self.job);
        let Some(limit) = self.max_duration else {
            return sync.await;
        };
        tokio::pin!(sync);
        tokio::select! {
            ended = &mut sync => return ended,
            () = tokio::time::sleep(limit) => {}
        }
        console.note(
            "the maximum duration is reached: committing everything read so far and stopping",
        );
        cancel.cancel();
        sync.await
    }
}

/// What is to be read.
fn sources(
    order: &Order,
    config: &Config,
    context: &BuildContext,
    console: &Arc<Console>,
) -> Result<Vec<Source>> {
    let mut sources = build_all(
        config,
        &config.select(&order.sources)?,
        &connectors::registry(),
        context,
        console,
    )?;
    narrow(&mut sources, &order.streams)?;
    Ok(sources)
}

/// Records a run that failed before it started, if the destination exists. A failure to record it
/// is ignored: the user sees the error of the run itself.
async fn remember(
    failure: &Failure,
    run: String,
    started: DateTime<Utc>,
    order: &Order,
    config: &Config,
    target: &Target,
    console: &Console,
) {
    if !matches!(target.exists().await, Ok(true)) {
        return;
    }
    let Ok(destination) = target.open().await else {
        return;
    };
    let kind = if failure.exit == Exit::Usage {
        ErrorKind::ConfigInvalid
    } else {
        ErrorKind::Unsupported
    };
    let error = failure
        .text
        .lines()
        .next()
        .map(|line| console.redact(line.trim_start_matches("error: ")));
    let took = (SystemClock.now() - started).to_std().ok();
    // Names that are wrong are the failure itself.
    let sources = config.select(&order.sources).unwrap_or_default();
    let sources = if sources.is_empty() {
        config.sources.iter().collect()
    } else {
        sources
    };
    let names = sources.iter().map(|source| source.name.clone()).collect();
    let record = RunRecord {
        took,
        error,
        ..RunRecord::started(run, started, names)
    }
    .failed(Some(kind));
    let _ = destination.record_run(&record).await;
}

/// What is to be read of each source, when not everything is.
fn targets(order: &Order) -> BTreeMap<String, BTreeSet<String>> {
    if order.targets.is_empty() {
        return BTreeMap::new();
    }
    let sources = order.sources.iter();
    sources
        .map(|source| (source.clone(), order.targets.clone()))
        .collect()
}

/// Narrows the sources to the streams named on the command line. Sources that have none of them are
/// not read.
fn narrow(sources: &mut Vec<Source>, wanted: &[String]) -> Result<()> {
    if wanted.is_empty() {
        return Ok(());
    }
    let known: BTreeSet<&str> = sources
        .iter()
        .flat_map(|source| stream_names(&*source.connector))
        .collect();
    if let Some(unknown) = wanted.iter().find(|name| !known.contains(name.as_str())) {
        return Err(Failure::usage(
            format!("unknown stream `{unknown}`"),
            &suggest_or(unknown, "streams", known, "pipeline discover"),
        ));
    }
    for source in sources.iter_mut() {
        let known = stream_names(&*source.connector);
        source.streams = Selection::Named(
            wanted
                .iter()
                .filter(|name| known.contains(&name.as_str()))
                .cloned()
                .collect(),
        );
    }
    sources.retain(|source| source.streams != Selection::Named(Vec::new()));
    Ok(())
}

fn options(order: &Order, sync: &SyncConfig) -> Options {
    let default = Options::default();
    default
        .full_refresh(order.full_refresh)
        .dry_run(order.dry_run)
        .memory_budget(sync.memory_budget.unwrap_or(default.memory_budget))
        .max_slices(sync.max_slices.unwrap_or(default.max_slices))
        .commit_interval(sync.commit_interval.unwrap_or(default.commit_interval))
        .commit_bytes(sync.commit_bytes.unwrap_or(default.commit_bytes))
}

/// Lets every request wait up to `max_wait` for a limit, in addition to the time for its retries.
fn patient(context: BuildContext, max_wait: Duration) -> BuildContext {
    let retry = context
        .retry
        .max_server_delay(max_wait)
        .max_elapsed(context.retry.max_elapsed + max_wait);
    context.retry(retry)
}

/// A name that sorts by time, and that two runs started in the same second do not share.
fn run_id() -> String {
    format!(
        "{}-{:04x}",
        SystemClock.now().format("%Y%m%dT%H%M%SZ"),
        fastrand::u16(..)
    )
}
