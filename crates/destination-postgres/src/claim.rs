//! The right to read a source into a database: an advisory lock of a connection of its own, which
//! the server gives back when the process ends in whatever way.

use std::time::Duration;

use chrono::SecondsFormat;
use pipeline_core::{Claim, Clock as _, Error, ErrorKind, Result, SystemClock};

use crate::server::Server;
use crate::session::{Session, get, params};

const CLAIMING: &str = "claiming the source";

/// How often a lock that is held is asked for again, and the time between: a server notices within
/// milliseconds that a connection was closed, but not at once.
const ATTEMPTS: usize = 5;
const REST: Duration = Duration::from_millis(40);

/// The number that is locked, of a source's name.
const NUMBER: &str = "pg_catalog.hashtextextended('_pipeline/claim/' || $1, 0)";

/// Takes the claim on a source.
///
/// # Errors
/// [`ErrorKind::CheckpointConflict`] when another process, or another destination of this one, has
/// it.
pub(crate) async fn claim(server: &Server, source: &str, run: &str) -> Result<Claim> {
    let session = Session::open(server).await?;
    if !server.pooled {
        // The connection does nothing for as long as the sync lasts.
        session
            .batch(CLAIMING, "SET idle_session_timeout = 0")
            .await?;
    }
    // A pooler gives the connection to others when a transaction ends, so there the lock is one of
    // a transaction that stays open. It has written nothing and keeps nothing from being cleaned up.
    let function = if server.pooled {
        "pg_try_advisory_xact_lock"
    } else {
        "pg_try_advisory_lock"
    };
    for attempt in 0..ATTEMPTS {
        if server.pooled {
            session.begin(CLAIMING).await?;
        }
        let sql = format!("SELECT pg_catalog.{function}({NUMBER})");
        if session.is(CLAIMING, &sql, params![source]).await? {
            // Written by another connection: in the transaction that stays open nobody would see
            // it.
            introduce(server, source, run).await?;
            return Ok(Box::new(session));
        }
        if server.pooled {
            session.roll_back();
        }
        if attempt + 1 < ATTEMPTS {
            tokio::time::sleep(REST).await;
        }
    }
    Err(refused(&session, source).await)
}

/// Writes down who has the claim, for whoever is refused.
async fn introduce(server: &Server, source: &str, run: &str) -> Result<()> {
    let session = Session::open(server).await?;
    let since = SystemClock.now().to_rfc3339_opts(SecondsFormat::Secs, true);
    let sql = "INSERT INTO _pipeline.claims (source, run, process, since) VALUES ($1, $2, $3, $4)
        ON CONFLICT (source) DO UPDATE SET run = excluded.run, process = excluded.process, since = excluded.since";
    let process = i64::from(std::process::id());
    session
        .execute(CLAIMING, sql, params![source, run, process, since])
        .await
        .map(drop)
}

/// Whether a process has the claim on a source.
pub(crate) async fn is_claimed(session: &Session, source: &str) -> Result<bool> {
    let sql = format!(
        "SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_locks
             WHERE locktype = 'advisory' AND objsubid = 1 AND granted
                 AND database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
                 AND ((classid::bigint << 32) | objid::bigint) = {NUMBER})"
    );
    session.is(CLAIMING, &sql, params![source]).await
}

/// The error of whoever comes second.
async fn refused(session: &Session, source: &str) -> Error {
    let mut error = Error::new(
        ErrorKind::CheckpointConflict,
        "another sync reads this source into the same database",
    )
    .with_operation(CLAIMING)
    .with_context("source", source);
    let sql = "SELECT run, process, since FROM _pipeline.claims WHERE source = $1";
    let mut help = "wait until it has ended, or stop it".to_owned();
    // Its holder may not have written it yet.
    if let Ok(Some(row)) = session.optional(CLAIMING, sql, params![source]).await
        && let (Ok(run), Ok(process), Ok(since)) = (
            get::<String>(&row, 0),
            get::<i64>(&row, 1),
            get::<String>(&row, 2),
        )
    {
        help = format!("wait until it has ended, or stop process {process}");
        error = error
            .with_context("run", run)
            .with_context("process", process.to_string())
            .with_context("since", since);
    }
    error.with_help(help)
}
