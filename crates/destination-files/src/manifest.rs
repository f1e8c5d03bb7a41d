//! What a commit makes true, as a value, and the fold of all of them.

use std::collections::BTreeMap;

use pipeline_core::state::{EndpointId, EndpointState};
use pipeline_core::{Commit, CommitRecord, Generation, Result, TableId};
use serde::{Deserialize, Serialize};

/// A committed data file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DataFile {
    /// Its name in the table's folder. Later files have names that sort later.
    pub(crate) name: String,
    /// Its name in the staging folder, where it waits until it is visible.
    pub(crate) staged: String,
    /// Rows in it.
    pub(crate) rows: u64,
    /// Its size.
    pub(crate) bytes: u64,
}

/// A data file that no commit names yet.
#[derive(Clone, Debug)]
pub(crate) struct StagedFile {
    pub(crate) table: TableId,
    pub(crate) generation: Generation,
    pub(crate) name: String,
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
}

/// A file added by a commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Added {
    table: TableId,
    generation: Generation,
    file: DataFile,
}

/// One commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    pub(crate) commit: CommitRecord,
    added: Vec<Added>,
    published: Vec<TableId>,
    discarded: Vec<TableId>,
}

/// Files of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Files {
    /// The visible ones, oldest first.
    pub(crate) current: Vec<DataFile>,
    /// Those of the next generation.
    pub(crate) next: Vec<DataFile>,
}

/// Everything that the commits up to one of them make true.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Fold {
    /// The last commit.
    pub(crate) sequence: u64,
    #[serde(with = "pairs")]
    pub(crate) endpoints: BTreeMap<EndpointId, EndpointState>,
    #[serde(with = "pairs")]
    pub(crate) tables: BTreeMap<TableId, Files>,
}

/// What the file system must be told after a commit. Doing it twice is harmless.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Moves {
    /// Visible files that are no longer: to be removed.
    pub(crate) replaced: Vec<(TableId, DataFile)>,
    /// Files of an abandoned next generation: to be removed.
    pub(crate) discarded: Vec<DataFile>,
    /// Staged files that became visible: to be moved to their table.
    pub(crate) visible: Vec<(TableId, DataFile)>,
}

impl Fold {
    /// The next commit, if its changes start from this state.
    ///
    /// # Errors
    /// [`ErrorKind::CheckpointConflict`](pipeline_core::ErrorKind::CheckpointConflict) when they do not.
    pub(crate) fn plan(&self, commit: &Commit, staged: &[StagedFile], extension: &str) -> Result<Manifest> {
        let sequence = self.sequence + 1;
        let commit_record = commit.clone().record(sequence);
        self.changed(&commit_record)?;
        let added = staged.iter().enumerate().map(|(index, file)| Added {
            table: file.table.clone(),
            generation: file.generation,
            file: DataFile {
                name: format!("{sequence:010}-{index:04}.{extension}"),
                staged: file.name.clone(),
                rows: file.rows,
                bytes: file.bytes,
            },
        });
        Ok(Manifest { added: added.collect(), commit: commit_record, published: commit.publish.clone(), discarded: commit.discard.clone() })
    }

    /// The states that a commit changes, as they are after it.
    fn changed(&self, commit: &CommitRecord) -> Result<BTreeMap<EndpointId, EndpointState>> {
        let mut changed = BTreeMap::new();
        for change in &commit.changes {
            let endpoint = change.endpoint();
            let known = || self.endpoints.get(endpoint).cloned().unwrap_or_default();
            changed.entry(endpoint.clone()).or_insert_with(known).apply(change)?;
        }
        Ok(changed)
    }

    /// Adds the next commit: next generations are discarded first, then files are added, then generations published.
    ///
    /// # Errors
    /// [`ErrorKind::CheckpointConflict`](pipeline_core::ErrorKind::CheckpointConflict), and then nothing is changed.
    pub(crate) fn apply(&mut self, manifest: Manifest) -> Result<Moves> {
        let changed = self.changed(&manifest.commit)?;
        self.endpoints.extend(changed);
        self.sequence = manifest.commit.sequence;
        let mut moves = Moves::default();
        for id in &manifest.discarded {
            if let Some(files) = self.tables.get_mut(id) {
                moves.discarded.append(&mut files.next);
            }
        }
        for Added { table, generation, file } in manifest.added {
            let files = self.tables.entry(table.clone()).or_default();
            match generation {
                Generation::Current => {
                    files.current.push(file.clone());
                    moves.visible.push((table, file));
                }
                Generation::Next => files.next.push(file),
            }
        }
        for id in manifest.published {
            let files = self.tables.entry(id.clone()).or_default();
            let replaced = std::mem::replace(&mut files.current, std::mem::take(&mut files.next));
            moves.visible.retain(|(table, _)| *table != id);
            moves.replaced.extend(replaced.into_iter().map(|file| (id.clone(), file)));
            moves.visible.extend(files.current.iter().map(|file| (id.clone(), file.clone())));
        }
        Ok(moves)
    }
}

/// Maps whose keys are no strings, as lists of pairs.
mod pairs {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer, K: Serialize, V: Serialize>(map: &BTreeMap<K, V>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(map)
    }

    pub(super) fn deserialize<'de, D, K, V>(deserializer: D) -> Result<BTreeMap<K, V>, D::Error>
    where
        D: Deserializer<'de>,
        K: Deserialize<'de> + Ord,
        V: Deserialize<'de>,
    {
        Ok(Vec::<(K, V)>::deserialize(deserializer)?.into_iter().collect())
    }
}
