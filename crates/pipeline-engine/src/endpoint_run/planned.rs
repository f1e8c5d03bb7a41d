//! When an endpoint was planned, by the clocks of both sides.

use chrono::{DateTime, TimeDelta, Utc};
use pipeline_core::http::HttpClient;
use pipeline_core::slice::Slicer;
use pipeline_core::{Error, ErrorKind};

use crate::span;

/// A difference that no time zone explains: no two of them are further apart.
const FAR_BEHIND: TimeDelta = TimeDelta::hours(26);

/// When a plan was made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Planned {
    /// By the vendor's clock.
    theirs: DateTime<Utc>,
    /// How far that was ahead of this machine's.
    ahead: TimeDelta,
}

impl Planned {
    /// Now, as far as the client knows the vendor's clock.
    pub(super) fn by(client: &HttpClient) -> Self {
        Self {
            theirs: client.now(),
            ahead: client.ahead(),
        }
    }

    /// By this machine's clock.
    pub(super) fn at(self) -> DateTime<Utc> {
        self.theirs - self.ahead
    }

    /// Fails when a plan that ends by the vendor's clock has left out more than that: what it has
    /// is not everything.
    pub(super) fn check(self, slicer: &dyn Slicer) -> Result<(), Error> {
        if -self.ahead <= FAR_BEHIND || slicer.end(self.theirs).is_none() {
            return Ok(());
        }
        let (behind, end) = (span(-self.ahead), self.theirs.format("%Y-%m-%d %H:%M UTC"));
        let message = format!(
            "the server's clock is {behind} behind this machine's: records from {end} on were not requested"
        );
        Err(Error::new(ErrorKind::Unavailable, message)
            .with_help("check this machine's clock; if it is right, the sync after the server's clock is right reads those records"))
    }
}
