//! What a commit makes true, as a value, and the fold of all of them.

use std::collections::BTreeMap;

use pipeline_core::state::{Change, EndpointId, EndpointState};
use pipeline_core::{Commit, CommitRecord, Error, ErrorKind, Generation, Result, TableId};
use serde::{Deserialize, Serialize};

use crate::card::Card;

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
    /// What its rows are, where that is known.
    pub(crate) card: Option<Card>,
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
    /// Files of rows that stay when a generation is published: they come before its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    carried: Vec<Added>,
    /// Columns that identify the rows of a table, where they are new.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    keys: Vec<(TableId, Vec<String>)>,
    /// Visible files whose rows are others than before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    rewritten: Vec<Rewritten>,
}

/// A visible file in the place of another one of the same name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Rewritten {
    pub(crate) table: TableId,
    /// Name of the other one in the staging folder, which no two files share.
    pub(crate) from: String,
    /// The file; none: it had no rows, and is removed.
    pub(crate) to: Option<DataFile>,
}

/// What a transaction wrote.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Written<'a> {
    pub(crate) files: &'a [StagedFile],
    /// Files of rows that are carried into a generation that is published.
    pub(crate) carried: &'a [StagedFile],
    /// Columns that identify rows, as far as the transaction knows.
    pub(crate) keys: &'a BTreeMap<TableId, Vec<String>>,
    pub(crate) rewritten: &'a [Rewritten],
}

/// Files of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Files {
    /// The visible ones, oldest first.
    pub(crate) current: Vec<DataFile>,
    /// Those of the next generation.
    pub(crate) next: Vec<DataFile>,
}

impl Files {
    /// Those of both generations.
    pub(crate) fn all(&self) -> impl Iterator<Item = &DataFile> {
        self.current.iter().chain(&self.next)
    }

    /// Those of a generation, oldest first.
    pub(crate) fn of(&self, generation: Generation) -> &[DataFile] {
        match generation {
            Generation::Current => &self.current,
            Generation::Next => &self.next,
        }
    }
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
    /// Columns that identify the rows of a table; unknown: nothing was written since they are remembered.
    #[serde(with = "pairs", default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) keys: BTreeMap<TableId, Vec<String>>,
    /// The last commit that changed a table's files, of those that this process has read one by one.
    #[serde(skip)]
    pub(crate) changed_at: BTreeMap<TableId, u64>,
}

/// What the file system must be told after a commit. Doing it twice is harmless.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Moves {
    /// Visible files that are no longer: to be removed.
    pub(crate) replaced: Vec<(TableId, DataFile)>,
    /// Files of an abandoned next generation: to be removed.
    pub(crate) discarded: Vec<(TableId, DataFile)>,
    /// Staged files that take the place of visible ones of the same name, in this order.
    pub(crate) rewritten: Vec<(TableId, DataFile)>,
    /// Files whose cards are to be removed.
    pub(crate) cards: Vec<(TableId, DataFile)>,
    /// Staged files that became visible: to be moved to their table.
    pub(crate) visible: Vec<(TableId, DataFile)>,
}

impl Fold {
    /// The next commit, if its changes start from this state.
    ///
    /// # Errors
    /// [`ErrorKind::CheckpointConflict`](pipeline_core::ErrorKind::CheckpointConflict) when they do not.
    pub(crate) fn plan(&self, commit: &Commit, written: Written<'_>, extension: &str) -> Result<Manifest> {
        let sequence = self.sequence + 1;
        let commit_record = commit.clone().record(sequence);
        self.changed(&commit_record.changes)?;
        written.rewritten.iter().try_for_each(|rewritten| self.place_of(rewritten).map(drop))?;
        let add = |files: &[StagedFile]| {
            let added = files.iter().enumerate().map(|(index, file)| Added {
                table: file.table.clone(),
                generation: file.generation,
                file: DataFile {
                    name: format!("{sequence:010}-{index:04}.{extension}"),
                    staged: file.name.clone(),
                    rows: file.rows,
                    bytes: file.bytes,
                },
            });
            added.collect()
        };
        let is_new = |(table, key): &(&TableId, &Vec<String>)| self.keys.get(*table) != Some(*key);
        Ok(Manifest {
            added: add(written.files),
            commit: commit_record,
            published: commit.publish.clone(),
            discarded: commit.discard.clone(),
            carried: add(written.carried),
            keys: written.keys.iter().filter(is_new).map(|(table, key)| (table.clone(), key.clone())).collect(),
            rewritten: written.rewritten.to_vec(),
        })
    }

    /// Where a file that is rewritten is among the visible ones of its table.
    fn place_of(&self, rewritten: &Rewritten) -> Result<usize> {
        let files = self.tables.get(&rewritten.table).map(|files| files.current.as_slice()).unwrap_or_default();
        files.iter().position(|file| file.staged == rewritten.from).ok_or_else(|| {
            Error::new(ErrorKind::CheckpointConflict, "a file was replaced by another process")
                .with_context("stream", &rewritten.table.stream)
                .with_help("run again when no sync is running")
        })
    }

    /// Fails when changes do not start from this state.
    ///
    /// # Errors
    /// [`ErrorKind::CheckpointConflict`](pipeline_core::ErrorKind::CheckpointConflict).
    pub(crate) fn check(&self, changes: &[Change]) -> Result<()> {
        self.changed(changes).map(|_| ())
    }

    /// The states that a commit changes, as they are after it.
    fn changed(&self, changes: &[Change]) -> Result<BTreeMap<EndpointId, EndpointState>> {
        let mut states = BTreeMap::new();
        for change in changes {
            let endpoint = change.endpoint();
            let known = || self.endpoints.get(endpoint).cloned().unwrap_or_default();
            states.entry(endpoint.clone()).or_insert_with(known).apply(change)?;
        }
        Ok(states)
    }

    /// Adds the next commit: next generations are discarded first, then files are added, then generations published.
    ///
    /// # Errors
    /// [`ErrorKind::CheckpointConflict`](pipeline_core::ErrorKind::CheckpointConflict), and then nothing is changed.
    pub(crate) fn apply(&mut self, manifest: Manifest) -> Result<Moves> {
        let changed = self.changed(&manifest.commit.changes)?;
        self.endpoints.extend(changed);
        self.keys.extend(manifest.keys);
        self.sequence = manifest.commit.sequence;
        let mut moves = Moves::default();
        for id in &manifest.discarded {
            if let Some(files) = self.tables.get_mut(id) {
                moves.discarded.extend(files.next.drain(..).map(|file| (id.clone(), file)));
                self.changed_at.insert(id.clone(), self.sequence);
            }
        }
        for rewritten in manifest.rewritten {
            let place = self.place_of(&rewritten)?;
            let Rewritten { table, to, .. } = rewritten;
            let files = &mut self.tables.entry(table.clone()).or_default().current;
            let before = if let Some(file) = to {
                moves.rewritten.push((table.clone(), file.clone()));
                std::mem::replace(&mut files[place], file)
            } else {
                let file = files.remove(place);
                moves.replaced.push((table.clone(), file.clone()));
                file
            };
            moves.cards.push((table, before));
        }
        for Added { table, generation, file } in manifest.added {
            self.changed_at.insert(table.clone(), self.sequence);
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
            self.changed_at.insert(id.clone(), self.sequence);
            let files = self.tables.entry(id.clone()).or_default();
            let carried = manifest.carried.iter().filter(|added| added.table == id).map(|added| added.file.clone());
            let published = in_order(carried.collect(), std::mem::take(&mut files.next), self.sequence);
            let replaced = std::mem::replace(&mut files.current, published);
            moves.visible.retain(|(table, _)| *table != id);
            moves.replaced.extend(replaced.into_iter().map(|file| (id.clone(), file)));
            moves.visible.extend(files.current.iter().map(|file| (id.clone(), file.clone())));
        }
        Ok(moves)
    }
}

/// The files of a generation that is published, those of carried rows first. Names sort as the files do: where there are
/// carried rows, all get names of this commit.
fn in_order(carried: Vec<DataFile>, own: Vec<DataFile>, sequence: u64) -> Vec<DataFile> {
    if carried.is_empty() {
        return own;
    }
    let renamed = carried.into_iter().chain(own).enumerate().map(|(index, file)| {
        let extension = file.name.rsplit_once('.').map_or("", |(_, extension)| extension);
        DataFile { name: format!("{sequence:010}-{index:06}.{extension}"), ..file }
    });
    renamed.collect()
}

/// Maps whose keys are not strings, as lists of pairs.
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
