//! Lines written by a thread of their own, so that a sync never waits for a disk or a pipe.

use std::fmt;
use std::io::{self, BufWriter, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;

/// Lines that may wait. When a reader is slower than that, further lines are dropped and counted.
const CAPACITY: usize = 1 << 16;

/// Longest time that a line waits for more before it is written.
const FLUSH: Duration = Duration::from_millis(200);

/// Writes JSON values, one a line.
pub(crate) struct Lines {
    sender: Mutex<Option<SyncSender<String>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
    dropped: AtomicU64,
    failure: Arc<OnceLock<io::Error>>,
}

impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lines")
            .field("dropped", &self.dropped)
            .finish_non_exhaustive()
    }
}

impl Lines {
    /// Starts to write. `failed` is called once when nothing more can be written.
    pub(crate) fn new(to: Box<dyn Write + Send>, failed: impl FnOnce() + Send + 'static) -> Self {
        let (sender, receiver) = sync_channel(CAPACITY);
        let failure = Arc::new(OnceLock::new());
        let writer = std::thread::spawn({
            let failure = Arc::clone(&failure);
            move || {
                if let Err(error) = write(BufWriter::new(to), &receiver) {
                    let _ = failure.set(error);
                    failed();
                }
            }
        });
        Self {
            sender: Mutex::new(Some(sender)),
            writer: Mutex::new(Some(writer)),
            dropped: AtomicU64::new(0),
            failure,
        }
    }

    /// Why nothing more can be written. Final only once it is [finished](Self::finish).
    pub(crate) fn failure(&self) -> Option<&io::Error> {
        self.failure.get()
    }

    /// Hands a line over; never waits.
    pub(crate) fn push(&self, value: &Value) {
        let sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
        if sender
            .as_ref()
            .is_none_or(|sender| sender.try_send(value.to_string()).is_err())
        {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Hands the last line over, waits until everything is written, and says how many lines were
    /// dropped.
    pub(crate) fn finish(&self, last: Option<&Value>) -> u64 {
        let sender = self
            .sender
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let (Some(sender), Some(last)) = (&sender, last) {
            let _ = sender.send(last.to_string());
        }
        drop(sender);
        if let Some(writer) = self
            .writer
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
        {
            let _ = writer.join();
        }
        self.dropped.load(Ordering::Relaxed)
    }
}

fn write(mut to: BufWriter<Box<dyn Write + Send>>, lines: &Receiver<String>) -> io::Result<()> {
    loop {
        match lines.recv_timeout(FLUSH) {
            Ok(line) => to
                .write_all(line.as_bytes())
                .and_then(|()| to.write_all(b"\n"))?,
            Err(RecvTimeoutError::Timeout) => to.flush()?,
            Err(RecvTimeoutError::Disconnected) => return to.flush(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_line_is_written_before_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let lines = Lines::new(Box::new(std::fs::File::create(&path).unwrap()), || {});
        for n in 0..1000 {
            lines.push(&serde_json::json!({ "n": n }));
        }
        assert_eq!(lines.finish(Some(&serde_json::json!("end"))), 0);
        let text = std::fs::read_to_string(path).unwrap();
        assert_eq!(
            (text.lines().count(), text.lines().last()),
            (1001, Some("\"end\""))
        );
    }
}
