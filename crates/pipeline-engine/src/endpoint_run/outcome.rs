//! How an endpoint ended.

use pipeline_core::ErrorKind;
use pipeline_core::http::HttpClient;

use super::{EndpointRun, Progress};
use crate::summary::{Failure, Outcome};

impl EndpointRun {
    /// How it ended. What was read to the end but could not be committed is not done.
    pub(crate) fn outcome(&self, committed: bool) -> Outcome {
        let progress = self.progress();
        let complete = if progress.state.missing().next().is_none() {
            Outcome::Done
        } else {
            Outcome::Incomplete
        };
        match &progress.failure {
            _ if committed && progress.complete => complete,
            Some(failure) if !self.named && progress.is_withheld(self.session.client()) => {
                let Failure {
                    kind,
                    message: reason,
                    answer,
                    help,
                    ..
                } = failure.clone();
                Outcome::Unavailable {
                    kind,
                    reason,
                    answer,
                    help,
                }
            }
            Some(failure) => Outcome::Failed {
                error: failure.clone(),
            },
            None if progress.complete => complete,
            None => Outcome::Interrupted,
        }
    }
}

impl Progress {
    /// True when it failed because this account has no such data, rather than because reading it
    /// went wrong. A refusal of what was being read until then is none of the account's: perhaps
    /// another server answers in the vendor's place.
    pub(super) fn is_withheld(&self, client: &HttpClient) -> bool {
        self.failure
            .as_ref()
            .is_some_and(|failure| match failure.kind {
                ErrorKind::PermissionDenied | ErrorKind::NotFound | ErrorKind::Unsupported => true,
                ErrorKind::Refused if failure.is_foreign && client.may_be_behind_portal() => false,
                ErrorKind::Refused => self.counts.iter().all(|counts| counts.records == 0),
                _ => false,
            })
    }
}
