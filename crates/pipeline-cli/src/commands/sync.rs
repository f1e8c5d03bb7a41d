//! `pipeline sync`: reads new and changed records into the destination.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use pipeline_core::{Clock, Error, ErrorKind, Observer, Observers, SystemClock};
use pipeline_engine::{CancellationToken, Delivery, Metrics};

use crate::args::Format;
use crate::config::{Config, reason};
use crate::console::Console;
use crate::exit::{Exit, Failure, Result, render};
use crate::job::Order;
use crate::output::events::{EventLog, Preface, RequestLog};
use crate::output::json::Report;
use crate::output::lines::Lines;
use crate::output::progress::{Drawing, Progress};
use crate::setup::Target;
use crate::{args, interrupt, job};

pub(super) async fn run(args: &args::Sync, console: &Arc<Console>) -> Result<Exit> {
    let config = Config::load(&args.file.config)?;
    let target = Target::of(&config, console)?;
    if !target.is_persistent() {
        console.leave_stdout_to_rows();
    }
    let cancel = CancellationToken::new();
    let watchers = Watchers::new(args, &cancel, console)?;
    let order = Order {
        sources: args.sources.clone(),
        streams: args.streams.clone(),
        targets: BTreeSet::new(),
        full_refresh: args.full_refresh,
        dry_run: args.dry_run,
        max_duration: args.max_duration,
        max_wait: args.max_wait,
    };
    let observer = watchers.observer();
    let ready = job::prepare(&order, &config, &target, observer, cancel.clone(), console).await?;
    let delivery = ready.delivery();
    interrupt::listen(cancel.clone(), Arc::clone(console));
    if !target.is_persistent() {
        interrupt::end_with_reader(cancel, Arc::clone(console));
    }
    let drawing = Drawing::start(Arc::clone(&watchers.progress), Arc::clone(console));
    let ended = ready.sync().await;
    drawing.finish();
    watchers.report(ended, delivery, args, console)
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
            console.note(&format!(
                "warning: {dropped} lines of the request log were dropped because the disk is too \
                 slow"
            ));
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
