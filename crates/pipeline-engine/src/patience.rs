//! Patience with a destination that another process writes to.

use std::time::Duration;

use futures::future::BoxFuture;
use pipeline_core::{Event, Result};
use tokio::time::Instant;

use super::Job;
use crate::destination::Destination;

/// Longest time to wait for another process. A sync of another source gives the right to write back
/// every few seconds.
const LONGEST: Duration = Duration::from_mins(1);

/// Time between two attempts, besides what the destination waits itself.
const REST: Duration = Duration::from_millis(250);

/// Tries until the destination does not fail temporarily any more, for a minute at most; a run that
/// is cancelled does not wait. What is tried must have done nothing when it fails.
pub(super) async fn patiently<'a, T>(
    job: &'a Job,
    attempt: impl Fn(&'a dyn Destination) -> BoxFuture<'a, Result<T>>,
) -> Result<T> {
    let started = Instant::now();
    let mut told = false;
    loop {
        let error = match attempt(&*job.destination).await {
            Err(error) if error.is_temporary() => error,
            ended => return ended,
        };
        if started.elapsed() >= LONGEST || job.cancel.is_cancelled() {
            return Err(error.persistent());
        }
        if !std::mem::replace(&mut told, true) {
            let source = job.sources.first().map_or("", |source| &source.name);
            let message = &format!(
                "{}: waiting for it, for at most {} s",
                error.message(),
                LONGEST.as_secs()
            );
            job.observer.observe(&Event::Notice {
                source,
                endpoint: "",
                message,
            });
        }
        tokio::time::sleep(REST).await;
    }
}
