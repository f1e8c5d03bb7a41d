//! Where files are kept: the few operations that the protocol of manifests needs, of a folder or of
//! a bucket.

use std::fmt::Debug;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pipeline_core::{Claim, Result};

use crate::output::Output;

/// Keeps listings of folders in memory while it lives, so that many files are looked at with few
/// requests. It shows what there was when a folder was first looked at, and what this process has
/// changed since.
#[derive(Debug)]
#[must_use]
pub(crate) struct View {
    /// Forgets the listings when it is dropped; none: looking at a file costs next to nothing.
    pub(crate) _held: Option<Box<dyn Listed>>,
}

/// What forgets listings when it is dropped.
pub(crate) trait Listed: Debug + Send {}

/// The right to write, for as long as it is held.
pub(crate) type Occupied = Box<dyn Held>;

/// What is held.
pub(crate) trait Held: Debug + Send + Sync {}

/// What is known of a file without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// Its size in bytes.
    pub(crate) len: u64,
    /// False for a folder.
    pub(crate) is_file: bool,
}

/// A staged file on its way to where the next process finds it.
#[must_use]
pub(crate) struct Upload(Option<Box<dyn FnOnce() -> Result<()> + Send>>);

impl Upload {
    /// It is there.
    pub(crate) fn done() -> Self {
        Self(None)
    }

    /// It is there when the function returns.
    pub(crate) fn pending(wait: impl FnOnce() -> Result<()> + Send + 'static) -> Self {
        Self(Some(Box::new(wait)))
    }

    /// Waits until it is there.
    pub(crate) fn wait(self) -> Result<()> {
        self.0.map_or(Ok(()), |wait| wait())
    }
}

/// A folder of this machine's, or a prefix in a bucket. Paths begin with [`root`](Self::root).
///
/// Everything blocks, and may be called on any thread that may block.
pub(crate) trait Place: Debug + Send + Sync + 'static {
    /// Where everything is, as it may be shown.
    fn root(&self) -> &Path;

    /// True for a bucket: nobody can lock it, it has no folders, moving a file is copying it, and
    /// every call is a request.
    fn is_remote(&self) -> bool;

    /// Makes ready for writing, and fails where two writers could not be kept apart.
    fn prepare(&self) -> Result<()>;

    /// Proves that it can be written.
    fn check(&self) -> Result<()>;

    /// Takes the right to write. `alone` puts the place in order; it is called when no living
    /// writer can be disturbed by that.
    fn occupy(&self, patience: Duration, alone: &mut dyn FnMut() -> Result<()>)
    -> Result<Occupied>;

    /// Takes the right to read a source into the place.
    ///
    /// # Errors
    /// [`ErrorKind::CheckpointConflict`](pipeline_core::ErrorKind::CheckpointConflict) when another
    /// process has it.
    fn claim(&self, source: &str, run: &str) -> Result<Claim>;

    /// Whether a process has the right to read a source into the place; none when that cannot be
    /// determined. Changes nothing.
    fn is_claimed(&self, source: &str) -> Option<bool>;

    /// The content of a small file; none: it does not exist.
    fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>>;

    /// The contents of small files; none: one does not exist or cannot be read.
    fn read_all(&self, paths: &[PathBuf]) -> Vec<Option<Vec<u8>>> {
        paths
            .iter()
            .map(|path| self.read(path).ok().flatten())
            .collect()
    }

    /// Opens a data file for reading.
    fn open(&self, path: &Path) -> io::Result<File>;

    /// What is known of a file or a folder; none: it does not exist.
    fn metadata(&self, path: &Path) -> io::Result<Option<Found>>;

    /// What is in a folder; nothing when it does not exist.
    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>>;

    /// The files in a folder whose names sort after one.
    fn list_after(&self, folder: &Path, name: &str) -> io::Result<Vec<PathBuf>>;

    /// Files in a folder at which nobody can be at work any more. It is for whoever puts the place
    /// in order.
    fn list_idle(&self, folder: &Path) -> io::Result<Vec<PathBuf>>;

    /// Every file in a folder in which a table could be.
    fn data_files(&self) -> Result<Vec<PathBuf>>;

    /// Looks at folders, and remembers what is there.
    fn view(&self, folders: &[PathBuf]) -> View;

    /// Creates a folder and those that it is in.
    fn create_folders(&self, folder: &Path) -> io::Result<()>;

    /// Makes a new file, durably and all at once. False: another process has made one of that name.
    /// What is written must differ from what any other process could write.
    fn put_new(&self, path: &Path, bytes: &[u8], operation: &'static str) -> Result<bool>;

    /// Makes or replaces a file, durably and all at once.
    fn put(&self, path: &Path, bytes: &[u8], operation: &'static str) -> Result<()>;

    /// Makes or replaces a file that can be made again when it is lost.
    fn put_loosely(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;

    /// Begins a staged file, which is not there until [`complete`](Self::complete).
    fn begin(&self, staged: &Path) -> Output;

    /// Brings a written file to where it is staged.
    fn complete(&self, staged: &Path) -> Upload;

    /// Removes what there is of a staged file; what cannot be removed is a left-over.
    fn abandon(&self, staged: &Path);

    /// Makes sure that staged files, with their sizes, outlast this process.
    fn secure(&self, folder: &Path, files: &[(&str, u64)], operation: &'static str) -> Result<()>;

    /// Moves a file into the place of another one, if there is one. Interrupted, it can be done
    /// again.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file that may be gone.
    fn remove(&self, path: &Path) -> Result<()>;
}
