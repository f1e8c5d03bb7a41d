//! The folders: where data files wait, where they become visible, and how both are brought in line with the manifests.

use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use pipeline_core::{Commit, Result, TableId, crash_point};

use crate::error::{Explain, damaged};
use crate::log::{Log, sync_folder};
use crate::manifest::{DataFile, Files, Fold, Moves, StagedFile};

const OPENING: &str = "opening the folder";
const SETTLING: &str = "moving a file into place";

/// A folder of tables, and what its manifests say.
#[derive(Debug)]
pub(crate) struct Store {
    root: PathBuf,
    extension: &'static str,
    log: Log,
    fold: Fold,
    snapshot_every: u64,
    /// Held shared while anybody writes here, so that nobody takes a living writer's files for left-overs.
    lock: File,
}

impl Store {
    /// Opens a folder, creates it if need be, and brings its files in line with the manifests unless somebody else is
    /// at work.
    pub(crate) fn open(root: &Path, extension: &'static str, snapshot_every: u64) -> Result<Self> {
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
        let mut store = Self { root: root.to_owned(), extension, fold: log.snapshot()?, log, snapshot_every, lock };
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

    pub(crate) fn log(&self) -> &Log {
        &self.log
    }

    /// Makes a commit. From the moment at which its manifest exists it counts, whatever happens to the files afterwards.
    pub(crate) fn commit(&mut self, staged: &[StagedFile], commit: &Commit) -> Result<u64> {
        if !staged.is_empty() {
            sync_folder(&staging(&self.root), SETTLING)?;
        }
        loop {
            self.refresh()?;
            let manifest = self.fold.plan(commit, staged, self.extension)?;
            if !self.log.put(&manifest)? {
                continue;
            }
            let sequence = manifest.commit.sequence;
            let moves = self.fold.apply(manifest)?;
            if let Err(error) = self.settle(&moves).and_then(|()| self.snapshot_if_due()) {
                tracing::warn!(%error, sequence, "the commit is made, but its files are not all in place; the next start moves them");
            }
            return Ok(sequence);
        }
    }

    fn snapshot_if_due(&self) -> Result<()> {
        if self.fold.sequence.is_multiple_of(self.snapshot_every) { self.log.put_snapshot(&self.fold) } else { Ok(()) }
    }

    /// Does to the files what a commit decided. Replaced files go first: a glob may miss rows for a moment, but it never
    /// shows a row of both generations.
    fn settle(&self, moves: &Moves) -> Result<()> {
        for (table, file) in &moves.replaced {
            remove(&self.folder(table).join(&file.name))?;
            remove(&staging(&self.root).join(&file.staged))?;
            crash_point("files-replacing");
        }
        for file in &moves.discarded {
            remove(&staging(&self.root).join(&file.staged))?;
            crash_point("files-discarding");
        }
        for (table, file) in &moves.visible {
            self.place(table, file)?;
            crash_point("files-placing");
        }
        Ok(())
    }

    /// Moves a visible file to its table unless it is there.
    fn place(&self, table: &TableId, file: &DataFile) -> Result<()> {
        let (folder, waiting) = (self.folder(table), staging(&self.root).join(&file.staged));
        let target = folder.join(&file.name);
        if target.exists() {
            return Ok(());
        }
        if !waiting.metadata().is_ok_and(|waiting| waiting.len() == file.bytes) {
            return Err(damaged("a data file is missing", &target).with_operation(SETTLING));
        }
        fs::create_dir_all(&folder).explain(SETTLING, &folder)?;
        fs::rename(&waiting, &target).explain(SETTLING, &target)
    }

    /// Finishes what an interrupted commit began, and removes what belongs to none. Only safe while nobody else writes.
    fn reconcile(&self) -> Result<()> {
        self.log.remove_temporaries()?;
        let mut visible = BTreeSet::new();
        let mut waiting = BTreeSet::new();
        for (table, Files { current, next }) in &self.fold.tables {
            for file in current {
                self.place(table, file)?;
                visible.insert((self.folder(table), file.name.as_str()));
            }
            waiting.extend(next.iter().map(|file| file.staged.as_str()));
        }
        for path in files(&staging(&self.root))? {
            if !name(&path).is_some_and(|name| waiting.contains(name)) {
                remove(&path)?;
            }
        }
        for table in self.fold.tables.keys() {
            let folder = self.folder(table);
            for path in files(&folder)? {
                let ours = path.extension().is_some_and(|extension| extension == self.extension);
                if ours && !name(&path).is_some_and(|name| visible.contains(&(folder.clone(), name))) {
                    remove(&path)?;
                }
            }
        }
        Ok(())
    }

    /// The visible files of a table, oldest first, wherever they are at the moment.
    pub(crate) fn visible(&self, table: &TableId) -> Vec<PathBuf> {
        let files = self.fold.tables.get(table).map(|files| files.current.as_slice()).unwrap_or_default();
        let place = |file: &DataFile| {
            let placed = self.folder(table).join(&file.name);
            if placed.exists() { placed } else { staging(&self.root).join(&file.staged) }
        };
        files.iter().map(place).collect()
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

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
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
