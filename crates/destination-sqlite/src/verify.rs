//! Compares the database with what is stored of it.

use std::collections::BTreeMap;

use destination_sql::quote;
use pipeline_core::Result;
use pipeline_engine::{Damage, Depth, TableId};
use rusqlite::Connection;

use crate::columns;
use crate::count::{LOST, count, ends};
use crate::error::Explain;
use crate::meta::{Present, unregistered};
use crate::table::{next_name, shape};

const VERIFYING: &str = "comparing the database with its log";

/// Rows up to which a table is counted at every start, which takes milliseconds. Of a larger one
/// the lowest and the highest row number are looked at, and it is counted when they are not as they
/// were.
const COUNTED: i64 = 200_000;

/// A table, and what is stored of it.
struct Known {
    id: TableId,
    name: String,
    rows: i64,
    next_rows: i64,
    ends: (Option<i64>, Option<i64>),
}

/// What is not as the database's own records say. More rows than were written are not a loss.
pub(crate) fn verify(connection: &Connection, depth: Depth) -> Result<Vec<Damage>> {
    let present = Present::of(connection)?;
    let mut damages = bookkeeping(connection, depth)?;
    // An earlier release stored nothing to compare with; the first sync of this one does.
    if !present.feeds || !present.counted {
        return Ok(damages);
    }
    for known in known(connection)? {
        let found = if present.has_columns {
            columns::damage(connection, &known.id, &known.name)?
        } else {
            None
        };
        if let Some((what, help)) = found {
            damages.push(Damage {
                table: Some(known.id),
                what,
                help,
            });
            continue;
        }
        let found = if depth == Depth::Content || has_changed(connection, &known)? {
            count(connection, &known.name)?
        } else {
            known.rows
        };
        let next = next_name(&known.name);
        let found_next = if depth == Depth::Content {
            count(connection, &next)?
        } else {
            count_some(connection, &next, known.next_rows)?
        };
        for (name, rows, found) in [
            (&known.name, known.rows, found),
            (&next, known.next_rows, found_next),
        ] {
            if found < rows {
                damages.push(missing(&known.id, name, rows, found));
            }
        }
    }
    Ok(damages)
}

/// What is wrong with the file itself, with the commit log and with checkpoints, wherever the rows
/// are.
///
/// # Errors
/// [`ErrorKind::Destination`](pipeline_core::ErrorKind::Destination) when it cannot be read.
pub fn bookkeeping(connection: &Connection, depth: Depth) -> Result<Vec<Damage>> {
    let present = Present::of(connection)?;
    let mut damages = Vec::new();
    if present.is_new() {
        return Ok(damages);
    }
    if depth == Depth::Content {
        damages.extend(integrity(connection)?);
    }
    if !present.feeds || !present.counted {
        return Ok(damages);
    }
    damages.extend(log(connection, present, depth)?);
    for (id, endpoints) in lost_checkpoints(connection, present)? {
        let what = format!(
            "the checkpoint of {} is missing in `_pipeline_state`",
            endpoints.join(", ")
        );
        damages.push(Damage {
            help: read_again(&id),
            table: Some(id),
            what,
        });
    }
    for id in unregistered(connection, present)? {
        let what = "its table is not registered in `_pipeline_tables`, and what it should hold is not known".to_owned();
        damages.push(Damage {
            help: read_again(&id),
            table: Some(id),
            what,
        });
    }
    Ok(damages)
}

/// SQLite's own examination of every page, index and constraint.
fn integrity(connection: &Connection) -> Result<Option<Damage>> {
    let findings: Vec<String> = connection
        .prepare("PRAGMA integrity_check(3)")
        .and_then(|mut check| check.query_map([], |row| row.get(0))?.collect())
        .explain(VERIFYING)?;
    let is_intact = findings.iter().all(|finding| finding == "ok");
    Ok((!is_intact).then(|| Damage {
        table: None,
        what: format!("SQLite finds the file damaged: {}", findings.join("; ")),
        help: "restore the database from a backup, or move it away and run `pipeline sync` to read everything again".to_owned(),
    }))
}

/// Whether the commit log is there, numbered from 1 without gaps.
fn log(connection: &Connection, present: Present, depth: Depth) -> Result<Option<Damage>> {
    let number = |sql: &str| {
        connection
            .query_row(sql, [], |row| row.get::<_, i64>(0))
            .explain(VERIFYING)
    };
    if number("SELECT EXISTS (SELECT 1 FROM _pipeline_feeds)")? == 0 {
        return Ok(None);
    }
    let what = if !present.commits
        || number("SELECT EXISTS (SELECT 1 FROM _pipeline_commits)")? == 0
    {
        "the commit log `_pipeline_commits` was dropped or emptied, although tables and checkpoints are there"
    } else if depth == Depth::Content
        && number("SELECT count(*) < max(sequence) FROM _pipeline_commits")? != 0
    {
        "commits are missing in the commit log `_pipeline_commits`"
    } else {
        return Ok(None);
    };
    let help = "restore the database from a backup, or run `pipeline sync --full-refresh` to read everything again";
    Ok(Some(Damage {
        table: None,
        what: what.to_owned(),
        help: help.to_owned(),
    }))
}

/// The endpoints whose checkpoint was stored and is not there, by the tables that they feed.
fn lost_checkpoints(
    connection: &Connection,
    present: Present,
) -> Result<BTreeMap<TableId, Vec<String>>> {
    let sql = if present.state {
        "SELECT source, stream, endpoint FROM _pipeline_feeds AS fed WHERE NOT EXISTS
             (SELECT 1 FROM _pipeline_state AS stored WHERE stored.source = fed.source AND stored.endpoint = fed.endpoint)"
    } else {
        "SELECT source, stream, endpoint FROM _pipeline_feeds"
    };
    let lost: Vec<(TableId, String)> = connection
        .prepare(sql)
        .and_then(|mut select| {
            select
                .query_map([], |row| {
                    Ok((
                        TableId {
                            source: row.get(0)?,
                            stream: row.get(1)?,
                        },
                        row.get(2)?,
                    ))
                })?
                .collect()
        })
        .explain(VERIFYING)?;
    let mut tables: BTreeMap<TableId, Vec<String>> = BTreeMap::new();
    for (id, endpoint) in lost {
        let name = format!("`{}/{endpoint}`", id.source);
        tables.entry(id).or_default().push(name);
    }
    Ok(tables)
}

/// The tables of streams. Those of the engine's own, such as the one of rejected records, may be
/// emptied by anybody.
fn known(connection: &Connection) -> Result<Vec<Known>> {
    connection
        .prepare(
            "SELECT source, stream, name, coalesce(rows, 0), coalesce(next_rows, 0), first_row, last_row
             FROM _pipeline_tables WHERE substr(stream, 1, 1) <> '_' ORDER BY source, stream",
        )
        .and_then(|mut select| {
            let known = select.query_map([], |row| {
                Ok(Known {
                    id: TableId { source: row.get(0)?, stream: row.get(1)? },
                    name: row.get(2)?,
                    rows: row.get(3)?,
                    next_rows: row.get(4)?,
                    ends: (row.get(5)?, row.get(6)?),
                })
            })?;
            known.collect()
        })
        .explain(VERIFYING)
}

/// The rows of a table of which there should be so many, or all of them when it has more than are
/// counted.
fn count_some(connection: &Connection, name: &str, rows: i64) -> Result<i64> {
    if rows == 0 || shape(connection, name)?.is_none() {
        return Ok(0);
    }
    let sql = format!(
        "SELECT count(*) FROM (SELECT 1 FROM {} LIMIT {COUNTED})",
        quote(name)
    );
    let found: i64 = connection
        .query_row(&sql, [], |row| row.get(0))
        .explain(VERIFYING)?;
    Ok(if found == COUNTED {
        found.max(rows)
    } else {
        found
    })
}

/// False when a table is known to have the rows that it had, without counting them.
fn has_changed(connection: &Connection, known: &Known) -> Result<bool> {
    let is_cheap = known.rows <= COUNTED || known.rows >= LOST / 2;
    Ok(known.rows > 0 && (is_cheap || ends(connection, &known.name)? != known.ends))
}

fn missing(id: &TableId, name: &str, rows: i64, found: i64) -> Damage {
    let TableId { source, stream } = id;
    let what = match found {
        _ if rows >= LOST / 2 => format!(
            "how many rows `{name}` should have is lost: the table, or its entry in `_pipeline_tables`, was removed by another program; \
             it has {found}"
        ),
        0 => format!("`{name}` was emptied or dropped: {rows} rows were committed to it"),
        _ => format!(
            "`{name}` has {found} rows of the {rows} that were committed to it: the others were deleted by another program"
        ),
    };
    let help = format!(
        "restore the database from a backup, read the table again with `pipeline sync {source} --full-refresh --streams {stream}`, \
         or accept what is left with `pipeline purge {source}/{stream}`"
    );
    Damage {
        table: Some(id.clone()),
        what,
        help,
    }
}

fn read_again(id: &TableId) -> String {
    format!(
        "restore the database from a backup, or read the table again with `pipeline sync {} --full-refresh --streams {}`",
        id.source, id.stream
    )
}
