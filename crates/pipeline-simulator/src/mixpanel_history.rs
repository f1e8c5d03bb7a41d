//! What happens to a Mixpanel project's events after they happened: some arrive late, and users
//! turn out to be one.

use chrono::{DateTime, Offset as _, TimeZone as _};
use chrono_tz::Tz;

use crate::MixpanelWorld;
use crate::world::{DAY, Row, World, draw, hash};

/// Milliseconds until an event that is not late is processed.
const PROMPT: i64 = 1_300;

/// Milliseconds from the arrival of an event to the end of its processing.
const PROCESSING: i64 = 400;

const MILLION: u64 = 1_000_000;

/// The rules of one project, all of them functions of the event.
pub(crate) struct History {
    late: u64,
    late_days: i64,
    very_late: u64,
    very_late_days: i64,
    merged: u64,
    zone: Option<Tz>,
    /// First second of the project, and how many follow.
    start: i64,
    span: i64,
}

/// An event as the export shows it at some time.
pub(crate) struct Shown {
    /// Its exported time, in milliseconds: UTC, or the project's wall clock read as UTC.
    pub(crate) time: i64,
    /// When it was processed, in milliseconds.
    pub(crate) processed: i64,
    /// The merge of its user with another.
    pub(crate) merge: Option<Merge>,
}

/// Two users turn out to be one. An event of its own says so, which is called `$identify`.
pub(crate) struct Merge {
    /// The id that is given up.
    pub(crate) former: String,
    /// The id that stands for both from then on.
    pub(crate) user: String,
    /// The second at which it happens.
    when: i64,
    /// The exported time of the event, and when it is processed, in milliseconds.
    pub(crate) time: i64,
    pub(crate) processed: i64,
}

impl Merge {
    /// The event's `$insert_id`.
    pub(crate) fn insert_id(&self) -> String {
        format!("identify-{}", self.former)
    }
}

impl History {
    pub(crate) fn new(project: &MixpanelWorld, until: i64) -> History {
        let span = i64::from(project.days) * DAY;
        History {
            late: millionths(project.late),
            late_days: i64::from(project.late_days.max(1)),
            very_late: millionths(project.very_late),
            very_late_days: i64::from(project.very_late_days.max(project.late_days + 1)),
            merged: millionths(project.merged),
            zone: project.local_zone,
            start: until.div_euclid(DAY) * DAY - span,
            span: span.max(1),
        }
    }

    /// When an event was processed, in milliseconds.
    pub(crate) fn processed(&self, world: &World, row: Row) -> i64 {
        let time = world.time(row);
        let dice = draw(world.key(row), hash(b"late"));
        // A second number, so that how late an event is does not follow from whether it is.
        let delay = draw(world.key(row), hash(b"delay"));
        let within = |from: i64, to: i64| {
            let span = (to - from).max(1).unsigned_abs() * DAY.unsigned_abs() * 1000;
            from * DAY * 1000 + i64::try_from(delay % span).unwrap_or(0)
        };
        let late = match dice % MILLION {
            dice if dice < self.very_late => within(self.late_days, self.very_late_days),
            dice if dice < self.very_late + self.late => within(0, self.late_days),
            _ => return time + PROMPT,
        };
        time + late + PROCESSING
    }

    /// The profile of the user who caused an event, before any merge.
    pub(crate) fn user(world: &World, row: Row) -> Row {
        world.referenced(row, world.table("engage"), hash(b"engage"))
    }

    /// The merge that turns a user into another, if there is one.
    fn merge(&self, world: &World, user: Row) -> Option<Merge> {
        let is_merged = |user: Row| draw(world.key(user), hash(b"merged")) % MILLION < self.merged;
        if self.merged == 0 || !is_merged(user) {
            return None;
        }
        let when = self.start
            + i64::try_from(draw(world.key(user), hash(b"when")) % self.span.unsigned_abs())
                .unwrap_or(0);
        // Never with one that is merged itself, so that there are no chains.
        let count = world.tables[user.table].timeline.count;
        let other = (1..count)
            .map(|step| Row {
                index: (user.index + step) % count,
                ..user
            })
            .find(|other| !is_merged(*other))?;
        let id = |row: Row| world.tables[row.table].id(row.index);
        Some(Merge {
            former: id(user),
            user: id(other),
            when,
            time: self.exported(1000 * when),
            processed: 1000 * when + PROMPT,
        })
    }

    /// All merges of users.
    pub(crate) fn merges<'a>(&'a self, world: &'a World) -> impl Iterator<Item = Merge> + 'a {
        let table = world.table("engage");
        let users = if self.merged == 0 {
            0
        } else {
            world.tables[table].timeline.count
        };
        (0..users).filter_map(move |index| self.merge(world, Row { table, index }))
    }

    /// The event as the export shows it at this second.
    pub(crate) fn shown(&self, world: &World, row: Row, at: i64) -> Shown {
        let time = self.exported(world.time(row));
        let merge = if self.merged == 0 {
            None
        } else {
            self.merge(world, History::user(world, row))
        };
        Shown {
            time,
            processed: self.processed(world, row),
            merge: merge.filter(|merge| merge.when <= at),
        }
    }

    /// What the export writes for an instant in UTC.
    pub(crate) fn exported(&self, time: i64) -> i64 {
        let Some(zone) = self.zone else { return time };
        let instant = DateTime::from_timestamp_millis(time).unwrap_or_default();
        time + 1000
            * i64::from(
                zone.offset_from_utc_datetime(&instant.naive_utc())
                    .fix()
                    .local_minus_utc(),
            )
    }

    /// The name of the project's zone.
    pub(crate) fn zone(&self) -> &'static str {
        self.zone.map_or("UTC", |zone| zone.name())
    }

    /// True when exported times are those of a wall clock.
    pub(crate) fn is_local(&self) -> bool {
        self.zone.is_some()
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to 0 ..= 1000000"
)]
fn millionths(share: f64) -> u64 {
    (share.clamp(0.0, 1.0) * 1_000_000.0).round() as u64
}
