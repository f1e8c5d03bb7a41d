//! The manifests on disk: one file per commit, put only if absent, and a snapshot of their fold.

use std::fs::{self, File};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use pipeline_core::state::STATE_VERSION;
use pipeline_core::{CommitRecord, Error, ErrorKind, Result, crash_point};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::error::{Explain, damaged};
use crate::manifest::{Fold, Manifest};

const READING: &str = "reading the manifests";
const COMMITTING: &str = "writing a manifest";
const SNAPSHOT: &str = "snapshot.json";

/// Version of the files' shape. Raised when it changes; older versions are read for ever.
const VERSION: u32 = 2;

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
        let fold = read(&path).map_err(|error| error.with_help("delete this file: it is made again from the manifests beside it"))?;
        Ok(fold.unwrap_or_default())
    }

    /// One commit, if it was made.
    pub(crate) fn manifest(&self, sequence: u64) -> Result<Option<Manifest>> {
        let path = self.path(sequence);
        let manifest: Option<Manifest> = read(&path)?;
        match manifest {
            Some(manifest) if manifest.commit.sequence != sequence => Err(damaged("a manifest has another number than its name", &path)),
            manifest => Ok(manifest),
        }
    }

    /// The newest commits, newest first.
    pub(crate) fn commits(&self, last: u64, limit: usize) -> Result<Vec<CommitRecord>> {
        let mut commits = Vec::new();
        for sequence in (1..=last).rev().take(limit) {
            let manifest = self.manifest(sequence)?.ok_or_else(|| damaged("a manifest is missing", &self.path(sequence)))?;
            commits.push(manifest.commit);
        }
        Ok(commits)
    }

    /// Fails when a commit is missing between the last one that was found and a later one: a lost manifest is not the end.
    pub(crate) fn check_end(&self, last: u64) -> Result<()> {
        for entry in fs::read_dir(&self.folder).explain(READING, &self.folder)? {
            let name = entry.explain(READING, &self.folder)?.file_name();
            let sequence = name.to_str().and_then(|name| name.strip_suffix(".json")?.parse::<u64>().ok());
            if sequence.is_some_and(|sequence| sequence > last + 1) && !self.path(last + 1).exists() {
                return Err(damaged("a manifest is missing", &self.path(last + 1)));
            }
        }
        Ok(())
    }

    /// Makes a commit, durably and all at once. False: somebody else made the commit of that number.
    pub(crate) fn put(&self, manifest: &Manifest) -> Result<bool> {
        let path = self.path(manifest.commit.sequence);
        let temporary = self.temporary(manifest)?;
        crash_point("files-before-manifest");
        let linked = fs::hard_link(&temporary, &path);
        crash_point("files-after-manifest");
        // What is left of a temporary file is removed when the folder is next opened.
        let _ = fs::remove_file(&temporary);
        match linked {
            Ok(()) => sync_folder(&self.folder, COMMITTING).map(|()| true),
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
        fs::rename(&temporary, &path).explain(COMMITTING, &path)?;
        sync_folder(&self.folder, COMMITTING)
    }

    /// Removes what an interrupted commit left. Only safe while nobody else writes.
    pub(crate) fn remove_temporaries(&self) -> Result<()> {
        for entry in fs::read_dir(&self.folder).explain(READING, &self.folder)? {
            let path = entry.explain(READING, &self.folder)?.path();
            if path.extension().is_some_and(|extension| extension == "tmp") {
                fs::remove_file(&path).explain("removing a temporary file", &path)?;
            }
        }
        Ok(())
    }

    fn path(&self, sequence: u64) -> PathBuf {
        self.folder.join(format!("{sequence:010}.json"))
    }

    /// Writes content to a new file that is on disk when this returns.
    fn temporary(&self, content: &impl Serialize) -> Result<PathBuf> {
        let (path, mut file) = create_unique(&self.folder, COMMITTING)?;
        let write = encode(content).and_then(|bytes| file.write_all(&bytes)).and_then(|()| file.sync_all());
        write.explain(COMMITTING, &path).inspect_err(|_| drop(fs::remove_file(&path)))?;
        Ok(path)
    }
}

fn encode(content: &impl Serialize) -> io::Result<Vec<u8>> {
    let body = serde_json::value::to_raw_value(content)?;
    let blake3 = blake3::hash(body.get().as_bytes()).to_string();
    Ok(serde_json::to_vec(&Envelope { version: VERSION, state_version: STATE_VERSION, blake3, body })?)
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).explain(READING, path),
    };
    let unreadable = |error: serde_json::Error| damaged("a manifest is damaged", path).with_source(error).with_operation(READING);
    let envelope: Envelope<&RawValue> = serde_json::from_slice(&bytes).map_err(unreadable)?;
    if envelope.version > VERSION || envelope.state_version > STATE_VERSION {
        return Err(Error::new(ErrorKind::Unsupported, "a manifest was written by a newer release")
            .with_context("path", path.display().to_string())
            .with_help("upgrade this program"));
    }
    let body = envelope.body.get();
    if blake3::hash(body.as_bytes()).to_string() != envelope.blake3 {
        return Err(damaged("a manifest is damaged: its checksum is wrong", path).with_operation(READING));
    }
    serde_json::from_str(body).map(Some).map_err(unreadable)
}

/// Creates a file whose name nobody has used or will use.
pub(crate) fn create_unique(folder: &Path, operation: &'static str) -> Result<(PathBuf, File)> {
    let random = || RandomState::new().build_hasher().finish();
    let path = folder.join(format!("{:016x}{:016x}.tmp", random(), random()));
    let file = File::create_new(&path).explain(operation, &path)?;
    Ok((path, file))
}

/// Makes a folder's entries durable.
pub(crate) fn sync_folder(folder: &Path, operation: &'static str) -> Result<()> {
    // Windows has no such operation and keeps entries in order by itself.
    if cfg!(unix) { File::open(folder).and_then(|folder| folder.sync_all()).explain(operation, folder) } else { Ok(()) }
}
