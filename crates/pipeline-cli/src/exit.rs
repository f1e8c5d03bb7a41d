//! How a command ends: exit codes, and the text of a failure.

use pipeline_core::{Error, ErrorKind};

/// Exit codes; the tables in `--help` and in the READMEs define them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Exit {
    /// Everything is done.
    Done = 0,
    /// Incomplete; the next run resumes.
    Incomplete = 4,
    /// Wrong usage or configuration.
    Usage = 2,
    /// Credentials refused, or not allowed to read what was named.
    Authentication = 3,
    /// The destination failed, or something else on this machine: its disk, a log, standard output.
    Destination = 5,
    /// Another sync reads the same source into the same destination, or another process updated the
    /// same checkpoint.
    Conflict = 6,
    /// A defect of this program.
    Bug = 1,
    /// The reader of standard output is gone; nothing is printed.
    Closed = 141,
}

impl Exit {
    /// The number that the shell sees.
    pub(crate) fn code(self) -> u8 {
        self as u8
    }
}

impl From<ErrorKind> for Exit {
    fn from(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::ConfigInvalid | ErrorKind::Unsupported => Self::Usage,
            ErrorKind::Unauthenticated | ErrorKind::PermissionDenied => Self::Authentication,
            ErrorKind::Destination | ErrorKind::Disk => Self::Destination,
            ErrorKind::CheckpointConflict => Self::Conflict,
            ErrorKind::NotFound
            | ErrorKind::Refused
            | ErrorKind::RateLimited
            | ErrorKind::Unavailable
            | ErrorKind::Untrusted
            | ErrorKind::TooLarge
            | ErrorKind::Decode
            | ErrorKind::Rejected
            | ErrorKind::CursorExpired
            | ErrorKind::Cancelled => Self::Incomplete,
            _ => Self::Bug,
        }
    }
}

/// Why a command could not do its work.
#[derive(Debug)]
pub(crate) struct Failure {
    /// What is printed, without the final newline.
    pub(crate) text: String,
    /// How the process ends.
    pub(crate) exit: Exit,
}

/// Result of a command.
pub(crate) type Result<T, E = Failure> = std::result::Result<T, E>;

impl Failure {
    /// A failure with a message and what can be done about it.
    pub(crate) fn new(exit: Exit, message: impl AsRef<str>, help: Option<&str>) -> Self {
        Self {
            text: render("error", message.as_ref(), help),
            exit,
        }
    }

    /// Wrong usage.
    pub(crate) fn usage(message: impl AsRef<str>, help: &str) -> Self {
        Self::new(Exit::Usage, message, Some(help))
    }

    /// The failure of a destination, whatever kind of error it used: a damaged checkpoint is one,
    /// too.
    pub(crate) fn of_destination(error: &Error) -> Self {
        let exit = match error.kind() {
            ErrorKind::Decode => Exit::Destination,
            kind => kind.into(),
        };
        Self {
            exit,
            ..Self::from(error)
        }
    }
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        let failure = pipeline_engine::Failure::from(error);
        Self::new(
            failure.kind.into(),
            failure.message,
            failure.help.as_deref(),
        )
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::from(&error)
    }
}

/// A message and what can be done about it, as every failure is printed.
pub(crate) fn render(severity: &str, message: &str, help: Option<&str>) -> String {
    match help {
        Some(help) => format!("{severity}: {message}\n help: {help}"),
        None => format!("{severity}: {message}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What each kind of error ends with. A kind that is added belongs here, too: 1 is for defects
    /// and nothing else.
    #[test]
    fn only_defects_end_with_1() {
        let kinds = [
            (ErrorKind::ConfigInvalid, 2),
            (ErrorKind::Unsupported, 2),
            (ErrorKind::Unauthenticated, 3),
            (ErrorKind::PermissionDenied, 3),
            (ErrorKind::NotFound, 4),
            (ErrorKind::Refused, 4),
            (ErrorKind::RateLimited, 4),
            (ErrorKind::Unavailable, 4),
            (ErrorKind::Untrusted, 4),
            (ErrorKind::TooLarge, 4),
            (ErrorKind::Decode, 4),
            (ErrorKind::Rejected, 4),
            (ErrorKind::CursorExpired, 4),
            (ErrorKind::Cancelled, 4),
            (ErrorKind::Destination, 5),
            (ErrorKind::Disk, 5),
            (ErrorKind::CheckpointConflict, 6),
            (ErrorKind::Unexpected, 1),
        ];
        for (kind, code) in kinds {
            assert_eq!(Exit::from(kind).code(), code, "{kind}");
        }
    }
}
