//! What a destination has lost: found before a sync asks for anything, and repaired by reading a
//! table again.

use std::collections::{BTreeMap, BTreeSet};

use pipeline_core::{Error, ErrorKind, Event, Result};

use super::Job;
use crate::destination::{Damage, Depth, TableId};

/// The tables that do not hold what was committed to them.
#[derive(Debug, Default)]
pub(super) struct Damages(BTreeMap<TableId, Error>);

impl Damages {
    /// Compares the destination with its log.
    ///
    /// # Errors
    /// Damage that concerns all tables, unless everything is read again anyway.
    pub(super) async fn find(job: &Job) -> Result<Self> {
        let mut tables = BTreeMap::new();
        for damage in job.destination.verify(Depth::Shape).await? {
            match damage.table.clone() {
                Some(table) => {
                    tables.entry(table).or_insert_with(|| explained(damage));
                }
                None if job.options.full_refresh => {
                    let source = job.sources.first().map_or("", |source| &source.name);
                    let message = &format!(
                        "{}: it is repaired by reading everything again",
                        damage.what
                    );
                    job.observer.observe(&Event::Notice {
                        source,
                        endpoint: "",
                        message,
                    });
                }
                None => return Err(explained(damage)),
            }
        }
        Ok(Self(tables))
    }

    /// What is damaged of the tables that an endpoint reads into.
    pub(super) fn of(&self, source: &str, streams: &BTreeSet<String>) -> Option<&Error> {
        let is_meant = |table: &TableId| table.source == source && streams.contains(&table.stream);
        self.0
            .iter()
            .find(|(table, _)| is_meant(table))
            .map(|(_, error)| error)
    }
}

fn explained(Damage { table, what, help }: Damage) -> Error {
    let error = Error::new(ErrorKind::Destination, what)
        .with_operation("comparing the destination with its log")
        .with_help(help);
    match table {
        Some(TableId { source, stream }) => error
            .with_context("source", source)
            .with_context("stream", stream),
        None => error,
    }
}
