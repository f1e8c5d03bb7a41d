//! All tables of the three vendors, as functions of (seed, table, index).

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::Simulation;
use crate::ledger::{Entry, Fate, Ledger};
use crate::mixpanel_history::History;
use crate::template::{ALPHANUMERIC, Layout, Template};
use crate::timeline::Timeline;
use crate::zendesk::events::EventLog;
use crate::zendesk::table::{Listing, Of};

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
    /// The table it belongs to record by record, with the same number of records and the same
    /// draws.
    like: Option<String>,
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
    list: Option<Listing>,
    /// One in so many is deleted from the start.
    deleted_one_in: Option<u64>,
    /// What is different in a record that is deleted, or deleted for good.
    deleted: Option<Map<String, Value>>,
    scrubbed: Option<Map<String, Value>>,
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
    unit: i64,
    prefix: String,
    ids: Ids,
    key: u64,
    like: Option<usize>,
    id_is_text: bool,
    pub(crate) list: Option<Listing>,
    /// The table whose records it belongs to, so many to each, which one in so many has.
    pub(crate) parent: Option<(usize, u64, u64)>,
    /// What has become of the records; none in tables that don't change, and in those that follow
    /// another one.
    ledger: Option<RwLock<Ledger>>,
    deleted: Option<Template>,
    scrubbed: Option<Template>,
    /// The second up to which records are there for readers; shared by all tables.
    shown_until: Arc<AtomicI64>,
}

/// The data behind the server.
pub(crate) struct World {
    pub(crate) tables: Vec<Table>,
    pub(crate) live: bool,
    pub(crate) project: u64,
    /// Whether Zendesk's deletions for good take what belonged to a record.
    erases: bool,
    /// What becomes of Mixpanel's events.
    pub(crate) history: History,
    names: HashMap<String, usize>,
    shown_until: Arc<AtomicI64>,
    events: RwLock<EventLog>,
}

impl World {
    pub(crate) fn new(simulation: &Simulation) -> std::io::Result<World> {
        let mut definitions = Vec::new();
        for (file, layout) in [
            (STRIPE, Layout::Pretty),
            (ZENDESK, Layout::Compact),
            (MIXPANEL, Layout::Compact),
        ] {
            let all: Vec<Definition> = serde_json::from_str(file)?;
            definitions.extend(all.into_iter().map(|definition| (definition, layout)));
        }
        let names: HashMap<String, usize> = definitions
            .iter()
            .enumerate()
            .map(|(ordinal, (definition, _))| (definition.name.clone(), ordinal))
            .collect();
        let shown_until = Arc::new(AtomicI64::new(simulation.shown_until.unwrap_or(i64::MAX)));
        let find = |name: &str| names.get(name).copied().unwrap_or(0);
        let tables: Vec<Table> = definitions
            .into_iter()
            .map(|(definition, layout)| {
                Table::new(definition, layout, simulation, &find, &shown_until)
            })
            .collect();
        let tickets = &tables[find("tickets")];
        let events = RwLock::new(EventLog::new(
            &tickets.timeline,
            simulation.zendesk.event_count(),
            tickets.key,
        ));
        Ok(World {
            tables,
            names,
            live: simulation.stripe.live,
            project: simulation.mixpanel.project_id,
            erases: simulation.zendesk.erases,
            history: History::new(&simulation.mixpanel, simulation.until),
            shown_until,
            events,
        })
    }

    /// Zendesk's log of what happened to tickets.
    pub(crate) fn events(&self) -> RwLockReadGuard<'_, EventLog> {
        self.events.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn events_mut(&self) -> RwLockWriteGuard<'_, EventLog> {
        self.events.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The second from which on records are hidden.
    pub(crate) fn shown_until(&self) -> i64 {
        self.shown_until.load(Ordering::Relaxed)
    }

    /// The record that decides when this one changes and whether it is there: itself, or the one it
    /// belongs to.
    fn root(&self, row: Row) -> Row {
        let table = &self.tables[row.table];
        match (table.like, table.parent) {
            (Some(owner), _) => self.root(Row {
                table: owner,
                index: row.index,
            }),
            (None, Some(_)) => self.parent(row).map_or(row, |parent| self.root(parent)),
            (None, None) => row,
        }
    }

    /// The record that this one is a child of.
    pub(crate) fn parent(&self, row: Row) -> Option<Row> {
        let (table, per, _) = self.tables[row.table].parent?;
        Some(Row {
            table,
            index: row.index / per,
        })
    }

    /// The children that a record has in another table.
    pub(crate) fn children(&self, row: Row, table: usize) -> Vec<u64> {
        let Some((_, per, _)) = self.tables[table].parent else {
            return Vec::new();
        };
        let all = row.index * per..(row.index + 1) * per;
        all.filter(|index| {
            self.exists(Row {
                table,
                index: *index,
            })
        })
        .collect()
    }

    /// How many records a table has, those that are hidden or gone included.
    pub(crate) fn count(&self, table: usize) -> u64 {
        let known = &self.tables[table];
        match (known.like, known.parent) {
            (Some(owner), _) => self.count(owner),
            (None, Some((parent, per, _))) => self.count(parent) * per,
            (None, None) => known.count(),
        }
    }

    /// What has become of the record that decides.
    pub(crate) fn entry(&self, row: Row) -> Option<Entry> {
        let root = self.root(row);
        self.tables[root.table].ledger()?.entry(root.index)
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
        let version = self.entry(row).map_or(0, |entry| entry.version);
        draw(
            self.tables[row.table].key ^ u64::from(version).wrapping_mul(GATHER),
            row.index,
        )
    }

    /// The record that this one points to in another table.
    pub(crate) fn referenced(&self, row: Row, table: usize, salt: u64) -> Row {
        Row {
            table,
            index: draw(self.key(row), salt) % self.tables[table].timeline.count.max(1),
        }
    }

    /// Whether the record is there: a deleted ticket has no metrics.
    pub(crate) fn exists(&self, row: Row) -> bool {
        let table = &self.tables[row.table];
        let Some(Entry { fate, time, .. }) = self.entry(row) else {
            return table.list.is_none() && row.index < table.count();
        };
        let is_shown = time < self.shown_until();
        let of = table.list.as_ref().map_or(Of::Live, |list| list.of);
        let belongs = match (table.like, table.parent) {
            (Some(_), _) => of.includes(fate, self.erases),
            (None, Some((parent, _, one_in))) => {
                let parent = Row {
                    table: parent,
                    index: row.index / table.parent.map_or(1, |(_, per, _)| per),
                };
                let has = draw(self.tables[row.table].key, parent.index).is_multiple_of(one_in);
                has && fate == Fate::Live && self.exists(parent)
            }
            (None, None) => fate != Fate::Gone,
        };
        is_shown && belongs
    }

    /// The record's time in the table's unit, and in seconds.
    pub(crate) fn time(&self, row: Row) -> i64 {
        self.entry(row).map_or_else(
            || self.tables[row.table].timeline.at(row.index),
            |entry| entry.time,
        )
    }

    pub(crate) fn seconds(&self, row: Row) -> i64 {
        self.time(row) / self.tables[row.table].unit
    }

    /// Appends the record as JSON.
    pub(crate) fn write(&self, row: Row, requested: &[&str], out: &mut Vec<u8>) {
        self.template(row).write(self, row, requested, out);
    }

    /// A deleted record looks different.
    fn template(&self, row: Row) -> &Template {
        let table = &self.tables[row.table];
        let special = match self
            .entry(row)
            .filter(|_| table.ledger.is_some())
            .map(|entry| entry.fate)
        {
            Some(Fate::Deleted) => table.deleted.as_ref(),
            Some(Fate::Scrubbed) => table.scrubbed.as_ref().or(table.deleted.as_ref()),
            _ => None,
        };
        special.unwrap_or(&table.template)
    }

    /// Appends records separated by commas.
    pub(crate) fn write_all(
        &self,
        table: usize,
        indexes: &[u64],
        requested: &[&str],
        out: &mut Vec<u8>,
    ) {
        for (position, index) in indexes.iter().enumerate() {
            if position > 0 {
                out.push(b',');
            }
            self.write(
                Row {
                    table,
                    index: *index,
                },
                requested,
                out,
            );
        }
    }

    /// The JSON text of a top-level field.
    pub(crate) fn field(&self, row: Row, name: &str) -> Option<Vec<u8>> {
        self.template(row).field(name, self, row)
    }

    /// Appends a record's id; `json` for a JSON value instead of bare text.
    pub(crate) fn write_id(&self, row: Row, json: bool, out: &mut Vec<u8>) {
        let id = self.tables[row.table].id(row.index);
        let quoted = json && self.tables[row.table].id_is_text;
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
    bytes.iter().fold(0xCBF2_9CE4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3)
    })
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
