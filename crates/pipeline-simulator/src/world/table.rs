//! One table of a world: which records it has, and when they were made.

use std::ops::Range;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{DAY, choice, draw, hash};
use crate::Simulation;
use crate::ledger::Ledger;
use crate::template::{ALPHANUMERIC, Layout, Template};
use crate::timeline::Timeline;
use crate::zendesk::table::Listing;

/// The odd factor that spreads indexes over ids, and its inverse modulo 2^64.
pub(super) const SPREAD: u64 = 0x9E37_79B9_7F4A_7C15;

pub(super) const GATHER: u64 = 0xF1DE_83E1_9937_733D;

/// The entry of a table in the data files.
#[derive(Deserialize)]
pub(super) struct Definition {
    pub(super) name: String,
    /// Where Stripe lists it.
    #[serde(default)]
    path: String,
    #[serde(default)]
    prefix: String,
    /// The first id, for ids that are (prefixed) numbers.
    #[serde(default)]
    first: u64,
    #[serde(default)]
    step: u64,
    /// The table it belongs to record by record, with the same number of records and the same
    /// draws.
    pub(super) like: Option<String>,
    #[serde(default)]
    params: Vec<String>,
    #[serde(default)]
    expandable: Vec<String>,
    record: Map<String, Value>,
    /// Ids that are UUIDs, and numbers that are written as text.
    #[serde(default)]
    uuid: bool,
    #[serde(default)]
    text: bool,
    /// How Zendesk lists it.
    pub(super) list: Option<Listing>,
    /// One in so many is deleted from the start.
    deleted_one_in: Option<u64>,
    /// What is different in a record that is deleted, or deleted for good.
    pub(super) deleted: Option<Map<String, Value>>,
    pub(super) scrubbed: Option<Map<String, Value>>,
}

/// How ids follow from indexes.
enum Ids {
    /// Looks random: the prefix and 22 characters, eleven for the scattered index and eleven to
    /// check it.
    Scattered,
    Numbered {
        first: u64,
        step: u64,
    },
    Uuid,
}

/// One kind of record.
pub(crate) struct Table {
    pub(crate) name: String,
    pub(crate) path: String,
    pub(crate) params: Vec<String>,
    pub(crate) expandable: Vec<String>,
    pub(crate) template: Template,
    pub(crate) timeline: Timeline,
    /// How many units of the timeline make a second.
    pub(super) unit: i64,
    prefix: String,
    ids: Ids,
    pub(super) key: u64,
    pub(super) like: Option<usize>,
    pub(super) id_is_text: bool,
    pub(crate) list: Option<Listing>,
    /// The table whose records it belongs to, so many to each, which one in so many has.
    pub(crate) parent: Option<(usize, u64, u64)>,
    /// What has become of the records; none in tables that don't change, and in those that follow
    /// another one.
    pub(super) ledger: Option<RwLock<Ledger>>,
    pub(super) deleted: Option<Template>,
    pub(super) scrubbed: Option<Template>,
    /// The second up to which records are there for readers; shared by all tables.
    pub(super) shown_until: Arc<AtomicI64>,
}

impl Table {
    pub(super) fn new(
        definition: Definition,
        layout: Layout,
        simulation: &Simulation,
        find: &dyn Fn(&str) -> usize,
        shown_until: &Arc<AtomicI64>,
    ) -> Table {
        let Definition {
            name,
            path,
            prefix,
            first,
            step,
            like,
            params,
            expandable,
            record,
            list,
            ..
        } = definition;
        let owner = like.clone().unwrap_or_else(|| name.clone());
        let (timeline, unit) = timeline(&owner, list.is_some(), simulation);
        let key = draw(simulation.seed, hash(owner.as_bytes()));
        let parent = list
            .as_ref()
            .and_then(|list| Some((find(list.parent.as_deref()?), list.per, list.one_in)));
        let deleted = |index| {
            definition
                .deleted_one_in
                .is_some_and(|one_in| draw(key, index).is_multiple_of(one_in))
        };
        let ledger = list.as_ref().filter(|_| like.is_none() && parent.is_none());
        let ledger = ledger.map(|_| RwLock::new(Ledger::new(&timeline, deleted)));
        let variant = |changed: Option<&Map<String, Value>>| {
            let mut record = record.clone();
            record.extend(changed?.clone());
            Some(Template::compile(&record, layout, find))
        };
        Table {
            template: Template::compile(&record, layout, find),
            deleted: variant(definition.deleted.as_ref()),
            scrubbed: variant(definition.scrubbed.as_ref()),
            key,
            ids: match (definition.uuid, step) {
                (true, _) => Ids::Uuid,
                (false, 0) => Ids::Scattered,
                (false, step) => Ids::Numbered { first, step },
            },
            id_is_text: definition.uuid || definition.text || step == 0 || !prefix.is_empty(),
            like: like.as_deref().map(find),
            name,
            path,
            prefix,
            params,
            expandable,
            timeline,
            unit,
            list,
            parent,
            ledger,
            shown_until: Arc::clone(shown_until),
        }
    }

    /// The table that it belongs to record by record.
    pub(crate) fn like_table(&self) -> Option<usize> {
        self.like
    }

    pub(crate) fn ledger(&self) -> Option<RwLockReadGuard<'_, Ledger>> {
        Some(
            self.ledger
                .as_ref()?
                .read()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }

    pub(crate) fn ledger_mut(&self) -> Option<RwLockWriteGuard<'_, Ledger>> {
        Some(
            self.ledger
                .as_ref()?
                .write()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }

    /// How many records there are for readers.
    pub(crate) fn count(&self) -> u64 {
        if let Some(ledger) = self.ledger() {
            // Which of them are hidden depends on each.
            return ledger.len();
        }
        if self.list.is_some() {
            // Those of the table that it follows.
            return u64::MAX;
        }
        match self.shown_until.load(Ordering::Relaxed) {
            i64::MAX => self.timeline.count,
            second => self.timeline.before(second.saturating_mul(self.unit)),
        }
    }

    /// The first record that isn't older than `time`, or the end.
    pub(crate) fn first_since(&self, time: i64) -> u64 {
        self.timeline.before(time).min(self.count())
    }

    /// The records with a time in this range.
    pub(crate) fn between(&self, times: Range<i64>) -> Range<u64> {
        self.first_since(times.start)..self.first_since(times.end)
    }

    /// A record's id.
    pub(crate) fn id(&self, index: u64) -> String {
        match self.ids {
            Ids::Numbered { first, step } => format!("{}{}", self.prefix, first + index * step),
            Ids::Uuid => format!("{:08x}-0000-4000-8000-{index:012x}", self.key >> 32),
            Ids::Scattered => {
                let code = index.wrapping_add(self.key).wrapping_mul(SPREAD);
                let mut id = String::with_capacity(self.prefix.len() + 22);
                id.push_str(&self.prefix);
                push_base62(code, &mut id);
                push_base62(draw(code, self.key), &mut id);
                id
            }
        }
    }

    /// The first record whose id is greater than this one, which needn't be that of a record.
    pub(crate) fn rank(&self, id: &str) -> Option<u64> {
        let rest = id.strip_prefix(&self.prefix)?;
        match self.ids {
            Ids::Numbered { first, step } => Some(
                rest.parse::<u64>()
                    .ok()?
                    .checked_sub(first)
                    .map_or(0, |above| above / step + 1),
            ),
            Ids::Uuid | Ids::Scattered => Some(self.index(id)? + 1),
        }
    }

    /// The record with this id.
    pub(crate) fn index(&self, id: &str) -> Option<u64> {
        let rest = id.strip_prefix(&self.prefix)?;
        let index = match self.ids {
            Ids::Uuid => u64::from_str_radix(rest.get(24..)?, 16).ok()?,
            Ids::Numbered { first, step } => rest.parse::<u64>().ok()?.checked_sub(first)? / step,
            Ids::Scattered => base62(rest.get(..11)?)?
                .wrapping_mul(GATHER)
                .wrapping_sub(self.key),
        };
        (index < self.count() && self.id(index) == id).then_some(index)
    }
}

/// How many records of a table there are and when they were made.
fn timeline(name: &str, is_zendesk: bool, simulation: &Simulation) -> (Timeline, i64) {
    let Simulation {
        stripe,
        zendesk,
        mixpanel,
        until,
        days,
        ..
    } = simulation;
    let whole = i64::from(*days) * DAY;
    let seconds = |count, length: i64, recent_share: f64, burst| {
        let span = length.unsigned_abs();
        (
            Timeline {
                count,
                start: until - length,
                span,
                recent: per_mille(recent_share),
                burst,
            },
            1,
        )
    };
    match name {
        "tickets" => seconds(zendesk.tickets, whole, zendesk.recent_share, zendesk.burst),
        "users" => seconds(zendesk.users, whole, zendesk.recent_share, zendesk.burst),
        "organizations" => seconds(
            zendesk.organizations,
            whole,
            zendesk.recent_share,
            zendesk.burst,
        ),
        "groups" => seconds(zendesk.groups, whole, 0.05, 1),
        _ if is_zendesk => seconds(zendesk.count(name), whole, zendesk.recent_share, 1),
        "export" => {
            // Whole days, so that every day has exactly its share.
            let (end, length) = (until.div_euclid(DAY) * DAY, i64::from(mixpanel.days) * DAY);
            let count = u64::from(mixpanel.days) * mixpanel.events_per_day;
            let span = 1000 * length.unsigned_abs();
            (
                Timeline {
                    count,
                    start: 1000 * (end - length),
                    span,
                    recent: 50,
                    burst: 1,
                },
                1000,
            )
        }
        "engage" => seconds(mixpanel.profiles, whole, 0.05, 1),
        "cohorts" => seconds(mixpanel.cohorts, whole, 0.05, 1),
        "account" => seconds(1, whole, 0.05, 1),
        // Stripe keeps events for thirty days.
        _ => {
            let length = if name == "events" {
                whole.min(30 * DAY)
            } else {
                whole
            };
            let recent_share = stripe
                .recent_shares
                .get(name)
                .copied()
                .unwrap_or(stripe.recent_share);
            seconds(stripe.count(name), length, recent_share, stripe.burst)
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to 0 ..= 1000"
)]
fn per_mille(share: f64) -> u64 {
    (share.clamp(0.0, 1.0) * 1000.0).round() as u64
}

fn push_base62(mut number: u64, out: &mut String) {
    let mut digits = [b'0'; 11];
    for digit in digits.iter_mut().rev() {
        *digit = ALPHANUMERIC[choice(number, 62)];
        number /= 62;
    }
    out.extend(digits.map(char::from));
}

fn base62(text: &str) -> Option<u64> {
    text.bytes().try_fold(0u64, |number, byte| {
        let digit = ALPHANUMERIC.iter().position(|letter| *letter == byte)?;
        number.checked_mul(62)?.checked_add(digit as u64)
    })
}
