//! Alerts: sent once when a state changes, also across restarts.
//!
//! [`Book`] decides what has changed. It is pure, and it is stored before anything is sent.
//! [`Sender`](send::Sender) delivers it.

pub(crate) mod message;
pub(crate) mod send;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

pub use self::message::Alert;
use crate::runner::{Ended, StoredStream, Verdict};
use crate::settings::{AlertSettings, Freshness};

/// Members whose drift is remembered, per source.
const DRIFT: usize = 1_000;

/// Alerts that wait to be sent; the oldest are given up first.
const OUTBOX: usize = 200;

/// What can be alerted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A run failed.
    Failed,
    /// The vendor refuses the credentials, or they lack a permission.
    Credentials,
    /// Data is older than `freshness` allows.
    Stale,
    /// Units are missing because the vendor withholds them.
    Gaps,
    /// Records have members that no column takes, or that do not fit theirs.
    Drift,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Failed,
        Self::Credentials,
        Self::Stale,
        Self::Gaps,
        Self::Drift,
    ];

    /// Those that are alerted when nothing is configured.
    pub const DEFAULT: [Self; 4] = [Self::Failed, Self::Credentials, Self::Stale, Self::Gaps];

    /// The kind as the configuration and alerts have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Credentials => "credentials",
            Self::Stale => "stale",
            Self::Gaps => "gaps",
            Self::Drift => "drift",
        }
    }
}

/// Where alerts go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Channel {
    /// A URL that receives JSON.
    Webhook,
    /// An incoming webhook of Slack.
    Slack,
}

impl Channel {
    /// All of them.
    pub(crate) const ALL: [Self; 2] = [Self::Webhook, Self::Slack];

    /// The channel as metrics and logs have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Webhook => "webhook",
            Self::Slack => "slack",
        }
    }
}

/// The conditions that hold, and the alerts that are not sent yet.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Book {
    /// Conditions that hold, by source.
    #[serde(default)]
    raised: BTreeMap<String, BTreeMap<Kind, Raised>>,
    /// Members whose drift was seen, by source.
    #[serde(default)]
    drift: BTreeMap<String, BTreeSet<String>>,
    /// From when on a source's data is expected: when the service saw it first.
    #[serde(default)]
    since: BTreeMap<String, DateTime<Utc>>,
    /// What is to be sent, the oldest first.
    #[serde(default)]
    outbox: Vec<Pending>,
    #[serde(default)]
    next_id: u64,
}

/// A condition that holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Raised {
    since: DateTime<Utc>,
    /// True when an alert was sent for it, so that its end is reported as well.
    announced: bool,
}

/// An alert that is still to be sent to one channel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Pending {
    pub(crate) id: u64,
    pub(crate) channel: Channel,
    pub(crate) alert: Alert,
    #[serde(default)]
    pub(crate) tries: u32,
}

/// A source's data that is too old.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Age {
    pub(crate) streams: Vec<String>,
    pub(crate) lag: Duration,
}

impl Book {
    /// Records how a run of a source ended.
    pub(crate) fn ended(
        &mut self,
        source: &str,
        ended: &Ended,
        settings: &AlertSettings,
        now: DateTime<Utc>,
    ) {
        let alert = |kind, resolved| Alert::of_run(kind, resolved, source, ended, now);
        // One of the two at a time, or neither.
        let health = match ended.verdict {
            Verdict::Interrupted | Verdict::Busy => {
                return self.drifted(source, ended, settings, now);
            }
            Verdict::Done | Verdict::Missing => None,
            Verdict::Failed => Some(Kind::Failed),
            Verdict::Refused => Some(Kind::Credentials),
        };
        for kind in [Kind::Failed, Kind::Credentials] {
            if health == Some(kind) {
                self.raise(source, kind, settings, now, || alert(kind, false));
            } else if health.is_none() {
                self.resolve(source, kind, settings, || alert(kind, true));
            } else {
                // One failure follows another: the source has not recovered.
                self.forget(source, kind);
            }
        }
        match ended.verdict {
            Verdict::Missing => {
                self.raise(source, Kind::Gaps, settings, now, || {
                    alert(Kind::Gaps, false)
                });
            }
            Verdict::Done => self.resolve(source, Kind::Gaps, settings, || alert(Kind::Gaps, true)),
            _ => {}
        }
        self.drifted(source, ended, settings, now);
    }

    /// Drift has no end: each member is reported once.
    fn drifted(
        &mut self,
        source: &str,
        ended: &Ended,
        settings: &AlertSettings,
        now: DateTime<Utc>,
    ) {
        let seen = self.drift.entry(source.to_owned()).or_default();
        let mut new: Vec<&(String, String)> = Vec::new();
        for drift in &ended.drift {
            if seen.len() < DRIFT && seen.insert(drift.0.clone()) {
                new.push(drift);
            }
        }
        if !new.is_empty() && settings.when.contains(&Kind::Drift) {
            let alert = Alert::of_drift(source, &new, ended, now);
            self.send(settings, alert);
        }
    }

    /// Records whether the data of a source is too old. None: it is fresh.
    pub(crate) fn aged(
        &mut self,
        source: &str,
        age: Option<&Age>,
        settings: &AlertSettings,
        now: DateTime<Utc>,
    ) {
        match age {
            Some(age) => self.raise(source, Kind::Stale, settings, now, || {
                Alert::of_age(false, source, age, now)
            }),
            None => self.resolve(source, Kind::Stale, settings, || {
                let age = Age {
                    streams: Vec::new(),
                    lag: Duration::ZERO,
                };
                Alert::of_age(true, source, &age, now)
            }),
        }
    }

    /// Returns the time from which data of a source is expected: its first appearance.
    pub(crate) fn since(&mut self, source: &str, now: DateTime<Utc>) -> DateTime<Utc> {
        *self.since.entry(source.to_owned()).or_insert(now)
    }

    /// Conditions that hold for a source.
    pub(crate) fn raised(&self, source: &str) -> Vec<(Kind, DateTime<Utc>)> {
        let of_source = self.raised.get(source).into_iter().flatten();
        of_source
            .map(|(kind, raised)| (*kind, raised.since))
            .collect()
    }

    fn raise(
        &mut self,
        source: &str,
        kind: Kind,
        settings: &AlertSettings,
        now: DateTime<Utc>,
        alert: impl FnOnce() -> Alert,
    ) {
        let raised = self.raised.entry(source.to_owned()).or_default();
        if raised.contains_key(&kind) {
            return;
        }
        let announced = settings.when.contains(&kind);
        raised.insert(
            kind,
            Raised {
                since: now,
                announced,
            },
        );
        if announced {
            self.send(settings, alert());
        }
    }

    fn resolve(
        &mut self,
        source: &str,
        kind: Kind,
        settings: &AlertSettings,
        alert: impl FnOnce() -> Alert,
    ) {
        if let Some(raised) = self.forget(source, kind)
            && raised.announced
        {
            let since = Some(raised.since);
            self.send(settings, Alert { since, ..alert() });
        }
    }

    fn forget(&mut self, source: &str, kind: Kind) -> Option<Raised> {
        self.raised.get_mut(source)?.remove(&kind)
    }

    fn send(&mut self, settings: &AlertSettings, alert: Alert) {
        let channels = [
            (Channel::Webhook, &settings.webhook),
            (Channel::Slack, &settings.slack),
        ];
        for (channel, url) in channels {
            if url.is_some() {
                self.outbox.push(Pending {
                    id: self.next_id,
                    channel,
                    alert: alert.clone(),
                    tries: 0,
                });
                self.next_id += 1;
            }
        }
        let excess = self.outbox.len().saturating_sub(OUTBOX);
        self.outbox.drain(..excess);
    }

    /// The oldest alert that is still to be sent to a channel.
    pub(crate) fn pending(&self, channel: Channel) -> Option<&Pending> {
        self.outbox
            .iter()
            .find(|pending| pending.channel == channel)
    }

    /// An attempt to send has failed. Returns true when it was the last one.
    pub(crate) fn tried(&mut self, id: u64, most: u32) -> bool {
        let Some(pending) = self.outbox.iter_mut().find(|pending| pending.id == id) else {
            return true;
        };
        pending.tries += 1;
        let is_last = pending.tries >= most;
        if is_last {
            self.sent(id);
        }
        is_last
    }

    /// An alert was sent, or is given up.
    pub(crate) fn sent(&mut self, id: u64) {
        self.outbox.retain(|pending| pending.id != id);
    }
}

/// Which streams of a source are older than they may be. A stream that was never complete counts
/// from `since`; one that the credentials may not read does not count.
pub(crate) fn age(
    source: &str,
    freshness: &Freshness,
    streams: &[StoredStream],
    since: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Option<Age> {
    let of_source = || {
        streams
            .iter()
            .filter(|stream| stream.source == source && !stream.stream.starts_with('_'))
    };
    let lag = |succeeded: Option<DateTime<Utc>>| now - succeeded.unwrap_or(since);
    let is_over = |lag: TimeDelta, most: Option<Duration>| {
        most.is_some_and(|most| lag.to_std().is_ok_and(|lag| lag > most))
    };
    let mut old: Vec<(String, TimeDelta)> = of_source()
        .filter(|stream| stream.available)
        .filter(|stream| is_over(lag(stream.succeeded), freshness.of(&stream.stream)))
        .map(|stream| (stream.stream.clone(), lag(stream.succeeded)))
        .collect();
    // Nothing is stored at all.
    if of_source().next().is_none() && is_over(lag(None), freshness.shortest()) {
        old.push(("*".to_owned(), lag(None)));
    }
    let lag = old.iter().map(|(_, lag)| *lag).max()?;
    Some(Age {
        streams: old.into_iter().map(|(stream, _)| stream).collect(),
        lag: lag.to_std().unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests;
