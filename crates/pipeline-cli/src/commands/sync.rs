//! `pipeline sync`: reads what is new into the destination.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use pipeline_core::engine::{self, CancellationToken, Job, Metrics, Options, Selection, Source};
use pipeline_core::http::RetryPolicy;
use pipeline_core::{BuildContext, Clock, Delivery, Error, ErrorKind, Observer, Observers, SystemClock};

use crate::args::{self, Format};
use crate::config::{Config, SyncConfig, build_all, reason, stream_names, suggest};
use crate::connectors;
use crate::console::Console;
use crate::exit::{Exit, Failure, Result};
use crate::output::events::{EventLog, Preface, RequestLog};
use crate::output::lines::Lines;
use crate::output::progress::{Drawing, Progress};
use crate::output::report::Report;
use crate::{interrupt, setup};

pub(super) async fn run(args: &args::Sync, console: &Arc<Console>) -> Result<Exit> {
    let config = Config::load(&args.file.config)?;
    config.destination.announce(console);
    let watchers = Watchers::new(args, console)?;
    let observer = watchers.observer();
    let context = patient(setup::context(&config, Arc::clone(&observer)), args.max_wait);
    let mut sources = build_all(&config, &config.select(&args.sources)?, &connectors::registry(), &context, console)?;
    narrow(&mut sources, &args.streams)?;
    let destination = setup::destination(&config)?;
    let delivery = destination.delivery();
    let cancel = CancellationToken::new();
    interrupt::listen(cancel.clone(), Arc::clone(console));
    if let Some(limit) = args.max_duration {
        deadline(limit, cancel.clone(), Arc::clone(console));
    }
    let job = Job { options: options(args, &config.sync), observer, cancel, ..Job::new(run_id(), destination, sources) };
    let drawing = Drawing::start(Arc::clone(&watchers.progress), Arc::clone(console));
    let ended = engine::sync(job).await;
    drawing.finish();
    watchers.report(ended, delivery, args, console)
}

/// Everyone who is told what happens.
struct Watchers {
    progress: Arc<Progress>,
    metrics: Arc<Metrics>,
    events: Option<Arc<Lines>>,
    requests: Option<Arc<Lines>>,
    console: Arc<Console>,
}

impl Watchers {
    fn new(args: &args::Sync, console: &Arc<Console>) -> Result<Self> {
        Ok(Self {
            progress: Arc::default(),
            metrics: Arc::default(),
            events: (args.output == Format::Json).then(|| Arc::new(Lines::new(console.results()))),
            requests: args.log_requests.as_deref().map(request_log).transpose()?,
            console: Arc::clone(console),
        })
    }

    fn observer(&self) -> Arc<dyn Observer> {
        let mut observers: Vec<Arc<dyn Observer>> = vec![Arc::clone(&self.progress) as _, Arc::clone(&self.metrics) as _];
        if let Some(lines) = &self.events {
            observers.push(Arc::new(EventLog { lines: Arc::clone(lines), console: Arc::clone(&self.console) }));
        } else {
            observers.push(Arc::new(Preface { console: Arc::clone(&self.console), begun: AtomicBool::new(false) }));
        }
        if let Some(lines) = &self.requests {
            observers.push(Arc::new(RequestLog(Arc::clone(lines))));
        }
        Arc::new(Observers(observers))
    }

    /// Tells how it ended, and writes what is still on its way.
    fn report(&self, ended: Result<engine::Summary, Error>, delivery: Delivery, args: &args::Sync, console: &Console) -> Result<Exit> {
        let dropped = self.requests.as_ref().map_or(0, |lines| lines.finish(None));
        if dropped > 0 {
            console.note(&format!("warning: {dropped} lines of the request log were dropped, because the disk was too slow"));
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
        let failure = summary.failure().filter(|kind| !(args.dry_run && *kind == ErrorKind::Cancelled));
        let exit = failure.map_or(Exit::Done, Exit::from);
        let report = Report { summary: &summary, metrics: &self.metrics, delivery, exit, dry_run: args.dry_run };
        match &self.events {
            Some(lines) => drop(lines.finish(Some(&report.json(console)))),
            None => console.print(&report.text()),
        }
        Ok(exit)
    }
}

fn request_log(path: &Path) -> Result<Arc<Lines>> {
    let file = File::create(path).map_err(|error| {
        Failure::usage(
            format!("the request log {} cannot be written: {}", path.display(), reason(&error)),
            "choose another file with --log-requests FILE",
        )
    })?;
    Ok(Arc::new(Lines::new(Box::new(file) as Box<dyn Write + Send>)))
}

/// Narrows the sources to the streams named on the command line. Sources that have none of them are not read.
fn narrow(sources: &mut Vec<Source>, wanted: &[String]) -> Result<()> {
    if wanted.is_empty() {
        return Ok(());
    }
    let known: BTreeSet<&str> = sources.iter().flat_map(|source| stream_names(&*source.connector)).collect();
    if let Some(unknown) = wanted.iter().find(|name| !known.contains(name.as_str())) {
        return Err(Failure::usage(format!("there is no stream `{unknown}`"), &suggest(unknown, "streams", known)));
    }
    for source in sources.iter_mut() {
        let known = stream_names(&*source.connector);
        source.streams = Selection::Named(wanted.iter().filter(|name| known.contains(&name.as_str())).cloned().collect());
    }
    sources.retain(|source| source.streams != Selection::Named(Vec::new()));
    Ok(())
}

fn options(args: &args::Sync, sync: &SyncConfig) -> Options {
    let default = Options::default();
    Options {
        full_refresh: args.full_refresh,
        dry_run: args.dry_run,
        memory_budget: sync.memory_budget.unwrap_or(default.memory_budget),
        max_slices: sync.max_slices.unwrap_or(default.max_slices),
        commit_interval: sync.commit_interval.unwrap_or(default.commit_interval),
        commit_bytes: sync.commit_bytes.unwrap_or(default.commit_bytes),
        ..default
    }
}

/// Lets every request wait so long for a limit, and be tried again for as long as ever after that.
fn patient(context: BuildContext, max_wait: Duration) -> BuildContext {
    let retry = RetryPolicy { max_server_delay: max_wait, max_elapsed: context.retry.max_elapsed + max_wait, ..context.retry };
    BuildContext { retry, ..context }
}

/// A name that sorts by time, and that two runs started in the same second do not share.
fn run_id() -> String {
    format!("{}-{:04x}", SystemClock.now().format("%Y%m%dT%H%M%SZ"), fastrand::u16(..))
}

fn deadline(limit: Duration, cancel: CancellationToken, console: Arc<Console>) {
    tokio::spawn(async move {
        tokio::time::sleep(limit).await;
        console.note("--max-duration is reached: stopping, with everything read so far committed");
        cancel.cancel();
    });
}
