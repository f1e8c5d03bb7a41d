//! Makes rows of a page's records, on the task that read them: tasks decode at the same time.

use std::sync::Arc;

use arrow_array::RecordBatch;
use chrono::{DateTime, Utc};

use super::decode::{Decoder, Drift, Rejection};
use super::dedup::Hashed;
use super::endpoint_run::EndpointRun;
use crate::destination::Table;
use crate::error::Result;
use crate::record::RawRecord;

/// The decoders of one slice's task: one for each stream of which a record has come. A feed of changes has a hundred streams,
/// and of most of them nothing has changed.
pub(super) struct Decoders<'a> {
    run: &'a EndpointRun,
    streams: Vec<Option<Decoder>>,
}

/// What a page has for one table.
pub(super) struct Rows {
    /// The endpoint's number in the run.
    pub(super) endpoint: usize,
    pub(super) table: Arc<Table>,
    /// None when there are no rows.
    pub(super) batch: Option<RecordBatch>,
    /// Bytes of the records that are rows.
    pub(super) bytes: u64,
    /// Sum of their hashes.
    pub(super) content_hash: u128,
    pub(super) drift: Vec<Drift>,
    /// What cannot be a row, and why.
    pub(super) rejected: Vec<(RawRecord, Rejection)>,
}

impl<'a> Decoders<'a> {
    pub(super) fn new(run: &'a EndpointRun) -> Self {
        Self { run, streams: run.tables.iter().map(|_| None).collect() }
    }

    /// Decodes the records of each stream; those of streams that are not wanted are dropped.
    pub(super) fn decode(&mut self, records: Vec<Vec<Hashed>>, synced_at: DateTime<Utc>) -> Result<Vec<Rows>> {
        let Self { run, streams } = self;
        let mut all = Vec::new();
        for (((stream, table), decoder), records) in run.endpoint().streams().zip(&run.tables).zip(streams).zip(records) {
            let Some(table) = table.as_ref().filter(|_| !records.is_empty()) else { continue };
            let decoder = decoder.get_or_insert_with(|| Decoder::new(stream.schema(), stream.key()));
            all.push(rows(run.ordinal, table, decoder, records, synced_at)?);
        }
        Ok(all)
    }
}

fn rows(endpoint: usize, table: &Arc<Table>, decoder: &mut Decoder, records: Vec<Hashed>, synced_at: DateTime<Utc>) -> Result<Rows> {
    let mut rows =
        Rows { endpoint, table: Arc::clone(table), batch: None, bytes: 0, content_hash: 0, drift: Vec::new(), rejected: Vec::new() };
    for Hashed { record, hash } in records {
        match decoder.push(&record, synced_at) {
            Ok(()) => {
                rows.content_hash = rows.content_hash.wrapping_add(hash);
                rows.bytes += record.as_bytes().len() as u64;
            }
            Err(rejection) => rows.rejected.push((record, rejection)),
        }
    }
    rows.batch = decoder.finish()?;
    rows.drift = decoder.drift();
    Ok(rows)
}
