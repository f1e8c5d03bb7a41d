//! `pipeline run`: syncs by schedule until it is told to stop.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use pipeline_core::http::ReqwestTransport;
use pipeline_core::{
    BuildContext, ErrorKind, NoObserver, Observers, RUN_CAPACITY, SystemClock, TraceRun,
};
use pipeline_engine::{Outcome, Summary};
use pipeline_service::{
    Command, Ended, Order, Runner, Service, ServiceError, Settings, StateError, Stored,
    StoredStream, Verdict,
};

use crate::config::{Config, build_all};
use crate::console::Console;
use crate::exit::{Exit, Failure, Result};
use crate::output::held::{self, held};
use crate::output::log;
use crate::setup::Target;
use crate::{args, connectors, interrupt, job};

/// Commits that are searched for the last one of each endpoint.
const COMMITS: usize = 1_000;

/// Longest time until a connection for an alert is there.
const CONNECT: Duration = Duration::from_secs(10);

pub(super) async fn run(args: &args::Run, console: &Arc<Console>) -> Result<Exit> {
    let config = Config::load(&args.file.config)?;
    log::start(args.log_format, args.log_level, console);
    let settings = checked(&config, console)?;
    if settings.sources.iter().all(|it| it.schedule.is_none()) {
        return Err(Failure::usage(
            "no source has a schedule",
            "add every = \"15m\" or schedule = \"*/15 * * * *\" to a source",
        ));
    }
    let transport = Arc::new(ReqwestTransport::new(CONNECT)?);
    let runner = Arc::new(Syncs {
        path: args.file.config.clone(),
        config: Mutex::new(Arc::new(config)),
        console: Arc::clone(console),
    });
    let service = Service::new(settings, runner, Arc::new(SystemClock), transport);
    let handle = service.handle();
    interrupt::stop_with({
        let handle = handle.clone();
        move || handle.send(Command::ShutDown)
    });
    interrupt::reload_with(move || handle.send(Command::Reload));
    service.serve().await.map_err(failure)?;
    Ok(Exit::Done)
}

fn failure(error: ServiceError) -> Failure {
    let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
    let message = format!("{error}{}", cause.unwrap_or_default());
    let (exit, help) = match error {
        ServiceError::State(StateError::InUse(_)) => (
            Exit::Conflict,
            "stop the other one, or give each a state folder of its own: [run] state = \"…\"",
        ),
        ServiceError::State(_) => (
            Exit::Destination,
            "choose a folder that can be written: [run] state = \"…\"",
        ),
        ServiceError::Listen { .. } => (
            Exit::Destination,
            "choose another address: [run] listen = \"127.0.0.1:8081\", or \"off\"",
        ),
    };
    Failure::new(exit, message, Some(help))
}

/// What the service is to do, once everything that a run needs of the configuration has proved to
/// be there. Sends no request.
fn checked(config: &Config, console: &Arc<Console>) -> Result<Settings> {
    let target = Target::of(config, console)?;
    if !target.is_persistent() {
        return Err(Failure::usage(
            "`pipeline run` cannot write rows to standard output: its log goes there",
            "choose another destination, or run `pipeline sync` by a schedule of the system",
        ));
    }
    let mut settings = config.service(console)?;
    let sources = build_all(
        config,
        &config.select(&[])?,
        &connectors::registry(),
        &BuildContext::default().observer(Arc::new(NoObserver)),
        console,
    )?;
    let configured = config.sources.iter().zip(&sources);
    for ((of, source), settings) in configured.zip(&mut settings.sources) {
        settings.webhook = of.webhook(source, config, console)?;
    }
    Ok(settings)
}

/// Runs syncs as `pipeline sync` does.
#[derive(Debug)]
struct Syncs {
    path: PathBuf,
    config: Mutex<Arc<Config>>,
    console: Arc<Console>,
}

impl Syncs {
    fn config(&self) -> Arc<Config> {
        Arc::clone(&self.config.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn sync(&self, order: &Order) -> Result<Ended> {
        let config = self.config();
        let target = Target::of(&config, &self.console)?;
        let observer = Arc::new(Observers(vec![
            Arc::clone(&order.live) as _,
            Arc::new(TraceRun::new(&order.source)) as _,
        ]));
        let wanted = job::Order {
            sources: vec![order.source.clone()],
            streams: Vec::new(),
            targets: order.targets.clone(),
            full_refresh: false,
            dry_run: false,
            max_duration: order.max_duration,
            max_wait: config.max_wait(),
        };
        let cancel = order.cancel.clone();
        let ready =
            job::prepare(&wanted, &config, &target, observer, cancel, &self.console).await?;
        let (run, connectors) = (ready.run().to_owned(), ready.connectors());
        order.live.watch_limits(move || {
            connectors
                .iter()
                .flat_map(|connector| connector.client().usage())
                .collect()
        });
        match ready.sync().await {
            Ok(summary) => {
                let failed = summary.failure();
                let exit = failed.map_or(Exit::Done, Exit::from);
                let verdict = verdict(&summary, exit);
                let redact = |text: &str| self.console.redact(text);
                Ok(Ended::of(&summary, verdict, exit.code(), &redact))
            }
            Err(error) => {
                let failure = Failure::of_destination(&error);
                Ok(Ended {
                    run: Some(run),
                    ..self.ended(&failure)
                })
            }
        }
    }

    /// A run that failed as a whole.
    fn ended(&self, failure: &Failure) -> Ended {
        let verdict = match failure.exit {
            Exit::Conflict => Verdict::Busy,
            Exit::Authentication => Verdict::Refused,
            _ => Verdict::Failed,
        };
        let text = self.console.redact(&failure.text);
        let (error, help) = match text.split_once("\n help: ") {
            Some((error, help)) => (error, Some(help.to_owned())),
            None => (text.as_str(), None),
        };
        let error = error.trim_start_matches("error: ");
        Ended {
            help,
            ..Ended::failed(verdict, failure.exit.code(), error)
        }
    }
}

/// How a run ended, in one word.
fn verdict(summary: &Summary, exit: Exit) -> Verdict {
    let only_missing = || {
        let mut others = summary.endpoints.iter().map(|endpoint| &endpoint.outcome);
        others.all(|outcome| {
            matches!(
                outcome,
                Outcome::Done | Outcome::Incomplete | Outcome::Unavailable { .. }
            )
        })
    };
    match exit {
        Exit::Done => Verdict::Done,
        Exit::Authentication => Verdict::Refused,
        Exit::Conflict => Verdict::Busy,
        Exit::Incomplete if summary.failure() == Some(ErrorKind::Cancelled) => Verdict::Interrupted,
        Exit::Incomplete if only_missing() => Verdict::Missing,
        _ => Verdict::Failed,
    }
}

#[async_trait]
impl Runner for Syncs {
    async fn run(&self, order: Order) -> Ended {
        match self.sync(&order).await {
            Ok(ended) => ended,
            Err(failure) => self.ended(&failure),
        }
    }

    async fn stored(&self) -> Result<Stored, String> {
        let config = self.config();
        let shown = |failure: Failure| self.ended(&failure).error.unwrap_or_default();
        let target = Target::of(&config, &self.console).map_err(shown)?;
        let Some(destination) = target.to_read().await.map_err(shown)? else {
            return Ok(Stored::default());
        };
        let failed = |error| shown(Failure::of_destination(&error));
        let status = destination.status(COMMITS).await.map_err(failed)?;
        let mut runs = destination.runs(RUN_CAPACITY).await.map_err(failed)?;
        let redact = |text: &str| self.console.redact(text);
        let stream = |stream: &held::Held<'_>| StoredStream {
            source: stream.source.to_owned(),
            stream: stream.stream.to_owned(),
            rows: stream.rows,
            state: stream.state(),
            available: stream.ended != Some(held::Ended::Unavailable),
            succeeded: stream.succeeded,
            cursor: stream.cursor,
            missing: stream
                .missing
                .iter()
                .map(|unit| (redact(unit.name), redact(unit.reason)))
                .collect(),
            error: stream.error.map(|(error, _)| redact(error)),
        };
        let streams = held(&status, &runs).iter().map(stream).collect();
        for run in &mut runs {
            run.error = run.error.as_deref().map(redact);
            for endpoint in &mut run.endpoints {
                endpoint.error = endpoint.error.as_deref().map(redact);
            }
        }
        Ok(Stored { streams, runs })
    }

    fn reload(&self) -> Result<Settings, String> {
        let shown = |failure: Failure| self.console.redact(&failure.text);
        let config = Config::load(&self.path).map_err(shown)?;
        let settings = checked(&config, &self.console).map_err(shown)?;
        *self.config.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
        Ok(settings)
    }

    fn redact(&self, text: &str) -> String {
        self.console.redact(text)
    }
}
