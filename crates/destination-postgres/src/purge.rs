//! Leaves nothing of what was deleted in the tables' files: Postgres only marks rows as dead, and
//! `VACUUM` only makes their place free.

use destination_sql::{Deletes, quote};
use pipeline_core::{Result, failpoint};
use pipeline_engine::{DELETED, Purge, Purged, PurgedTable, TableId};

use crate::names::{Registered, Relation};
use crate::session::{Session, params};
use crate::table::{self, Part, shape};
use crate::{counts, state};

const PURGING: &str = "purging the database";

/// Drops generations that nobody collects any more and rows that are only marked as deleted, then
/// rewrites the tables.
pub(crate) async fn purge(session: &Session, deletes: Deletes, purge: &Purge) -> Result<Purged> {
    let wanted: Vec<(TableId, Registered)> = table::all(session)
        .await?
        .into_iter()
        .filter(|(id, _)| purge.wants(id))
        .collect();
    let bytes_before = size(session, &wanted).await?;
    session.begin(PURGING).await?;
    let tables = remove_rows(session, deletes, purge, &wanted).await;
    if tables.is_err() || purge.dry_run {
        session.end().await;
        return Ok(Purged {
            tables: tables?,
            bytes_before,
            bytes_after: bytes_before,
        });
    }
    failpoint("postgres-before-purged");
    session.batch(PURGING, "COMMIT").await?;
    failpoint("postgres-before-vacuum");
    for (_, registered) in &wanted {
        for relation in [&registered.visible, &registered.next(), &registered.gone()] {
            if counts::exists(session, relation).await? {
                let sql = format!("VACUUM (FULL) {}", relation.sql());
                session.batch(PURGING, &sql).await?;
            }
        }
        note_file(session, registered).await?;
    }
    failpoint("postgres-after-vacuum");
    Ok(Purged {
        tables: tables?,
        bytes_before,
        bytes_after: size(session, &wanted).await?,
    })
}

/// A table that was rewritten is in another file: nobody has emptied it.
async fn note_file(session: &Session, registered: &Registered) -> Result<()> {
    let file = counts::file(session, &registered.visible).await?;
    let sql = "UPDATE _pipeline.tables SET file = $2 WHERE number = $1";
    session
        .execute(PURGING, sql, params![registered.number, file])
        .await
        .map(drop)
}

async fn remove_rows(
    session: &Session,
    deletes: Deletes,
    purge: &Purge,
    wanted: &[(TableId, Registered)],
) -> Result<Vec<PurgedTable>> {
    // Nobody commits meanwhile, so that what is counted stays so.
    state::queue(session).await?;
    let states = state::list(session, None).await?;
    let mut tables = Vec::new();
    for (id, registered) in wanted {
        let mut rows = 0;
        let is_refreshing = |(endpoint, state): &(pipeline_core::state::EndpointId, _)| {
            let state: &pipeline_core::state::EndpointState = state;
            endpoint.source == id.source && state.refreshing
        };
        if !states.iter().any(is_refreshing) {
            for relation in [registered.next(), registered.gone()] {
                rows += drop_table(session, &relation).await?;
            }
            counts::accept_next(session, registered).await?;
        }
        if deletes == Deletes::Mark {
            rows += remove_marked(session, registered).await?;
        }
        // Whoever names a table wants it as it is: rows that others have deleted are not missed any
        // more.
        if purge.stream.is_some() {
            counts::accept(session, registered).await?;
            crate::columns::accept(session, registered).await?;
        }
        tables.push(PurgedTable {
            table: id.clone(),
            rows,
            skipped: None,
        });
    }
    Ok(tables)
}

/// Drops a table, if it is there, and returns how many rows it had.
async fn drop_table(session: &Session, relation: &Relation) -> Result<u64> {
    if !counts::exists(session, relation).await? {
        return Ok(0);
    }
    let rows = counts::count(session, relation).await?;
    let sql = format!("DROP TABLE {}", relation.sql());
    session.batch(PURGING, &sql).await?;
    Ok(rows.unsigned_abs())
}

/// Removes the rows that are marked as deleted. Where rows have no key, a tombstone is a row like
/// others.
async fn remove_marked(session: &Session, registered: &Registered) -> Result<u64> {
    let Some(known) = shape(session, registered, Part::Visible).await? else {
        return Ok(0);
    };
    let Some((deleted, _)) = known.column(DELETED).filter(|_| !known.key.is_empty()) else {
        return Ok(0);
    };
    let sql = format!(
        "DELETE FROM {} WHERE {}",
        registered.visible.sql(),
        quote(deleted)
    );
    let rows = session.execute(PURGING, &sql, &[]).await?;
    let added = -i64::try_from(rows).unwrap_or(i64::MAX);
    counts::add(session, registered, added).await?;
    Ok(rows)
}

/// Bytes of tables, with their indexes and what is stored beside them.
async fn size(session: &Session, tables: &[(TableId, Registered)]) -> Result<u64> {
    let mut bytes = 0;
    for (_, registered) in tables {
        for relation in [&registered.visible, &registered.next(), &registered.gone()] {
            let sql = "SELECT coalesce((SELECT pg_catalog.pg_total_relation_size(c.oid) FROM pg_catalog.pg_class c
                    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
                WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind IN ('r', 'p')), 0)";
            let place = params![relation.schema, relation.name];
            bytes += session.number(PURGING, sql, place).await?.unsigned_abs();
        }
    }
    Ok(bytes)
}
