//! The loop: starts, ends, looks at the destination, sends alerts, and shows what has changed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use pipeline_core::Clock;
use pipeline_engine::CancellationToken;
use secrecy::ExposeSecret;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Command;
use crate::alerts::send::{Sender, TRIES, pause};
use crate::alerts::{Channel, age};
use crate::live::Live;
use crate::metrics::Metrics;
use crate::notify;
use crate::runner::{Ended, Order, Runner, Stored, Verdict};
use crate::settings::Settings;
use crate::store::{Memory, Store};
use crate::supervisor::{Action, Reason, Supervisor};
use crate::view::{Shared, View};

/// Longest time without a look at the clock: it may have been set.
const TICK: Duration = Duration::from_secs(5);

/// Longest time between two looks at the destination.
const LOOK: Duration = Duration::from_mins(1);

/// Shortest time between two looks at the destination.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// The result of a task.
enum Done {
    Run {
        source: String,
        reason: Reason,
        started: Instant,
        ended: Ended,
    },
    Looked(Result<Stored, String>),
    Sent {
        id: u64,
        channel: Channel,
        result: Result<(), String>,
    },
}

/// Carries out what the [`Supervisor`] decides.
pub(super) struct Driver {
    settings: Settings,
    runner: Arc<dyn Runner>,
    clock: Arc<dyn Clock>,
    sender: Sender,
    supervisor: Supervisor,
    store: Store,
    memory: Memory,
    metrics: Arc<Metrics>,
    shared: Arc<Shared>,
    tasks: JoinSet<Done>,
    /// The runs under way.
    lives: BTreeMap<String, Arc<Live>>,
    cancels: BTreeMap<String, CancellationToken>,
    stored: Arc<Stored>,
    /// How the last run of each source ended.
    last: BTreeMap<String, Ended>,
    /// Why the destination cannot be read.
    unreadable: Option<String>,
    is_looking: bool,
    look_at: Instant,
    sending: BTreeSet<Channel>,
    send_at: BTreeMap<Channel, Instant>,
    is_stopping: bool,
}

impl Driver {
    /// A loop that has not started.
    pub(super) fn new(
        settings: Settings,
        runner: Arc<dyn Runner>,
        clock: Arc<dyn Clock>,
        sender: Sender,
        (store, memory): (Store, Memory),
        shared: Arc<Shared>,
    ) -> Self {
        forget_hooks(&shared, &settings);
        let supervisor = Supervisor::new(&settings, &memory.sources, clock.now());
        Self {
            settings,
            runner,
            clock,
            sender,
            supervisor,
            store,
            memory,
            metrics: Arc::clone(&shared.metrics),
            shared,
            tasks: JoinSet::new(),
            lives: BTreeMap::new(),
            cancels: BTreeMap::new(),
            stored: Arc::default(),
            last: BTreeMap::new(),
            unreadable: None,
            is_looking: false,
            look_at: Instant::now(),
            sending: BTreeSet::new(),
            send_at: BTreeMap::new(),
            is_stopping: false,
        }
    }

    /// Runs until the service is shut down and every run has ended.
    pub(super) async fn run(mut self, mut commands: UnboundedReceiver<Command>) {
        self.shared.set_ready(true);
        notify::ready(&format!("{} sources", self.settings.sources.len()));
        loop {
            self.step();
            if self.is_stopping && self.supervisor.running() == 0 {
                break;
            }
            let wait = self.wait();
            tokio::select! {
                Some(command) = commands.recv() => self.follow(command),
                Some(done) = self.tasks.join_next() => match done {
                    Ok(done) => self.done(done),
                    Err(error) => tracing::error!(%error, "a task of the service failed"),
                },
                () = self.shared.wishes.arrived() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
        self.tasks.abort_all();
        tracing::info!("stopped");
    }

    /// Starts what is due, looks, sends, and shows and stores what has changed.
    pub(super) fn step(&mut self) {
        let now = self.clock.now();
        let actions = self.supervisor.tick(now);
        self.apply(actions);
        self.hook(now);
        self.memory.sources = self.supervisor.remembered();
        if let Err(error) = self.store.write(&self.memory) {
            tracing::error!(%error, "the service's state cannot be written; a restart may send an alert again");
        }
        // What is sent is stored before, so that it is neither lost nor decided twice.
        self.look();
        self.send();
        let seen = self.supervisor.seen();
        self.metrics.sources(&seen);
        self.shared.show(View {
            at: now,
            sources: seen,
            settings: self.settings.sources.clone(),
            lives: self.lives.clone(),
            stored: Arc::clone(&self.stored),
            last: self.last.clone(),
            raised: self
                .settings
                .sources
                .iter()
                .map(|source| (source.name.clone(), self.memory.alerts.raised(&source.name)))
                .collect(),
            webhooks: self.shared.wishes.last(),
            unreadable: self.unreadable.clone(),
        });
        notify::alive();
    }

    /// Runs the sources whose webhooks have settled.
    fn hook(&mut self, now: DateTime<Utc>) {
        if self.is_stopping {
            return;
        }
        let due: Vec<String> = self
            .hooks_due()
            .filter(|(_, due)| *due <= now)
            .map(|(source, _)| source.to_owned())
            .collect();
        for source in due {
            let actions = self.supervisor.hook(&source, now);
            self.apply(actions);
        }
    }

    /// When sources are to be run for their webhooks.
    fn hooks_due(&self) -> impl Iterator<Item = (&str, DateTime<Utc>)> {
        self.settings.sources.iter().filter_map(|source| {
            let settles = source.webhook.as_ref()?.reader.settles_after();
            let due = self.shared.wishes.due(&source.name, settles)?;
            Some((&*source.name, due))
        })
    }

    /// Forgets the wishes that a run has fulfilled.
    fn fulfil(&self, source: &str, ended: &Ended, now: DateTime<Utc>) {
        let settings = self.settings.sources.iter().find(|it| it.name == source);
        let Some(webhook) = settings.and_then(|it| it.webhook.as_ref()) else {
            return;
        };
        let settles = webhook.reader.settles_after();
        let wishes = &self.shared.wishes;
        wishes.ended(source, is_well(ended), settles, now);
        let shared = Arc::clone(&self.shared);
        // What remains in the file costs a run after a restart, and nothing else.
        tokio::spawn(async move {
            if let Err(error) = shared.wishes.write().await {
                tracing::warn!(%error, "what webhooks asked for cannot be written");
            }
        });
    }

    /// Time until something has to be done.
    fn wait(&self) -> Duration {
        let due = self.supervisor.wake_at().map_or(TICK, |due| {
            (due - self.clock.now()).to_std().unwrap_or_default()
        });
        let idle = |source: &&str| self.supervisor.is_free(source);
        let hook = self
            .hooks_due()
            .filter(|(source, _)| idle(source))
            .map(|(_, due)| (due - self.clock.now()).to_std().unwrap_or_default())
            .min();
        let now = Instant::now();
        let until = |at: Instant| at.saturating_duration_since(now);
        let look = if self.is_looking {
            TICK
        } else {
            until(self.look_at)
        };
        let send = self.send_at.values().map(|at| until(*at)).min();
        // Not zero: a clock that stands still must not make the loop spin.
        due.min(hook.unwrap_or(TICK))
            .min(look)
            .min(send.unwrap_or(TICK))
            .clamp(Duration::from_millis(1), TICK)
    }

    fn follow(&mut self, command: Command) {
        let now = self.clock.now();
        match command {
            Command::RunNow(source) => {
                let actions = self.supervisor.run_now(&source, now);
                self.apply(actions);
            }
            Command::Pause(source) => {
                tracing::info!(source, "paused");
                self.supervisor.pause(&source, true);
            }
            Command::Resume(source) => {
                tracing::info!(source, "resumed");
                self.supervisor.pause(&source, false);
            }
            Command::Stop(source) => {
                let actions = self.supervisor.stop(&source);
                self.apply(actions);
            }
            Command::Reload => self.reload(),
            Command::ShutDown => {
                notify::stopping();
                self.shared.set_ready(false);
                self.is_stopping = true;
                tracing::info!(running = self.supervisor.running(), "stopping");
                let actions = self.supervisor.shut_down();
                self.apply(actions);
            }
        }
    }

    fn reload(&mut self) {
        notify::reloading();
        let read = self.runner.reload();
        self.metrics.reloaded(read.is_ok());
        match read {
            Ok(settings) => {
                if changes_at_restart(&settings) != changes_at_restart(&self.settings) {
                    tracing::warn!(
                        "`listen`, `token` and `state` change when the service is started again"
                    );
                }
                self.supervisor.reload(&settings, self.clock.now());
                forget_hooks(&self.shared, &settings);
                tracing::info!(sources = settings.sources.len(), "configuration read again");
                self.settings = settings;
                notify::ready(&format!("{} sources", self.settings.sources.len()));
            }
            Err(error) => {
                tracing::error!(
                    error,
                    "the configuration is wrong; the old one stays in force"
                );
                notify::ready("the configuration is wrong; the old one stays in force");
            }
        }
    }

    fn apply(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Start { source, reason } => self.start(source, reason),
                Action::Cancel { source } => {
                    tracing::info!(source, "stopping the run");
                    if let Some(cancel) = self.cancels.get(&source) {
                        cancel.cancel();
                    }
                }
                Action::Skipped { source } => {
                    tracing::info!(source, "due while it runs: left out");
                    self.metrics.skipped(&source);
                }
            }
        }
    }

    fn start(&mut self, source: String, reason: Reason) {
        tracing::info!(source, reason = reason.name(), "run starts");
        let live = Arc::new(Live::new(
            source.clone(),
            reason,
            self.clock.now(),
            Arc::clone(&self.metrics),
        ));
        let cancel = CancellationToken::new();
        let wished = self.shared.wishes.started(&source, self.clock.now());
        let order = Order {
            source: source.clone(),
            targets: if reason == Reason::Webhook {
                wished
            } else {
                BTreeSet::new()
            },
            max_duration: self
                .supervisor
                .settings(&source)
                .and_then(|settings| settings.max_duration),
            live: Arc::clone(&live),
            cancel: cancel.clone(),
        };
        self.lives.insert(source.clone(), live);
        self.cancels.insert(source.clone(), cancel);
        let runner = Arc::clone(&self.runner);
        self.tasks.spawn(async move {
            let started = Instant::now();
            // A task of its own, so that a panic is the end of this run and of nothing else.
            let run = tokio::spawn(async move { runner.run(order).await });
            let ended = run.await.unwrap_or_else(|_| {
                let defect = "a defect of this program: the log has the place";
                Ended::failed(Verdict::Failed, 1, defect)
            });
            Done::Run {
                source,
                reason,
                started,
                ended,
            }
        });
    }

    fn done(&mut self, done: Done) {
        let now = self.clock.now();
        match done {
            Done::Run {
                source,
                reason,
                started,
                ended,
            } => {
                log_end(&source, &ended, started.elapsed());
                self.lives.remove(&source);
                self.cancels.remove(&source);
                self.metrics
                    .ended(&source, reason, &ended, started.elapsed(), now);
                self.fulfil(&source, &ended, now);
                // A run that reads less than everything does not show that the source is well.
                if reason != Reason::Webhook || !is_well(&ended) {
                    self.memory
                        .alerts
                        .ended(&source, &ended, &self.settings.alerts, now);
                }
                let actions = self.supervisor.ended(&source, now);
                self.last.insert(source, ended);
                self.apply(actions);
                self.look_at = self.look_at.min(Instant::now() + LOOK_AGAIN / 4);
            }
            Done::Looked(stored) => {
                self.is_looking = false;
                self.look_at = Instant::now() + self.look_interval();
                match stored {
                    Ok(stored) => {
                        self.unreadable = None;
                        self.stored = Arc::new(stored);
                        self.judge_age();
                    }
                    Err(error) => {
                        if self.unreadable.as_ref() != Some(&error) {
                            tracing::warn!(error, "the destination cannot be read");
                        }
                        self.unreadable = Some(error);
                    }
                }
            }
            Done::Sent {
                id,
                channel,
                result,
            } => self.sent(id, channel, result),
        }
    }

    /// Alerts what is older than it may be, and shows what is stored.
    fn judge_age(&mut self) {
        let now = self.clock.now();
        self.metrics.stored(&self.stored.streams, now);
        let alerts = &mut self.memory.alerts;
        for source in &self.settings.sources {
            let since = alerts.since(&source.name, now);
            let age = age(
                &source.name,
                &source.freshness,
                &self.stored.streams,
                since,
                now,
            );
            alerts.aged(&source.name, age.as_ref(), &self.settings.alerts, now);
        }
    }

    fn look_interval(&self) -> Duration {
        let shortest = self
            .settings
            .sources
            .iter()
            .filter_map(|source| source.freshness.shortest())
            .min();
        shortest
            .map_or(LOOK, |freshness| freshness / 2)
            .clamp(LOOK_AGAIN, LOOK)
    }

    fn look(&mut self) {
        if self.is_looking || self.is_stopping || Instant::now() < self.look_at {
            return;
        }
        self.is_looking = true;
        let runner = Arc::clone(&self.runner);
        self.tasks
            .spawn(async move { Done::Looked(runner.stored().await) });
    }

    fn send(&mut self) {
        if self.is_stopping {
            return;
        }
        for channel in Channel::ALL {
            let is_early = self
                .send_at
                .get(&channel)
                .is_some_and(|at| Instant::now() < *at);
            if is_early || self.sending.contains(&channel) {
                continue;
            }
            self.send_at.remove(&channel);
            let Some(pending) = self.memory.alerts.pending(channel).cloned() else {
                continue;
            };
            self.sending.insert(channel);
            let (sender, settings) = (self.sender.clone(), self.settings.alerts.clone());
            self.tasks.spawn(async move {
                let result = sender.send(&pending, &settings).await;
                Done::Sent {
                    id: pending.id,
                    channel,
                    result,
                }
            });
        }
    }

    fn sent(&mut self, id: u64, channel: Channel, result: Result<(), String>) {
        self.sending.remove(&channel);
        let alerts = &mut self.memory.alerts;
        match result {
            Ok(()) => {
                tracing::info!(channel = channel.name(), "alert sent");
                alerts.sent(id);
                self.metrics.alert(channel, true);
            }
            Err(error) => {
                let tries = alerts
                    .pending(channel)
                    .map_or(0, |pending| pending.tries + 1);
                let is_last = alerts.tried(id, TRIES);
                tracing::warn!(
                    channel = channel.name(),
                    error,
                    tries,
                    given_up = is_last,
                    "the alert could not be sent"
                );
                if is_last {
                    self.metrics.alert(channel, false);
                } else {
                    self.send_at.insert(channel, Instant::now() + pause(tries));
                }
            }
        }
    }
}

/// True when everything that was asked for was read.
fn is_well(ended: &Ended) -> bool {
    matches!(ended.verdict, Verdict::Done | Verdict::Missing)
}

/// Forgets what webhooks asked for of sources that receive none any more.
fn forget_hooks(shared: &Shared, settings: &Settings) {
    let receives = |name: &str| {
        let mut sources = settings.sources.iter();
        sources.any(|source| source.name == name && source.webhook.is_some())
    };
    shared.wishes.keep(receives);
}

/// What the server and the store were opened with.
fn changes_at_restart(settings: &Settings) -> (Option<SocketAddr>, Option<&str>, &Path) {
    let token = settings.token.as_ref().map(ExposeSecret::expose_secret);
    (settings.listen, token, &settings.state)
}

fn log_end(source: &str, ended: &Ended, took: Duration) {
    let Ended {
        run,
        exit_code,
        error,
        help,
        rows,
        ..
    } = ended;
    let result = ended.verdict.name();
    let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    match ended.verdict {
        Verdict::Done | Verdict::Interrupted | Verdict::Busy => {
            tracing::info!(
                source,
                run,
                result,
                exit_code,
                rows,
                took_ms,
                error,
                "run ended"
            );
        }
        Verdict::Missing | Verdict::Failed | Verdict::Refused => {
            tracing::error!(
                source,
                run,
                result,
                exit_code,
                rows,
                took_ms,
                error,
                help,
                "run ended"
            );
        }
    }
}
