//! Rows of the visible generation that stay when the next one takes its place.

use std::collections::BTreeMap;

use destination_sql::Tombstones;
use destination_sqlite::bookkeeping::Explain;
use pipeline_core::{Result, failpoint};
use pipeline_engine::Keep;
use pipeline_engine::cell::Column;
use rusqlite::Connection;

use crate::files;
use crate::keys::{Encoder, Keys, Place, key_fields, parse};
use crate::lake::Work;
use crate::publish::PUBLISHING;
use crate::reindex::{catch_up, each_batch};
use crate::table::LakeTable;
use crate::write::Writer;

/// Writes the selected rows of the visible table into the next generation, unless it has the key or
/// deletes the row.
pub(crate) fn carry(
    connection: &Connection,
    work: &mut Work,
    table: &LakeTable,
    keep: &[&Keep],
) -> Result<()> {
    if keep.is_empty() {
        return Ok(());
    }
    catch_up(connection, work, table)?;
    let key = match key_fields(connection, &table.name, true)? {
        Some(key) => key,
        None => key_fields(connection, &table.name, false)?.unwrap_or_default(),
    };
    let conditions: Vec<_> = keep.iter().map(|keep| keep.condition()).collect();
    let keys = if key.is_empty() {
        None
    } else {
        Some(Keys::ensure(connection, &table.name, true)?)
    };
    let gone = Gone::of(connection, &table.name)?;
    let tombstones = Tombstones::default();
    let mut writer = Writer::of_next(connection, table.clone(), key.clone(), tombstones)?;
    for stored in files::list(connection, &table.name, false)? {
        each_batch(connection, table, &stored, None, |batch, places| {
            let columns = Column::of(batch)?;
            let selected: Vec<_> = conditions
                .iter()
                .map(|condition| condition.bind(&columns))
                .collect();
            let mut encoder = Encoder::new(&columns, &key, &[]);
            let mut rows = Vec::new();
            for (row, _) in places {
                if selected.iter().any(|is_selected| is_selected(*row))
                    && !is_there(connection, keys.as_ref(), &mut encoder, *row)?
                    && !gone.has(connection, &table.name, &mut encoder, *row)?
                {
                    rows.push(*row);
                }
            }
            writer.begin_batch(connection, batch)?;
            writer.write_rows(connection, work, batch, &rows)
        })?;
        failpoint("ducklake-carrying");
    }
    writer.finish(connection)
}

/// True when the next generation has a row's key.
fn is_there(
    connection: &Connection,
    keys: Option<&Keys>,
    encoder: &mut Encoder<'_>,
    row: usize,
) -> Result<bool> {
    let Some(keys) = keys else { return Ok(false) };
    let nowhere = Place { file: -1, row: -1 };
    Ok(keys.find(connection, &encoder.key(row, nowhere))?.is_some())
}

/// The tombstones of the next generation, by what they compare.
struct Gone(BTreeMap<String, Vec<String>>);

impl Gone {
    fn of(connection: &Connection, name: &str) -> Result<Self> {
        let fields: Vec<String> = connection
            .prepare_cached("SELECT DISTINCT fields FROM _pipeline_gone WHERE name = ?")
            .and_then(|mut select| select.query_map([name], |row| row.get(0))?.collect())
            .explain(PUBLISHING)?;
        let parsed = fields
            .into_iter()
            .map(|text| parse(&text).map(|fields| (text, fields)));
        Ok(Self(parsed.collect::<Result<_>>()?))
    }

    /// True when one of them deletes a row.
    fn has(
        &self,
        connection: &Connection,
        name: &str,
        encoder: &mut Encoder<'_>,
        row: usize,
    ) -> Result<bool> {
        for (text, fields) in &self.0 {
            let Some(value) = encoder.values(fields, row) else {
                continue;
            };
            let sql = "SELECT 1 FROM _pipeline_gone WHERE name = ? AND fields = ? AND value = ?";
            let is_gone = connection
                .prepare_cached(sql)
                .and_then(|mut select| select.exists(rusqlite::params![name, text, value]))
                .explain(PUBLISHING)?;
            if is_gone {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
