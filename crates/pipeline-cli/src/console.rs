//! Standard output and error: one place that writes, and that hides what must not be seen.

use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use secrecy::{ExposeSecret, SecretString};

use crate::config::reason;
use crate::exit::{Exit, render};

/// Values shorter than this are not hidden: they would blank out ordinary words.
const SHORTEST_SECRET: usize = 4;

/// What is put in place of a secret.
pub(crate) const HIDDEN: &str = "[hidden]";

/// Where commands write. Every text goes through [`redact`](Self::redact).
#[derive(Debug, Default)]
pub(crate) struct Console {
    secrets: Mutex<Vec<SecretString>>,
    /// True when standard output carries rows, so that everything for people goes to standard
    /// error.
    rows_on_stdout: std::sync::atomic::AtomicBool,
    /// True when remarks are entries of the log.
    logs_notes: std::sync::atomic::AtomicBool,
    /// Why standard output cannot be written.
    failure: OnceLock<io::Error>,
}

impl Console {
    /// Hides a value from now on.
    pub(crate) fn hide(&self, secret: SecretString) {
        if secret.expose_secret().len() < SHORTEST_SECRET {
            return;
        }
        // A log in JSON writes some characters in another way.
        let in_json = serde_json::json!(secret.expose_secret()).to_string();
        let in_json = in_json.trim_matches('"');
        let mut secrets = self.secrets.lock().unwrap_or_else(PoisonError::into_inner);
        let is_known = |text: &str| {
            secrets
                .iter()
                .any(|secret: &SecretString| secret.expose_secret() == text)
        };
        // A service reads its configuration again and again.
        let new: Vec<SecretString> = [secret.expose_secret(), in_json]
            .into_iter()
            .filter(|text| !is_known(text))
            .map(SecretString::from)
            .collect();
        secrets.extend(new);
    }

    /// The text without any secret.
    pub(crate) fn redact(&self, text: &str) -> String {
        let secrets = self.secrets.lock().unwrap_or_else(PoisonError::into_inner);
        secrets.iter().fold(text.to_owned(), |text, secret| {
            text.replace(secret.expose_secret(), HIDDEN)
        })
    }

    /// Leaves standard output to the rows of a destination.
    pub(crate) fn leave_stdout_to_rows(&self) {
        self.rows_on_stdout
            .store(true, std::sync::atomic::Ordering::Relaxed);
    }

    /// Writes a result: to standard output, unless rows go there.
    pub(crate) fn print(&self, text: &str) {
        if self
            .rows_on_stdout
            .load(std::sync::atomic::Ordering::Relaxed)
        {
            self.note(text);
        } else {
            let written = write(&mut io::stdout().lock(), &self.redact(text));
            written.unwrap_or_else(|error| self.stdout_failed(error));
        }
    }

    /// Records that standard output can no longer be written.
    pub(crate) fn stdout_failed(&self, error: io::Error) {
        let _ = self.failure.set(error);
    }

    /// True when the reader of standard output is gone.
    pub(crate) fn is_closed(&self) -> bool {
        self.failure
            .get()
            .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    }

    /// The exit code once the state of standard output is considered: a closed pipe ends the
    /// command quietly, and a result that could not be written is a failure.
    pub(crate) fn exit(&self, exit: Exit) -> Exit {
        match self.failure.get() {
            None => exit,
            Some(_) if self.is_closed() => Exit::Closed,
            Some(error) => {
                self.note(&render(
                    "error",
                    &format!("standard output cannot be written: {}", reason(error)),
                    None,
                ));
                exit.max(Exit::Destination)
            }
        }
    }

    /// Makes remarks entries of the log from now on.
    pub(crate) fn log_notes(&self) {
        self.logs_notes
            .store(true, std::sync::atomic::Ordering::Relaxed);
    }

    /// Writes a remark to standard error, or into the log when a program reads that.
    pub(crate) fn note(&self, text: &str) {
        if self.logs_notes.load(std::sync::atomic::Ordering::Relaxed) {
            let (message, shown) = text
                .trim_end()
                .split_once('\n')
                .unwrap_or((text.trim_end(), ""));
            let message = message.trim_start_matches("warning: ");
            let shown = Some(shown).filter(|shown| !shown.is_empty());
            tracing::warn!(shown, "{message}");
            return;
        }
        // A failure of standard error cannot be reported anywhere.
        let _ = write(&mut io::stderr().lock(), &self.redact(text));
    }

    /// A stream for results that are written line by line.
    pub(crate) fn results(self: &Arc<Self>) -> Box<dyn Write + Send> {
        if self
            .rows_on_stdout
            .load(std::sync::atomic::Ordering::Relaxed)
        {
            Box::new(io::stderr())
        } else {
            Box::new(self.stdout())
        }
    }

    /// Standard output; records a failure to write.
    pub(crate) fn stdout(self: &Arc<Self>) -> Stdout {
        Stdout(Arc::clone(self))
    }

    /// True when a person watches standard error.
    pub(crate) fn is_watched() -> bool {
        io::stderr().is_terminal()
    }
}

fn write(to: &mut dyn Write, text: &str) -> io::Result<()> {
    to.write_all(text.as_bytes())?;
    if !text.ends_with('\n') {
        to.write_all(b"\n")?;
    }
    to.flush()
}

/// See [`Console::stdout`].
#[derive(Debug)]
pub(crate) struct Stdout(Arc<Console>);

impl Stdout {
    fn recorded<T>(&self, written: io::Result<T>) -> io::Result<T> {
        written.inspect_err(|error| {
            self.0
                .stdout_failed(io::Error::new(error.kind(), error.to_string()));
        })
    }
}

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.recorded(io::stdout().write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.recorded(io::stdout().flush())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_hidden_wherever_they_stand() {
        let console = Console::default();
        console.hide("hunter22".into());
        console.hide("us".into());
        assert_eq!(
            console.redact("status: invalid value \"hunter22\""),
            "status: invalid value \"[hidden]\""
        );
    }
}
