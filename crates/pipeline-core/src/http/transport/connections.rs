//! How many requests are on their way at once: a process may have a limited number of open files,
//! and a connection is one.

use std::sync::{Arc, LazyLock};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Requests at once where nothing limits the files: more than any vendor's limit has use for.
const MOST: usize = 256;

/// Requests at once where there are hardly any files.
const LEAST: usize = 8;

/// The part of the files that requests may have: a destination needs some, and connections that are
/// idle some more.
const SHARE: u64 = 4;

/// The places of this process, of all sources together.
static PLACES: LazyLock<Arc<Semaphore>> =
    LazyLock::new(|| Arc::new(Semaphore::new(at_once(files()))));

/// Waits for a place, which is kept until the body was read or given up.
pub(crate) async fn place() -> Option<OwnedSemaphorePermit> {
    Arc::clone(&PLACES).acquire_owned().await.ok()
}

/// Connections to one host that are kept for later: a quarter of those at once.
pub(crate) fn most_idle() -> usize {
    at_once(files()) / 4
}

/// Requests at once in a process with this limit of open files.
fn at_once(files: Option<u64>) -> usize {
    files
        .map_or(MOST, |files| usize::try_from(files / SHARE).unwrap_or(MOST))
        .clamp(LEAST, MOST)
}

/// Files that this process may have open.
#[cfg(unix)]
fn files() -> Option<u64> {
    rustix::process::getrlimit(rustix::process::Resource::Nofile).current
}

#[cfg(not(unix))]
fn files() -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a16_requests_leave_most_files_to_others() {
        for (files, expected) in [
            (Some(16), 8),
            (Some(128), 32),
            (Some(256), 64),
            (Some(1024), 256),
            (Some(u64::MAX), 256),
            (None, 256),
        ] {
            assert_eq!(at_once(files), expected, "{files:?}");
        }
        assert!(most_idle() >= 2 && most_idle() <= MOST / 4);
    }
}
