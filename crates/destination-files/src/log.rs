//! The manifests: one file per commit, put only if absent, and a snapshot of their fold.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pipeline_core::state::STATE_VERSION;
use pipeline_core::{Error, ErrorKind, Result};
use pipeline_engine::CommitRecord;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::error::{Explain, damaged};
use crate::manifest::{Fold, Manifest};
use crate::place::Place;
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
    /// Random, so that a manifest in a bucket is recognised by who has written it. A folder needs
    /// none: the system says who has made a link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    nonce: Option<String>,
    body: B,
}

/// The folder of manifests.
#[derive(Debug)]
pub(crate) struct Log {
    place: Arc<dyn Place>,
    folder: PathBuf,
}

impl Log {
    pub(crate) fn new(place: Arc<dyn Place>) -> Self {
        let folder = place.root().join("_manifest");
        Self { place, folder }
    }

    /// The fold of the snapshot, if there is one; the commits after it are still to be read.
    pub(crate) fn snapshot(&self) -> Result<Fold> {
        let path = self.folder.join(SNAPSHOT);
        let fold = self.read(&path).map_err(|error| {
            error.with_help("delete this file: it is made again from the manifests beside it")
        })?;
        Ok(fold.unwrap_or_default())
    }

    /// One commit, if it was made.
    pub(crate) fn manifest(&self, sequence: u64) -> Result<Option<Manifest>> {
        let path = self.path(sequence);
        let manifest: Option<Manifest> = self.read(&path)?;
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
        let listed = self.place.list_after(&self.folder, &name(last));
        if listed.explain(READING, &self.folder)?.iter().any(is_later) && !self.has(last + 1)? {
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
        Ok(self
            .place
            .metadata(&path)
            .explain(READING, &path)?
            .is_some())
    }

    /// Makes a commit, durably and all at once. False: somebody else made the commit of that
    /// number.
    pub(crate) fn put(&self, manifest: &Manifest) -> Result<bool> {
        let path = self.path(manifest.commit.sequence);
        let nonce = self.place.is_remote().then(disk::unique_name);
        let bytes = encode(manifest, nonce).explain(COMMITTING, &path)?;
        self.place.put_new(&path, &bytes, COMMITTING)
    }

    /// Replaces the snapshot.
    pub(crate) fn put_snapshot(&self, fold: &Fold) -> Result<()> {
        let path = self.folder.join(SNAPSHOT);
        let bytes = encode(fold, None).explain(COMMITTING, &path)?;
        self.place.put(&path, &bytes, COMMITTING)
    }

    /// Removes what an interrupted commit left. Only safe while nobody else writes.
    pub(crate) fn remove_temporaries(&self) -> Result<()> {
        if self.place.is_remote() {
            return Ok(());
        }
        let listed = self.place.list_idle(&self.folder);
        let is_ours =
            |path: &&PathBuf| names::of(path).is_some_and(|name| names::is_unique(name, "tmp"));
        listed
            .explain(READING, &self.folder)?
            .iter()
            .filter(is_ours)
            .try_for_each(|path| self.place.remove(path))
    }

    fn path(&self, sequence: u64) -> PathBuf {
        self.folder.join(name(sequence))
    }

    fn read<T: DeserializeOwned>(&self, path: &Path) -> Result<Option<T>> {
        let bytes = self.place.read(path).explain(READING, path)?;
        bytes.map(|bytes| decode(&bytes, path)).transpose()
    }
}

fn name(sequence: u64) -> String {
    format!("{sequence:010}.json")
}

/// The commit that a manifest's name is of.
fn number(path: &Path) -> Option<u64> {
    names::of(path)?.strip_suffix(".json")?.parse().ok()
}

fn missing(path: &Path) -> Error {
    damaged("a manifest is missing", path)
}

fn encode(content: &impl Serialize, nonce: Option<String>) -> io::Result<Vec<u8>> {
    let body = serde_json::value::to_raw_value(content)?;
    let blake3 = blake3::hash(body.get().as_bytes()).to_string();
    Ok(serde_json::to_vec(&Envelope {
        version: VERSION,
        state_version: STATE_VERSION,
        blake3,
        nonce,
        body,
    })?)
}

fn decode<T: DeserializeOwned>(bytes: &[u8], path: &Path) -> Result<T> {
    let unreadable = |error: serde_json::Error| {
        damaged("a manifest is damaged", path)
            .with_source(error)
            .with_operation(READING)
    };
    let envelope: Envelope<&RawValue> = serde_json::from_slice(bytes).map_err(unreadable)?;
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
    serde_json::from_str(body).map_err(unreadable)
}
