//! The folders: where data files wait, where they become visible, and how both are brought in line with the manifests.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use pipeline_core::{Commit, Generation, Result, Table, TableId, crash_point};

use crate::error::{Explain, damaged};
use crate::format::FileFormat;
use crate::known::{Known, Pattern};
use crate::log::{Log, sync_folder};
use crate::manifest::{DataFile, Files, Fold, Moves, Rewritten, StagedFile, Written};
use crate::recall::{self, Source};
use crate::staged::Staged;

const OPENING: &str = "opening the folder";
const SETTLING: &str = "moving a file into place";

/// What a folder may be opened with.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Commits after which the manifests are folded into a snapshot, which bounds how many are read at the start.
    /// Default: 64.
    pub snapshot_every: u64,
    /// Keys of which the newest version is remembered, so that it is not stored again. Each takes 20 to 40 bytes of memory.
    /// Default: 1,800,000. Of the keys of a larger table only those that were written last are remembered.
    pub remember: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { snapshot_every: 64, remember: 1_800_000 }
    }
}

/// A folder of tables, and what its manifests say.
#[derive(Debug)]
pub(crate) struct Store {
    root: PathBuf,
    extension: &'static str,
    log: Log,
    fold: Fold,
    options: Options,
    /// Columns that identify the rows of the tables that this process writes.
    keys: BTreeMap<TableId, Vec<String>>,
    /// What tables hold, each with the commit as of which that is so; what was used last comes last.
    known: Vec<((TableId, Generation), Known, u64)>,
    /// Held shared while anybody writes here, so that nobody takes a living writer's files for left-overs.
    lock: File,
}

impl Store {
    /// Opens a folder, creates it if need be, and brings its files in line with the manifests unless somebody else is
    /// at work.
    pub(crate) fn open(root: &Path, extension: &'static str, options: Options) -> Result<Self> {
        let log = Log::new(root.join("_manifest"));
        for folder in [staging(root), root.join("_manifest")] {
            fs::create_dir_all(&folder).explain(OPENING, &folder)?;
        }
        let path = root.join("_lock");
        let lock = File::options().create(true).truncate(false).write(true).open(&path).explain(OPENING, &path)?;
        let alone = match lock.try_lock() {
            Ok(()) => true,
            Err(TryLockError::WouldBlock) => false,
            // Without locks nothing is ever taken for a left-over.
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => false,
            Err(TryLockError::Error(error)) => return Err(error).explain(OPENING, &path),
        };
        let mut store =
            Self { root: root.to_owned(), extension, fold: log.snapshot()?, log, options, keys: BTreeMap::new(), known: Vec::new(), lock };
        store.refresh()?;
        store.log.check_end(store.fold.sequence)?;
        if alone {
            store.reconcile()?;
            store.lock.unlock().explain(OPENING, &path)?;
        }
        store.lock.lock_shared().or_else(|error| if alone { Err(error) } else { Ok(()) }).explain(OPENING, &path)?;
        Ok(store)
    }

    /// Reads the commits that others made.
    pub(crate) fn refresh(&mut self) -> Result<()> {
        while let Some(manifest) = self.log.manifest(self.fold.sequence + 1)? {
            self.fold.apply(manifest).map_err(|error| {
                damaged("a manifest does not follow the one before it", &self.root).with_source(error).with_operation(OPENING)
            })?;
        }
        Ok(())
    }

    pub(crate) fn fold(&self) -> &Fold {
        &self.fold
    }

    /// Remembers which columns identify a table's rows; the next commit stores it.
    pub(crate) fn learn_key(&mut self, table: &Table) {
        self.keys.insert(table.id(), table.primary_key.clone());
    }

    /// Columns that identify a table's rows, if that is known.
    pub(crate) fn key(&self, table: &TableId) -> Option<&[String]> {
        self.keys.get(table).or_else(|| self.fold.keys.get(table)).map(Vec::as_slice)
    }

    /// What a table holds, with the commit as of which that is so, to be taken by one transaction. None: too many kinds of
    /// tombstones are in it.
    pub(crate) fn known(
        &mut self,
        table: &TableId,
        generation: Generation,
        format: &dyn FileFormat,
        patterns: BTreeSet<Pattern>,
    ) -> Result<Option<(Known, u64)>> {
        self.refresh()?;
        let sequence = self.fold.sequence;
        if let Some(at) = self.known.iter().position(|(place, ..)| place.0 == *table && place.1 == generation) {
            let (_, known, as_of) = self.known.remove(at);
            if self.changed_at(table) <= as_of && patterns.iter().all(|pattern| known.patterns().contains(pattern)) {
                return Ok(Some((known, sequence)));
            }
        }
        let files = self.fold.tables.get(table).cloned().unwrap_or_default();
        let source = |file: &DataFile| Source {
            data: match generation {
                Generation::Current => self.locate(table, file),
                Generation::Next => self.staging().join(&file.staged),
            },
            card: self.card(table, &file.staged),
            rows: file.rows,
        };
        let sources: Vec<Source> = files.of(generation).iter().map(source).collect();
        let known = recall::recall(&sources, format, self.key(table).unwrap_or_default(), patterns, self.options.remember)?;
        Ok(known.map(|known| (known, sequence)))
    }

    /// Keeps what a committed transaction knows of a table, and forgets what was used longest ago when it is too much.
    pub(crate) fn remember(&mut self, table: TableId, generation: Generation, known: Known) {
        let place = (table, generation);
        self.known.retain(|(other, ..)| *other != place);
        self.known.push((place, known, self.fold.sequence));
        let mut total: usize = self.known.iter().map(|(_, known, _)| known.len()).sum();
        while total > self.options.remember && self.known.len() > 1 {
            total -= self.known.remove(0).1.len();
        }
    }

    /// The last commit that changed a table's files, of those that were read by this process.
    pub(crate) fn changed_at(&self, table: &TableId) -> u64 {
        self.fold.changed_at.get(table).copied().unwrap_or_default()
    }

    /// Where the card of a data file is.
    fn card(&self, table: &TableId, staged: &str) -> PathBuf {
        self.cards(table).join(staged).with_extension("card")
    }

    /// The folder of the cards of a table's files.
    fn cards(&self, table: &TableId) -> PathBuf {
        self.root.join("_known").join(folder_name(&table.source)).join(folder_name(&table.stream))
    }

    pub(crate) fn log(&self) -> &Log {
        &self.log
    }

    /// Makes a commit. From the moment at which its manifest exists it counts, whatever happens to the files afterwards.
    ///
    /// `before` looks at the commit before, and writes the rows that stay when a generation is published.
    pub(crate) fn commit(&mut self, files: &[StagedFile], commit: &Commit, before: impl FnMut(&Self) -> Result<Staged>) -> Result<u64> {
        self.commit_with(files, &[], commit, before)
    }

    /// As [`commit`](Self::commit), with files in the place of visible ones.
    pub(crate) fn commit_with(
        &mut self,
        files: &[StagedFile],
        rewritten: &[Rewritten],
        commit: &Commit,
        mut before: impl FnMut(&Self) -> Result<Staged>,
    ) -> Result<u64> {
        loop {
            self.refresh()?;
            self.fold.check(&commit.changes)?;
            let mut carried = before(self)?;
            if !files.is_empty() || !rewritten.is_empty() || !carried.files().is_empty() {
                sync_folder(&staging(&self.root), SETTLING)?;
            }
            let written = Written { files, carried: carried.files(), keys: &self.keys, rewritten };
            let manifest = self.fold.plan(commit, written, self.extension)?;
            let is_made = self.log.put(&manifest);
            if matches!(is_made, Ok(false)) {
                continue;
            }
            // After a failure a manifest may name the files.
            carried.leave();
            is_made?;
            let sequence = manifest.commit.sequence;
            let moves = self.fold.apply(manifest)?;
            for file in files {
                if let Some(card) = &file.card {
                    recall::store(card, &self.card(&file.table, &file.name));
                }
            }
            if let Err(error) = self.settle(&moves).and_then(|()| self.snapshot_if_due()) {
                tracing::warn!(%error, sequence, "the commit is made, but its files are not all in place; the next start moves them");
            }
            return Ok(sequence);
        }
    }

    fn snapshot_if_due(&self) -> Result<()> {
        if self.fold.sequence.is_multiple_of(self.options.snapshot_every) { self.log.put_snapshot(&self.fold) } else { Ok(()) }
    }

    /// Does to the files what a commit decided. Replaced files go first: a glob may miss rows for a moment, but it never
    /// shows a row of both generations.
    fn settle(&self, moves: &Moves) -> Result<()> {
        for (table, file) in &moves.replaced {
            remove(&self.folder(table).join(&file.name))?;
            remove(&staging(&self.root).join(&file.staged))?;
            remove(&self.card(table, &file.staged))?;
            crash_point("files-replacing");
        }
        for (table, file) in &moves.discarded {
            remove(&staging(&self.root).join(&file.staged))?;
            remove(&self.card(table, &file.staged))?;
            crash_point("files-discarding");
        }
        for (table, file) in &moves.rewritten {
            self.place(table, file)?;
            crash_point("files-rewriting");
        }
        for (table, file) in &moves.cards {
            remove(&self.card(table, &file.staged))?;
        }
        for (table, file) in &moves.visible {
            self.place(table, file)?;
            crash_point("files-placing");
        }
        Ok(())
    }

    /// Moves a visible file to its table unless it is there, at once into the place of one of the same name.
    fn place(&self, table: &TableId, file: &DataFile) -> Result<()> {
        let (folder, waiting) = (self.folder(table), self.staging().join(&file.staged));
        let target = folder.join(&file.name);
        if waiting.metadata().is_ok_and(|waiting| waiting.len() == file.bytes) {
            fs::create_dir_all(&folder).explain(SETTLING, &folder)?;
            return fs::rename(&waiting, &target).explain(SETTLING, &target);
        }
        if target.exists() { Ok(()) } else { Err(damaged("a data file is missing", &target).with_operation(SETTLING)) }
    }

    /// Finishes what an interrupted commit began, and removes what belongs to none. Only safe while nobody else writes.
    fn reconcile(&self) -> Result<()> {
        self.log.remove_temporaries()?;
        let waiting: BTreeSet<&str> = self.fold.tables.values().flat_map(Files::all).map(|file| file.staged.as_str()).collect();
        for (table, files) in &self.fold.tables {
            self.remove_lost_cards(table, files)?;
            let visible: BTreeSet<&str> = files.current.iter().map(|file| file.name.as_str()).collect();
            for path in list(&self.folder(table))? {
                let ours = path.extension().is_some_and(|extension| extension == self.extension);
                if ours && !name(&path).is_some_and(|name| visible.contains(name)) {
                    remove(&path)?;
                }
            }
            files.current.iter().try_for_each(|file| self.place(table, file))?;
        }
        for path in list(&self.staging())? {
            if !name(&path).is_some_and(|name| waiting.contains(name)) {
                remove(&path)?;
            }
        }
        Ok(())
    }

    /// Removes the cards of files that are gone.
    fn remove_lost_cards(&self, table: &TableId, files: &Files) -> Result<()> {
        let cards: BTreeSet<PathBuf> = files.all().map(|file| self.card(table, &file.staged)).collect();
        list(&self.cards(table))?.iter().filter(|path| !cards.contains(*path)).try_for_each(|path| remove(path))
    }

    /// The visible files of a table, oldest first, wherever they are at the moment.
    pub(crate) fn visible(&self, table: &TableId) -> Vec<PathBuf> {
        let files = self.fold.tables.get(table).map(|files| files.current.as_slice()).unwrap_or_default();
        files.iter().map(|file| self.locate(table, file)).collect()
    }

    /// The files of a table's next generation, oldest first.
    pub(crate) fn waiting(&self, table: &TableId) -> Vec<PathBuf> {
        let files = self.fold.tables.get(table).map(|files| files.next.as_slice()).unwrap_or_default();
        files.iter().map(|file| self.staging().join(&file.staged)).collect()
    }

    /// The files of a next generation that no endpoint of its source collects any more.
    pub(crate) fn left_over(&self, table: &TableId) -> Vec<DataFile> {
        if self.fold.endpoints.iter().any(|(id, state)| id.source == table.source && state.refreshing) {
            return Vec::new();
        }
        self.fold.tables.get(table).map(|files| files.next.clone()).unwrap_or_default()
    }

    /// Size of all data files.
    pub(crate) fn bytes(&self) -> u64 {
        self.fold.tables.values().flat_map(Files::all).map(|file| file.bytes).sum()
    }

    /// Where a visible file is at the moment.
    pub(crate) fn locate(&self, table: &TableId, file: &DataFile) -> PathBuf {
        let waiting = self.staging().join(&file.staged);
        if waiting.exists() { waiting } else { self.folder(table).join(&file.name) }
    }

    /// Where data files wait.
    pub(crate) fn staging(&self) -> PathBuf {
        staging(&self.root)
    }

    /// The folder of a table's visible files.
    pub(crate) fn folder(&self, table: &TableId) -> PathBuf {
        self.root.join(folder_name(&table.source)).join(folder_name(&table.stream))
    }
}

/// Where data files wait.
pub(crate) fn staging(root: &Path) -> PathBuf {
    root.join("_staging")
}

/// A name that is a folder's on every system: other characters than ASCII letters, digits, `-`, `_` and `.` are written
/// `%XX` per byte, and so are a `.` or `_` at the start, which have meanings of their own.
fn folder_name(name: &str) -> String {
    let plain = |(index, byte): (usize, u8)| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' => true,
        b'.' | b'_' => index > 0,
        _ => false,
    };
    let encode = |(index, byte)| if plain((index, byte)) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    if name.is_empty() { "%".to_owned() } else { name.bytes().enumerate().map(encode).collect() }
}

fn name(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()
}

fn list(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.explain(OPENING, folder)?,
    };
    entries.map(|entry| entry.map(|entry| entry.path()).explain(OPENING, folder)).collect()
}

/// Removes a file that may be gone.
pub(crate) fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).explain("removing a file", path),
        _ => Ok(()),
    }
}
