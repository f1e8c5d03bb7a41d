//! The statements that bring staged rows into a table.

use destination_sql::{Deletes, quote, quote_all};
use pipeline_engine::{DELETED, SYNCED_AT};

use super::Writer;
use crate::columns;
use crate::encode::Place;
use crate::stage::Stage;
use crate::table::{ORDER, WRITTEN_BY};

impl Writer {
    /// An insert of some columns from the staging table, which replaces them where there is a row
    /// with the key that differs in those that are compared; without any to compare, always. It
    /// returns how many rows were added, and how many were written.
    pub(super) fn insert(&self, places: &[&Place], compared: &[&Place]) -> String {
        let mut names: Vec<String> = places.iter().map(|place| quote(&place.name)).collect();
        let mut values: Vec<String> = places.iter().map(|place| Stage::value(place)).collect();
        if let Some(number) = self.written_by {
            names.push(WRITTEN_BY.to_owned());
            values.push(number.to_string());
        }
        let conflict = if self.key.is_empty() {
            String::new()
        } else {
            self.on_conflict(&names, compared)
        };
        format!(
            "WITH merged AS (
                 INSERT INTO {} AS t ({}) SELECT {} FROM {} AS s WHERE s.{ORDER} BETWEEN $1 AND $2 {conflict}
                 RETURNING t.xmax = 0 AS is_new)
             SELECT count(*) FILTER (WHERE is_new), count(*) FROM merged",
            self.relation.sql(),
            names.join(", "),
            values.join(", "),
            self.stage.sql(),
        )
    }

    fn on_conflict(&self, names: &[String], compared: &[&Place]) -> String {
        let sets: Vec<String> = names
            .iter()
            .map(|name| format!("{name} = excluded.{name}"))
            .collect();
        let side = |side: &str| -> String {
            let values = compared.iter().map(|place| {
                columns::comparable(&format!("{side}.{}", quote(&place.name)), &place.data_type)
            });
            values.collect::<Vec<_>>().join(", ")
        };
        // Rows of the next generation note who wrote them last.
        let condition = if compared.is_empty() || self.written_by.is_some() {
            String::new()
        } else {
            format!(
                "WHERE ROW({}) IS DISTINCT FROM ROW({})",
                side("t"),
                side("excluded")
            )
        };
        format!(
            "ON CONFLICT ({}) DO UPDATE SET {} {condition}",
            quote_all(&self.key),
            sets.join(", ")
        )
    }

    /// Removes or marks the rows that have the values of staged tombstones in some columns. It
    /// returns how many rows were added, which is less than none.
    pub(super) fn removal(&self, places: &[&Place]) -> String {
        let equal: Vec<String> = places
            .iter()
            .map(|place| {
                let compared = |value: String| columns::comparable(&value, &place.data_type);
                format!(
                    "{} = {}",
                    compared(format!("t.{}", quote(&place.name))),
                    compared(Stage::value(place))
                )
            })
            .collect();
        let condition = format!("s.{ORDER} BETWEEN $1 AND $2 AND {}", equal.join(" AND "));
        let (table, stage) = (self.relation.sql(), self.stage.sql());
        if self.deletes == Deletes::Remove {
            return format!(
                "WITH gone AS (DELETE FROM {table} AS t USING {stage} AS s WHERE {condition} RETURNING 1)
                 SELECT -count(*), count(*) FROM gone"
            );
        }
        let column = |field: &str| {
            let place = self.layout.places.iter().find(|place| place.is(field));
            place.map(|place| quote(&place.name)).unwrap_or_default()
        };
        let (deleted, synced_at) = (column(DELETED), column(SYNCED_AT));
        format!(
            "WITH marked AS (
                 UPDATE {table} AS t SET {deleted} = true, {synced_at} = s.{synced_at} FROM {stage} AS s
                 WHERE {condition} AND t.{deleted} IS DISTINCT FROM true RETURNING 1)
             SELECT 0::bigint, count(*) FROM marked"
        )
    }
}
