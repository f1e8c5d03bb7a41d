//! `pipeline sync`: reads new and changed records into the destination.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use chrono::{DateTime, Utc};
use pipeline_core::{
    BuildContext, Clock, Error, ErrorKind, Observer, Observers, RunRecord, SystemClock,
};
use pipeline_engine::{CancellationToken, Delivery, Job, Metrics, Options, Selection, Source};

use crate::args::Format;
use crate::config::{Config, SyncConfig, build_all, reason, stream_names, suggest_or};
use crate::console::Console;
use crate::exit::{Exit, Failure, Result, render};
use crate::output::events::{EventLog, Preface, RequestLog};
use crate::output::lines::Lines;
use crate::output::progress::{Drawing, Progress};
use crate::output::report::Report;
use crate::setup::Target;
use crate::{args, connectors, interrupt, setup};

pub(super) async fn run(args: &args::Sync, console: &Arc<Console>) -> Result<Exit> {
    let config = Config::load(&args.file.config)?;
    let target = Target::of(&config, console)?;
    if !target.is_persistent() {
        console.leave_stdout_to_rows();
    }
    let cancel = CancellationToken::new();
    let watchers = Watchers::new(args, &cancel, console)?;
    let observer = watchers.observer();
    let context = patient(
        setup::context(&config, Arc::clone(&observer)),
        args.max_wait,
    );
    let (run, started) = (run_id(), SystemClock.now());
    let sources = match sources(args, &config, &context, console) {
        Ok(sources) => sources,
        Err(failure) => {
            if !args.dry_run {
                remember(&failure, run, started, &config, &target, console).await;
            }
            return Err(failure);
        }
    };
    let destination = target.open().await?;
    let delivery = destination.delivery();
    interrupt::listen(cancel.clone(), Arc::clone(console));
    if !target.is_persistent() {
        interrupt::end_with_reader(cancel.clone(), Arc::clone(console));
    }
    if let Some(limit) = args.max_duration {
        deadline(limit, cancel.clone(), Arc::clone(console));
    }
    let budgets = config
        .sources
        .iter()
        .map(|source| (source.name.clone(), source.budget()))
        .collect();
    let job = Job::new(run, destination, sources)
        .options(options(args, &config.sync))
        .budgets(budgets)
        .observer(observer)
        .cancel(cancel);
    let drawing = Drawing::start(Arc::clone(&watchers.progress), Arc::clone(console));
    let ended = pipeline_engine::sync(job).await;
    drawing.finish();
    watchers.report(ended, delivery, args, console)
}

/// What is to be read.
fn sources(
    args: &args::Sync,
    config: &Config,
    context: &BuildContext,
    console: &Arc<Console>,
) -> Result<Vec<Source>> {
    let mut sources = build_all(
        config,
        &config.select(&args.sources)?,
        &connectors::registry(),
        context,
        console,
    )?;
    narrow(&mut sources, &args.streams)?;
    Ok(sources)
}

/// Records a run that failed before it started, if the destination exists. A failure to record it
/// is ignored: the user sees the error of the run itself.
async fn remember(
    failure: &Failure,
    run: String,
    started: DateTime<Utc>,
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
    let sources = config
        .sources
        .iter()
        .map(|source| source.name.clone())
        .collect();
    let record = RunRecord {
        took,
        error,
        ..RunRecord::started(run, started, sources)
    }
    .failed(Some(kind));
    let _ = destination.record_run(&record).await;
}

/// The observers of a run.
struct Watchers {
    progress: Arc<Progress>,
    metrics: Arc<Metrics>,
    events: Option<Arc<Lines>>,
    requests: Option<Arc<Lines>>,
    console: Arc<Console>,
}

impl Watchers {
    fn new(args: &args::Sync, cancel: &CancellationToken, console: &Arc<Console>) -> Result<Self> {
        // A closed pipe ends the run as it ends any other program; a full disk behind standard
        // output does not.
        let closed = (Arc::clone(console), cancel.clone());
        let failed = move || {
            if closed.0.is_closed() {
                closed.1.cancel();
            }
        };
        Ok(Self {
            progress: Arc::default(),
            metrics: Arc::default(),
            events: (args.output == Format::Json)
                .then(|| Arc::new(Lines::new(console.results(), failed))),
            requests: args.log_requests.as_deref().map(request_log).transpose()?,
            console: Arc::clone(console),
        })
    }

    fn observer(&self) -> Arc<dyn Observer> {
        let mut observers: Vec<Arc<dyn Observer>> = vec![
            Arc::clone(&self.progress) as _,
            Arc::clone(&self.metrics) as _,
        ];
        if let Some(lines) = &self.events {
            observers.push(Arc::new(EventLog {
                lines: Arc::clone(lines),
                console: Arc::clone(&self.console),
            }));
        } else {
            observers.push(Arc::new(Preface {
                console: Arc::clone(&self.console),
                begun: AtomicBool::new(false),
            }));
        }
        if let Some(lines) = &self.requests {
            observers.push(Arc::new(RequestLog(Arc::clone(lines))));
        }
        Arc::new(Observers(observers))
    }

    /// Prints how the run ended, and flushes the logs.
    fn report(
        &self,
        ended: Result<pipeline_engine::Summary, Error>,
        delivery: Delivery,
        args: &args::Sync,
        console: &Console,
    ) -> Result<Exit> {
        let log = self.finish_requests(args, console);
        if console.is_closed() {
            // Rows that were not written are not committed, and the next run reads them again.
            return Ok(Exit::Closed);
        }
        let summary = match ended {
            Ok(summary) => summary,
            Err(error) => {
                let failure = Failure::of_destination(&error);
                if let Some(lines) = &self.events {
                    let error = console.redact(&error.to_string());
                    let last = serde_json::json!({ "event": "sync_finished", "time": SystemClock.now(), "status": "failed", "exit_code": failure.exit.code(), "error": error });
                    lines.finish(Some(&last));
                }
                return Err(failure);
            }
        };
        let failure = summary
            .failure()
            .filter(|kind| !(args.dry_run && *kind == ErrorKind::Cancelled));
        let of_data = failure.map_or(Exit::Done, Exit::from);
        let exit = of_data.max(log);
        let report = Report {
            summary: &summary,
            metrics: &self.metrics,
            delivery,
            exit: if self.events.is_some() { exit } else { of_data },
            dry_run: args.dry_run,
        };
        match &self.events {
            Some(lines) => drop(lines.finish(Some(&report.json(console)))),
            None => console.print(&report.text()),
        }
        Ok(exit)
    }

    /// Ends the request log. An incomplete log is a failure of its own, whatever the result of the
    /// sync.
    fn finish_requests(&self, args: &args::Sync, console: &Console) -> Exit {
        let Some((lines, path)) = self.requests.as_ref().zip(args.log_requests.as_deref()) else {
            return Exit::Done;
        };
        let dropped = lines.finish(None);
        if let Some(error) = lines.failure() {
            let message = format!(
                "the request log {} cannot be written: {}",
                path.display(),
                reason(error)
            );
            console.note(&render(
                "error",
                &message,
                Some("the data is not affected; choose another file with --log-requests FILE"),
            ));
            return Exit::Destination;
        }
        if dropped > 0 {
            console.note(&format!("warning: {dropped} lines of the request log were dropped because the disk is too slow"));
        }
        Exit::Done
    }
}

fn request_log(path: &Path) -> Result<Arc<Lines>> {
    let file = File::create(path).map_err(|error| {
        Failure::usage(
            format!(
                "the request log {} cannot be written: {}",
                path.display(),
                reason(&error)
            ),
            "choose another file with --log-requests FILE",
        )
    })?;
    Ok(Arc::new(Lines::new(
        Box::new(file) as Box<dyn Write + Send>,
        || {},
    )))
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

fn options(args: &args::Sync, sync: &SyncConfig) -> Options {
    let default = Options::default();
    default
        .full_refresh(args.full_refresh)
        .dry_run(args.dry_run)
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

fn deadline(limit: Duration, cancel: CancellationToken, console: Arc<Console>) {
    tokio::spawn(async move {
        tokio::time::sleep(limit).await;
        console.note("--max-duration reached: committing everything read so far and stopping");
        cancel.cancel();
    });
}
