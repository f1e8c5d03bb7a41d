//! What a complete sync must have stored.

use std::ops::Range;
use std::sync::Arc;

use serde_json::Value;

use crate::world::{Row, World};

/// The data behind the APIs, table by table. A table is named as its stream: `charges`, `invoice_items`, `tickets`,
/// `ticket_metrics`, `users`, `user_identities`, `organizations`, `groups`, `export`, `engage`, `cohorts`, ….
#[derive(Clone)]
pub struct Truth(Arc<World>);

impl Truth {
    pub(crate) fn new(world: Arc<World>) -> Truth {
        Truth(world)
    }

    /// The names of all tables.
    pub fn tables(&self) -> Vec<&str> {
        self.0.tables.iter().map(|table| table.name.as_str()).filter(|name| *name != "account").collect()
    }

    /// How many records a table has; none if there is no such table.
    pub fn count(&self, table: &str) -> u64 {
        self.rows(table).count() as u64
    }

    /// The ids of a table's records, sorted as strings.
    pub fn ids(&self, table: &str) -> Vec<String> {
        let mut ids: Vec<String> = self.rows(table).map(|row| self.0.tables[row.table].id(row.index)).collect();
        ids.sort_unstable();
        ids
    }

    /// The ids of the records with a time in this range, sorted: `created` for Stripe, the time of the export's order for
    /// Zendesk, milliseconds since 1970 for Mixpanel's events.
    pub fn ids_between(&self, table: &str, times: Range<i64>) -> Vec<String> {
        let Some(ordinal) = self.0.find(table) else {
            return Vec::new();
        };
        let indexes = self.0.tables[ordinal].between(times);
        let rows = indexes.map(|index| Row { table: ordinal, index }).filter(|row| self.0.exists(*row));
        let mut ids: Vec<String> = rows.map(|row| self.0.tables[ordinal].id(row.index)).collect();
        ids.sort_unstable();
        ids
    }

    /// A record as the API gives it when nothing is expanded or sideloaded; events have their time in milliseconds.
    pub fn record(&self, table: &str, id: &str) -> Option<Value> {
        let table = self.0.find(table)?;
        let row = Row { table, index: self.0.tables[table].index(id)? };
        let mut text = Vec::new();
        self.0.exists(row).then(|| self.0.write(row, &[], &mut text))?;
        serde_json::from_slice(&text).ok()
    }

    fn rows(&self, table: &str) -> impl Iterator<Item = Row> {
        let table = self.0.find(table).filter(|table| self.0.tables[*table].name != "account");
        let rows = table.into_iter().flat_map(|table| (0..self.0.tables[table].count()).map(move |index| Row { table, index }));
        rows.filter(|row| self.0.exists(*row))
    }
}
