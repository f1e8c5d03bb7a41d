//! The runs that a folder remembers: a small file for each.

use std::io;
use std::path::{Path, PathBuf};

use pipeline_core::{RUN_CAPACITY, Result, RunRecord};

use crate::error::Explain;
use crate::names;
use crate::place::Place;

const REMEMBERING: &str = "remembering a run";
const READING: &str = "reading the runs";

/// Remembers a run in the place of what is remembered of it, and forgets the oldest ones.
pub(crate) fn record(place: &dyn Place, run: &RunRecord) -> Result<()> {
    let path = folder(place.root()).join(name(run));
    let encoded = serde_json::to_vec(run)
        .map_err(io::Error::from)
        .explain(REMEMBERING, &path)?;
    place.put(&path, &encoded, REMEMBERING)?;
    let forgotten = newest_first(place)?.into_iter().skip(RUN_CAPACITY);
    forgotten.for_each(|path| drop(place.remove(&path)));
    Ok(())
}

/// The newest runs, newest first. A file that cannot be read is left out.
pub(crate) fn newest(place: &dyn Place, limit: usize) -> Result<Vec<RunRecord>> {
    let read = |path: PathBuf| -> Option<RunRecord> {
        let run = place
            .read(&path)
            .ok()
            .flatten()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok());
        if run.is_none() {
            tracing::warn!(path = %path.display(), "the record of a run is damaged");
        }
        run
    };
    Ok(newest_first(place)?
        .into_iter()
        .filter_map(read)
        .take(limit)
        .collect())
}

/// Where the runs are.
pub(crate) fn folder(root: &Path) -> PathBuf {
    root.join("_runs")
}

/// Sorts as the runs began.
fn name(run: &RunRecord) -> String {
    format!(
        "{}-{}.json",
        run.started.format("%Y%m%dT%H%M%S%6f"),
        names::folder(&run.run)
    )
}

fn is_run(path: &Path) -> bool {
    let begins_with_time = |name: &str| {
        name.split_once('-')
            .is_some_and(|(time, _)| time.len() == 21 && time.as_bytes()[8] == b'T')
    };
    path.extension()
        .is_some_and(|extension| extension == "json")
        && names::of(path).is_some_and(begins_with_time)
}

fn newest_first(place: &dyn Place) -> Result<Vec<PathBuf>> {
    let folder = folder(place.root());
    let mut runs = place.list(&folder).explain(READING, &folder)?;
    runs.retain(|path| is_run(path));
    runs.sort_unstable_by(|left, right| right.cmp(left));
    Ok(runs)
}
