//! Moves files to where the manifests say that they are.
//!
//! A commit counts from its manifest on, and is said to be made only when readers see it. What
//! cannot be moved at once is done before anything else is written to the table, by this process or
//! by the next one.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use pipeline_core::{Error, ErrorKind, Result, failpoint};
use pipeline_engine::TableId;

use crate::error::{Explain, damaged};
use crate::manifest::{DataFile, Files, Moves, TableMoves};
use crate::place::{Place, View};
use crate::store::{OPENING, Store};
use crate::{names, runs};

const SETTLING: &str = "moving a file into place";
/// Tables of a bucket whose files are moved at the same time.
const AT_ONCE: usize = 16;

/// Moves that were not completed, and why.
#[derive(Clone, Debug)]
pub(crate) struct Pending {
    pub(crate) moves: TableMoves,
    pub(crate) reason: String,
}

/// Files in a table's folder that have names of data files, and that readers of the table should
/// not see.
#[derive(Debug, Default)]
pub(crate) struct Others {
    /// Names that commits have given.
    pub(crate) stale: Vec<String>,
    /// Files that no commit names: somebody has copied or renamed them.
    pub(crate) strange: Vec<PathBuf>,
}

impl Store {
    /// Does to the files what a commit decided. Of a table that fails, what is left is remembered.
    pub(crate) fn settle(&mut self, moves: Moves) -> Result<()> {
        let mut failure = None;
        for (table, moves, settled) in self.settle_all(moves) {
            if let Err(error) = settled {
                self.postpone(table.clone(), moves, &error);
                failure.get_or_insert(unplaced(error, &table, &self.folder(&table)));
            }
        }
        failure.map_or(Ok(()), Err)
    }

    /// Settles tables: one after the other in a folder, several at once in a bucket, where each step
    /// is a request.
    fn settle_all(&self, moves: Moves) -> Vec<(TableId, TableMoves, Result<()>)> {
        let settle = |(table, moves): (TableId, TableMoves)| {
            let settled = self.settle_table(&table, &moves);
            (table, moves, settled)
        };
        if !self.place().is_remote() || moves.len() < 2 {
            return moves.into_iter().map(settle).collect();
        }
        let threads = moves.len().min(AT_ONCE);
        let (waiting, settled) = (Mutex::new(moves.into_iter()), Mutex::new(Vec::new()));
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    while let Some(next) = locked(&waiting).next() {
                        let ended = settle(next);
                        locked(&settled).push(ended);
                    }
                });
            }
        });
        settled.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers moves that are still to be made.
    pub(crate) fn postpone(&mut self, table: TableId, moves: TableMoves, reason: &Error) {
        let reason = reason.to_string();
        let pending = self.pending.entry(table).or_insert_with(|| Pending {
            moves: TableMoves::default(),
            reason: String::new(),
        });
        pending.reason = reason;
        pending.moves.replaced.extend(moves.replaced);
        pending.moves.stale.extend(moves.stale);
        pending.moves.discarded.extend(moves.discarded);
        pending.moves.rewritten.extend(moves.rewritten);
        pending.moves.cards.extend(moves.cards);
        pending.moves.visible.extend(moves.visible);
    }

    /// Completes what an earlier commit left to be moved in a table.
    ///
    /// # Errors
    /// [`ErrorKind::Destination`] when it cannot be moved now either.
    pub(crate) fn catch_up(&mut self, table: &TableId) -> Result<()> {
        let Some(Pending { mut moves, .. }) = self.pending.remove(table) else {
            return Ok(());
        };
        // A later commit may have replaced what the earlier one was to show.
        let current = self
            .fold()
            .tables
            .get(table)
            .map(|files| files.current.as_slice())
            .unwrap_or_default();
        moves.visible.retain(|file| current.contains(file));
        moves.rewritten.retain(|file| current.contains(file));
        self.settle_table(table, &moves).map_err(|error| {
            self.postpone(table.clone(), moves, &error);
            unplaced(error, table, &self.folder(table))
        })
    }

    /// Where files take the place of others, they come to the folder first, under names that
    /// readers leave out: so that nothing is removed before it is sure that they can be there. Then
    /// the others go, and they get their names. A glob may miss rows for a moment, but it never
    /// shows a row of both generations.
    ///
    /// Readers of a Delta log find the files that it names: new ones are in place before there is an
    /// entry for them, and others go after it.
    fn settle_table(&self, table: &TableId, moves: &TableMoves) -> Result<()> {
        let folder = self.folder(table);
        let place = self.place();
        if let Some(projector) = &self.projector {
            for file in moves.visible.iter().chain(&moves.rewritten) {
                self.put_in_place(table, file)?;
                failpoint("files-placing");
            }
            self.project(projector, table)?;
        }
        let removes = !moves.replaced.is_empty() || !moves.stale.is_empty();
        // In a bucket a file is in its place as soon as it is copied, and nothing of it comes near.
        if removes && !place.is_remote() {
            for file in moves.visible.iter().chain(&moves.rewritten) {
                self.arrive(table, file)?;
                failpoint("files-arriving");
            }
        }
        // Merged files: of rows with a key whoever reads meanwhile finds a version twice rather than
        // not at all. Rows without one are never there twice.
        let has_key = self.key(table).is_some_and(|key| !key.is_empty());
        if has_key {
            self.rewrite(table, &moves.rewritten)?;
        }
        for file in &moves.replaced {
            place.remove(&folder.join(&file.name))?;
            place.remove(&folder.join(names::arrived(&file.name)))?;
            self.remove_staged(table, file)?;
            failpoint("files-replacing");
        }
        for name in &moves.stale {
            place.remove(&folder.join(name))?;
        }
        for file in &moves.discarded {
            self.remove_staged(table, file)?;
            failpoint("files-discarding");
        }
        if !has_key {
            self.rewrite(table, &moves.rewritten)?;
        }
        for file in &moves.cards {
            place.remove(&self.card(table, &file.staged))?;
        }
        for file in &moves.visible {
            self.put_in_place(table, file)?;
            failpoint("files-placing");
        }
        Ok(())
    }

    fn rewrite(&self, table: &TableId, files: &[DataFile]) -> Result<()> {
        for file in files {
            self.put_in_place(table, file)?;
            failpoint("files-rewriting");
        }
        Ok(())
    }

    fn remove_staged(&self, table: &TableId, file: &DataFile) -> Result<()> {
        let place = self.place();
        place.remove(&self.staging().join(&file.staged))?;
        place.remove(&self.card(table, &file.staged))
    }

    /// Moves a waiting file to the folder of its table, where it is not seen yet.
    fn arrive(&self, table: &TableId, file: &DataFile) -> Result<()> {
        let (folder, waiting) = (self.folder(table), self.staging().join(&file.staged));
        if has_size(self.place(), &waiting, file)? {
            move_to(self.place(), &waiting, &folder, &names::arrived(&file.name))?;
        }
        Ok(())
    }

    /// Moves a visible file to its place unless it is there, at once into the place of one of the
    /// same name.
    pub(crate) fn put_in_place(&self, table: &TableId, file: &DataFile) -> Result<()> {
        let folder = self.folder(table);
        for waiting in [
            self.staging().join(&file.staged),
            folder.join(names::arrived(&file.name)),
        ] {
            if has_size(self.place(), &waiting, file)?
                && move_to(self.place(), &waiting, &folder, &file.name)?
            {
                return Ok(());
            }
        }
        let target = folder.join(&file.name);
        if has_size(self.place(), &target, file)? {
            Ok(())
        } else {
            Err(damaged("a data file is missing or incomplete", &target).with_operation(SETTLING))
        }
    }

    /// Looks at where files can be, and reads the manifests after that: a file that another process
    /// brings there has a manifest before, so that none seems to be left over.
    fn look_first(&mut self) -> Result<View> {
        loop {
            let tables: Vec<TableId> = self.fold().tables.keys().cloned().collect();
            let folders = tables
                .iter()
                .flat_map(|table| [self.folder(table), self.cards(table)]);
            let folders: Vec<PathBuf> = folders.chain([self.staging()]).collect();
            let view = self.place().view(&folders);
            self.refresh()?;
            if self.fold().tables.keys().eq(&tables) {
                return Ok(view);
            }
        }
    }

    /// Finishes what an interrupted commit began, and removes what is ours and belongs to none.
    /// In a folder only safe while nobody else writes. What cannot be moved or removed now is remembered, and
    /// keeps nobody from writing to other tables.
    pub(crate) fn reconcile(&mut self) -> Result<()> {
        self.log().remove_temporaries()?;
        let _view = self.look_first()?;
        let tables: Vec<(TableId, Files)> = self
            .fold()
            .tables
            .iter()
            .map(|(table, files)| (table.clone(), files.clone()))
            .collect();
        for (table, files) in &tables {
            self.remove_lost_cards(table, files)?;
            if self.projector.is_some() {
                self.remove_log_temporaries(table)?;
            }
            if self.damage(table, &files.current)?.is_some() {
                // What is left may be the last copy of what is lost.
                continue;
            }
            let moves = TableMoves {
                stale: self.stale(table, files)?,
                visible: files.current.clone(),
                ..TableMoves::default()
            };
            if let Err(error) = self.settle_table(table, &moves) {
                tracing::warn!(%error, stream = table.stream, "files of a commit are not all in place");
                self.postpone(table.clone(), moves, &error);
            }
        }
        let is_temporary =
            |path: &&PathBuf| names::of(path).is_some_and(|name| names::is_unique(name, "tmp"));
        let place = self.place();
        if !place.is_remote() {
            let runs = place.list_idle(&runs::folder(self.root()));
            runs.explain(OPENING, self.root())?
                .iter()
                .filter(is_temporary)
                .try_for_each(|path| place.remove(path))?;
        }
        let waiting: BTreeSet<&str> = tables
            .iter()
            .flat_map(|(_, files)| files.all())
            .map(|file| file.staged.as_str())
            .collect();
        let staging = self.staging();
        let idle = place.list_idle(&staging).explain(OPENING, &staging)?;
        let mut left_over = place.list(&staging).explain(OPENING, &staging)?;
        left_over.retain(|path| {
            let Some(name) = names::of(path) else {
                return false;
            };
            let is_left = self.is_gone(name) || idle.contains(path);
            names::is_unique(name, "tmp") && is_left && !waiting.contains(name)
        });
        left_over.iter().try_for_each(|path| place.remove(path))
    }

    /// Names in a table's folder that were given to files by a commit, and are not visible any
    /// more. Other files are left alone.
    fn stale(&self, table: &TableId, files: &Files) -> Result<Vec<String>> {
        let Others { stale, strange } = self.others(table, files)?;
        for path in strange {
            tracing::warn!(path = %path.display(), "a file that no commit names is left alone");
        }
        Ok(stale)
    }

    /// What has a data file's name in a table's folder, and is not visible. A commit names its
    /// files before they are moved, so that one which another process moves at the moment is not
    /// strange.
    pub(crate) fn others(&self, table: &TableId, files: &Files) -> Result<Others> {
        let folder = self.folder(table);
        let visible: BTreeSet<&str> = files
            .current
            .iter()
            .map(|file| file.name.as_str())
            .collect();
        let mut others = Others::default();
        for path in self.place().list(&folder).explain(OPENING, &folder)? {
            let Some(found) = names::of(&path) else {
                continue;
            };
            let name = names::of_arrived(found).unwrap_or(found);
            let Some(sequence) = names::sequence(name).filter(|_| !visible.contains(name)) else {
                continue;
            };
            if self
                .log()
                .manifest(sequence)?
                .is_some_and(|manifest| manifest.names(table, name))
            {
                others.stale.push(found.to_owned());
            } else {
                others.strange.push(path);
            }
        }
        Ok(others)
    }

    /// Removes the cards of files that are gone.
    fn remove_lost_cards(&self, table: &TableId, files: &Files) -> Result<()> {
        let cards: BTreeSet<PathBuf> = files
            .all()
            .map(|file| self.card(table, &file.staged))
            .collect();
        let folder = self.cards(table);
        let is_lost = |path: &&PathBuf| {
            names::of(path).is_some_and(|name| names::is_unique(name, "card"))
                && !cards.contains(*path)
        };
        let place = self.place();
        place
            .list(&folder)
            .explain(OPENING, &folder)?
            .iter()
            .filter(is_lost)
            .try_for_each(|path| place.remove(path))
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// True when a file exists and is as large as it was when it was written.
pub(crate) fn has_size(place: &dyn Place, path: &Path, file: &DataFile) -> Result<bool> {
    let found = place.metadata(path).explain(SETTLING, path)?;
    Ok(found.is_some_and(|found| found.is_file && found.len == file.bytes))
}

/// False: another process has moved it.
fn move_to(place: &dyn Place, from: &Path, folder: &Path, name: &str) -> Result<bool> {
    let target = folder.join(name);
    place.create_folders(folder).explain(SETTLING, folder)?;
    match place.rename(from, &target) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        renamed => renamed.explain(SETTLING, &target).map(|()| true),
    }
}

fn unplaced(error: Error, table: &TableId, folder: &Path) -> Error {
    let help = format!(
        "make sure that {} is a folder that can be written, then run again: the files wait in `_staging`, and the next run moves them first",
        folder.display()
    );
    Error::new(
        ErrorKind::Destination,
        "rows are committed, but their files cannot be moved to where readers see them",
    )
    .with_operation(SETTLING)
    .with_context("source", table.source.clone())
    .with_context("stream", table.stream.clone())
    .with_help(help)
    .with_source(error)
}
