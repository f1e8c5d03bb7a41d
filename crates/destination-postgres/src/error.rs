//! What a failure of Postgres means to the user.

use std::error::Error as _;

use pipeline_core::{Error, ErrorKind, Result};
use tokio_postgres::error::SqlState;

use crate::server::Server;

/// Turns the client's errors into the toolkit's, with the operation that failed.
pub(crate) trait Explain<T> {
    fn explain(self, operation: &'static str) -> Result<T>;
}

impl<T> Explain<T> for std::result::Result<T, tokio_postgres::Error> {
    fn explain(self, operation: &'static str) -> Result<T> {
        self.map_err(|error| explained(error, operation))
    }
}

/// Adds the server to an error.
pub(crate) fn at(server: &Server) -> impl Fn(Error) -> Error + '_ {
    |error| error.with_context("server", server.name.clone())
}

/// True when the connection ended, and with it whatever was asked for on it.
pub(crate) fn is_lost(error: &tokio_postgres::Error) -> bool {
    match error.code() {
        Some(code) => is_ended(code),
        None => true,
    }
}

/// True when the database refuses a row and would take another.
pub(crate) fn is_of_row(error: &tokio_postgres::Error) -> bool {
    error.code().is_some_and(|code| {
        // Cardinality, data, integrity, a view's check option, limits of one row, and what a
        // trigger raises.
        ["21", "22", "23", "44", "54"]
            .iter()
            .any(|class| code.code().starts_with(class))
            || *code == SqlState::RAISE_EXCEPTION
    })
}

/// What the database says of a row that it refuses.
pub(crate) fn reason(error: &tokio_postgres::Error) -> String {
    error
        .as_db_error()
        .map_or_else(|| error.to_string(), |error| error.message().to_owned())
}

fn is_ended(code: &SqlState) -> bool {
    [
        SqlState::ADMIN_SHUTDOWN,
        SqlState::CRASH_SHUTDOWN,
        SqlState::CANNOT_CONNECT_NOW,
        SqlState::DATABASE_DROPPED,
        SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
    ]
    .contains(code)
        || code.code().starts_with("08")
}

fn explained(error: tokio_postgres::Error, operation: &'static str) -> Error {
    let Meaning {
        kind,
        message,
        help,
        is_temporary,
    } = match error.code() {
        Some(code) => of_code(code),
        None => of_connection(&error),
    };
    let explained = Error::new(kind, message)
        .with_help(help)
        .with_operation(operation)
        .with_source(error);
    if is_temporary {
        explained.temporary()
    } else {
        explained
    }
}

struct Meaning {
    kind: ErrorKind,
    message: &'static str,
    help: &'static str,
    is_temporary: bool,
}

const fn meaning(kind: ErrorKind, message: &'static str, help: &'static str) -> Meaning {
    Meaning {
        kind,
        message,
        help,
        is_temporary: false,
    }
}

const fn temporary(message: &'static str, help: &'static str) -> Meaning {
    Meaning {
        kind: ErrorKind::Destination,
        message,
        help,
        is_temporary: true,
    }
}

fn of_code(code: &SqlState) -> Meaning {
    match code.code() {
        "28P01" | "28000" => meaning(
            ErrorKind::ConfigInvalid,
            "the database refuses the role or its password",
            "correct the role and the password in `url`; a special character of the password has to be percent-encoded there",
        ),
        "3D000" => meaning(
            ErrorKind::ConfigInvalid,
            "the server does not have this database",
            "create it with `CREATE DATABASE`, or name another one in `url`",
        ),
        "42501" => meaning(
            ErrorKind::Destination,
            "the role does not have a right that is needed",
            "see the cause for which; `GRANT CREATE, TEMPORARY ON DATABASE … TO …` lets it make its own schemas, and tables that it has made are its own",
        ),
        "53100" => meaning(
            ErrorKind::Destination,
            "the server's disk is full",
            "free some space there and run again; nothing that was committed is lost",
        ),
        "25006" => meaning(
            ErrorKind::Destination,
            "the server takes no writes: it is a replica, or was set to read only",
            "name the primary server in `url`",
        ),
        "53300" => temporary(
            "the server has no free connection",
            "close some, allow more (`max_connections`), or use a pooler",
        ),
        "55P03" | "40P01" | "40001" => temporary(
            "the database is used by another process",
            "wait until the other process is finished, then run again; `pg_stat_activity` shows who it is",
        ),
        "57014" => meaning(
            ErrorKind::Destination,
            "the server cancelled a statement",
            "see the cause; somebody may have cancelled it, or the role's `statement_timeout` be too short",
        ),
        "54011" => meaning(
            ErrorKind::Destination,
            "a table would have more columns than Postgres allows",
            "choose fewer columns for the stream, or drop some that were added by hand",
        ),
        "2BP01" => meaning(
            ErrorKind::Destination,
            "something that was made by others depends on what has to be changed",
            "see the cause for what; drop it, run again, and make it anew",
        ),
        _ if is_ended(code) => temporary(
            "the server ended the connection, or is starting",
            "run again when the server is up; nothing that was committed is lost",
        ),
        _ => meaning(
            ErrorKind::Destination,
            "the database refused a statement",
            "see the cause; if a table was changed by hand, undo that or run with --full-refresh",
        ),
    }
}

/// The meaning of an error that the server itself did not send.
fn of_connection(error: &tokio_postgres::Error) -> Meaning {
    let mut cause = error.source();
    while let Some(inner) = cause {
        if inner.is::<rustls::Error>() || error.to_string().contains("TLS") {
            return meaning(
                ErrorKind::Untrusted,
                "no trusted connection to the server can be made",
                "see the cause; name the file of a private authority as `ca`, or set `tls` to `encrypt`, which does not prove who answers",
            );
        }
        cause = inner.source();
    }
    let text = error.to_string();
    if text.contains("TLS") {
        return meaning(
            ErrorKind::Untrusted,
            "the server does not speak TLS",
            "turn `ssl` on at the server, or set `tls` to `off` where nobody can listen",
        );
    }
    if text.contains("invalid configuration") || text.contains("password missing") {
        return meaning(
            ErrorKind::ConfigInvalid,
            "`url` does not say all that is needed to connect",
            "write it as `postgres://role:password@host:5432/database`",
        );
    }
    temporary(
        "the server cannot be reached, or the connection to it was lost",
        "check the host and the port in `url`, and that the server is up; nothing that was committed is lost",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failure_names_its_cause_and_a_way_out() {
        for (code, kind, message, is_temporary) in [
            ("28P01", ErrorKind::ConfigInvalid, "password", false),
            ("3D000", ErrorKind::ConfigInvalid, "database", false),
            ("42501", ErrorKind::Destination, "right", false),
            ("53100", ErrorKind::Destination, "disk is full", false),
            ("25006", ErrorKind::Destination, "no writes", false),
            ("55P03", ErrorKind::Destination, "another process", true),
            ("57P01", ErrorKind::Destination, "ended", true),
            ("57P03", ErrorKind::Destination, "starting", true),
            ("08006", ErrorKind::Destination, "ended", true),
            (
                "42703",
                ErrorKind::Destination,
                "refused a statement",
                false,
            ),
        ] {
            let meaning = of_code(&SqlState::from_code(code));
            assert_eq!(
                (meaning.kind, meaning.is_temporary),
                (kind, is_temporary),
                "{code}"
            );
            assert!(
                meaning.message.contains(message) && !meaning.help.is_empty(),
                "{code}"
            );
        }
    }
}
