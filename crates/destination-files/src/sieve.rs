//! The part of a transaction that leaves out what its tables hold already.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use arrow_array::RecordBatch;
use pipeline_core::{Error, ErrorKind, Result};
use pipeline_engine::{Commit, Generation, Table, TableId};

use crate::format::FileFormat;
use crate::known::{Known, MAX_PATTERNS, Pattern};
use crate::sift;
use crate::sift::Sifted;
use crate::store::Store;

/// What a transaction knows of the tables that it writes. It belongs to the transaction until that
/// is committed: what is not committed must not keep anybody from writing the same rows.
#[derive(Debug, Default)]
pub(crate) struct Sieves {
    /// None: everything is stored, since too many kinds of tombstones are in the table.
    tables: HashMap<(TableId, Generation), Option<Sieve>>,
}

#[derive(Debug)]
struct Sieve {
    known: Known,
    /// The commit as of which it was known what the table holds.
    sequence: u64,
    /// Keys that this transaction has written to the next generation.
    mine: HashSet<u64>,
    /// Rows that were left out.
    unchanged: u64,
    /// False when what is known cannot be handed on to the next transaction.
    intact: bool,
}

impl Sieves {
    /// Takes out of a batch what its table holds. None: the batch is to be stored as it is, because
    /// its rows have no key or belong to too many things that can be deleted.
    pub(crate) fn sift(
        &mut self,
        store: &Mutex<Store>,
        format: &dyn FileFormat,
        table: &Table,
        batch: &RecordBatch,
    ) -> Result<Option<(Vec<Pattern>, Sifted)>> {
        if table.primary_key.is_empty() {
            return Ok(None);
        }
        let place = (table.id(), table.generation);
        let mut patterns = sift::patterns(batch, &table.primary_key)?;
        match self.tables.get_mut(&place) {
            None => {}
            Some(None) => return Ok(None),
            Some(Some(sieve)) => {
                patterns.extend(sieve.known.patterns().iter().cloned());
                if patterns.len() > MAX_PATTERNS {
                    self.tables.insert(place, None);
                    return Ok(None);
                }
                if patterns.len() > sieve.known.patterns().len() {
                    sieve.known.forget(patterns.iter().cloned().collect());
                    sieve.intact = false;
                }
            }
        }
        if !self.tables.contains_key(&place) {
            let known = store
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .known(&place.0, place.1, format, patterns)?;
            let new = |(known, sequence)| Sieve {
                known,
                sequence,
                mine: HashSet::new(),
                unchanged: 0,
                intact: true,
            };
            self.tables.insert(place.clone(), known.map(new));
        }
        let Some(Some(sieve)) = self.tables.get_mut(&place) else {
            return Ok(None);
        };
        let sifted = sift::sift(
            &mut sieve.known,
            table.generation,
            &table.primary_key,
            batch,
            &mut sieve.mine,
        )?;
        sieve.unchanged += sifted.unchanged;
        Ok(Some((sieve.known.patterns().to_vec(), sifted)))
    }

    /// Finds out, before the commit, whether the tables still hold what was known of them.
    ///
    /// # Errors
    /// [`ErrorKind::CheckpointConflict`] when rows were left out, and another process has written
    /// to their table since.
    pub(crate) fn check(&mut self, store: &Store) -> Result<()> {
        for ((table, _), sieve) in &mut self.tables {
            let Some(sieve) = sieve else { continue };
            let is_current = store.changed_at(table) <= sieve.sequence;
            if !is_current && sieve.unchanged > 0 {
                return Err(Error::new(
                    ErrorKind::CheckpointConflict,
                    "another process wrote to the same table",
                )
                .with_context("stream", &table.stream)
                .with_help(
                    "make sure that only one sync writes to this destination, then run again",
                ));
            }
            sieve.intact &= is_current;
        }
        Ok(())
    }

    /// Hands on, after the commit, what is known of the tables.
    pub(crate) fn hand_on(self, store: &mut Store, commit: &Commit) {
        for ((table, generation), sieve) in self.tables {
            let is_replaced = commit.publish.contains(&table)
                || (generation == Generation::Next && commit.discard.contains(&table));
            if let Some(sieve) = sieve.filter(|sieve| sieve.intact && !is_replaced) {
                store.remember(table, generation, sieve.known);
            }
        }
    }
}
