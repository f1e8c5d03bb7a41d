//! Rows of a transaction on their way: a temporary table that `COPY` fills, and that goes with the
//! transaction.

use std::pin::pin;

use bytes::Bytes;
use destination_sql::quote;
use futures::SinkExt as _;
use pipeline_core::Result;
use pipeline_engine::Refused;

use crate::encode::{Encoder, Kind, Layout, Place};
use crate::error::Explain;
use crate::session::Session;
use crate::table::ORDER;

pub(crate) const WRITING: &str = "writing rows";

/// Bytes that are sent at once.
const CHUNK: usize = 256 << 10;

/// The temporary table of one table.
#[derive(Debug)]
pub(crate) struct Stage {
    name: String,
    state: State,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Missing,
    Filled,
    /// Filled, with an index on the order of its rows.
    Indexed,
}

impl Stage {
    /// One that is made when it is needed. `number` tells it apart from the others of a
    /// transaction.
    pub(crate) fn new(number: usize) -> Self {
        Self {
            name: format!("pg_temp.{}", quote(&format!("_pipeline_stage_{number}"))),
            state: State::Missing,
        }
    }

    /// As it is written in statements.
    pub(crate) fn sql(&self) -> &str {
        &self.name
    }

    /// The value of a column, as it is read from here.
    pub(crate) fn value(place: &Place) -> String {
        let column = format!("s.{}", quote(&place.name));
        if place.kind == Kind::Foreign {
            format!("{column}::{}", place.data_type)
        } else {
            column
        }
    }

    /// Puts rows of a batch in the place of those that are here, numbered from 0 in their order.
    /// Returns which rows they are: all but those that cannot be stored.
    pub(crate) async fn fill(
        &mut self,
        session: &Session,
        layout: &Layout,
        encoder: &mut Encoder<'_>,
        rows: impl IntoIterator<Item = usize> + Send,
        refused: &mut Vec<Refused>,
    ) -> Result<Vec<usize>> {
        match self.state {
            State::Missing => {
                let sql = self.create(layout);
                session.batch(WRITING, &sql).await?;
            }
            State::Filled | State::Indexed => {
                let sql = format!("TRUNCATE {}", self.name);
                session.batch(WRITING, &sql).await?;
            }
        }
        if self.state != State::Indexed {
            self.state = State::Filled;
        }
        let names: Vec<String> = layout
            .places
            .iter()
            .map(|place| quote(&place.name))
            .collect();
        let sql = format!(
            "COPY {} ({}, {ORDER}) FROM STDIN",
            self.name,
            names.join(", ")
        );
        let mut stored = Vec::new();
        copy(session, &sql, encoder, rows, refused, |row, out| {
            out.extend_from_slice(format!("\t{}", stored.len()).as_bytes());
            stored.push(row);
        })
        .await
        .explain(WRITING)?;
        Ok(stored)
    }

    fn create(&self, layout: &Layout) -> String {
        let columns = layout.places.iter().map(|place| {
            let data_type = match place.kind {
                Kind::Foreign => "text",
                _ => place.data_type.as_str(),
            };
            format!("{} {data_type}, ", quote(&place.name))
        });
        format!(
            "CREATE TEMP TABLE {} ({}{ORDER} bigint) ON COMMIT DROP",
            self.name.trim_start_matches("pg_temp."),
            columns.collect::<String>()
        )
    }

    /// Makes it quick to find a row by its number, for when they are looked for one by one.
    pub(crate) async fn index(&mut self, session: &Session) -> Result<()> {
        if self.state == State::Filled {
            let sql = format!("CREATE INDEX ON {} ({ORDER})", self.name);
            session.batch(WRITING, &sql).await?;
            self.state = State::Indexed;
        }
        Ok(())
    }

    /// What is undone with a savepoint: nothing that was made here is there any more.
    pub(crate) fn is_indexed(&self) -> bool {
        self.state == State::Indexed
    }
}

/// Sends rows of a batch to a `COPY` statement. `finish` ends the row that was appended.
pub(crate) async fn copy(
    session: &Session,
    sql: &str,
    encoder: &mut Encoder<'_>,
    rows: impl IntoIterator<Item = usize> + Send,
    refused: &mut Vec<Refused>,
    mut finish: impl FnMut(usize, &mut Vec<u8>) + Send,
) -> std::result::Result<u64, tokio_postgres::Error> {
    let mut sink = pin!(session.client().copy_in::<_, Bytes>(sql).await?);
    let mut out = Vec::with_capacity(CHUNK + CHUNK / 4);
    // The iterator is not held over an await.
    let rows: Vec<usize> = rows.into_iter().collect();
    for row in rows {
        let start = out.len();
        match encoder.push(row, &mut out) {
            Ok(()) => {
                finish(row, &mut out);
                out.push(b'\n');
            }
            Err(reason) => {
                out.truncate(start);
                refused.push(Refused { row, reason });
            }
        }
        if out.len() >= CHUNK {
            let full = std::mem::replace(&mut out, Vec::with_capacity(CHUNK + CHUNK / 4));
            sink.send(Bytes::from(full)).await?;
        }
    }
    if !out.is_empty() {
        sink.send(Bytes::from(out)).await?;
    }
    sink.finish().await
}
