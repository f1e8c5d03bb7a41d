//! What a commit makes true, as a value, and the fold of all of them.

use std::collections::BTreeMap;

use pipeline_core::state::{CheckpointDelta, EndpointId, EndpointState};
use pipeline_core::{Error, ErrorKind, Result};
use pipeline_engine::{Commit, CommitRecord, Generation, TableId};
use serde::{Deserialize, Serialize};

use crate::card::Card;
use crate::names;

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
    /// Hash of its content; none: a release before version 3 wrote it.
    #[serde(default, rename = "blake3", skip_serializing_if = "Option::is_none")]
    pub(crate) hash: Option<String>,
}

/// A data file that no commit names yet.
#[derive(Clone, Debug)]
pub(crate) struct StagedFile {
    pub(crate) table: TableId,
    pub(crate) generation: Generation,
    pub(crate) name: String,
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
    pub(crate) hash: String,
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
    /// With the boundary entries of its changes, because the manifests are the state.
    pub(crate) commit: CommitRecord,
    /// The format of the data files; none: a release before version 3 wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    format: Option<String>,
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

/// A visible file in the place of another one: of the same name when it has fewer rows, of another
/// that sorts as the other did when it has the rows of those before it, too, or a Delta log names it.
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
    /// The format of the data files, once there was a commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    format: Option<String>,
    #[serde(with = "pairs")]
    pub(crate) endpoints: BTreeMap<EndpointId, EndpointState>,
    #[serde(with = "pairs")]
    pub(crate) tables: BTreeMap<TableId, Files>,
    /// Columns that identify the rows of a table; unknown: nothing was written since they are
    /// remembered.
    #[serde(with = "pairs", default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) keys: BTreeMap<TableId, Vec<String>>,
    /// The last commit that changed a table's files, of those that this process has read one by
    /// one.
    #[serde(skip)]
    pub(crate) changed_at: BTreeMap<TableId, u64>,
}

/// What a commit means for the files of each table.
pub(crate) type Moves = BTreeMap<TableId, TableMoves>;

/// What the file system must be told of a table after a commit. Doing it twice is harmless.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TableMoves {
    /// Visible files that are no longer: to be removed.
    pub(crate) replaced: Vec<DataFile>,
    /// Names of other files in the table's folder that are to be removed.
    pub(crate) stale: Vec<String>,
    /// Files of an abandoned next generation: to be removed.
    pub(crate) discarded: Vec<DataFile>,
    /// Staged files that take the place of visible ones of the same name, in this order.
    pub(crate) rewritten: Vec<DataFile>,
    /// Files whose cards are to be removed.
    pub(crate) cards: Vec<DataFile>,
    /// Staged files that became visible: to be moved to their table.
    pub(crate) visible: Vec<DataFile>,
}

impl TableMoves {
    /// Files that are not needed any more.
    pub(crate) fn gone(&self) -> impl Iterator<Item = &DataFile> {
        let replaced = self.replaced.iter().chain(&self.cards);
        replaced.chain(&self.discarded)
    }
}

impl Manifest {
    /// The commit as the log shows it.
    pub(crate) fn record(self) -> CommitRecord {
        let changes = self
            .commit
            .changes
            .into_iter()
            .map(CheckpointDelta::without_boundary)
            .collect();
        CommitRecord {
            changes,
            ..self.commit
        }
    }

    /// True when this commit gave that name to a file of that table.
    pub(crate) fn names(&self, table: &TableId, name: &str) -> bool {
        // A merged file has the number and the place of the last one that it was made of.
        let place = names::place(name);
        let is_it = |added: &Added| {
            let is_same = added.file.name == name || names::place(&added.file.name) == place;
            added.table == *table && is_same
        };
        // The files of a generation that is published together with others get new names, in the
        // order of their rows.
        let is_renamed = !self.carried.is_empty() && self.published.contains(table);
        self.added.iter().any(is_it) || is_renamed
    }
}

impl Fold {
    /// The next commit, if its changes start from this state.
    ///
    /// # Errors
    /// [`ErrorKind::CheckpointConflict`](pipeline_core::ErrorKind::CheckpointConflict) when they do
    /// not.
    pub(crate) fn plan(
        &self,
        commit: &Commit,
        written: Written<'_>,
        extension: &str,
    ) -> Result<Manifest> {
        let sequence = self.sequence + 1;
        let commit_record = CommitRecord {
            changes: commit.changes.clone(),
            ..commit.clone().record(sequence)
        };
        self.changed(&commit_record.changes)?;
        written
            .rewritten
            .iter()
            .try_for_each(|rewritten| self.place_of(rewritten).map(drop))?;
        let add = |files: &[StagedFile]| {
            let added = files.iter().enumerate().map(|(index, file)| Added {
                table: file.table.clone(),
                generation: file.generation,
                file: DataFile {
                    name: names::data(sequence, index, &file.name, extension),
                    staged: file.name.clone(),
                    rows: file.rows,
                    bytes: file.bytes,
                    hash: Some(file.hash.clone()),
                },
            });
            added.collect()
        };
        let is_new = |(table, key): &(&TableId, &Vec<String>)| self.keys.get(*table) != Some(*key);
        Ok(Manifest {
            added: add(written.files),
            commit: commit_record,
            format: Some(extension.to_owned()),
            published: commit.publish.clone(),
            discarded: commit.discard.clone(),
            carried: add(written.carried),
            keys: written
                .keys
                .iter()
                .filter(is_new)
                .map(|(table, key)| (table.clone(), key.clone()))
                .collect(),
            rewritten: written.rewritten.to_vec(),
        })
    }

    /// Where a file that is rewritten is among the visible ones of its table.
    fn place_of(&self, rewritten: &Rewritten) -> Result<usize> {
        let files = self
            .tables
            .get(&rewritten.table)
            .map(|files| files.current.as_slice())
            .unwrap_or_default();
        files
            .iter()
            .position(|file| file.staged == rewritten.from)
            .ok_or_else(|| {
                Error::new(
                    ErrorKind::CheckpointConflict,
                    "a file was replaced by another process",
                )
                .with_context("stream", &rewritten.table.stream)
                .with_help("run again when no sync is running")
            })
    }

    /// Fails when changes do not start from this state.
    ///
    /// # Errors
    /// [`ErrorKind::CheckpointConflict`](pipeline_core::ErrorKind::CheckpointConflict).
    pub(crate) fn check(&self, changes: &[CheckpointDelta]) -> Result<()> {
        self.changed(changes).map(|_| ())
    }

    /// The states that a commit changes, as they are after it.
    fn changed(&self, changes: &[CheckpointDelta]) -> Result<BTreeMap<EndpointId, EndpointState>> {
        let mut states = BTreeMap::new();
        for change in changes {
            let endpoint = change.endpoint();
            let known = || self.endpoints.get(endpoint).cloned().unwrap_or_default();
            states
                .entry(endpoint.clone())
                .or_insert_with(known)
                .apply(change)?;
        }
        Ok(states)
    }

    /// Adds the next commit: next generations are discarded first, then files are added, then
    /// generations published.
    ///
    /// # Errors
    /// [`ErrorKind::CheckpointConflict`](pipeline_core::ErrorKind::CheckpointConflict), and then
    /// nothing is changed.
    pub(crate) fn apply(&mut self, manifest: Manifest) -> Result<Moves> {
        let changed = self.changed(&manifest.commit.changes)?;
        self.endpoints.extend(changed);
        self.keys.extend(manifest.keys);
        self.sequence = manifest.commit.sequence;
        let is_old = manifest.format.is_none();
        self.format = manifest.format.or(self.format.take());
        let mut moves = Moves::new();
        for id in &manifest.discarded {
            if let Some(files) = self.tables.get_mut(id) {
                moves
                    .entry(id.clone())
                    .or_default()
                    .discarded
                    .append(&mut files.next);
                self.changed_at.insert(id.clone(), self.sequence);
            }
        }
        for rewritten in manifest.rewritten {
            let place = self.place_of(&rewritten)?;
            let Rewritten { table, to, .. } = rewritten;
            let files = &mut self.tables.entry(table.clone()).or_default().current;
            let moves = moves.entry(table).or_default();
            let before = if let Some(file) = to {
                moves.rewritten.push(file.clone());
                let before = std::mem::replace(&mut files[place], file);
                // A merged file has a name of its own.
                if before.name != files[place].name {
                    moves.replaced.push(before.clone());
                }
                before
            } else {
                let file = files.remove(place);
                moves.replaced.push(file.clone());
                file
            };
            moves.cards.push(before);
        }
        for Added {
            table,
            generation,
            file,
        } in manifest.added
        {
            self.changed_at.insert(table.clone(), self.sequence);
            let files = self.tables.entry(table.clone()).or_default();
            match generation {
                Generation::Current => {
                    files.current.push(file.clone());
                    moves.entry(table).or_default().visible.push(file);
                }
                Generation::Next => files.next.push(file),
            }
        }
        for id in manifest.published {
            self.changed_at.insert(id.clone(), self.sequence);
            let files = self.tables.entry(id.clone()).or_default();
            let carried = manifest
                .carried
                .iter()
                .filter(|added| added.table == id)
                .map(|added| added.file.clone());
            let published = in_order(
                carried.collect(),
                std::mem::take(&mut files.next),
                self.sequence,
                is_old,
            );
            let replaced = std::mem::replace(&mut files.current, published);
            let moves = moves.entry(id).or_default();
            moves.replaced.extend(replaced);
            moves.visible.clone_from(&files.current);
        }
        Ok(moves)
    }

    /// True when both make the same states and files true.
    pub(crate) fn agrees_with(&self, other: &Self) -> bool {
        (self.sequence, &self.endpoints, &self.tables)
            == (other.sequence, &other.endpoints, &other.tables)
    }

    /// The format of the data files, once there are any.
    pub(crate) fn format(&self) -> Option<&str> {
        let of_a_file = || {
            self.tables
                .values()
                .flat_map(Files::all)
                .find_map(|file| Some(file.name.rsplit_once('.')?.1))
        };
        self.format.as_deref().or_else(of_a_file)
    }
}

/// The files of a generation that is published, those of carried rows first. Names sort as the
/// files do: where there are carried rows, all get names of this commit.
fn in_order(
    carried: Vec<DataFile>,
    own: Vec<DataFile>,
    sequence: u64,
    is_old: bool,
) -> Vec<DataFile> {
    if carried.is_empty() {
        return own;
    }
    let renamed = carried
        .into_iter()
        .chain(own)
        .enumerate()
        .map(|(index, file)| {
            let extension = file
                .name
                .rsplit_once('.')
                .map_or("", |(_, extension)| extension);
            let name = if is_old {
                names::old_data(sequence, index, extension)
            } else {
                names::data(sequence, index, &file.staged, extension)
            };
            DataFile { name, ..file }
        });
    renamed.collect()
}

/// Maps whose keys are not strings, as lists of pairs.
mod pairs {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer, K: Serialize, V: Serialize>(
        map: &BTreeMap<K, V>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(map)
    }

    pub(super) fn deserialize<'de, D, K, V>(deserializer: D) -> Result<BTreeMap<K, V>, D::Error>
    where
        D: Deserializer<'de>,
        K: Deserialize<'de> + Ord,
        V: Deserialize<'de>,
    {
        Ok(Vec::<(K, V)>::deserialize(deserializer)?
            .into_iter()
            .collect())
    }
}
