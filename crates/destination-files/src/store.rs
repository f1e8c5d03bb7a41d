//! The folders: where data files wait, where they become visible, and how both are brought in line
//! with the manifests.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use pipeline_core::{Error, ErrorKind, Result};
use pipeline_engine::{Commit, Generation, Table, TableId};

use crate::compare::Found;
use crate::delta::Projector;
use crate::error::damaged;
use crate::format::FileFormat;
use crate::known::{Known, Pattern};
use crate::log::Log;
use crate::manifest::{
    DataFile, Files, Fold, Manifest, Rewritten, StagedFile, TableMoves, Written,
};
use crate::place::{Occupied, Place, View};
use crate::recall::Source;
use crate::settle::Pending;
use crate::staged::Staged;
use crate::{names, recall};

pub(crate) const OPENING: &str = "opening the folder";
const COMMITTING: &str = "bringing staged files to disk";
/// The same for a bucket, of which each manifest is a request.
const SNAPSHOT_EVERY_REMOTE: u64 = 16;

/// What a folder may be opened with.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Commits after which the manifests are folded into a snapshot, which bounds how many are read
    /// at the start. Default: 64; in a bucket never more than 16.
    pub snapshot_every: u64,
    /// Merges small files of the tables that a run has written, in a commit of its own, when the run
    /// ends. Default: true.
    pub compact: bool,
    /// Writes a Delta log beside the files of each table, which says what the manifests say. The
    /// format must have an [`outline`](FileFormat::outline). Default: false.
    pub delta: bool,
    /// Keys of which the newest version is remembered, so that it is not stored again. Each takes
    /// 20 to 40 bytes of memory. Default: 1,800,000. Of the keys of a larger table only those that
    /// were written last are remembered.
    pub remember: usize,
    /// Bytes that the files which a transaction writes may hold in memory together; beyond, the
    /// largest is written out. Default: 32 MiB, which is what a run with the default budget leaves
    /// ([`MemoryBudget::of_destination`](pipeline_core::MemoryBudget::of_destination)).
    pub buffered: usize,
    /// How long opening waits for another process that has the folder for itself: it moves some
    /// files at its start. Default: 10 seconds.
    pub patience: Duration,
    /// How long a claim in a bucket outlives its last sign of life. Who finds one that a process has
    /// left waits that long. Default: 20 seconds.
    pub lease: Duration,
    /// Age from which a file in a bucket that no commit names is a left-over, which is removed. A
    /// transaction must not take so long. Default: a day.
    pub idle: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            snapshot_every: 64,
            compact: true,
            delta: false,
            remember: 1_800_000,
            buffered: 32 << 20,
            patience: Duration::from_secs(10),
            lease: Duration::from_secs(20),
            idle: Duration::from_hours(24),
        }
    }
}

/// A folder of tables, and what its manifests say.
#[derive(Debug)]
pub(crate) struct Store {
    place: Arc<dyn Place>,
    extension: &'static str,
    log: Log,
    fold: Fold,
    options: Options,
    /// Columns that identify the rows of the tables that this process writes.
    keys: BTreeMap<TableId, Vec<String>>,
    /// What tables hold, each with the commit as of which that is so; what was used last comes
    /// last.
    known: Vec<((TableId, Generation), Known, u64)>,
    /// What earlier commits left to be moved.
    pub(crate) pending: BTreeMap<TableId, Pending>,
    /// Staged files that commits have discarded or replaced which were read at the opening: their
    /// process may have died before it removed them.
    gone: BTreeSet<String>,
    /// A commit of which it is not known whether it was made.
    unsure: Option<Manifest>,
    /// Held while anybody writes here, so that nobody takes a living writer's files for left-overs.
    /// None: it was opened for reading.
    occupied: Option<Occupied>,
    /// Writes the Delta logs of tables, where they are asked for.
    pub(crate) projector: Option<Projector>,
}

impl Store {
    /// Opens a folder, creates it if need be, and brings its files in line with the manifests
    /// unless somebody else is at work.
    pub(crate) fn open(
        place: Arc<dyn Place>,
        format: &Arc<dyn FileFormat>,
        options: Options,
    ) -> Result<Self> {
        let mut store = Self::open_to_read(Arc::clone(&place), format, options)?;
        place.prepare()?;
        store.projector = options.delta.then(|| Projector::new(Arc::clone(format)));
        let occupied = place.occupy(options.patience, &mut || {
            store.refresh()?;
            store.reconcile()
        });
        store.occupied = Some(occupied?);
        store.gone.clear();
        Ok(store)
    }

    /// Where the files are.
    pub(crate) fn place(&self) -> &dyn Place {
        &*self.place
    }

    /// Begins files that are staged here.
    pub(crate) fn stage(&self, format: &Arc<dyn FileFormat>) -> Staged {
        Staged::new(
            Arc::clone(&self.place),
            self.staging(),
            Arc::clone(format),
            self.options.buffered,
        )
    }

    /// Looks at where the files of some tables can be.
    pub(crate) fn view<'a>(&self, tables: impl IntoIterator<Item = &'a TableId>) -> View {
        let folders = tables.into_iter().map(|table| self.folder(table));
        let folders: Vec<PathBuf> = folders.chain([self.staging()]).collect();
        self.place.view(&folders)
    }

    /// Opens a folder for reading: nothing in it is created, moved, removed or locked, and it need
    /// not exist.
    ///
    /// # Errors
    /// [`ErrorKind::Destination`] when manifests are lost or damaged, [`ErrorKind::ConfigInvalid`]
    /// when the folder holds files of another format.
    pub(crate) fn open_to_read(
        place: Arc<dyn Place>,
        format: &Arc<dyn FileFormat>,
        mut options: Options,
    ) -> Result<Self> {
        if place.is_remote() {
            options.snapshot_every = options.snapshot_every.min(SNAPSHOT_EVERY_REMOTE);
            // The other half is for files on their way.
            options.buffered /= 2;
        }
        let log = Log::new(Arc::clone(&place));
        // Before the manifests: a commit that another process makes meanwhile is among them then.
        let found = Found::look(&*place)?;
        let mut store = Self {
            place,
            extension: format.extension(),
            fold: log.snapshot()?,
            log,
            options,
            keys: BTreeMap::new(),
            known: Vec::new(),
            pending: BTreeMap::new(),
            gone: BTreeSet::new(),
            unsure: None,
            occupied: None,
            projector: None,
        };
        store.refresh()?;
        store.check_log(&found)?;
        store.check_format()?;
        Ok(store)
    }

    /// Fails unless the folder was opened for writing.
    pub(crate) fn check_writable(&self) -> Result<()> {
        if !self.is_read_only() {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Unexpected,
            "a folder that was opened for reading was to be written",
        )
        .with_context("path", self.root().display().to_string())
        .with_help("report this as a defect"))
    }

    /// True when the folder was opened for reading.
    pub(crate) fn is_read_only(&self) -> bool {
        self.occupied.is_none()
    }

    /// Reads the commits that others made.
    pub(crate) fn refresh(&mut self) -> Result<()> {
        while let Some(manifest) = self.log.manifest(self.fold.sequence + 1)? {
            let is_own = self.unsure.take().is_some_and(|unsure| unsure == manifest);
            let moves = self.fold.apply(manifest).map_err(|error| {
                damaged("a manifest does not follow the one before it", self.root())
                    .with_source(error)
                    .with_operation(OPENING)
            })?;
            if self.is_read_only() {
                let gone = moves.values().flat_map(TableMoves::gone);
                self.gone.extend(gone.map(|file| file.staged.clone()));
            }
            if is_own {
                // Nobody else moves the files of a commit of ours.
                let unsure = Error::new(
                    ErrorKind::Destination,
                    "its manifest could not be brought to disk",
                );
                for (table, moves) in moves {
                    self.postpone(table, moves, &unsure);
                }
            }
        }
        Ok(())
    }

    pub(crate) fn root(&self) -> &Path {
        self.place.root()
    }

    pub(crate) fn extension(&self) -> &'static str {
        self.extension
    }

    pub(crate) fn fold(&self) -> &Fold {
        &self.fold
    }

    /// True for a staged file that a commit has discarded or replaced.
    pub(crate) fn is_gone(&self, staged: &str) -> bool {
        self.gone.contains(staged)
    }

    /// Remembers which columns identify a table's rows; the next commit stores it.
    pub(crate) fn learn_key(&mut self, table: &Table) {
        self.keys.insert(table.id(), table.primary_key.clone());
    }

    /// The tables that this process writes.
    pub(crate) fn written(&self) -> Vec<TableId> {
        self.keys.keys().cloned().collect()
    }

    /// True when small files are merged.
    pub(crate) fn compacts(&self) -> bool {
        self.options.compact
    }

    /// Bytes that files which are written may hold in memory.
    pub(crate) fn buffered(&self) -> usize {
        self.options.buffered
    }

    /// Columns that identify a table's rows, if that is known.
    pub(crate) fn key(&self, table: &TableId) -> Option<&[String]> {
        self.keys
            .get(table)
            .or_else(|| self.fold.keys.get(table))
            .map(Vec::as_slice)
    }

    /// What a table holds, with the commit as of which that is so, to be taken by one transaction.
    /// None: too many kinds of tombstones are in it.
    pub(crate) fn known(
        &mut self,
        table: &TableId,
        generation: Generation,
        format: &dyn FileFormat,
        patterns: BTreeSet<Pattern>,
    ) -> Result<Option<(Known, u64)>> {
        self.refresh()?;
        self.catch_up(table)?;
        let sequence = self.fold.sequence;
        if let Some(at) = self
            .known
            .iter()
            .position(|(place, ..)| place.0 == *table && place.1 == generation)
        {
            let (_, known, as_of) = self.known.remove(at);
            if self.changed_at(table) <= as_of
                && patterns
                    .iter()
                    .all(|pattern| known.patterns().contains(pattern))
            {
                return Ok(Some((known, sequence)));
            }
        }
        let files = self.fold.tables.get(table).cloned().unwrap_or_default();
        let _view = self.view([table]);
        if self.damage(table, files.of(generation))?.is_some() {
            // What is damaged of a next generation may be discarded by this commit, which otherwise
            // fails.
            return if generation == Generation::Next {
                Ok(None)
            } else {
                self.ready(table, generation).map(|()| None)
            };
        }
        let source = |file: &DataFile| Source {
            data: match generation {
                Generation::Current => self.locate(table, file),
                Generation::Next => self.staging().join(&file.staged),
            },
            card: self.card(table, &file.staged),
            rows: file.rows,
        };
        let sources: Vec<Source> = files.of(generation).iter().map(source).collect();
        let known = recall::recall(
            self.place(),
            &sources,
            format,
            self.key(table).unwrap_or_default(),
            patterns,
            self.options.remember,
        )?;
        Ok(known.map(|known| (known, sequence)))
    }

    /// Keeps what a committed transaction knows of a table, and forgets what was used longest ago
    /// when it is too much.
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
    pub(crate) fn card(&self, table: &TableId, staged: &str) -> PathBuf {
        self.cards(table).join(staged).with_extension("card")
    }

    /// The folder of the cards of a table's files.
    pub(crate) fn cards(&self, table: &TableId) -> PathBuf {
        self.root()
            .join("_known")
            .join(names::folder(&table.source))
            .join(names::folder(&table.stream))
    }

    pub(crate) fn log(&self) -> &Log {
        &self.log
    }

    /// Makes a commit. From the moment at which its manifest exists it counts; it is said to be
    /// made when readers see its files.
    ///
    /// `before` looks at the commit before, and writes the rows that stay when a generation is
    /// published.
    pub(crate) fn commit(
        &mut self,
        files: &[StagedFile],
        commit: &Commit,
        before: impl FnMut(&Self) -> Result<Staged>,
    ) -> Result<u64> {
        self.commit_with(files, &[], commit, before)
    }

    /// As [`commit`](Self::commit), with files in the place of visible ones.
    ///
    /// # Errors
    /// [`ErrorKind::Destination`] also after the manifest exists, when the files cannot be moved:
    /// the next commit or process moves them first.
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
            self.prepare_commit(files, rewritten, commit)?;
            let mut carried = before(self)?;
            self.secure(files, carried.files(), rewritten)?;
            let written = Written {
                files,
                carried: carried.files(),
                keys: &self.keys,
                rewritten,
            };
            let manifest = self.fold.plan(commit, written, self.extension)?;
            let is_made = self.log.put(&manifest);
            if matches!(is_made, Ok(false)) {
                continue;
            }
            // After a failure a manifest may name the files.
            carried.leave();
            if let Err(error) = is_made {
                self.unsure = Some(manifest);
                return Err(error);
            }
            let sequence = manifest.commit.sequence;
            let moves = self.fold.apply(manifest)?;
            for file in files {
                if let Some(card) = &file.card {
                    recall::store(self.place(), card, &self.card(&file.table, &file.name));
                }
            }
            self.settle(moves)?;
            if let Err(error) = self.snapshot_if_due() {
                tracing::warn!(%error, sequence, "the snapshot is not made: the next start reads more manifests");
            }
            return Ok(sequence);
        }
    }

    /// Makes sure that what a manifest will name outlasts this process.
    fn secure(
        &self,
        files: &[StagedFile],
        carried: &[StagedFile],
        rewritten: &[Rewritten],
    ) -> Result<()> {
        let staged = files.iter().chain(carried);
        let staged = staged.map(|file| (file.name.as_str(), file.bytes));
        let rewritten = rewritten.iter().filter_map(|file| file.to.as_ref());
        let rewritten = rewritten.map(|file| (file.staged.as_str(), file.bytes));
        let named: Vec<(&str, u64)> = staged.chain(rewritten).collect();
        if named.is_empty() {
            return Ok(());
        }
        self.place.secure(&self.staging(), &named, COMMITTING)
    }

    /// Makes sure that the log is there, and that the tables which a commit writes are what it
    /// says.
    fn prepare_commit(
        &mut self,
        files: &[StagedFile],
        rewritten: &[Rewritten],
        commit: &Commit,
    ) -> Result<()> {
        self.check_writable()?;
        self.log.check_last(self.fold.sequence)?;
        let mut tables: BTreeSet<(&TableId, bool)> = files
            .iter()
            .map(|file| (&file.table, file.generation == Generation::Next))
            .collect();
        tables.extend(rewritten.iter().map(|rewritten| (&rewritten.table, false)));
        tables.extend(commit.publish.iter().map(|table| (table, true)));
        let _view = self.view(tables.iter().map(|(table, _)| *table));
        for (table, is_next) in tables {
            if !is_next {
                self.ready(table, Generation::Current)?;
            } else if commit.discard.contains(table) {
                self.catch_up(table)?;
            } else {
                self.ready(table, Generation::Next)?;
            }
        }
        Ok(())
    }

    fn snapshot_if_due(&self) -> Result<()> {
        if self
            .fold
            .sequence
            .is_multiple_of(self.options.snapshot_every)
        {
            self.log.put_snapshot(&self.fold)
        } else {
            Ok(())
        }
    }

    /// The visible files of a table, oldest first, wherever they are at the moment.
    pub(crate) fn visible(&self, table: &TableId) -> Vec<PathBuf> {
        let files = self
            .fold
            .tables
            .get(table)
            .map(|files| files.current.as_slice())
            .unwrap_or_default();
        let _view = self.view([table]);
        files.iter().map(|file| self.locate(table, file)).collect()
    }

    /// The visible files of a table that are not damaged, oldest first. What is missing of a table
    /// can only be carried into its next generation as far as it is there; its gap stays.
    pub(crate) fn whole(&self, table: &TableId) -> Result<Vec<PathBuf>> {
        let files = self
            .fold
            .tables
            .get(table)
            .map(|files| files.current.as_slice())
            .unwrap_or_default();
        let _view = self.view([table]);
        let mut whole = Vec::with_capacity(files.len());
        for file in files {
            if self.damage(table, std::slice::from_ref(file))?.is_none() {
                whole.push(self.locate(table, file));
            }
        }
        Ok(whole)
    }

    /// The files of a table's next generation, oldest first.
    pub(crate) fn waiting(&self, table: &TableId) -> Vec<PathBuf> {
        let files = self
            .fold
            .tables
            .get(table)
            .map(|files| files.next.as_slice())
            .unwrap_or_default();
        files
            .iter()
            .map(|file| self.staging().join(&file.staged))
            .collect()
    }

    /// The files of a next generation that no endpoint of its source collects any more.
    pub(crate) fn left_over(&self, table: &TableId) -> Vec<DataFile> {
        if self
            .fold
            .endpoints
            .iter()
            .any(|(id, state)| id.source == table.source && state.refreshing)
        {
            return Vec::new();
        }
        self.fold
            .tables
            .get(table)
            .map(|files| files.next.clone())
            .unwrap_or_default()
    }

    /// Size of all data files.
    pub(crate) fn bytes(&self) -> u64 {
        self.fold
            .tables
            .values()
            .flat_map(Files::all)
            .map(|file| file.bytes)
            .sum()
    }

    /// Where a visible file is at the moment.
    pub(crate) fn locate(&self, table: &TableId, file: &DataFile) -> PathBuf {
        let [staged, arrived, placed] = self.places(table, file);
        [staged, arrived]
            .into_iter()
            .find(|path| matches!(self.place.metadata(path), Ok(Some(_))))
            .unwrap_or(placed)
    }

    /// The places that a file passes, in their order.
    pub(crate) fn places(&self, table: &TableId, file: &DataFile) -> [PathBuf; 3] {
        let folder = self.folder(table);
        [
            self.staging().join(&file.staged),
            folder.join(names::arrived(&file.name)),
            folder.join(&file.name),
        ]
    }

    /// Where data files wait.
    pub(crate) fn staging(&self) -> PathBuf {
        self.root().join("_staging")
    }

    /// The folder of a table's visible files.
    pub(crate) fn folder(&self, table: &TableId) -> PathBuf {
        self.root()
            .join(names::folder(&table.source))
            .join(names::folder(&table.stream))
    }
}
