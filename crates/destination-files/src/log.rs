//! The manifests on disk: one file per commit, put only if absent, and a snapshot of their fold.

use std::io;
use std::path::{Path, PathBuf};

use pipeline_core::state::STATE_VERSION;
use pipeline_core::{Error, ErrorKind, Result, crash_point};
use pipeline_engine::CommitRecord;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::error::{Explain, damaged};
use crate::manifest::{Fold, Manifest};
use crate::{disk, names};

const READING: &str = "reading the manifests";
const COMMITTING: &str = "writing a manifest";
const SNAPSHOT: &str = "snapshot.json";

/// Version of the files' shape. Raised when it changes; older versions are read for ever.
const VERSION: u32 = 3;

/// What every file says about itself before its content is believed.
#[derive(Serialize, Deserialize)]
struct Envelope<B> {
    version: u32,
    state_version: u32,
    blake3: String,
    body: B,
}

/// The folder of manifests.
#[derive(Debug)]
pub(crate) struct Log {
    folder: PathBuf,
}

impl Log {
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// The fold of the snapshot, if there is one; the commits after it are still to be read.
    pub(crate) fn snapshot(&self) -> Result<Fold> {
        let path = self.folder.join(SNAPSHOT);
        let fold = read(&path).map_err(|error| {
            error.with_help("delete this file: it is made again from the manifests beside it")
        })?;
        Ok(fold.unwrap_or_default())
    }

    /// One commit, if it was made.
    pub(crate) fn manifest(&self, sequence: u64) -> Result<Option<Manifest>> {
        let path = self.path(sequence);
        let manifest: Option<Manifest> = read(&path)?;
        match manifest {
            Some(manifest) if manifest.commit.sequence != sequence => Err(damaged(
                "a manifest has another number than its name",
                &path,
            )),
            manifest => Ok(manifest),
        }
    }

    /// The newest commits, newest first.
    pub(crate) fn commits(&self, last: u64, limit: usize) -> Result<Vec<CommitRecord>> {
        let mut commits = Vec::new();
        for sequence in (1..=last).rev().take(limit) {
            let manifest = self
                .manifest(sequence)?
                .ok_or_else(|| missing(&self.path(sequence)))?;
            commits.push(manifest.record());
        }
        Ok(commits)
    }

    /// Fails when a commit is missing: the last one that was found, or one between it and a later
    /// one. A lost manifest is not the end.
    pub(crate) fn check_end(&self, last: u64) -> Result<()> {
        let is_later = |path: &PathBuf| number(path).is_some_and(|sequence| sequence > last + 1);
        if disk::list(&self.folder)
            .explain(READING, &self.folder)?
            .iter()
            .any(is_later)
            && !self.has(last + 1)?
        {
            return Err(missing(&self.path(last + 1)));
        }
        self.check_last(last)
    }

    /// Fails when the manifest of the last commit that was found is gone.
    pub(crate) fn check_last(&self, last: u64) -> Result<()> {
        if last == 0 || self.has(last)? {
            Ok(())
        } else {
            Err(missing(&self.path(last)))
        }
    }

    fn has(&self, sequence: u64) -> Result<bool> {
        let path = self.path(sequence);
        Ok(disk::metadata(&path).explain(READING, &path)?.is_some())
    }

    /// Makes a commit, durably and all at once. False: somebody else made the commit of that
    /// number.
    pub(crate) fn put(&self, manifest: &Manifest) -> Result<bool> {
        let path = self.path(manifest.commit.sequence);
        let temporary = self.temporary(manifest)?;
        crash_point("files-before-manifest");
        let linked = disk::link(&temporary, &path);
        crash_point("files-after-manifest");
        // What is left of a temporary file is removed when the folder is next opened.
        let _ = disk::remove(&temporary);
        match linked {
            Ok(()) => disk::sync_folder(&self.folder, COMMITTING).map(|()| true),
            // A network file system may answer so to a repeated request of ours.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Ok(self.manifest(manifest.commit.sequence)?.as_ref() == Some(manifest))
            }
            Err(error) => Err(error).explain(COMMITTING, &path),
        }
    }

    /// Replaces the snapshot.
    pub(crate) fn put_snapshot(&self, fold: &Fold) -> Result<()> {
        let path = self.folder.join(SNAPSHOT);
        let temporary = self.temporary(fold)?;
        crash_point("files-before-snapshot");
        disk::rename(&temporary, &path)
            .explain(COMMITTING, &path)
            .inspect_err(|_| drop(disk::remove(&temporary)))?;
        disk::sync_folder(&self.folder, COMMITTING)
    }

    /// Removes what an interrupted commit left. Only safe while nobody else writes.
    pub(crate) fn remove_temporaries(&self) -> Result<()> {
        let listed = disk::list(&self.folder).explain(READING, &self.folder)?;
        let is_ours =
            |path: &&PathBuf| names::of(path).is_some_and(|name| names::is_unique(name, "tmp"));
        listed
            .iter()
            .filter(is_ours)
            .try_for_each(|path| disk::remove(path))
    }

    fn path(&self, sequence: u64) -> PathBuf {
        self.folder.join(format!("{sequence:010}.json"))
    }

    /// Writes content to a new file that is on disk when this returns.
    fn temporary(&self, content: &impl Serialize) -> Result<PathBuf> {
        disk::write_unique(
            &self.folder,
            &encode(content).explain(COMMITTING, &self.folder)?,
            COMMITTING,
        )
    }
}

/// The commit that a manifest's name is of.
fn number(path: &Path) -> Option<u64> {
    names::of(path)?.strip_suffix(".json")?.parse().ok()
}

fn missing(path: &Path) -> Error {
    damaged("a manifest is missing", path)
}

fn encode(content: &impl Serialize) -> io::Result<Vec<u8>> {
    let body = serde_json::value::to_raw_value(content)?;
    let blake3 = blake3::hash(body.get().as_bytes()).to_string();
    Ok(serde_json::to_vec(&Envelope {
        version: VERSION,
        state_version: STATE_VERSION,
        blake3,
        body,
    })?)
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let Some(bytes) = disk::read(path).explain(READING, path)? else {
        return Ok(None);
    };
    let unreadable = |error: serde_json::Error| {
        damaged("a manifest is damaged", path)
            .with_source(error)
            .with_operation(READING)
    };
    let envelope: Envelope<&RawValue> = serde_json::from_slice(&bytes).map_err(unreadable)?;
    if envelope.version > VERSION || envelope.state_version > STATE_VERSION {
        return Err(Error::new(
            ErrorKind::Unsupported,
            "a manifest was written by a newer release",
        )
        .with_context("path", path.display().to_string())
        .with_help("upgrade this program"));
    }
    let body = envelope.body.get();
    if blake3::hash(body.as_bytes()).to_string() != envelope.blake3 {
        return Err(
            damaged("a manifest is damaged: its checksum is wrong", path).with_operation(READING),
        );
    }
    serde_json::from_str(body).map(Some).map_err(unreadable)
}
