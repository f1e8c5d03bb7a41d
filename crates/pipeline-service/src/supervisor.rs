//! Decides which source runs when: a pure state machine that receives the time and returns actions.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::schedule::{Jitter, Schedule};
use crate::settings::{Overlap, Settings, SourceSettings};

/// A clock that was put back by more than this changes what is due.
const PUT_BACK: TimeDelta = TimeDelta::seconds(5);

/// Decides which source runs when. At most one run of a source at a time.
#[derive(Debug)]
pub struct Supervisor {
    entries: BTreeMap<String, Entry>,
    /// Sources that wait for a place, in order.
    waiting: VecDeque<(String, Reason)>,
    max_runs: usize,
    jitter: Duration,
    last: DateTime<Utc>,
    is_stopping: bool,
}

/// An instruction to the service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Start a run. [`Supervisor::ended`] has to follow.
    Start {
        /// The source.
        source: String,
        /// Why.
        reason: Reason,
    },
    /// Ask the run of a source to stop.
    Cancel {
        /// The source.
        source: String,
    },
    /// A start that was due is left out, because the source runs already.
    Skipped {
        /// The source.
        source: String,
    },
}

/// Why a run starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It was due.
    Schedule,
    /// It was due while the service was down.
    CatchUp,
    /// A person requested it.
    Person,
    /// A webhook came. Only what it is about is read.
    Webhook,
}

impl Reason {
    /// The reason as metrics and logs have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Schedule => "schedule",
            Self::CatchUp => "catch_up",
            Self::Person => "person",
            Self::Webhook => "webhook",
        }
    }
}

/// What a service remembers of a source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Remembered {
    /// When a run was last started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<DateTime<Utc>>,
    /// True when a person has paused it.
    #[serde(default)]
    pub paused: bool,
    /// True while a run is under way, and after the process has ended before the run did.
    #[serde(default)]
    pub unfinished: bool,
}

/// The state of a source, for the page and the metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// When it is due next; none when it has no schedule or is paused.
    pub next: Option<DateTime<Utc>>,
    /// Whether it runs, waits, or does neither.
    pub phase: Phase,
    /// True when a person has paused it.
    pub paused: bool,
    /// True when it runs once more when it has ended.
    pub again: bool,
}

/// What a source does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Nothing.
    Idle,
    /// It waits until fewer sources run.
    Waiting,
    /// It runs.
    Running,
    /// Its run is being stopped.
    Stopping,
}

#[derive(Debug)]
struct Entry {
    settings: SourceSettings,
    next: Option<DateTime<Utc>>,
    /// Why it is due first, when a start was missed.
    missed: bool,
    phase: Phase,
    /// Why it runs.
    reason: Option<Reason>,
    /// Runs once more when it has ended.
    again: Option<Reason>,
    remembered: Remembered,
    /// It is not configured any more and goes when its run has ended.
    is_gone: bool,
}

impl Supervisor {
    /// The sources of a service that starts now.
    ///
    /// One that was due while the service was down, or whose run ended with the service, is due at
    /// once, unless that is configured otherwise; so is one with an interval that was never run.
    pub fn new(
        settings: &Settings,
        remembered: &BTreeMap<String, Remembered>,
        now: DateTime<Utc>,
    ) -> Self {
        let mut supervisor = Self {
            entries: BTreeMap::new(),
            waiting: VecDeque::new(),
            max_runs: settings.max_runs.max(1),
            jitter: settings.jitter,
            last: now,
            is_stopping: false,
        };
        for source in &settings.sources {
            let known = remembered.get(&source.name).copied().unwrap_or_default();
            supervisor.add(source.clone(), known, now);
        }
        supervisor
    }

    fn add(&mut self, settings: SourceSettings, remembered: Remembered, now: DateTime<Utc>) {
        let next = self.due_after(&settings, now);
        let missed = self.is_missed(&settings, remembered, now);
        let name = settings.name.clone();
        let entry = Entry {
            settings,
            next: if missed { Some(now) } else { next },
            missed,
            phase: Phase::Idle,
            reason: None,
            again: None,
            remembered,
            is_gone: false,
        };
        self.entries.insert(name, entry);
    }

    fn due_after(&self, settings: &SourceSettings, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let jitter = Jitter::of(&settings.name, self.jitter);
        settings.schedule.as_ref()?.next(after, jitter)
    }

    /// True when the source was due between its last start and now.
    fn is_missed(
        &self,
        settings: &SourceSettings,
        remembered: Remembered,
        now: DateTime<Utc>,
    ) -> bool {
        match (&settings.schedule, remembered.started) {
            // Whoever writes `every` expects the first run now; an hour of the day is waited for.
            (Some(Schedule::Every(_)), None) => true,
            (None, _) | (Some(Schedule::Cron(..)), None) => false,
            (Some(_), Some(started)) => {
                let due = self.due_after(settings, started);
                let is_due = remembered.unfinished || due.is_some_and(|due| due <= now);
                settings.catch_up && is_due
            }
        }
    }

    /// Starts what is due.
    pub fn tick(&mut self, now: DateTime<Utc>) -> Vec<Action> {
        if now < self.last - PUT_BACK {
            self.follow_clock(now);
        }
        self.last = now;
        let due: Vec<String> = self
            .entries
            .iter()
            .filter(|(_, entry)| !entry.is_gone && entry.next.is_some_and(|next| next <= now))
            .map(|(name, _)| name.clone())
            .collect();
        let mut actions = Vec::new();
        for name in due {
            let Some(entry) = self.entries.get(&name) else {
                continue;
            };
            let next = self.due_after(&entry.settings, now);
            let Some(entry) = self.entries.get_mut(&name) else {
                continue;
            };
            entry.next = next;
            let reason = if std::mem::take(&mut entry.missed) {
                Reason::CatchUp
            } else {
                Reason::Schedule
            };
            if !entry.remembered.paused {
                self.request(&name, reason, &mut actions);
            }
        }
        self.start_waiting(now, &mut actions);
        actions
    }

    /// The clock was put back: what was due in an hour must not be due in two.
    fn follow_clock(&mut self, now: DateTime<Utc>) {
        let next: Vec<(String, Option<DateTime<Utc>>)> = self
            .entries
            .iter()
            .map(|(name, entry)| (name.clone(), self.due_after(&entry.settings, now)))
            .collect();
        for (name, next) in next {
            if let Some(entry) = self.entries.get_mut(&name) {
                entry.next = match (entry.next, next) {
                    (Some(old), Some(new)) => Some(old.min(new)),
                    (old, new) => old.or(new),
                };
            }
        }
    }

    fn request(&mut self, name: &str, reason: Reason, actions: &mut Vec<Action>) {
        let Some(entry) = self.entries.get_mut(name).filter(|entry| !entry.is_gone) else {
            return;
        };
        match (entry.phase, entry.settings.overlap, reason) {
            // What asks for everything is not answered by a run that reads less.
            (Phase::Waiting, ..) if reason != Reason::Webhook => {
                let waiting = self.waiting.iter_mut().find(|(known, _)| known == name);
                if let Some((_, known)) = waiting.filter(|(_, known)| *known == Reason::Webhook) {
                    *known = reason;
                }
            }
            (Phase::Running | Phase::Stopping, ..)
                if entry.reason == Some(Reason::Webhook) && reason != Reason::Webhook =>
            {
                entry.again.get_or_insert(reason);
            }
            (Phase::Idle, ..) => {
                entry.phase = Phase::Waiting;
                self.waiting.push_back((name.to_owned(), reason));
            }
            // What waits for its turn will read everything that is new by then.
            (Phase::Waiting, ..) => {}
            (_, Overlap::Skip, Reason::Schedule | Reason::CatchUp) => {
                actions.push(Action::Skipped {
                    source: name.to_owned(),
                });
            }
            (Phase::Running | Phase::Stopping, ..) => {
                entry.again.get_or_insert(reason);
            }
        }
    }

    fn start_waiting(&mut self, now: DateTime<Utc>, actions: &mut Vec<Action>) {
        while !self.is_stopping && self.running() < self.max_runs {
            let Some((source, reason)) = self.waiting.pop_front() else {
                return;
            };
            let Some(entry) = self.entries.get_mut(&source) else {
                continue;
            };
            entry.phase = Phase::Running;
            entry.reason = Some(reason);
            entry.remembered.started = Some(now);
            entry.remembered.unfinished = true;
            actions.push(Action::Start { source, reason });
        }
    }

    /// Sources that run.
    pub fn running(&self) -> usize {
        let is_running = |entry: &&Entry| matches!(entry.phase, Phase::Running | Phase::Stopping);
        self.entries.values().filter(is_running).count()
    }

    /// The run of a source has ended.
    pub fn ended(&mut self, source: &str, now: DateTime<Utc>) -> Vec<Action> {
        let mut actions = Vec::new();
        let is_stopping = self.is_stopping;
        if let Some(entry) = self.entries.get_mut(source) {
            entry.phase = Phase::Idle;
            entry.reason = None;
            entry.remembered.unfinished &= is_stopping;
            let again = entry.again.take();
            if entry.is_gone {
                self.entries.remove(source);
            } else if let Some(reason) = again {
                self.request(source, reason, &mut actions);
            }
        }
        self.start_waiting(now, &mut actions);
        actions
    }

    /// Runs a source on request, even a paused one: at once when it is idle, otherwise after the
    /// current run.
    pub fn run_now(&mut self, source: &str, now: DateTime<Utc>) -> Vec<Action> {
        let mut actions = Vec::new();
        self.request(source, Reason::Person, &mut actions);
        self.start_waiting(now, &mut actions);
        actions
    }

    /// True for a source that neither runs nor waits, and is not paused.
    pub fn is_free(&self, source: &str) -> bool {
        let entry = self.entries.get(source);
        entry.is_some_and(|it| it.phase == Phase::Idle && !it.is_gone && !it.remembered.paused)
    }

    /// Runs an idle source for its webhooks, unless it is paused.
    pub fn hook(&mut self, source: &str, now: DateTime<Utc>) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.is_free(source) {
            self.request(source, Reason::Webhook, &mut actions);
            self.start_waiting(now, &mut actions);
        }
        actions
    }

    /// Pauses a source, or ends the pause. A run under way is not stopped; what was due meanwhile
    /// is not made up for.
    pub fn pause(&mut self, source: &str, paused: bool) {
        if let Some(entry) = self.entries.get_mut(source) {
            entry.remembered.paused = paused;
            if paused {
                entry.again = None;
            }
        }
    }

    /// Stops the run of a source with a commit. It runs again when it is due.
    pub fn stop(&mut self, source: &str) -> Vec<Action> {
        let Some(entry) = self.entries.get_mut(source) else {
            return Vec::new();
        };
        entry.again = None;
        match entry.phase {
            Phase::Running => {
                entry.phase = Phase::Stopping;
                let source = source.to_owned();
                vec![Action::Cancel { source }]
            }
            Phase::Waiting => {
                entry.phase = Phase::Idle;
                self.waiting.retain(|(name, _)| name != source);
                Vec::new()
            }
            Phase::Idle | Phase::Stopping => Vec::new(),
        }
    }

    /// Takes over new settings. Runs go on; a source that is gone ends with its run.
    pub fn reload(&mut self, settings: &Settings, now: DateTime<Utc>) {
        self.max_runs = settings.max_runs.max(1);
        let is_same_jitter = self.jitter == settings.jitter;
        self.jitter = settings.jitter;
        for (name, entry) in &mut self.entries {
            if !settings.sources.iter().any(|source| source.name == *name) {
                entry.is_gone = true;
                entry.next = None;
                entry.again = None;
            }
        }
        self.waiting
            .retain(|(name, _)| self.entries.get(name).is_some_and(|entry| !entry.is_gone));
        self.entries.retain(|_, entry| {
            !entry.is_gone || matches!(entry.phase, Phase::Running | Phase::Stopping)
        });
        for source in &settings.sources {
            let next = self.due_after(source, now);
            match self.entries.get_mut(&source.name) {
                None => self.add(source.clone(), Remembered::default(), now),
                Some(entry) => {
                    if entry.is_gone
                        || entry.settings.schedule != source.schedule
                        || !is_same_jitter
                    {
                        entry.next = next;
                        entry.missed = false;
                    }
                    entry.is_gone = false;
                    entry.settings = source.clone();
                }
            }
        }
    }

    /// Stops all runs with a commit, and starts no further one.
    pub fn shut_down(&mut self) -> Vec<Action> {
        self.is_stopping = true;
        let running: Vec<String> = self.entries.keys().cloned().collect();
        running.iter().flat_map(|name| self.stop(name)).collect()
    }

    /// When something is due next.
    pub fn wake_at(&self) -> Option<DateTime<Utc>> {
        self.entries.values().filter_map(|entry| entry.next).min()
    }

    /// The settings of a source.
    pub fn settings(&self, source: &str) -> Option<&SourceSettings> {
        self.entries.get(source).map(|entry| &entry.settings)
    }

    /// Returns the state of every source, by name.
    pub fn seen(&self) -> BTreeMap<String, Seen> {
        let seen = |(name, entry): (&String, &Entry)| {
            let seen = Seen {
                next: entry.next.filter(|_| !entry.remembered.paused),
                phase: entry.phase,
                paused: entry.remembered.paused,
                again: entry.again.is_some(),
            };
            (name.clone(), seen)
        };
        self.entries.iter().map(seen).collect()
    }

    /// Returns what is stored beyond the process.
    pub fn remembered(&self) -> BTreeMap<String, Remembered> {
        let of = |(name, entry): (&String, &Entry)| (name.clone(), entry.remembered);
        self.entries.iter().map(of).collect()
    }
}

#[cfg(test)]
mod tests;
