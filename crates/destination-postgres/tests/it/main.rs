//! The Postgres destination under the conformance suite, against a real server, and its own rules.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    missing_docs,
    unreachable_pub,
    reason = "tests of a server, which has a clock of its own"
)]
#![cfg(unix)]

mod deaths;
mod figures;
mod guard;
mod odd;
mod pooled;
mod proxy;
mod refresh;
mod rules;
mod tls;

use std::sync::Arc;

use arrow_schema::DataType;
use async_trait::async_trait;
use destination_postgres::{PostgresConfig, PostgresDestination};
use pipeline_core::Result;
use pipeline_engine::{Destination, Table};
use pipeline_testkit::destination_suite::{Damage, DestinationFixture, Scratch, canonical_object};
use pipeline_testkit::postgres::{self, Cluster, database_of};
use serde_json::Value;
use tokio_postgres::{Client, NoTls};

struct Postgres;

/// True when a test is to be skipped.
fn is_skipped(test: &str) -> bool {
    pipeline_testkit::skip::skips(env!("CARGO_PKG_NAME"), test, postgres::missing())
}

/// A connection beside the destination's.
async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(async move {
        let _ = connection.await;
    });
    client
}

/// The name of a stream's table, if there is one.
async fn table_name(client: &Client, table: &Table) -> Option<String> {
    let sql = "SELECT format('%I.%I', schema_name, table_name) FROM _pipeline.tables
        WHERE source = $1 AND stream = $2 AND to_regclass(format('%I.%I', schema_name, table_name)) IS NOT NULL";
    let row = client
        .query_opt(sql, &[&table.source, &table.stream])
        .await
        .unwrap();
    row.map(|row| row.get(0))
}

/// The columns of a table.
async fn columns(client: &Client, name: &str) -> Vec<String> {
    let sql = "SELECT attname FROM pg_attribute WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped";
    let rows = client.query(sql, &[&name]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

fn inflict(scratch: &Scratch, sql: &str) {
    Cluster::shared().run(database_of(scratch.name()), sql);
}

#[async_trait]
impl DestinationFixture for Postgres {
    fn missing(&self) -> Option<String> {
        postgres::missing()
    }

    fn holds_nul(&self) -> bool {
        false
    }

    async fn scratch(&self) -> Scratch {
        Cluster::shared().database()
    }

    async fn open(&self, scratch: &Scratch) -> Result<Box<dyn Destination>> {
        let config = PostgresConfig::new(scratch.name());
        Ok(Box::new(PostgresDestination::open(config).await?))
    }

    async fn rows(&self, scratch: &Scratch, table: &Table) -> Vec<String> {
        let client = connect(scratch.name()).await;
        let Some(name) = table_name(&client, table).await else {
            return Vec::new();
        };
        let columns = columns(&client, &name).await;
        let mut selected = Vec::new();
        let mut fields = Vec::new();
        for field in table.schema.fields() {
            let plain = field.name().replace('\0', "\u{2400}");
            let marked = |column: &&String| {
                column
                    .strip_prefix(&plain)
                    .is_some_and(|rest| rest.len() == 9 && rest.starts_with('_'))
            };
            let column = columns
                .iter()
                .find(|column| **column == plain)
                .or_else(|| columns.iter().find(marked));
            let Some(column) = column else { continue };
            let column = format!("\"{}\"", column.replace('"', "\"\""));
            selected.push(match field.data_type() {
                DataType::Decimal128(..) => format!("to_jsonb({column}::text)"),
                DataType::Date32 => format!("to_jsonb(to_char({column}, 'YYYY-MM-DD'))"),
                DataType::Timestamp(..) => format!(
                    "to_jsonb(to_char({column} AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'))"
                ),
                _ => format!("to_jsonb({column})"),
            });
            fields.push(field.name().clone());
        }
        let sql = format!(
            "SELECT jsonb_build_array({})::text FROM {name}",
            selected.join(", ")
        );
        let rows = client.query(&sql, &[]).await.unwrap();
        let mut lines: Vec<String> = rows
            .iter()
            .map(|row| {
                let values: Vec<Value> = serde_json::from_str(row.get(0)).unwrap();
                canonical_object(fields.iter().cloned().zip(values).collect())
            })
            .collect();
        lines.sort();
        lines
    }

    fn upserts(&self) -> bool {
        true
    }

    fn crash_points(&self) -> &[&'static str] {
        &[
            "postgres-begun",
            "postgres-prepared",
            "postgres-staged",
            "postgres-merged",
            "postgres-carrying",
            "postgres-published",
            "postgres-state",
            "postgres-committing",
            "postgres-committed",
        ]
    }

    fn purge_crash_points(&self) -> &[&'static str] {
        &[
            "postgres-before-purged",
            "postgres-before-vacuum",
            "postgres-after-vacuum",
        ]
    }

    fn versions(&self, _: &Scratch, _: &Table) -> Option<Vec<String>> {
        None
    }

    fn damages(&self) -> &[Damage] {
        &[
            Damage {
                name: "garbage in the state table",
                inflict: |scratch| {
                    inflict(
                        scratch,
                        "UPDATE _pipeline.state SET state = '{\"version\":1,'",
                    );
                },
            },
            Damage {
                name: "a state table without its column",
                inflict: |scratch| {
                    inflict(scratch, "ALTER TABLE _pipeline.state DROP COLUMN state");
                },
            },
            Damage {
                name: "a newer layout",
                inflict: |scratch| inflict(scratch, "UPDATE _pipeline.head SET layout = 1000"),
            },
        ]
    }

    async fn stored(&self, scratch: &Scratch) -> Vec<String> {
        let client = connect(scratch.name()).await;
        let sql = "SELECT n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema' ORDER BY 1";
        let rows = client.query(sql, &[]).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }

    async fn find(&self, scratch: &Scratch, text: &str) -> Option<String> {
        Cluster::shared().find(database_of(scratch.name()), text)
    }

    async fn strays(&self, scratch: &Scratch) -> Vec<String> {
        // Nothing but schemas of sources, and this program's own.
        let client = connect(scratch.name()).await;
        let sql = "SELECT nspname::text FROM pg_namespace WHERE nspname NOT LIKE 'pg\\_%'
            AND nspname NOT IN ('information_schema', 'public', '_pipeline')
            AND nspname NOT IN (SELECT schema_name FROM _pipeline.tables)";
        let rows = client.query(sql, &[]).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }

    async fn unusable(&self) -> Vec<Scratch> {
        let unreachable = format!("postgres://postgres@127.0.0.1:{}/x", postgres::free_port());
        vec![Scratch::new(unreachable, Arc::new(()))]
    }
}

pipeline_testkit::destination_suite!(Postgres);
