//! What a complete sync must have stored.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use serde_json::Value;

use crate::mixpanel_history::{History, Merge, Shown};
use crate::world::{Row, World};
use crate::zendesk::events::LogTable;

/// The data behind the APIs, table by table. A table is named as its stream: `charges`,
/// `invoice_items`, `tickets`, `ticket_metrics`, `users`, `user_identities`, `organizations`,
/// `groups`, `export`, `engage`, `cohorts`, ….
#[derive(Clone)]
pub struct Truth(Arc<World>);

/// One of Mixpanel's events.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TrueEvent {
    /// Its `$insert_id`.
    pub insert_id: String,
    /// The user who caused it, or the one who that was merged with.
    pub distinct_id: String,
    /// The user who caused it, if that one was merged with another.
    pub former_id: Option<String>,
    /// Its exported time, in milliseconds.
    pub time: i64,
    /// When it was processed, in milliseconds since 1970.
    pub processed: i64,
}

impl Truth {
    pub(crate) fn new(world: Arc<World>) -> Truth {
        Truth(world)
    }

    /// The names of all tables.
    pub fn tables(&self) -> Vec<&str> {
        let tables = self
            .0
            .tables
            .iter()
            .map(|table| table.name.as_str())
            .filter(|name| *name != "account");
        tables.chain(LogTable::ALL.map(LogTable::name)).collect()
    }

    /// How many records a table has; none if there is no such table.
    pub fn count(&self, table: &str) -> u64 {
        if let Some(kind) = LogTable::named(table) {
            return self.0.events().shown(kind, self.0.shown_until()).count() as u64;
        }
        self.rows(table).count() as u64
    }

    /// The ids of a table's records, sorted as strings.
    pub fn ids(&self, table: &str) -> Vec<String> {
        let mut ids: Vec<String> = match LogTable::named(table) {
            Some(kind) => {
                let events = self.0.events();
                events
                    .shown(kind, self.0.shown_until())
                    .map(|event| kind.id(event).to_string())
                    .collect()
            }
            None => self
                .rows(table)
                .map(|row| self.0.tables[row.table].id(row.index))
                .collect(),
        };
        ids.sort_unstable();
        ids
    }

    /// The ids of the records with a time in this range, sorted: `created` for Stripe, the time of
    /// the export's order for Zendesk, milliseconds since 1970 for Mixpanel's events.
    pub fn ids_between(&self, table: &str, times: Range<i64>) -> Vec<String> {
        let mut ids: Vec<String> = self
            .rows(table)
            .filter(|row| times.contains(&self.0.time(*row)))
            .map(|row| self.0.tables[row.table].id(row.index))
            .collect();
        ids.sort_unstable();
        ids
    }

    /// The JSON text of one member of every record, by id: `null` where it is missing.
    pub fn members(&self, table: &str, member: &str) -> BTreeMap<String, String> {
        let text =
            |value: Option<&Value>| value.map_or_else(|| "null".to_owned(), Value::to_string);
        if let Some(kind) = LogTable::named(table) {
            let events = self.0.events();
            let shown = events.shown(kind, self.0.shown_until());
            let member = |event| text(events.record(&self.0, kind, event).get(member));
            return shown
                .map(|event| (kind.id(event).to_string(), member(event)))
                .collect();
        }
        let field = |row| {
            self.0.field(row, member).map_or_else(
                || "null".to_owned(),
                |text| String::from_utf8_lossy(&text).into_owned(),
            )
        };
        self.rows(table)
            .map(|row| (self.0.tables[row.table].id(row.index), field(row)))
            .collect()
    }

    /// A record as the API gives it when nothing is expanded or sideloaded; events have their time
    /// in milliseconds.
    pub fn record(&self, table: &str, id: &str) -> Option<Value> {
        if let Some(kind) = LogTable::named(table) {
            let events = self.0.events();
            let event = events
                .shown(kind, self.0.shown_until())
                .find(|event| kind.id(*event).to_string() == id)?;
            return Some(events.record(&self.0, kind, event));
        }
        let table = self.0.find(table)?;
        let row = Row {
            table,
            index: self.0.tables[table].index(id)?,
        };
        let mut text = Vec::new();
        self.0
            .exists(row)
            .then(|| self.0.write(row, &[], &mut text))?;
        serde_json::from_slice(&text).ok()
    }

    /// Mixpanel's events as an export of everything shows them at this second, those left out that
    /// are processed later, and those that merge users among them.
    pub fn events(&self, at: i64) -> Vec<TrueEvent> {
        let world = &*self.0;
        let id = |row: Row| world.tables[row.table].id(row.index);
        let event = |row: Row| {
            let Shown {
                time,
                processed,
                merge,
            } = world.history.shown(world, row, at);
            let (distinct_id, former_id) = match merge {
                Some(merge) => (merge.user, Some(merge.former)),
                None => (id(History::user(world, row)), None),
            };
            TrueEvent {
                insert_id: id(row),
                distinct_id,
                former_id,
                time,
                processed,
            }
        };
        let merge = |merge: Merge| TrueEvent {
            insert_id: merge.insert_id(),
            distinct_id: merge.user,
            former_id: Some(merge.former),
            time: merge.time,
            processed: merge.processed,
        };
        let events = self
            .rows("export")
            .map(event)
            .chain(world.history.merges(world).map(merge));
        events.filter(|event| event.processed < 1000 * at).collect()
    }

    fn rows(&self, table: &str) -> impl Iterator<Item = Row> {
        let table = self
            .0
            .find(table)
            .filter(|table| self.0.tables[*table].name != "account");
        let rows = table
            .into_iter()
            .flat_map(|table| (0..self.0.count(table)).map(move |index| Row { table, index }));
        rows.filter(|row| self.0.exists(*row))
    }
}
