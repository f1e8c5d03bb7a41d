//! The one error type of the toolkit: what failed, whether trying again can help, where, and what
//! to do.

use std::fmt;

/// Result of every fallible operation in the toolkit.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong. Callers decide on this, never on a vendor's detail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The configuration is wrong; nothing was requested.
    ConfigInvalid,
    /// The credentials were refused.
    Unauthenticated,
    /// The credentials are good but may not read this.
    PermissionDenied,
    /// The resource does not exist.
    NotFound,
    /// The vendor refuses this request for a reason of its own, which it says in its answer: what
    /// is asked for is not set up, not paid for, not possible for this account, or answered by
    /// somebody else (a redirect, a web page). Asking again does not help, and it is not a defect
    /// of the toolkit.
    Refused,
    /// The vendor asks for a pause longer than this run may wait, or the retries of a throttled
    /// request are used up.
    RateLimited,
    /// The vendor, or the way to it, does not work at the moment.
    Unavailable,
    /// The host cannot be trusted, or cannot be spoken to in safety: its certificate, or the
    /// version of TLS that it offers. It stays so until it is changed, and concerns every
    /// request alike. There is no insecure mode.
    Untrusted,
    /// The vendor cannot make an answer this large in time, or it is larger than memory may hold.
    /// Asking for less helps.
    TooLarge,
    /// A response is not what the vendor documents.
    Decode,
    /// More records of a stream cannot be rows than its error budget allows.
    Rejected,
    /// The vendor refuses a stored position and the stream cannot be read again without duplicates.
    CursorExpired,
    /// Another process advanced the checkpoint since it was loaded.
    CheckpointConflict,
    /// The destination refused or failed.
    Destination,
    /// This machine's own disk refused: a temporary file, or one that keeps tokens or limits.
    Disk,
    /// The request makes no sense for this connector or destination.
    Unsupported,
    /// The run was cancelled or reached its deadline; it can be resumed.
    Cancelled,
    /// A defect of the toolkit: a request that the vendor calls malformed, a panic, a broken
    /// invariant.
    Unexpected,
}

impl ErrorKind {
    /// True when what fails so fails again until something is changed: the configuration, the
    /// credentials, what the account may do, the program.
    pub fn lasts(self) -> bool {
        matches!(
            self,
            Self::ConfigInvalid
                | Self::Unauthenticated
                | Self::PermissionDenied
                | Self::NotFound
                | Self::Refused
                | Self::Untrusted
                | Self::TooLarge
                | Self::Rejected
                | Self::Unsupported
                | Self::Unexpected
        )
    }
}

impl fmt::Display for ErrorKind {
    /// The kind's name in machine-readable output, such as `permission_denied`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ConfigInvalid => "config_invalid",
            Self::Unauthenticated => "unauthenticated",
            Self::PermissionDenied => "permission_denied",
            Self::NotFound => "not_found",
            Self::Refused => "refused",
            Self::RateLimited => "rate_limited",
            Self::Unavailable => "unavailable",
            Self::Untrusted => "untrusted",
            Self::TooLarge => "too_large",
            Self::Decode => "decode",
            Self::Rejected => "rejected",
            Self::CursorExpired => "cursor_expired",
            Self::CheckpointConflict => "checkpoint_conflict",
            Self::Destination => "destination",
            Self::Disk => "disk",
            Self::Unsupported => "unsupported",
            Self::Cancelled => "cancelled",
            Self::Unexpected => "unexpected",
        })
    }
}

/// Whether trying the same thing again can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorStatus {
    /// It will fail again.
    Permanent,
    /// It may succeed when tried again.
    Temporary,
    /// It was temporary, and the retries are used up. Only the HTTP client makes this, so retries
    /// never multiply.
    Persistent,
}

/// An error with its kind, status, operation, context and cause.
///
/// Context values must not hold a secret or a query string; URLs are given as path only.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    status: ErrorStatus,
    operation: &'static str,
    message: String,
    help: Option<String>,
    context: Vec<(&'static str, String)>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
    doubted: Option<u64>,
}

impl Error {
    /// A permanent error. The message is lower case, without a final stop and without values that
    /// identify a customer.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            status: ErrorStatus::Permanent,
            operation: "",
            message: message.into(),
            help: None,
            context: Vec::new(),
            source: None,
            doubted: None,
        }))
    }

    /// Marks the error as worth another try.
    pub fn temporary(mut self) -> Self {
        self.0.status = ErrorStatus::Temporary;
        self
    }

    /// Turns a temporary error into a persistent one: no caller retries it again.
    pub fn persistent(mut self) -> Self {
        if self.0.status == ErrorStatus::Temporary {
            self.0.status = ErrorStatus::Persistent;
        }
        self
    }

    /// Names the operation that failed, unless an inner one is already named.
    pub fn with_operation(mut self, operation: &'static str) -> Self {
        if self.0.operation.is_empty() {
            self.0.operation = operation;
        }
        self
    }

    /// Adds where it happened. The innermost value of a key wins.
    pub fn with_context(mut self, key: &'static str, value: impl Into<String>) -> Self {
        if !self.0.context.iter().any(|(known, _)| *known == key) {
            self.0.context.push((key, value.into()));
        }
        self
    }

    /// Says what the user can do about it, in one sentence.
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.0.help.get_or_insert_with(|| help.into());
        self
    }

    /// Keeps the cause.
    pub fn with_source(
        mut self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Marks the position at which a list repeated a page, so that it is not believed later either.
    pub(crate) fn doubting(mut self, mark: u64) -> Self {
        self.0.doubted = Some(mark);
        self
    }

    /// The page that the list ended with and that may be another one's: what
    /// [`SliceState::doubted`](crate::model::state::SliceState::doubted) becomes.
    pub fn doubted(&self) -> Option<u64> {
        self.0.doubted
    }

    /// What went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Whether trying again can help.
    pub fn status(&self) -> ErrorStatus {
        self.0.status
    }

    /// True when trying again can help and has not been done yet.
    pub fn is_temporary(&self) -> bool {
        self.0.status == ErrorStatus::Temporary
    }

    /// The bare message.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// What the user can do about it.
    pub fn help(&self) -> Option<&str> {
        self.0.help.as_deref()
    }

    /// Where it happened: `stream`, `endpoint`, `request_id`, `path` and so on.
    pub fn context(&self) -> &[(&'static str, String)] {
        &self.0.context
    }

    /// The value of one context key.
    pub fn context_value(&self, key: &str) -> Option<&str> {
        self.0
            .context
            .iter()
            .find(|(known, _)| *known == key)
            .map(|(_, value)| value.as_str())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        let mut separator = " (";
        if !self.0.operation.is_empty() {
            write!(f, "{separator}while {}", self.0.operation)?;
            separator = ", ";
        }
        for (key, value) in &self.0.context {
            write!(f, "{separator}{key}: {value}")?;
            separator = ", ";
        }
        if separator == ", " {
            f.write_str(")")
        } else {
            Ok(())
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {:?}: {self}", self.0.status, self.0.kind)?;
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            write!(f, "; caused by: {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0
            .source
            .as_ref()
            .map(|source| source.as_ref() as &(dyn std::error::Error + 'static))
    }
}
