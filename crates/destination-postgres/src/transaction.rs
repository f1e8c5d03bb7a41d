//! Transactions: rows are merged as they come, and become visible with the checkpoint.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arrow_array::RecordBatch;
use async_trait::async_trait;
use pipeline_core::{Error, ErrorKind, Result, failpoint};
use pipeline_engine::{Commit, Generation, Refused, Table, TableId, Transaction};
use tokio::time::Instant;

use crate::destination::{Connections, Writing};
use crate::error::{Explain as _, at, is_lost};
use crate::names::Registered;
use crate::publish::{discard, publish};
use crate::session::Session;
use crate::write::Writer;
use crate::{counts, meta, state};

const BEGINNING: &str = "opening a transaction";
const COMMITTING: &str = "committing";

/// How long the server is asked whether a commit was made whose answer was lost.
const LONGEST_DOUBT: Duration = Duration::from_mins(1);
/// Time between two such questions.
const REST: Duration = Duration::from_millis(500);

/// The writing connection inside a transaction, which is rolled back when this is dropped.
pub(crate) struct Open {
    connections: Arc<Connections>,
    writing: Writing,
    /// The transaction's number at the server.
    number: i64,
    writers: HashMap<(TableId, Generation), (Arc<Table>, Writer)>,
    /// Staging tables made so far.
    stages: usize,
    is_over: bool,
}

impl Open {
    pub(crate) async fn begin(connections: Arc<Connections>, mut writing: Writing) -> Result<Self> {
        let number = match begin(&connections, &mut writing).await {
            // The connection may have ended since it was used last, without anybody noticing.
            Err(error) if error.is_temporary() => {
                *writing = None;
                begin(&connections, &mut writing).await?
            }
            begun => begun?,
        };
        failpoint("postgres-begun");
        Ok(Self {
            connections,
            writing,
            number,
            writers: HashMap::new(),
            stages: 0,
            is_over: false,
        })
    }

    async fn write(&mut self, table: &Arc<Table>, batch: &RecordBatch) -> Result<Vec<Refused>> {
        let (session, style) = (session(&self.writing)?, &self.connections.style);
        let key = (table.id(), table.generation);
        let is_known = self
            .writers
            .get(&key)
            .is_some_and(|(known, _)| same_shape(known, table));
        if !is_known {
            self.stages += 1;
            let mut writer = Writer::new(
                session,
                style,
                table,
                self.connections.deletes,
                self.stages,
                self.number,
            )
            .await?;
            writer.is_direct = self.connections.guess(&key);
            if let Some((_, previous)) = self.writers.remove(&key) {
                writer.added = previous.added;
            }
            self.writers
                .insert(key.clone(), (Arc::clone(table), writer));
        }
        let Some((_, writer)) = self.writers.get_mut(&key) else {
            return Ok(Vec::new());
        };
        let refused = writer.write(session, style, table, batch).await?;
        self.connections.remember(key, writer.is_direct);
        Ok(refused)
    }

    /// Does everything but the commit itself, and returns the commit's number.
    async fn settle(&mut self, commit: &Commit, nonce: &str) -> Result<u64> {
        let session = session(&self.writing)?;
        let (mut discarded, mut published) = (Vec::new(), Vec::new());
        for id in &commit.discard {
            let wrote = self.writers.contains_key(&(id.clone(), Generation::Next));
            let transaction = wrote.then_some(self.number);
            discarded.extend(discard(session, id, transaction).await?);
        }
        for id in &commit.publish {
            published.extend(publish(session, id, &commit.keep, self.number).await?);
        }
        meta::remember_feeds(session, &commit.changes).await?;
        failpoint("postgres-published");
        let last = state::queue(session).await?;
        state::apply(session, &commit.changes).await?;
        let sequence = state::log(session, last, nonce, commit).await?;
        self.count(session, &discarded, &published).await?;
        failpoint("postgres-state");
        Ok(sequence)
    }

    /// Stores how many rows the tables have now. What was published or discarded is counted anew.
    /// Nobody else commits meanwhile.
    async fn count(
        &self,
        session: &Session,
        discarded: &[Registered],
        published: &[Registered],
    ) -> Result<()> {
        for ((_, generation), (_, writer)) in &self.writers {
            let (table, rows) = (&writer.registered, writer.added);
            match generation {
                _ if published.contains(table) => {}
                Generation::Current => counts::add(session, table, rows).await?,
                Generation::Next if discarded.contains(table) => {}
                Generation::Next => counts::add_next(session, table, rows).await?,
            }
        }
        for table in discarded {
            counts::accept_next(session, table).await?;
        }
        for table in published {
            counts::accept(session, table).await?;
        }
        Ok(())
    }

    async fn commit(mut self, commit: Commit) -> Result<u64> {
        let nonce = nonce();
        let sequence = self.settle(&commit, &nonce).await?;
        failpoint("postgres-committing");
        let committed = session(&self.writing)?
            .client()
            .batch_execute("COMMIT")
            .await;
        match committed {
            Ok(()) => {
                self.is_over = true;
                failpoint("postgres-committed");
                Ok(sequence)
            }
            Err(error) if is_lost(&error) => {
                self.is_over = true;
                *self.writing = None;
                self.ask(&nonce, error).await
            }
            Err(error) => Err(error).explain(COMMITTING),
        }
    }

    /// Finds out whether a commit was made whose answer was lost: the server may have made it, may
    /// be making it, or may never have heard of it.
    async fn ask(&mut self, nonce: &str, lost: tokio_postgres::Error) -> Result<u64> {
        let started = Instant::now();
        loop {
            match find(&self.connections, &mut self.writing, nonce).await {
                Ok(Some(sequence)) => return Ok(sequence),
                Ok(None) => return Err(lost).explain(COMMITTING),
                Err(error) if error.is_temporary() && started.elapsed() < LONGEST_DOUBT => {
                    *self.writing = None;
                    tokio::time::sleep(REST).await;
                }
                Err(error) => {
                    return Err(Error::new(
                        ErrorKind::Destination,
                        "the connection was lost during a commit, and whether it was made cannot be found out",
                    )
                    .with_operation(COMMITTING)
                    .with_help("run again when the server is up: its checkpoint says where to go on, and nothing is lost or doubled")
                    .with_source(error));
                }
            }
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if !self.is_over
            && let Some(session) = &*self.writing
        {
            session.roll_back();
        }
    }
}

async fn begin(connections: &Connections, writing: &mut Writing) -> Result<i64> {
    let session = connections.connected(writing).await?;
    session.begin(BEGINNING).await?;
    let number = "SELECT pg_catalog.pg_current_xact_id()::text::bigint";
    session.number(BEGINNING, number, &[]).await
}

/// Looks for a commit while nobody else commits: whoever is still committing holds what is waited
/// for.
async fn find(
    connections: &Connections,
    writing: &mut Writing,
    nonce: &str,
) -> Result<Option<u64>> {
    let session = connections.connected(writing).await?;
    session.begin(COMMITTING).await?;
    let found = state::find(session, nonce).await;
    session.end().await;
    found
}

fn session(writing: &Writing) -> Result<&Session> {
    writing.as_ref().ok_or_else(over)
}

fn over() -> Error {
    Error::new(
        ErrorKind::Destination,
        "the transaction ended with an earlier failure",
    )
    .with_help("run again")
}

/// A text that no other commit has.
fn nonce() -> String {
    use std::hash::{BuildHasher as _, RandomState};
    let random = || RandomState::new().hash_one(std::process::id());
    format!("{:016x}{:016x}", random(), random())
}

fn same_shape(left: &Arc<Table>, right: &Arc<Table>) -> bool {
    Arc::ptr_eq(left, right)
        || (left.schema == right.schema && left.primary_key == right.primary_key)
}

/// A transaction. It holds the writing connection except during a call; when a call fails or is
/// cancelled, the connection does not come back and the transaction is over.
pub(crate) struct PostgresTransaction {
    connections: Arc<Connections>,
    open: Option<Open>,
    refused: Vec<Refused>,
}

impl PostgresTransaction {
    pub(crate) fn new(connections: Arc<Connections>, open: Open) -> Self {
        Self {
            connections,
            open: Some(open),
            refused: Vec::new(),
        }
    }
}

#[async_trait]
impl Transaction for PostgresTransaction {
    async fn write(&mut self, table: &Arc<Table>, batch: RecordBatch) -> Result<u64> {
        let mut open = self.open.take().ok_or_else(over)?;
        let refused = open.write(table, &batch).await.map_err(|error| {
            at(&self.connections.server)(error.with_context("stream", table.stream.clone()))
        })?;
        (self.open, self.refused) = (Some(open), refused);
        Ok(0)
    }

    fn refused(&mut self) -> Vec<Refused> {
        std::mem::take(&mut self.refused)
    }

    async fn commit(mut self: Box<Self>, commit: &Commit) -> Result<u64> {
        let open = self.open.take().ok_or_else(over)?;
        open.commit(commit.clone())
            .await
            .map_err(at(&self.connections.server))
    }
}
