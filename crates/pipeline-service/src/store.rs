//! The state that outlives the process: started runs, pauses, and sent alerts. The data does not
//! depend on it: without it a run may start, or an alert be sent, once more than necessary.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::alerts::Book;
use crate::supervisor::Remembered;

const FILE: &str = "service.json";
const LOCK: &str = "service.lock";
const VERSION: u32 = 1;

/// Everything that is stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Memory {
    version: u32,
    #[serde(default)]
    pub(crate) sources: BTreeMap<String, Remembered>,
    #[serde(default)]
    pub(crate) alerts: Book,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            version: VERSION,
            sources: BTreeMap::new(),
            alerts: Book::default(),
        }
    }
}

/// Why a state folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Another service uses it.
    #[error("another `pipeline run` uses the state folder {0}")]
    InUse(String),
    /// It cannot be written.
    #[error("the state folder {folder} cannot be written")]
    Io {
        /// The folder.
        folder: String,
        /// Why.
        source: io::Error,
    },
    /// A later version of this program wrote it.
    #[error("{0} was written by a later version of this program")]
    Newer(String),
}

/// The state folder, which one service at a time may use.
#[derive(Debug)]
pub(crate) struct Store {
    folder: PathBuf,
    /// Released by the operating system when the process ends in whatever way.
    _lock: File,
    /// What the file holds, so that it is written only when something has changed.
    written: Option<Memory>,
}

impl Store {
    /// Takes the folder, creates it when it does not exist, and reads what is in it. A file that
    /// cannot be read is put aside: nothing in it is needed for the data.
    pub(crate) fn open(folder: &Path) -> Result<(Self, Memory), StateError> {
        let failed = |source| StateError::Io {
            folder: folder.display().to_string(),
            source,
        };
        fs::create_dir_all(folder).map_err(failed)?;
        let lock = File::create(folder.join(LOCK)).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                return Err(StateError::InUse(folder.display().to_string()));
            }
            Err(fs::TryLockError::Error(error)) => return Err(failed(error)),
        }
        let path = folder.join(FILE);
        let memory = match fs::read(&path) {
            Ok(bytes) => read(&path, &bytes)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Memory::default(),
            Err(error) => return Err(failed(error)),
        };
        let mut store = Self {
            folder: folder.to_owned(),
            _lock: lock,
            written: None,
        };
        // Shows at the start, not after the first run, that the folder cannot be written.
        store.write(&memory).map_err(failed)?;
        Ok((store, memory))
    }

    /// Stores everything, if it has changed.
    pub(crate) fn write(&mut self, memory: &Memory) -> io::Result<()> {
        if self.written.as_ref() == Some(memory) {
            return Ok(());
        }
        let path = self.folder.join(FILE);
        let next = self.folder.join(format!("{FILE}.next"));
        let mut file = File::create(&next)?;
        file.write_all(&serde_json::to_vec_pretty(memory)?)?;
        file.sync_all()?;
        fs::rename(next, path)?;
        self.written = Some(memory.clone());
        Ok(())
    }
}

fn read(path: &Path, bytes: &[u8]) -> Result<Memory, StateError> {
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }
    let version = serde_json::from_slice::<Versioned>(bytes).map(|it| it.version);
    if version.as_ref().is_ok_and(|version| *version > VERSION) {
        return Err(StateError::Newer(path.display().to_string()));
    }
    match serde_json::from_slice(bytes) {
        Ok(memory) => Ok(memory),
        Err(error) => {
            let aside = path.with_extension("damaged");
            tracing::warn!(file = %path.display(), aside = %aside.display(), %error, "the service's state cannot be read and is put aside; an alert may be sent again");
            let _ = fs::rename(path, aside);
            Ok(Memory::default())
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::alerts::Channel;

    #[test]
    fn what_is_stored_is_read_again_and_one_service_has_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let (mut store, mut memory) = Store::open(folder.path()).unwrap();
        let paused = Remembered {
            paused: true,
            ..Remembered::default()
        };
        memory.sources.insert("a".to_owned(), paused);
        store.write(&memory).unwrap();
        assert!(matches!(
            Store::open(folder.path()),
            Err(StateError::InUse(_))
        ));
        drop(store);
        assert_eq!(Store::open(folder.path()).unwrap().1, memory);
    }

    #[test]
    fn a_damaged_file_is_put_aside_and_a_newer_one_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        fs::write(&path, "{\"version\":1,\"sources\":[").unwrap();
        assert_eq!(Store::open(folder.path()).unwrap().1, Memory::default());
        assert!(folder.path().join("service.damaged").exists());
        fs::write(&path, "{\"version\":2,\"sources\":7}").unwrap();
        assert!(matches!(
            Store::open(folder.path()),
            Err(StateError::Newer(_))
        ));
    }

    /// The form of the file, which later versions have to read.
    #[test]
    fn the_golden_file_is_read() {
        let golden = r#"{
          "version": 1,
          "sources": { "payments": { "started": "2026-11-30T10:00:00Z", "paused": false } },
          "alerts": {
            "raised": { "payments": { "failed": { "since": "2026-11-30T10:00:05Z", "announced": true } } },
            "drift": { "payments": ["charges.new"] },
            "since": { "payments": "2026-11-29T00:00:00Z" },
            "outbox": [{ "id": 4, "channel": "slack", "tries": 1, "alert": {
              "event": "failed", "status": "raised", "at": "2026-11-30T10:00:05Z", "source": "payments",
              "streams": ["charges"], "run": "r1", "exit_code": 4, "error": "no answer", "rows": 7
            } }],
            "next_id": 5
          }
        }"#;
        let memory = read(Path::new("x"), golden.as_bytes()).unwrap();
        assert!(memory.alerts.pending(Channel::Slack).is_some());
        assert_eq!(memory.alerts.raised("payments").len(), 1);
        let again = serde_json::to_vec(&memory).unwrap();
        assert_eq!(read(Path::new("x"), &again).unwrap(), memory);
    }
}
