//! The destination: what is asked of it outside of transactions.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, PoisonError};

use async_trait::async_trait;
use destination_sql::Deletes;
use pipeline_core::state::{EndpointId, EndpointState};
use pipeline_core::{Claim, Error, ErrorKind, Result, RunRecord, failpoint};
use pipeline_engine::{
    Access, Damage, Delivery, Depth, Destination, Generation, Purge, Purged, Status, Table,
    TableId, Transaction,
};
use tokio::sync::{Mutex, MutexGuard, OwnedMutexGuard};

use crate::config::PostgresConfig;
use crate::dialect::Style;
use crate::error::at;
use crate::meta::Present;
use crate::server::Server;
use crate::session::Session;
use crate::table::PREPARING;
use crate::transaction::{Open, PostgresTransaction};
use crate::{check, claim, counts, meta, purge, runs, state, table, verify};

const READING: &str = "reading the database";
const RECORDING: &str = "recording the run";

/// A Postgres database that holds tables, checkpoints and the commit log.
///
/// One connection writes, another reads what is committed meanwhile.
#[derive(Debug)]
pub struct PostgresDestination {
    connections: Arc<Connections>,
    access: Access,
}

/// A server, and how its tables are written.
pub(crate) struct Connections {
    pub(crate) server: Server,
    pub(crate) style: Style,
    pub(crate) deletes: Deletes,
    writer: Arc<Mutex<Option<Session>>>,
    reader: Mutex<Option<Session>>,
    /// The tables of which the rows that were written last were all new.
    growing: std::sync::Mutex<HashSet<(TableId, Generation)>>,
}

impl std::fmt::Debug for Connections {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Connections")
            .field(&self.server.name)
            .finish()
    }
}

/// The writing connection, held by one at a time.
pub(crate) type Writing = OwnedMutexGuard<Option<Session>>;

impl PostgresDestination {
    /// Connects to the database, and makes the schema for checkpoints and the commit log where it
    /// does not exist.
    ///
    /// # Errors
    /// [`ErrorKind::ConfigInvalid`] when the settings are wrong, or the server refuses the role or
    /// does not have the database; [`ErrorKind::Untrusted`] when its certificate is not good;
    /// [`ErrorKind::Destination`] when it cannot be reached or written.
    pub async fn open(config: PostgresConfig) -> Result<Self> {
        Self::open_for(Access::Write, config).await
    }

    /// Connects to look at it: for its [status](Destination::status), states, runs and whether it
    /// is [intact](Destination::verify). The server may be a replica; nothing is written to it.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn open_to_read(config: PostgresConfig) -> Result<Self> {
        Self::open_for(Access::Read, config).await
    }

    pub(crate) async fn open_for(access: Access, config: PostgresConfig) -> Result<Self> {
        let server = Server::of(&config)?;
        let session = Session::open(&server).await.map_err(at(&server))?;
        let style = Style::of(&config);
        match access {
            Access::Write => meta::ensure(&session, &style.schema).await,
            Access::Read if Present::of(&session).await.map_err(at(&server))?.head => {
                meta::check_layout(&session).await
            }
            Access::Read => Ok(()),
        }
        .map_err(at(&server))?;
        Ok(Self {
            access,
            connections: Arc::new(Connections {
                server,
                style,
                deletes: config.deletes,
                writer: Arc::default(),
                reader: Mutex::new(Some(session)),
                growing: std::sync::Mutex::default(),
            }),
        })
    }

    fn writable(&self) -> Result<&Arc<Connections>> {
        match self.access {
            Access::Write => Ok(&self.connections),
            Access::Read => Err(Error::new(
                ErrorKind::Unsupported,
                "the database was opened to read only",
            )),
        }
    }

    /// A view of one state of what is committed, whatever the writer does.
    async fn reading(&self) -> Result<Reading<'_>> {
        let mut reader = self.connections.reader.lock().await;
        let begun = self.connections.begin_to_read(&mut reader).await;
        match begun {
            // The connection may have ended since it was used last, without anybody noticing.
            Err(error) if error.is_temporary() => {
                *reader = None;
                self.connections.begin_to_read(&mut reader).await?;
            }
            begun => begun?,
        }
        Ok(Reading {
            reader,
            is_over: false,
        })
    }

    /// Adds the server to an error.
    fn at<T>(&self, done: Result<T>) -> Result<T> {
        done.map_err(at(&self.connections.server))
    }
}

/// The reading connection, in a transaction that ends when this is dropped.
struct Reading<'a> {
    reader: MutexGuard<'a, Option<Session>>,
    is_over: bool,
}

impl Reading<'_> {
    fn session(&self) -> Result<&Session> {
        connection(self.reader.as_ref())
    }

    /// Ends it, and with it what others would wait for, and returns what was read.
    async fn end<T>(mut self, read: Result<T>) -> Result<T> {
        self.session()?.end().await;
        self.is_over = true;
        read
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        if !self.is_over
            && let Some(session) = &*self.reader
        {
            session.roll_back();
        }
    }
}

/// The writing connection, in a transaction of its own that ends when this is dropped.
struct Alone {
    writing: Writing,
    is_over: bool,
}

impl Alone {
    async fn begin(
        connections: &Connections,
        mut writing: Writing,
        operation: &'static str,
    ) -> Result<Self> {
        let session = connections.connected(&mut writing).await?;
        session.begin(operation).await?;
        Ok(Self {
            writing,
            is_over: false,
        })
    }

    fn session(&self) -> Result<&Session> {
        connection(self.writing.as_ref())
    }

    async fn commit(mut self, operation: &'static str) -> Result<()> {
        self.session()?.batch(operation, "COMMIT").await?;
        self.is_over = true;
        Ok(())
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        if !self.is_over
            && let Some(session) = &*self.writing
        {
            session.roll_back();
        }
    }
}

fn connection(session: Option<&Session>) -> Result<&Session> {
    session.ok_or_else(|| Error::new(ErrorKind::Unexpected, "a connection was not made"))
}

impl Connections {
    /// The connection, made anew when it has ended.
    pub(crate) async fn connected<'a>(
        &self,
        session: &'a mut Option<Session>,
    ) -> Result<&'a Session> {
        if session.as_ref().is_some_and(|session| !session.is_alive()) {
            *session = None;
        }
        Ok(match session {
            Some(session) => session,
            None => session.insert(Session::open(&self.server).await?),
        })
    }

    async fn begin_to_read(&self, reader: &mut Option<Session>) -> Result<()> {
        let session = self.connected(reader).await?;
        session.begin_to_read(READING).await
    }

    /// Whether the next rows of a table are likely to be new.
    pub(crate) fn guess(&self, table: &(TableId, Generation)) -> bool {
        let growing = self.growing.lock().unwrap_or_else(PoisonError::into_inner);
        growing.contains(table)
    }

    /// Remembers whether the rows of a table that were written last were all new.
    pub(crate) fn remember(&self, table: (TableId, Generation), is_growing: bool) {
        let mut growing = self.growing.lock().unwrap_or_else(PoisonError::into_inner);
        if is_growing {
            growing.insert(table);
        } else {
            growing.remove(&table);
        }
    }

    async fn writer(&self) -> Writing {
        Arc::clone(&self.writer).lock_owned().await
    }

    /// The writing connection, unless a transaction is open.
    fn idle_writer(&self) -> Option<Writing> {
        Arc::clone(&self.writer).try_lock_owned().ok()
    }
}

#[async_trait]
impl Destination for PostgresDestination {
    fn delivery(&self) -> Delivery {
        Delivery::ExactlyOnce
    }

    async fn check(&self) -> Result<()> {
        let connections = self.writable()?;
        let Some(mut writing) = connections.idle_writer() else {
            return Ok(());
        };
        let schema = Some(connections.style.schema.as_str()).filter(|name| !name.contains('{'));
        let checked = async {
            let session = connections.connected(&mut writing).await?;
            check::check(session, schema).await
        };
        checked.await.map_err(at(&connections.server))
    }

    async fn verify(&self, depth: Depth) -> Result<Vec<Damage>> {
        let verify = async {
            let reading = self.reading().await?;
            let damages = verify::verify(reading.session()?, depth).await;
            reading.end(damages).await
        };
        self.at(verify.await)
    }

    async fn claim(&self, source: &str, run: &str) -> Result<Claim> {
        let server = &self.connections.server;
        claim::claim(server, source, run).await.map_err(at(server))
    }

    async fn is_claimed(&self, source: &str) -> Result<Option<bool>> {
        let look = async {
            let reading = self.reading().await?;
            let is_claimed = claim::is_claimed(reading.session()?, source).await;
            reading.end(is_claimed).await
        };
        self.at(look.await).map(Some)
    }

    /// Waits until the transaction before it is gone.
    async fn record_run(&self, run: &RunRecord) -> Result<()> {
        let connections = self.writable()?;
        let record = async {
            let writing = connections.writer().await;
            let alone = Alone::begin(connections, writing, RECORDING).await?;
            runs::record(alone.session()?, run).await?;
            alone.commit(RECORDING).await
        };
        self.at(record.await)
    }

    async fn runs(&self, limit: usize) -> Result<Vec<RunRecord>> {
        let list = async {
            let reading = self.reading().await?;
            let session = reading.session()?;
            let runs = if Present::of(session).await?.runs {
                runs::list(session, limit).await
            } else {
                Ok(Vec::new())
            };
            reading.end(runs).await
        };
        self.at(list.await)
    }

    /// While a transaction is open, leaves the tables to its first write.
    async fn prepare(&self, tables: &[Arc<Table>]) -> Result<()> {
        let connections = self.writable()?;
        let Some(writing) = connections.idle_writer() else {
            return Ok(());
        };
        let prepare = async {
            let alone = Alone::begin(connections, writing, PREPARING).await?;
            for table in tables {
                table::prepare(alone.session()?, &connections.style, table).await?;
            }
            failpoint("postgres-prepared");
            alone.commit(PREPARING).await
        };
        self.at(prepare.await)
    }

    async fn states(&self, source: &str) -> Result<BTreeMap<EndpointId, EndpointState>> {
        let load = async {
            let reading = self.reading().await?;
            let states = stored(reading.session()?, Some(source)).await;
            reading.end(states).await
        };
        let states = self.at(load.await)?;
        Ok(states.into_iter().collect())
    }

    /// Waits until the transaction before it is gone.
    async fn begin(&self) -> Result<Box<dyn Transaction>> {
        let connections = self.writable()?;
        let writing = connections.writer().await;
        let open = Open::begin(Arc::clone(connections), writing)
            .await
            .map_err(at(&connections.server))?;
        Ok(Box::new(PostgresTransaction::new(
            Arc::clone(connections),
            open,
        )))
    }

    async fn status(&self, commits: usize) -> Result<Status> {
        let status = async {
            let reading = self.reading().await?;
            let session = reading.session()?;
            let status = status(session, commits).await;
            reading.end(status).await
        };
        self.at(status.await)
    }

    /// Waits until the transaction before it is gone. Others wait for a table while it is
    /// rewritten.
    async fn purge(&self, purge: &Purge) -> Result<Purged> {
        let connections = self.writable()?;
        let mut writing = connections.writer().await;
        let purged = async {
            let session = connections.connected(&mut writing).await?;
            purge::purge(session, connections.deletes, purge).await
        };
        purged.await.map_err(at(&connections.server))
    }
}

/// What the database holds.
async fn status(session: &Session, commits: usize) -> Result<Status> {
    let present = Present::of(session).await?;
    Ok(Status {
        endpoints: stored(session, None).await?,
        rows: if present.tables {
            row_counts(session).await?
        } else {
            Vec::new()
        },
        commits: if present.commits {
            state::commits(session, commits).await?
        } else {
            Vec::new()
        },
    })
}

/// Visible rows, per table.
async fn row_counts(session: &Session) -> Result<Vec<(TableId, u64)>> {
    let mut rows = Vec::new();
    for (id, registered) in table::all(session).await? {
        if counts::exists(session, &registered.visible).await? {
            let count = counts::count(session, &registered.visible).await?;
            rows.push((id, count.unsigned_abs()));
        }
    }
    Ok(rows)
}

/// The checkpoints, of which there are none in a database that nothing was ever written to.
async fn stored(
    session: &Session,
    source: Option<&str>,
) -> Result<Vec<(EndpointId, EndpointState)>> {
    let present = Present::of(session).await?;
    match present.state {
        true => state::list(session, source).await,
        false if present.is_new() => Ok(Vec::new()),
        false => Err(Error::new(
            ErrorKind::Destination,
            "the table `_pipeline.state` was dropped, and the checkpoints with it",
        )
        .with_help("restore the database from a backup, or run `pipeline sync --full-refresh` to read everything again")),
    }
}
