//! Runs requests, and waits for them on threads that may block.

use std::future::Future;
use std::io;
use std::sync::mpsc;
use std::time::Duration;

use pipeline_core::{Error, ErrorKind, Result};
use tokio::runtime::{Builder, Handle, Runtime};

/// A runtime of the bucket's own: whoever waits for a request may hold up the caller's, and a
/// request that ends a claim has to be answered also when that one stops.
#[derive(Debug)]
pub(crate) struct Io(Option<Runtime>);

impl Io {
    /// # Errors
    /// [`ErrorKind::Destination`] when the system gives no thread.
    pub(crate) fn new() -> Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("pipeline-bucket")
            .enable_all()
            .build();
        runtime.map(|runtime| Self(Some(runtime))).map_err(|error| {
            Error::new(ErrorKind::Destination, "a thread cannot be started").with_source(error)
        })
    }

    pub(crate) fn handle(&self) -> Handle {
        match &self.0 {
            Some(runtime) => runtime.handle().clone(),
            None => unreachable!("it is taken when this is dropped"),
        }
    }

    /// Runs to the end.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = io::Result<T>> + Send + 'static,
    ) -> io::Result<T> {
        self.start(work).recv().unwrap_or_else(|_| Err(ended()))
    }

    /// Runs to the end, or goes on without being waited for.
    pub(crate) fn run_for(
        &self,
        limit: Duration,
        work: impl Future<Output = io::Result<()>> + Send + 'static,
    ) {
        let _ = self.start(work).recv_timeout(limit);
    }

    fn start<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> mpsc::Receiver<T> {
        let (sender, receiver) = mpsc::sync_channel(1);
        self.handle().spawn(async move {
            // Who does not wait any more needs no answer.
            let _ = sender.send(work.await);
        });
        receiver
    }
}

fn ended() -> io::Error {
    io::Error::other("a request ended early")
}

impl Drop for Io {
    fn drop(&mut self) {
        // It may be dropped where nobody may block.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
