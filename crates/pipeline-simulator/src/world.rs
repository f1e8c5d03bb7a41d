//! All tables of the three vendors, as functions of (seed, table, index).

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::Simulation;
use crate::template::{ALPHANUMERIC, Layout, Template};
use crate::timeline::Timeline;

const STRIPE: &str = include_str!("../data/stripe.json");
const ZENDESK: &str = include_str!("../data/zendesk.json");
const MIXPANEL: &str = include_str!("../data/mixpanel.json");

/// Seconds in a day.
pub(crate) const DAY: i64 = 86_400;

/// The odd factor that spreads indexes over ids, and its inverse modulo 2^64.
const SPREAD: u64 = 0x9E37_79B9_7F4A_7C15;
const GATHER: u64 = 0xF1DE_83E1_9937_733D;

/// A record: the table's ordinal and the position in it, oldest first.
#[derive(Clone, Copy)]
pub(crate) struct Row {
    pub(crate) table: usize,
    pub(crate) index: u64,
}

/// The entry of a table in the data files.
#[derive(Deserialize)]
struct Definition {
    name: String,
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
    /// The table it belongs to record by record, with the same number of records and the same draws.
    like: Option<String>,
    #[serde(default)]
    params: Vec<String>,
    #[serde(default)]
    expandable: Vec<String>,
    record: Map<String, Value>,
}

/// How ids follow from indexes.
enum Ids {
    /// Looks random: the prefix and 22 characters, eleven for the scattered index and eleven to check it.
    Scattered,
    Numbered {
        first: u64,
        step: u64,
    },
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
    unit: i64,
    prefix: String,
    ids: Ids,
    key: u64,
    like: Option<usize>,
    /// The second up to which records are there for readers; shared by all tables.
    shown_until: Arc<AtomicI64>,
}

/// The data behind the server.
pub(crate) struct World {
    pub(crate) tables: Vec<Table>,
    pub(crate) live: bool,
    pub(crate) project: u64,
    names: HashMap<String, usize>,
    shown_until: Arc<AtomicI64>,
}

impl World {
    pub(crate) fn new(simulation: &Simulation) -> std::io::Result<World> {
        let mut definitions = Vec::new();
        for (file, layout) in [(STRIPE, Layout::Pretty), (ZENDESK, Layout::Compact), (MIXPANEL, Layout::Compact)] {
            let all: Vec<Definition> = serde_json::from_str(file)?;
            definitions.extend(all.into_iter().map(|definition| (definition, layout)));
        }
        let names: HashMap<String, usize> =
            definitions.iter().enumerate().map(|(ordinal, (definition, _))| (definition.name.clone(), ordinal)).collect();
        let shown_until = Arc::new(AtomicI64::new(simulation.shown_until.unwrap_or(i64::MAX)));
        let find = |name: &str| names.get(name).copied().unwrap_or(0);
        let tables =
            definitions.into_iter().map(|(definition, layout)| Table::new(definition, layout, simulation, &find, &shown_until)).collect();
        Ok(World { tables, names, live: simulation.stripe.live, project: simulation.mixpanel.project_id, shown_until })
    }

    /// Hides the records that are as new as this second or newer.
    pub(crate) fn show_until(&self, second: i64) {
        self.shown_until.store(second, Ordering::Relaxed);
    }

    /// A table by its name.
    pub(crate) fn find(&self, name: &str) -> Option<usize> {
        self.names.get(name).copied()
    }

    /// A table known to exist.
    pub(crate) fn table(&self, name: &str) -> usize {
        self.find(name).unwrap_or(0)
    }

    /// What a record's holes draw from.
    pub(crate) fn key(&self, row: Row) -> u64 {
        draw(self.tables[row.table].key, row.index)
    }

    /// The record that this one points to in another table.
    pub(crate) fn referenced(&self, row: Row, table: usize, salt: u64) -> Row {
        Row { table, index: draw(self.key(row), salt) % self.tables[table].timeline.count.max(1) }
    }

    /// Whether the record is there: a deleted ticket has no metrics.
    pub(crate) fn exists(&self, row: Row) -> bool {
        let table = &self.tables[row.table];
        let deleted = || table.like.and_then(|owner| self.field(Row { table: owner, index: row.index }, "status"));
        row.index < table.count() && deleted().as_deref() != Some(b"\"deleted\"")
    }

    /// The record's time in the table's unit, and in seconds.
    pub(crate) fn time(&self, row: Row) -> i64 {
        self.tables[row.table].timeline.at(row.index)
    }

    pub(crate) fn seconds(&self, row: Row) -> i64 {
        self.time(row) / self.tables[row.table].unit
    }

    /// Appends the record as JSON.
    pub(crate) fn write(&self, row: Row, requested: &[&str], out: &mut Vec<u8>) {
        self.tables[row.table].template.write(self, row, requested, out);
    }

    /// Appends records separated by commas.
    pub(crate) fn write_all(&self, table: usize, indexes: &[u64], requested: &[&str], out: &mut Vec<u8>) {
        for (position, index) in indexes.iter().enumerate() {
            if position > 0 {
                out.push(b',');
            }
            self.write(Row { table, index: *index }, requested, out);
        }
    }

    /// The JSON text of a top-level field.
    pub(crate) fn field(&self, row: Row, name: &str) -> Option<Vec<u8>> {
        self.tables[row.table].template.field(name, self, row)
    }

    /// Appends a record's id; `json` for a JSON value instead of bare text.
    pub(crate) fn write_id(&self, row: Row, json: bool, out: &mut Vec<u8>) {
        let id = self.tables[row.table].id(row.index);
        let quoted = json && self.tables[row.table].id_is_text();
        if quoted {
            out.push(b'"');
        }
        out.extend_from_slice(id.as_bytes());
        if quoted {
            out.push(b'"');
        }
    }
}

impl Table {
    fn new(
        definition: Definition,
        layout: Layout,
        simulation: &Simulation,
        find: &dyn Fn(&str) -> usize,
        shown_until: &Arc<AtomicI64>,
    ) -> Table {
        let Definition { name, path, prefix, first, step, like, params, expandable, record } = definition;
        let owner = like.clone().unwrap_or_else(|| name.clone());
        let (timeline, unit) = timeline(&owner, simulation);
        Table {
            template: Template::compile(&record, layout, find),
            key: draw(simulation.seed, hash(owner.as_bytes())),
            ids: if step == 0 { Ids::Scattered } else { Ids::Numbered { first, step } },
            like: like.as_deref().map(find),
            name,
            path,
            prefix,
            params,
            expandable,
            timeline,
            unit,
            shown_until: Arc::clone(shown_until),
        }
    }

    /// How many records there are for readers.
    pub(crate) fn count(&self) -> u64 {
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

    fn id_is_text(&self) -> bool {
        matches!(self.ids, Ids::Scattered) || !self.prefix.is_empty()
    }

    /// A record's id.
    pub(crate) fn id(&self, index: u64) -> String {
        match self.ids {
            Ids::Numbered { first, step } => format!("{}{}", self.prefix, first + index * step),
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

    /// The record with this id.
    pub(crate) fn index(&self, id: &str) -> Option<u64> {
        let rest = id.strip_prefix(&self.prefix)?;
        let index = match self.ids {
            Ids::Numbered { first, step } => rest.parse::<u64>().ok()?.checked_sub(first)? / step,
            Ids::Scattered => base62(rest.get(..11)?)?.wrapping_mul(GATHER).wrapping_sub(self.key),
        };
        (index < self.count() && self.id(index) == id).then_some(index)
    }
}

/// How many records of a table there are and when they were made.
fn timeline(name: &str, simulation: &Simulation) -> (Timeline, i64) {
    let Simulation { stripe, zendesk, mixpanel, until, days, .. } = simulation;
    let whole = i64::from(*days) * DAY;
    let seconds = |count, length: i64, recent_share: f64, burst| {
        let span = length.unsigned_abs();
        (Timeline { count, start: until - length, span, recent: per_mille(recent_share), burst }, 1)
    };
    match name {
        "tickets" => seconds(zendesk.tickets, whole, zendesk.recent_share, zendesk.burst),
        "users" => seconds(zendesk.users, whole, zendesk.recent_share, zendesk.burst),
        "organizations" => seconds(zendesk.organizations, whole, zendesk.recent_share, zendesk.burst),
        "groups" => seconds(zendesk.groups, whole, 0.05, 1),
        "export" => {
            // Whole days, so that every day has exactly its share.
            let (end, length) = (until.div_euclid(DAY) * DAY, i64::from(mixpanel.days) * DAY);
            let count = u64::from(mixpanel.days) * mixpanel.events_per_day;
            let span = 1000 * length.unsigned_abs();
            (Timeline { count, start: 1000 * (end - length), span, recent: 50, burst: 1 }, 1000)
        }
        "engage" => seconds(mixpanel.profiles, whole, 0.05, 1),
        "cohorts" => seconds(mixpanel.cohorts, whole, 0.05, 1),
        "account" => seconds(1, whole, 0.05, 1),
        // Stripe keeps events for thirty days.
        "events" => seconds(stripe.count(name), whole.min(30 * DAY), stripe.recent_share, stripe.burst),
        _ => seconds(stripe.count(name), whole, stripe.recent_share, stripe.burst),
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to 0 ..= 1000")]
fn per_mille(share: f64) -> u64 {
    (share.clamp(0.0, 1.0) * 1000.0).round() as u64
}

/// A number that looks random and depends on both arguments only (the finaliser of SplitMix64).
pub(crate) fn draw(key: u64, salt: u64) -> u64 {
    let mut value = key ^ salt.wrapping_mul(SPREAD);
    value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}

/// One of `length` positions.
pub(crate) fn choice(value: u64, length: usize) -> usize {
    usize::try_from(value % length.max(1) as u64).unwrap_or(0)
}

/// FNV-1a: names become numbers the same way in every build.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xCBF2_9CE4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3))
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
