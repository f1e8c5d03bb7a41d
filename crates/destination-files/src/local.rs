//! A folder of this machine's.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pipeline_core::{Claim, Result, failpoint};

use crate::claims::FolderLock;
use crate::error::Explain;
use crate::output::Output;
use crate::place::{Found, Held, Occupied, Place, Upload, View};
use crate::store::OPENING;
use crate::{claims, disk, names};

/// A folder of this machine's, in which files are moved and nothing is copied.
#[derive(Debug)]
pub(crate) struct Local {
    root: PathBuf,
}

impl Local {
    pub(crate) fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
        }
    }
}

impl Held for FolderLock {}

impl Place for Local {
    fn root(&self) -> &Path {
        &self.root
    }

    fn is_remote(&self) -> bool {
        false
    }

    fn prepare(&self) -> Result<()> {
        for folder in [self.root.join("_staging"), self.root.join("_manifest")] {
            disk::create_folders(&folder).explain(OPENING, &folder)?;
        }
        Ok(())
    }

    fn check(&self) -> Result<()> {
        disk::remove(&disk::write_unique(
            &self.root.join("_staging"),
            b"",
            "checking the folder",
        )?)
    }

    fn occupy(
        &self,
        patience: Duration,
        alone: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Occupied> {
        let mut lock = FolderLock::open(&self.root)?;
        let is_alone = lock.try_alone()?;
        if is_alone {
            alone()?;
        }
        lock.share(is_alone, patience)?;
        Ok(Box::new(lock))
    }

    fn claim(&self, source: &str, run: &str) -> Result<Claim> {
        claims::claim(&self.root, source, run)
    }

    fn is_claimed(&self, source: &str) -> Option<bool> {
        claims::is_claimed(&self.root, source)
    }

    fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        disk::read(path)
    }

    fn open(&self, path: &Path) -> io::Result<File> {
        disk::open(path)
    }

    fn metadata(&self, path: &Path) -> io::Result<Option<Found>> {
        let found = disk::metadata(path)?;
        Ok(found.map(|found| Found {
            len: found.len(),
            is_file: found.is_file(),
        }))
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        disk::list(folder)
    }

    fn list_after(&self, folder: &Path, name: &str) -> io::Result<Vec<PathBuf>> {
        let mut listed = disk::list(folder)?;
        listed.retain(|path| names::of(path).is_some_and(|found| found > name));
        Ok(listed)
    }

    /// All of them: whoever puts the folder in order is alone in it.
    fn list_idle(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        disk::list(folder)
    }

    fn data_files(&self) -> Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        for source in folders(&self.root)? {
            for table in folders(&source)? {
                files.extend(readable(&table)?);
            }
        }
        Ok(files)
    }

    fn view(&self, _: &[PathBuf]) -> View {
        View { _held: None }
    }

    fn create_folders(&self, folder: &Path) -> io::Result<()> {
        disk::create_folders(folder)
    }

    fn put_new(&self, path: &Path, bytes: &[u8], operation: &'static str) -> Result<bool> {
        let folder = path.parent().unwrap_or(&self.root);
        let temporary = disk::write_unique(folder, bytes, operation)?;
        failpoint("files-before-manifest");
        let linked = disk::link(&temporary, path);
        failpoint("files-after-manifest");
        // What is left of a temporary file is removed when the folder is next opened.
        let _ = disk::remove(&temporary);
        match linked {
            Ok(()) => disk::sync_folder(folder, operation).map(|()| true),
            // A network file system may answer so to a repeated request of ours.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let found = disk::read(path).explain(operation, path)?;
                Ok(found.is_some_and(|found| found == bytes))
            }
            Err(error) => Err(error).explain(operation, path),
        }
    }

    fn put(&self, path: &Path, bytes: &[u8], operation: &'static str) -> Result<()> {
        let folder = path.parent().unwrap_or(&self.root);
        disk::create_folders(folder).explain(operation, folder)?;
        let temporary = disk::write_unique(folder, bytes, operation)?;
        failpoint("files-before-snapshot");
        disk::rename(&temporary, path)
            .explain(operation, path)
            .inspect_err(|_| drop(disk::remove(&temporary)))?;
        disk::sync_folder(folder, operation)
    }

    fn put_loosely(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(path, bytes)
    }

    fn begin(&self, staged: &Path) -> Output {
        Output::new(staged.to_owned())
    }

    fn complete(&self, _: &Path) -> Upload {
        Upload::done()
    }

    fn abandon(&self, staged: &Path) {
        // What cannot be removed now is removed when the folder is next opened.
        let _ = disk::remove(staged);
    }

    fn secure(&self, folder: &Path, _: &[(&str, u64)], operation: &'static str) -> Result<()> {
        disk::sync_folder(folder, operation)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        disk::rename(from, to)
    }

    fn remove(&self, path: &Path) -> Result<()> {
        disk::remove(path)
    }
}

/// What is in a folder. One that may not be read seems empty: its files are missed when they are
/// compared.
fn readable(folder: &Path) -> Result<Vec<PathBuf>> {
    match disk::list(folder) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(Vec::new()),
        listed => listed.explain(OPENING, folder),
    }
}

/// The folders in a folder whose names can be those of sources and streams.
fn folders(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut listed = readable(folder)?;
    listed.retain(|path| names::of(path).is_some_and(names::can_be_table) && path.is_dir());
    Ok(listed)
}
