//! All tables of the three vendors, as functions of (seed, table, index).

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use self::table::{Definition, GATHER, SPREAD};
use crate::Simulation;
use crate::ledger::{Entry, Fate};
use crate::mixpanel_history::History;
use crate::template::{Layout, Template};
use crate::zendesk::events::EventLog;
use crate::zendesk::table::Of;

mod table;

pub(crate) use self::table::Table;

const STRIPE: &str = include_str!("../data/stripe.json");

const ZENDESK: &str = include_str!("../data/zendesk.json");

const MIXPANEL: &str = include_str!("../data/mixpanel.json");

/// Seconds in a day.
pub(crate) const DAY: i64 = 86_400;

/// A record: the table's ordinal and the position in it, oldest first.
#[derive(Clone, Copy)]
pub(crate) struct Row {
    pub(crate) table: usize,
    pub(crate) index: u64,
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
