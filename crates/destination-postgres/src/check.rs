//! Whether the server can be written to, and what is missing where it cannot.

use pipeline_core::{Error, ErrorKind, Result};

use crate::session::{Session, params};

const CHECKING: &str = "checking the database";

/// The oldest release that is supported, as Postgres numbers it.
const OLDEST: i64 = 150_000;

/// Tries everything that a sync needs, and leaves nothing. `schema` is the one of all tables; none:
/// each source has its own, which has to be made.
pub(crate) async fn check(session: &Session, schema: Option<&str>) -> Result<()> {
    let sql = "SELECT current_setting('server_version_num')::bigint";
    let version = session.number(CHECKING, sql, &[]).await?;
    if version < OLDEST {
        return Err(Error::new(
            ErrorKind::Destination,
            format!(
                "the server is Postgres {}, which is too old",
                version / 10_000
            ),
        )
        .with_operation(CHECKING)
        .with_help("use Postgres 15 or newer"));
    }
    session.begin(CHECKING).await?;
    let tried = session
        .batch(
            CHECKING,
            "CREATE TABLE _pipeline.check (x integer); CREATE TEMP TABLE _pipeline_check (x integer);
             INSERT INTO _pipeline_check VALUES (1)",
        )
        .await;
    session.end().await;
    tried?;
    let (sql, what) = match schema {
        Some(_) => (
            "SELECT has_database_privilege(current_database(), 'CREATE')
                 OR coalesce((SELECT has_schema_privilege(oid, 'CREATE') FROM pg_namespace WHERE nspname = $1), false)",
            "in the schema of `schema`, nor make it",
        ),
        None => (
            "SELECT has_database_privilege(current_database(), 'CREATE') OR $1 = '' AND EXISTS
                 (SELECT 1 FROM _pipeline.tables t WHERE has_schema_privilege(t.schema_name, 'CREATE'))",
            "as it may not make schemas, and a source has one of its own",
        ),
    };
    if session
        .is(CHECKING, sql, params![schema.unwrap_or("")])
        .await?
    {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Destination,
        format!("the role cannot make tables {what}"),
    )
    .with_operation(CHECKING)
    .with_help("run `GRANT CREATE ON DATABASE … TO …`, or name a schema in `schema` that the role may write to"))
}
