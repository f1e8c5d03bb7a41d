//! Finds out what a table holds: from the cards of its files.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use pipeline_core::Result;

use crate::card::Card;
use crate::format::FileFormat;
use crate::known::{Known, MAX_PATTERNS, Pattern};
use crate::place::Place;

/// A data file of a table.
pub(crate) struct Source {
    /// Where its rows are.
    pub(crate) data: PathBuf,
    /// Where its card is, or will be.
    pub(crate) card: PathBuf,
    /// Its rows.
    pub(crate) rows: u64,
}

/// Reads the cards of a table's files, which come oldest first, and makes those that are missing.
/// Of a large table only the newest files are read. None: there are too many patterns.
pub(crate) fn recall(
    place: &dyn Place,
    sources: &[Source],
    format: &dyn FileFormat,
    key: &[String],
    wanted: BTreeSet<Pattern>,
    capacity: usize,
) -> Result<Option<Known>> {
    let mut rows = 0;
    let is_wanted = |source: &&Source| {
        let is_wanted = rows < capacity as u64;
        rows += source.rows;
        is_wanted
    };
    let (older, newest) =
        sources.split_at(sources.len() - sources.iter().rev().take_while(is_wanted).count());
    for source in older {
        // It will not be read any more; one that cannot be removed does no harm.
        let _ = place.remove(&source.card);
    }
    let paths: Vec<PathBuf> = newest.iter().map(|source| source.card.clone()).collect();
    let mut cards: Vec<Option<Card>> = place
        .read_all(&paths)
        .into_iter()
        .map(|bytes| Card::read(&bytes?, key))
        .collect();
    let mut patterns = wanted;
    loop {
        patterns.extend(
            cards
                .iter()
                .flatten()
                .flat_map(|card| card.patterns.iter().cloned()),
        );
        if patterns.len() > MAX_PATTERNS {
            return Ok(None);
        }
        let known: Vec<Pattern> = patterns.iter().cloned().collect();
        for (source, card) in newest.iter().zip(&mut cards) {
            if card.as_ref().is_none_or(|card| card.patterns != known) {
                *card = Some(make(place, source, format, key, &known, &mut patterns)?);
            }
        }
        if patterns.len() == known.len() {
            let mut held = Known::new(known, capacity, newest.len() == sources.len());
            cards
                .iter()
                .flatten()
                .flat_map(Card::entries)
                .for_each(|entry| held.add(entry));
            return Ok(Some(held));
        }
    }
}

fn make(
    place: &dyn Place,
    source: &Source,
    format: &dyn FileFormat,
    key: &[String],
    known: &[Pattern],
    found: &mut BTreeSet<Pattern>,
) -> Result<Card> {
    let card = Card::make(place, format, &source.data, key, known, found)?;
    store(place, &card, &source.card);
    Ok(card)
}

/// Stores a card. It is made again when that fails.
pub(crate) fn store(place: &dyn Place, card: &Card, path: &Path) {
    if let Err(error) = card.store(place, path) {
        tracing::debug!(%error, path = %path.display(), "a card is not stored");
    }
}
