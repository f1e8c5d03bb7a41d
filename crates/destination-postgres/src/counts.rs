//! How many rows tables have: counted while they are written, stored with every commit, and
//! compared at the next start. What others remove is therefore missing from a table, and not from
//! the number that is stored of it.

use pipeline_core::Result;

use crate::names::{Registered, Relation};
use crate::session::{Session, params};

const COUNTING: &str = "counting rows";

/// Adds to the number of rows of a visible table, and notes which file it is in.
pub(crate) async fn add(session: &Session, table: &Registered, rows: i64) -> Result<()> {
    let sql = "UPDATE _pipeline.tables SET rows = rows + $2, file = $3 WHERE number = $1";
    let file = file(session, &table.visible).await?;
    session
        .execute(COUNTING, sql, params![table.number, rows, file])
        .await
        .map(drop)
}

/// Adds to the number of rows of a next generation.
pub(crate) async fn add_next(session: &Session, table: &Registered, rows: i64) -> Result<()> {
    let sql = "UPDATE _pipeline.tables SET next_rows = next_rows + $2 WHERE number = $1";
    session
        .execute(COUNTING, sql, params![table.number, rows])
        .await
        .map(drop)
}

/// Counts a table anew: what is there is what should be there.
pub(crate) async fn accept(session: &Session, table: &Registered) -> Result<()> {
    let rows = count(session, &table.visible).await?;
    let sql = "UPDATE _pipeline.tables SET rows = $2, file = $3 WHERE number = $1";
    let file = file(session, &table.visible).await?;
    session
        .execute(COUNTING, sql, params![table.number, rows, file])
        .await?;
    accept_next(session, table).await
}

/// Counts a next generation anew.
pub(crate) async fn accept_next(session: &Session, table: &Registered) -> Result<()> {
    let rows = count(session, &table.next()).await?;
    let sql = "UPDATE _pipeline.tables SET next_rows = $2 WHERE number = $1";
    session
        .execute(COUNTING, sql, params![table.number, rows])
        .await
        .map(drop)
}

/// The rows of a table; 0 when it is not there.
pub(crate) async fn count(session: &Session, relation: &Relation) -> Result<i64> {
    if !exists(session, relation).await? {
        return Ok(0);
    }
    let sql = format!("SELECT count(*) FROM {}", relation.sql());
    session.number(COUNTING, &sql, &[]).await
}

/// The rows of a table, up to a number.
pub(crate) async fn count_some(session: &Session, relation: &Relation, most: i64) -> Result<i64> {
    if !exists(session, relation).await? {
        return Ok(0);
    }
    let sql = format!(
        "SELECT count(*) FROM (SELECT 1 FROM {} LIMIT {most}) AS found",
        relation.sql()
    );
    session.number(COUNTING, &sql, &[]).await
}

/// True when there is a table, and not a view, of that name.
pub(crate) async fn exists(session: &Session, relation: &Relation) -> Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_class c
            JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind IN ('r', 'p'))";
    let place = params![relation.schema, relation.name];
    session.is(COUNTING, sql, place).await
}

/// The number of the file that a table is in; it changes when the table is truncated or made anew.
/// 0 when it is not there.
pub(crate) async fn file(session: &Session, relation: &Relation) -> Result<i64> {
    let sql = "SELECT coalesce((SELECT pg_catalog.pg_relation_filenode(c.oid)::bigint FROM pg_catalog.pg_class c
            JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2), 0)";
    let place = params![relation.schema, relation.name];
    session.number(COUNTING, sql, place).await
}
