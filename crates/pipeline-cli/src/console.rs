//! Standard output and error: one place that writes, and that hides what must not be seen.

use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, PoisonError};

use secrecy::{ExposeSecret, SecretString};

/// Values shorter than this are not hidden: they would blank out ordinary words.
const SHORTEST_SECRET: usize = 4;

/// What is put in place of a secret.
pub(crate) const HIDDEN: &str = "[hidden]";

/// Where commands write. Every text goes through [`redact`](Self::redact).
#[derive(Debug, Default)]
pub(crate) struct Console {
    secrets: Mutex<Vec<SecretString>>,
    /// True when standard output carries rows, so that everything for people goes to standard error.
    rows_on_stdout: std::sync::atomic::AtomicBool,
}

impl Console {
    /// Hides a value from now on.
    pub(crate) fn hide(&self, secret: SecretString) {
        if secret.expose_secret().len() >= SHORTEST_SECRET {
            self.secrets.lock().unwrap_or_else(PoisonError::into_inner).push(secret);
        }
    }

    /// The text without any secret.
    pub(crate) fn redact(&self, text: &str) -> String {
        let secrets = self.secrets.lock().unwrap_or_else(PoisonError::into_inner);
        secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret.expose_secret(), HIDDEN))
    }

    /// Leaves standard output to the rows of a destination.
    pub(crate) fn leave_stdout_to_rows(&self) {
        self.rows_on_stdout.store(true, std::sync::atomic::Ordering::Relaxed);
    }

    /// Writes a result: to standard output, unless rows go there.
    pub(crate) fn print(&self, text: &str) {
        if self.rows_on_stdout.load(std::sync::atomic::Ordering::Relaxed) {
            self.note(text);
        } else {
            write(&mut io::stdout().lock(), &self.redact(text));
        }
    }

    /// Writes a remark to standard error.
    pub(crate) fn note(&self, text: &str) {
        write(&mut io::stderr().lock(), &self.redact(text));
    }

    /// A stream for results that are written line by line.
    pub(crate) fn results(&self) -> Box<dyn Write + Send> {
        if self.rows_on_stdout.load(std::sync::atomic::Ordering::Relaxed) { Box::new(io::stderr()) } else { Box::new(io::stdout()) }
    }

    /// True when a person watches standard error.
    pub(crate) fn is_watched() -> bool {
        io::stderr().is_terminal()
    }
}

/// A reader that has gone, such as `head`, is no reason to fail.
fn write(to: &mut dyn Write, text: &str) {
    let _ = to.write_all(text.as_bytes()).and_then(|()| if text.ends_with('\n') { Ok(()) } else { to.write_all(b"\n") });
    let _ = to.flush();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_hidden_wherever_they_stand() {
        let console = Console::default();
        console.hide("hunter22".into());
        console.hide("us".into());
        assert_eq!(console.redact("status: invalid value \"hunter22\""), "status: invalid value \"[hidden]\"");
    }
}
