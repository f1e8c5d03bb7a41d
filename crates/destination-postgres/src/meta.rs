//! The tables of this crate's own: created together, and never taken for new when one of them was
//! dropped.

use std::collections::BTreeMap;

use pipeline_core::state::{CheckpointDelta, EndpointState};
use pipeline_core::{Error, ErrorKind, Result};
use pipeline_engine::TableId;

use crate::session::{Session, get, params};
use crate::{state, table};

const OPENING: &str = "opening the database";
const STORING: &str = "storing the checkpoint";

/// The layout of the tables that this release makes.
const LAYOUT: i64 = 1;

/// Held while the tables are made: `CREATE … IF NOT EXISTS` fails when two do it at once.
const MAKING: i64 = 0x7069_7065_6c69_6e65;

const TABLES: &str = "
CREATE TABLE IF NOT EXISTS _pipeline.head (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row), sequence bigint NOT NULL, layout bigint NOT NULL);
CREATE TABLE IF NOT EXISTS _pipeline.state (
    source text NOT NULL, endpoint text NOT NULL, state text NOT NULL, PRIMARY KEY (source, endpoint));
CREATE TABLE IF NOT EXISTS _pipeline.commits (
    sequence bigint PRIMARY KEY, run text NOT NULL, nonce text NOT NULL, at text NOT NULL, changes text NOT NULL,
    rows text NOT NULL, bytes bigint NOT NULL, content_hash text NOT NULL);
CREATE TABLE IF NOT EXISTS _pipeline.tables (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, source text NOT NULL, stream text NOT NULL,
    schema_name text NOT NULL, table_name text NOT NULL, rows bigint NOT NULL DEFAULT 0,
    next_rows bigint NOT NULL DEFAULT 0, file bigint, UNIQUE (source, stream), UNIQUE (schema_name, table_name));
CREATE TABLE IF NOT EXISTS _pipeline.columns (
    number bigint NOT NULL, name text NOT NULL, PRIMARY KEY (number, name));
CREATE TABLE IF NOT EXISTS _pipeline.feeds (
    source text NOT NULL, stream text NOT NULL, endpoint text NOT NULL, PRIMARY KEY (source, stream, endpoint));
CREATE TABLE IF NOT EXISTS _pipeline.runs (
    sequence bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, run text NOT NULL UNIQUE, started text NOT NULL,
    record text NOT NULL);
CREATE TABLE IF NOT EXISTS _pipeline.claims (
    source text PRIMARY KEY, run text NOT NULL, process bigint NOT NULL, since text NOT NULL);";

/// Which of the tables there are. Some are missing when somebody dropped them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "any of them can be missing")]
pub(crate) struct Present {
    pub(crate) head: bool,
    pub(crate) state: bool,
    pub(crate) commits: bool,
    pub(crate) tables: bool,
    pub(crate) columns: bool,
    pub(crate) feeds: bool,
    pub(crate) runs: bool,
    claims: bool,
}

impl Present {
    pub(crate) async fn of(session: &Session) -> Result<Self> {
        let sql = "SELECT c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
            WHERE n.nspname = '_pipeline' AND c.relkind = 'r'";
        let names = session.strings(OPENING, sql, &[]).await?;
        let has = |name: &str| names.iter().any(|known| known == name);
        Ok(Self {
            head: has("head"),
            state: has("state"),
            commits: has("commits"),
            tables: has("tables"),
            columns: has("columns"),
            feeds: has("feeds"),
            runs: has("runs"),
            claims: has("claims"),
        })
    }

    /// True when nothing was ever written to the database.
    pub(crate) fn is_new(self) -> bool {
        self == Self::default()
    }

    fn is_complete(self) -> bool {
        self.head
            && self.state
            && self.commits
            && self.tables
            && self.columns
            && self.feeds
            && self.runs
            && self.claims
    }
}

/// Creates what is missing. What was dropped is missed when the database is
/// [verified](crate::verify).
pub(crate) async fn ensure(session: &Session, template: &str) -> Result<()> {
    let present = Present::of(session).await?;
    if present.is_complete() && is_registered(session).await? {
        return check_layout(session).await;
    }
    session.begin(OPENING).await?;
    let made = make(session, template).await;
    if made.is_err() {
        session.roll_back();
        return made;
    }
    session.batch(OPENING, "COMMIT").await
}

async fn make(session: &Session, template: &str) -> Result<()> {
    lock(session, MAKING).await?;
    // To create a schema "if it does not exist" takes the right to create one even when it does.
    create_schema(session, "_pipeline").await?;
    session.batch(OPENING, TABLES).await?;
    let head = "INSERT INTO _pipeline.head (sequence, layout)
        SELECT coalesce(max(sequence), 0), $1 FROM _pipeline.commits ON CONFLICT DO NOTHING";
    session.execute(OPENING, head, params![LAYOUT]).await?;
    check_layout(session).await?;
    if are_forgotten(session).await? {
        for (endpoint, state) in state::list(session, None).await? {
            feed(session, &endpoint.source, &endpoint.endpoint, &state).await?;
        }
    }
    for id in unregistered(session).await? {
        table::register_again(session, template, &id).await?;
    }
    Ok(())
}

/// Waits until nobody else does what the number stands for; given back when the transaction ends.
pub(crate) async fn lock(session: &Session, number: i64) -> Result<()> {
    let sql = "SELECT pg_catalog.pg_advisory_xact_lock($1) IS NULL";
    session.is(OPENING, sql, params![number]).await.map(drop)
}

pub(crate) async fn create_schema(session: &Session, name: &str) -> Result<()> {
    let exists = "SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = $1)";
    if session.is(OPENING, exists, params![name]).await? {
        return Ok(());
    }
    let sql = format!(
        "CREATE SCHEMA IF NOT EXISTS {}",
        destination_sql::quote(name)
    );
    session.batch(OPENING, &sql).await
}

/// Fails when a newer release has written to the database.
pub(crate) async fn check_layout(session: &Session) -> Result<()> {
    let sql = "SELECT layout FROM _pipeline.head";
    match session.optional(OPENING, sql, &[]).await? {
        Some(row) if get::<i64>(&row, 0)? > LAYOUT => Err(Error::new(
            ErrorKind::Unsupported,
            "a newer release has written to this database",
        )
        .with_operation(OPENING)
        .with_help("use that release, or a newer one")),
        _ => Ok(()),
    }
}

/// Streams of which checkpoints are, or were, stored and no table is registered. Where nothing is
/// stored of who feeds them, because somebody has emptied that too, the commit log has those that
/// were written.
pub(crate) async fn unregistered(session: &Session) -> Result<Vec<TableId>> {
    let fed = "SELECT source, stream FROM _pipeline.feeds EXCEPT SELECT source, stream FROM _pipeline.tables";
    let written = "SELECT entry -> 0 ->> 'source', entry -> 0 ->> 'stream'
             FROM _pipeline.commits, jsonb_array_elements(rows::jsonb) AS entry
             WHERE left(entry -> 0 ->> 'stream', 1) <> '_'
         EXCEPT SELECT source, stream FROM _pipeline.tables";
    let sql = if are_forgotten(session).await? {
        written
    } else {
        fed
    };
    let rows = session.query(OPENING, sql, &[]).await?;
    rows.iter()
        .map(|row| {
            Ok(TableId {
                source: get(row, 0)?,
                stream: get(row, 1)?,
            })
        })
        .collect()
}

/// True when the tables of all checkpoints are registered, and which endpoints feed them.
async fn is_registered(session: &Session) -> Result<bool> {
    let has_head = session
        .is(OPENING, "SELECT EXISTS (SELECT 1 FROM _pipeline.head)", &[])
        .await?;
    if !has_head {
        return Ok(false);
    }
    if are_forgotten(session).await?
        && state::list(session, None)
            .await?
            .iter()
            .any(|(_, state)| !state.streams.is_empty())
    {
        return Ok(false);
    }
    Ok(unregistered(session).await?.is_empty())
}

/// True when nothing is stored of which endpoints feed which streams.
async fn are_forgotten(session: &Session) -> Result<bool> {
    let sql = "SELECT NOT EXISTS (SELECT 1 FROM _pipeline.feeds)";
    session.is(OPENING, sql, &[]).await
}

/// Remembers which endpoints feed which streams: a checkpoint that is missing later was removed by
/// somebody.
pub(crate) async fn remember_feeds(session: &Session, changes: &[CheckpointDelta]) -> Result<()> {
    // In one order in every process, so that none waits for one that waits for it.
    let mut fed = BTreeMap::new();
    for change in changes {
        if let CheckpointDelta::Replace { endpoint, to, .. } = change {
            fed.insert(endpoint, to);
        }
    }
    for (endpoint, state) in fed {
        feed(session, &endpoint.source, &endpoint.endpoint, state).await?;
    }
    Ok(())
}

async fn feed(
    session: &Session,
    source: &str,
    endpoint: &str,
    state: &EndpointState,
) -> Result<()> {
    let streams: Vec<String> = state.streams.iter().map(ToString::to_string).collect();
    if streams.is_empty() {
        return Ok(());
    }
    let sql = "INSERT INTO _pipeline.feeds (source, stream, endpoint)
        SELECT $1, stream, $2 FROM unnest($3) AS stream ORDER BY stream ON CONFLICT DO NOTHING";
    session
        .execute(STORING, sql, params![source, endpoint, streams])
        .await
        .map(drop)
}
