//! What is behind an error of the transport, in words.

use std::error::Error as StdError;
use std::io;

/// An error and all that caused it.
///
/// What an I/O error wraps is not its source: that is the source of what it wraps, which can be an
/// I/O error again. Both are looked through, to any depth.
pub(crate) fn causes<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&error| {
        match error
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::get_ref)
        {
            Some(wrapped) => Some(wrapped as &(dyn StdError + 'static)),
            None => error.source(),
        }
    })
}

/// Why there is no connection to a host or, as `what` then says, a proxy, as far as the causes say.
pub(crate) fn cannot_connect(what: &str, name: &str, error: &(dyn StdError + 'static)) -> String {
    let reason = causes(error).find_map(|cause| {
        let words = cause.to_string();
        // The resolver's error has no type that can be named, and these words before those of the
        // system.
        if words.starts_with("dns error") || words.starts_with("failed to lookup address") {
            return Some(None);
        }
        Some(Some(match cause.downcast_ref::<io::Error>()?.kind() {
            io::ErrorKind::ConnectionRefused => "connection refused",
            io::ErrorKind::HostUnreachable => "the host is unreachable",
            io::ErrorKind::NetworkUnreachable | io::ErrorKind::NetworkDown => {
                "the network is unreachable"
            }
            io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::UnexpectedEof => "the connection was closed at once",
            _ => return None,
        }))
    });
    match reason {
        Some(None) => format!(
            "cannot resolve {}{name}",
            if what.is_empty() { "host " } else { what }
        ),
        Some(Some(reason)) => format!("cannot connect to {what}{name}: {reason}"),
        None => format!("cannot connect to {what}{name}"),
    }
}
