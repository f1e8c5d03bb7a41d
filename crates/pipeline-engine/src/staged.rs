//! What is read and not yet handed to the destination: the rows of complete pages, and how far they
//! bring their slices.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use pipeline_core::state::{CheckpointDelta, EndpointId};
use pipeline_core::{Lease, MemoryBudget, Op, Result, Stream};
use tokio::time::Instant;

use super::decode::{Decoder, Drift};
use super::dedup::Hashed;
use super::quality::{Batches, Originals};
use super::rejected::Rejected;
use crate::destination::{Keep, Table, TableId};

/// The most bytes of a table whose columns keep their room for the next batch.
const LARGEST_SPARE: usize = 16 << 20;

/// What a page has for one table.
pub(super) struct PageRecords<'a> {
    /// The endpoint's number in the run.
    pub(super) endpoint: usize,
    pub(super) table: &'a Arc<Table>,
    pub(super) stream: &'a Stream,
    /// True when the records have to be kept as they came until their batch is checked.
    pub(super) keeps: bool,
    pub(super) records: Vec<Hashed>,
}

/// A record that was taken for a row, and was none.
#[derive(Debug)]
pub(super) struct Late {
    pub(super) table: Arc<Table>,
    pub(super) reason: String,
}

/// What is read and not yet handed to the destination.
#[derive(Default)]
pub(super) struct Staged {
    pub(super) tables: Vec<StagedTable>,
    /// Tables without rows, with room for as many as they had in the batch before: columns that
    /// grow are copied.
    spare: Vec<StagedTable>,
    pub(super) rejected: Vec<Rejected>,
    pub(super) changes: Vec<CheckpointDelta>,
    pub(super) finished: Vec<EndpointId>,
    pub(super) publish: Vec<TableId>,
    pub(super) keep: Vec<Keep>,
    pub(super) discard: Vec<TableId>,
    /// Bytes of the records that are rows.
    pub(super) bytes: u64,
    /// Bytes that the rows, and what cannot be rows, take in memory at most: many columns with few
    /// values take more than the records.
    pub(super) memory: u64,
    /// Permits that memory.
    lease: Option<Lease>,
    /// Sum of the hashes of the records that are rows.
    pub(super) content_hash: u128,
    /// Bytes since the last commit, those that were handed over included.
    pub(super) uncommitted: u64,
    /// When the first of what is not committed was staged.
    since: Option<Instant>,
}

/// Rows of one table, in the order in which its pages were staged.
pub(super) struct StagedTable {
    pub(super) table: Arc<Table>,
    /// The last one takes rows; those before it have no room for more.
    decoders: Vec<Decoder>,
    /// Whose rows they are, in their order: an endpoint's number in the run, and how many.
    owners: Vec<(usize, u64)>,
    /// The records of the rows, where a check may put them in quarantine.
    originals: Option<Originals>,
    /// Bytes of memory that its rows took when they were last taken out.
    written: usize,
}

impl Staged {
    /// Adds a page's rows to those of the same tables. The pages of a table share a batch: a page
    /// has few records, and each column of a batch costs something, in making it and in writing it.
    /// Returns the records that only the decoder found to be wrong.
    pub(super) fn add(
        &mut self,
        page: Vec<PageRecords<'_>>,
        synced_at: DateTime<Utc>,
    ) -> Vec<Late> {
        let mut late = Vec::new();
        self.since.get_or_insert_with(Instant::now);
        for PageRecords {
            endpoint,
            table,
            stream,
            keeps,
            records,
        } in page
        {
            let index = self.index(table);
            let StagedTable {
                decoders,
                owners,
                originals,
                ..
            } = &mut self.tables[index];
            let kept = originals.as_ref().map_or(0, Originals::memory);
            let mut originals = keeps.then(|| originals.get_or_insert_default());
            let bytes = records.iter().map(|hashed| hashed.bytes).sum();
            let decoder = with_room(decoders, stream, bytes);
            let (memory, before) = (decoder.memory(), decoder.len());
            for Hashed {
                record,
                bytes,
                hash,
            } in records
            {
                match decoder.push(&record, synced_at) {
                    Ok(()) => {
                        if let Some(originals) = &mut originals {
                            originals.push(&record);
                        }
                        self.content_hash = self.content_hash.wrapping_add(hash);
                        self.bytes += bytes as u64;
                        self.uncommitted += bytes as u64;
                    }
                    Err(rejection) => {
                        if record.op() != Op::Reject {
                            late.push(Late {
                                table: Arc::clone(table),
                                reason: rejection.to_string(),
                            });
                        }
                        let rejected = Rejected::new(endpoint, table, &record, rejection);
                        self.memory += rejected.memory() as u64;
                        self.rejected.push(rejected);
                    }
                }
            }
            let kept = originals.map_or(0, |originals| originals.memory() - kept);
            self.memory += (decoder.memory() - memory + kept) as u64;
            if decoder.len() > before {
                owners.push((endpoint, (decoder.len() - before) as u64));
            }
        }
        late
    }

    /// Adds the records of a page that were rejected, and nothing else of it.
    pub(super) fn add_rejected(
        &mut self,
        mut page: Vec<PageRecords<'_>>,
        synced_at: DateTime<Utc>,
    ) {
        for page in &mut page {
            page.records
                .retain(|hashed| hashed.record.op() == Op::Reject);
        }
        let _ = self.add(page, synced_at);
    }

    /// Takes the memory that the rows take, whose pages had room for them.
    pub(super) fn permit(&mut self, memory: &MemoryBudget) {
        let lease = self.lease.get_or_insert_with(|| memory.staged());
        lease.take(
            usize::try_from(self.memory)
                .unwrap_or(usize::MAX)
                .saturating_sub(lease.bytes()),
        );
    }

    /// Adds a change of a checkpoint.
    pub(super) fn change(&mut self, change: CheckpointDelta) {
        self.since.get_or_insert_with(Instant::now);
        push_change(&mut self.changes, change);
    }

    /// Where a table is among those that have rows.
    fn index(&mut self, table: &Arc<Table>) -> usize {
        let place = |tables: &[StagedTable]| {
            tables
                .iter()
                .position(|known| Arc::ptr_eq(&known.table, table))
        };
        place(&self.tables).unwrap_or_else(|| {
            let spare = place(&self.spare).map(|index| self.spare.swap_remove(index));
            let new = || StagedTable {
                table: Arc::clone(table),
                decoders: Vec::new(),
                owners: Vec::new(),
                originals: None,
                written: 0,
            };
            self.tables.push(spare.unwrap_or_else(new));
            self.tables.len() - 1
        })
    }

    /// Everything but what tells when the next commit is due.
    pub(super) fn hand_over(&mut self) -> Self {
        let (spare, uncommitted, since) = (
            std::mem::take(&mut self.spare),
            self.uncommitted,
            self.since,
        );
        std::mem::replace(
            self,
            Self {
                spare,
                uncommitted,
                since,
                ..Self::default()
            },
        )
    }

    /// Everything, to be committed.
    pub(super) fn hand_over_last(&mut self) -> Self {
        (self.uncommitted, self.since) = (0, None);
        self.hand_over()
    }

    /// Takes back the tables of what was handed over, now that their rows are written. Those that
    /// had room for more than is usual are not kept.
    pub(super) fn take_back(&mut self, mut tables: Vec<StagedTable>) {
        tables.retain(|table| table.written <= LARGEST_SPARE);
        self.spare = tables;
    }

    /// How long the oldest of what is not committed has waited.
    pub(super) fn age(&self) -> Duration {
        self.since.map_or(Duration::ZERO, |since| since.elapsed())
    }
}

impl StagedTable {
    /// Takes out the rows, and how the records departed from what is declared.
    pub(super) fn finish(&mut self) -> Result<(Batches, Vec<Drift>)> {
        let (mut batches, mut drift) = (Vec::new(), Vec::new());
        self.written = self.decoders.iter().map(Decoder::memory).sum();
        for decoder in &mut self.decoders {
            batches.extend(decoder.finish()?);
            drift.extend(decoder.drift());
        }
        let (owners, originals) = (std::mem::take(&mut self.owners), self.originals.take());
        let batches = Batches::new(&self.table, batches, owners, originals);
        Ok((batches, drift))
    }
}

/// The decoder to add records of so many bytes to: a batch has no room beyond what a column can
/// address.
pub(super) fn with_room<'d>(
    decoders: &'d mut Vec<Decoder>,
    stream: &Stream,
    bytes: usize,
) -> &'d mut Decoder {
    let has_room = |decoder: &Decoder| i32::try_from(decoder.bytes().saturating_add(bytes)).is_ok();
    if !decoders.last().is_some_and(has_room) {
        decoders.push(Decoder::new(stream.schema(), stream.key()));
    }
    let last = decoders.len() - 1;
    &mut decoders[last]
}

/// Adds a change; joins an advance with the one that it continues, unless the endpoint's plan was
/// replaced in between.
pub(super) fn push_change(changes: &mut Vec<CheckpointDelta>, change: CheckpointDelta) {
    if let CheckpointDelta::Advance {
        endpoint,
        slice,
        from,
        to,
        watermark,
        newest,
        seen,
        gaps,
        ..
    } = &change
    {
        for earlier in changes
            .iter_mut()
            .rev()
            .filter(|earlier| earlier.endpoint() == endpoint)
        {
            match earlier {
                CheckpointDelta::Replace { .. } => break,
                CheckpointDelta::Advance {
                    slice: s,
                    to: t,
                    watermark: r,
                    newest: n,
                    seen: known,
                    gaps: missed,
                    ..
                } if s == slice && t == from => {
                    *n = (*n).max(*newest);
                    t.clone_from(to);
                    *r = watermark.or(*r);
                    known.extend(seen.iter().copied());
                    missed.extend(gaps.iter().cloned());
                    return;
                }
                CheckpointDelta::Advance { .. } => {}
            }
        }
    }
    changes.push(change);
}
