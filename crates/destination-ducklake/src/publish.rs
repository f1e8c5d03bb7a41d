//! The generation that is collected, and takes the visible one's place in one snapshot.

use destination_sqlite::bookkeeping::Explain;
use pipeline_core::{Result, failpoint};
use pipeline_engine::{Keep, TableId};
use rusqlite::{Connection, params};

use crate::carry::carry;
use crate::files;
use crate::keys::{self, Keys, drop_keys, exists, table_name};
use crate::lake::Work;
use crate::table::{LakeTable, known_name, store_rows};

pub(crate) const PUBLISHING: &str = "publishing a table";

/// Drops what earlier transactions collected of the next generation. `is_written` is true when this
/// one has written rows of it, which stay.
pub(crate) fn discard(
    connection: &Connection,
    work: &mut Work,
    id: &TableId,
    is_written: bool,
) -> Result<()> {
    let Some(name) = known_name(connection, id)? else {
        return Ok(());
    };
    let folder = LakeTable::find(connection, &work.lake.data, &name)?;
    for stored in files::list(connection, &name, true)? {
        if stored.file < work.first_file {
            files::forget(connection, stored.file)?;
            work.needless
                .extend(folder.as_ref().map(|table| stored.path(table)));
        }
    }
    if is_written && exists(connection, &table_name(&name, true))? {
        Keys::ensure(connection, &name, true)?.forget_before(connection, work.first_file)?;
    } else if !is_written {
        drop_keys(connection, &name, true)?;
    }
    connection
        .execute(
            "DELETE FROM _pipeline_gone WHERE name = ? AND sequence < ?",
            params![name, work.sequence],
        )
        .explain(PUBLISHING)
        .map(drop)
}

/// Puts the next generation in the visible one's place, with the rows that are carried over; when
/// nothing was collected, only those are left.
pub(crate) fn publish(
    connection: &Connection,
    work: &mut Work,
    id: &TableId,
    keep: &[Keep],
) -> Result<()> {
    let Some(name) = known_name(connection, id)? else {
        return Ok(());
    };
    let Some(table) = LakeTable::find(connection, &work.lake.data, &name)? else {
        return store_rows(connection, &name, 0);
    };
    let keep: Vec<&Keep> = keep.iter().filter(|keep| keep.table == *id).collect();
    carry(connection, work, &table, &keep)?;
    files::hide_all(connection, work, &table)?;
    keys::publish(connection, &name)?;
    connection
        .execute(
            "UPDATE _pipeline_files SET next = 0 WHERE name = ?",
            [&name],
        )
        .and_then(|_| connection.execute("DELETE FROM _pipeline_gone WHERE name = ?", [&name]))
        .explain(PUBLISHING)?;
    failpoint("ducklake-publishing");
    files::show(connection, work, &table)
}
