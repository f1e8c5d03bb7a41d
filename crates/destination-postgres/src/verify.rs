//! Compares the database with what is stored of it.

use std::collections::BTreeMap;

use pipeline_core::Result;
use pipeline_engine::{Damage, Depth, TableId};

use crate::columns;
use crate::counts::{count, count_some, file};
use crate::meta::{Present, unregistered};
use crate::names::Registered;
use crate::session::{Session, get, params};
use crate::table::{self, LOST};

const VERIFYING: &str = "comparing the database with its log";

/// Rows up to which a table is counted at every start, which takes milliseconds. Of a larger one so
/// many are looked for, and it is counted when it is in another file than before.
const COUNTED: i64 = 200_000;

/// What is not as the database's own records say. More rows than were written are nobody's loss.
pub(crate) async fn verify(session: &Session, depth: Depth) -> Result<Vec<Damage>> {
    let present = Present::of(session).await?;
    let mut damages = Vec::new();
    if present.is_new() {
        return Ok(damages);
    }
    if !(present.feeds && present.tables && present.columns && present.commits) {
        damages.push(dropped(present));
        return Ok(damages);
    }
    damages.extend(log(session, depth).await?);
    for (id, endpoints) in lost_checkpoints(session, present).await? {
        let what = format!(
            "the checkpoint of {} is missing in `_pipeline.state`",
            endpoints.join(", ")
        );
        damages.push(Damage {
            help: read_again(&id),
            table: Some(id),
            what,
        });
    }
    for id in unregistered(session).await? {
        let what = "its table is not registered in `_pipeline.tables`, and what it should hold is not known".to_owned();
        damages.push(Damage {
            help: read_again(&id),
            table: Some(id),
            what,
        });
    }
    for (id, registered) in table::all(session).await? {
        // Those of the engine's own, such as the one of rejected records, may be emptied by
        // anybody.
        if !id.stream.starts_with('_') {
            damages.extend(of_table(session, depth, id, &registered).await?);
        }
    }
    Ok(damages)
}

async fn of_table(
    session: &Session,
    depth: Depth,
    id: TableId,
    table: &Registered,
) -> Result<Vec<Damage>> {
    if let Some((what, help)) = columns::damage(session, &id, table).await? {
        return Ok(vec![Damage {
            table: Some(id),
            what,
            help,
        }]);
    }
    let sql = "SELECT rows, next_rows, coalesce(file, 0) FROM _pipeline.tables WHERE number = $1";
    let stored = session.one(VERIFYING, sql, params![table.number]).await?;
    let (rows, next_rows): (i64, i64) = (get(&stored, 0)?, get(&stored, 1)?);
    let is_same_file = get::<i64>(&stored, 2)? == file(session, &table.visible).await?;
    let mut damages = Vec::new();
    for (relation, rows, is_same_file) in [
        (&table.visible, rows, is_same_file),
        (&table.next(), next_rows, true),
    ] {
        let found = if rows == 0 {
            0
        } else if depth == Depth::Content || !is_same_file || rows >= LOST / 2 {
            count(session, relation).await?
        } else {
            match count_some(session, relation, COUNTED).await? {
                COUNTED => rows.max(COUNTED),
                found => found,
            }
        };
        if found < rows {
            let name = format!("{}.{}", relation.schema, relation.name);
            damages.push(missing(&id, &name, rows, found));
        }
    }
    Ok(damages)
}

/// What is wrong when one of this crate's own tables is gone.
fn dropped(present: Present) -> Damage {
    let tables = [
        ("feeds", present.feeds),
        ("tables", present.tables),
        ("columns", present.columns),
        ("commits", present.commits),
    ];
    let names: Vec<String> = tables
        .iter()
        .filter(|(_, is_there)| !is_there)
        .map(|(name, _)| format!("`_pipeline.{name}`"))
        .collect();
    Damage {
        table: None,
        what: format!("{} was dropped, although other tables are there", names.join(", ")),
        help: "restore the database from a backup, or run `pipeline sync --full-refresh` to read everything again".to_owned(),
    }
}

/// Whether the commit log is there, numbered from 1 without gaps.
async fn log(session: &Session, depth: Depth) -> Result<Option<Damage>> {
    let is = async |sql: &str| session.is(VERIFYING, sql, &[]).await;
    if !is("SELECT EXISTS (SELECT 1 FROM _pipeline.feeds)").await? {
        return Ok(None);
    }
    let what = if !is("SELECT EXISTS (SELECT 1 FROM _pipeline.commits)").await? {
        "the commit log `_pipeline.commits` was dropped or emptied, although tables and checkpoints are there"
    } else if depth == Depth::Content
        && is("SELECT count(*) < max(sequence) FROM _pipeline.commits").await?
    {
        "commits are missing in the commit log `_pipeline.commits`"
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
async fn lost_checkpoints(
    session: &Session,
    present: Present,
) -> Result<BTreeMap<TableId, Vec<String>>> {
    let sql = if present.state {
        "SELECT source, stream, endpoint FROM _pipeline.feeds AS fed WHERE NOT EXISTS
             (SELECT 1 FROM _pipeline.state AS stored WHERE stored.source = fed.source AND stored.endpoint = fed.endpoint)
         ORDER BY endpoint COLLATE \"C\""
    } else {
        "SELECT source, stream, endpoint FROM _pipeline.feeds ORDER BY endpoint COLLATE \"C\""
    };
    let mut tables: BTreeMap<TableId, Vec<String>> = BTreeMap::new();
    for row in session.query(VERIFYING, sql, &[]).await? {
        let id = TableId {
            source: get(&row, 0)?,
            stream: get(&row, 1)?,
        };
        let name = format!("`{}/{}`", id.source, get::<String>(&row, 2)?);
        tables.entry(id).or_default().push(name);
    }
    Ok(tables)
}

fn missing(id: &TableId, name: &str, rows: i64, found: i64) -> Damage {
    let TableId { source, stream } = id;
    let what = match found {
        _ if rows >= LOST / 2 => format!(
            "how many rows `{name}` should have is lost: the table, or its entry in `_pipeline.tables`, was removed by another program; \
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
