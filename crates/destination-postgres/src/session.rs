//! One connection to the server.

use std::fmt::{self, Debug};

use futures::FutureExt as _;
use pipeline_core::Result;
use tokio::task::JoinHandle;
use tokio_postgres::types::{FromSql, ToSql, Type};
use tokio_postgres::{Client, NoTls, Row};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::error::Explain;
use crate::server::Server;

const CONNECTING: &str = "connecting to the database";

/// What holds inside a transaction, whatever the role's defaults are. Nobody is waited for longer
/// than the limit: who has more time tries again.
const SETTINGS: &str = "SET LOCAL lock_timeout = '10s'; SET LOCAL statement_timeout = 0; \
     SET LOCAL idle_in_transaction_session_timeout = 0; SET LOCAL synchronous_commit = on; \
     SET LOCAL client_min_messages = error";

/// A connection. No statement is prepared under a name except by `COPY`, so that a pooler may give
/// each transaction another connection.
pub(crate) struct Session {
    client: Client,
    pooled: bool,
    task: JoinHandle<()>,
}

impl Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").finish_non_exhaustive()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A value of a statement, with its type: the server then need not be asked for it.
pub(crate) type Param<'a> = (&'a (dyn ToSql + Sync), Type);

/// A type of values of statements.
pub(crate) trait Typed: ToSql + Sync {
    /// The type in the database.
    const TYPE: Type;
}

impl Typed for &str {
    const TYPE: Type = Type::TEXT;
}

impl Typed for String {
    const TYPE: Type = Type::TEXT;
}

impl Typed for &String {
    const TYPE: Type = Type::TEXT;
}

impl Typed for Option<String> {
    const TYPE: Type = Type::TEXT;
}

impl Typed for Option<&str> {
    const TYPE: Type = Type::TEXT;
}

impl Typed for i64 {
    const TYPE: Type = Type::INT8;
}

impl Typed for Vec<String> {
    const TYPE: Type = Type::TEXT_ARRAY;
}

impl Typed for &[String] {
    const TYPE: Type = Type::TEXT_ARRAY;
}

/// A value of a statement.
pub(crate) fn param<T: Typed>(value: &T) -> Param<'_> {
    (value, T::TYPE)
}

/// The values of a statement.
macro_rules! params {
    ($($value:expr),* $(,)?) => { &[$($crate::session::param(&$value)),*] };
}
pub(crate) use params;

/// A value of a row.
pub(crate) fn get<'a, T: FromSql<'a>>(row: &'a Row, index: usize) -> Result<T> {
    row.try_get(index)
        .explain("reading an answer of the database")
}

impl Session {
    pub(crate) async fn open(server: &Server) -> Result<Self> {
        let (client, task) = match &server.tls {
            None => {
                let connected = server.config.connect(NoTls).await;
                let (client, connection) = connected.explain(CONNECTING)?;
                // How a connection ended is seen by whoever uses it.
                (client, tokio::spawn(connection.map(drop)))
            }
            Some(tls) => {
                let connector = MakeRustlsConnect::new(rustls::ClientConfig::clone(tls));
                let connected = server.config.connect(connector).await;
                let (client, connection) = connected.explain(CONNECTING)?;
                (client, tokio::spawn(connection.map(drop)))
            }
        };
        Ok(Self {
            client,
            pooled: server.pooled,
            task,
        })
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// False when it is known to have ended.
    pub(crate) fn is_alive(&self) -> bool {
        !self.client.is_closed()
    }

    /// Begins a transaction that may write.
    pub(crate) async fn begin(&self, operation: &'static str) -> Result<()> {
        // What `COPY` prepares has the same name in every process, and a pooler's connection may
        // still have another's.
        let deallocate = if self.pooled { "; DEALLOCATE ALL" } else { "" };
        self.batch(operation, &format!("BEGIN; {SETTINGS}{deallocate}"))
            .await
    }

    /// Begins a transaction that sees one state of the database.
    pub(crate) async fn begin_to_read(&self, operation: &'static str) -> Result<()> {
        self.batch(
            operation,
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL statement_timeout = 0",
        )
        .await
    }

    /// Ends the transaction without waiting for the answer: what is asked for next comes after it.
    pub(crate) fn roll_back(&self) {
        // To poll once is to send it. A connection that has ended has rolled back by itself.
        let _ = self.client.batch_execute("ROLLBACK").now_or_never();
    }

    /// Ends the transaction without a trace, and waits until others need not wait for it any more.
    pub(crate) async fn end(&self) {
        // A connection that has ended has rolled back by itself.
        let _ = self.client.batch_execute("ROLLBACK").await;
    }

    pub(crate) async fn batch(&self, operation: &'static str, sql: &str) -> Result<()> {
        self.client.batch_execute(sql).await.explain(operation)
    }

    pub(crate) async fn query(
        &self,
        operation: &'static str,
        sql: &str,
        params: &[Param<'_>],
    ) -> Result<Vec<Row>> {
        self.client
            .query_typed(sql, params)
            .await
            .explain(operation)
    }

    pub(crate) async fn one(
        &self,
        operation: &'static str,
        sql: &str,
        params: &[Param<'_>],
    ) -> Result<Row> {
        self.client
            .query_typed_one(sql, params)
            .await
            .explain(operation)
    }

    pub(crate) async fn optional(
        &self,
        operation: &'static str,
        sql: &str,
        params: &[Param<'_>],
    ) -> Result<Option<Row>> {
        self.client
            .query_typed_opt(sql, params)
            .await
            .explain(operation)
    }

    pub(crate) async fn execute(
        &self,
        operation: &'static str,
        sql: &str,
        params: &[Param<'_>],
    ) -> Result<u64> {
        self.client
            .execute_typed(sql, params)
            .await
            .explain(operation)
    }

    /// The first column of a query's rows.
    pub(crate) async fn strings(
        &self,
        operation: &'static str,
        sql: &str,
        params: &[Param<'_>],
    ) -> Result<Vec<String>> {
        let rows = self.query(operation, sql, params).await?;
        rows.iter().map(|row| get(row, 0)).collect()
    }

    /// A number: that of a query's only column and row.
    pub(crate) async fn number(
        &self,
        operation: &'static str,
        sql: &str,
        params: &[Param<'_>],
    ) -> Result<i64> {
        get(&self.one(operation, sql, params).await?, 0)
    }

    /// True or false: that of a query's only column and row.
    pub(crate) async fn is(
        &self,
        operation: &'static str,
        sql: &str,
        params: &[Param<'_>],
    ) -> Result<bool> {
        get(&self.one(operation, sql, params).await?, 0)
    }
}
