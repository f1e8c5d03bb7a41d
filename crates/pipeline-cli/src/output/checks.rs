//! Progress of a check: each endpoint as it is tested, on standard error.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use pipeline_core::{Availability, Event, Observer};

use crate::console::Console;

/// Reports what was tested.
#[derive(Debug)]
pub(crate) struct Checks {
    console: Arc<Console>,
    /// True when one line is drawn anew, instead of a line for each.
    is_watched: bool,
    tried: AtomicUsize,
}

impl Checks {
    pub(crate) fn new(console: Arc<Console>) -> Self {
        let is_watched =
            Console::is_watched() && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        Self {
            console,
            is_watched,
            tried: AtomicUsize::new(0),
        }
    }

    /// Reports what is tested now.
    pub(crate) fn begin(&self, what: &str) {
        self.show(&format!("checking {what} …"));
    }

    /// Leaves the terminal to what is printed next.
    pub(crate) fn end(&self) {
        if self.is_watched {
            Self::draw("");
        }
    }

    fn show(&self, text: &str) {
        if self.is_watched {
            Self::draw(&self.console.redact(text));
        } else {
            self.console.note(text);
        }
    }

    fn draw(line: &str) {
        let mut stderr = io::stderr().lock();
        let line: String = line.chars().take(76).collect();
        let _ = write!(stderr, "\r\x1b[2K{line}").and_then(|()| stderr.flush());
    }
}

impl Observer for Checks {
    fn observe(&self, event: &Event<'_>) {
        match event {
            Event::Checked {
                source,
                endpoint,
                availability,
            } => {
                let tried = self.tried.fetch_add(1, Ordering::Relaxed) + 1;
                let (result, _) = described(availability);
                let number = if self.is_watched {
                    format!("{tried} tested; ")
                } else {
                    String::new()
                };
                self.show(&format!("{number}{source}/{endpoint}: {result}"));
            }
            Event::Retrying {
                source,
                endpoint,
                reason,
                ..
            } => self.show(&format!("{source}/{endpoint}: {reason}; retrying")),
            Event::Waiting {
                source,
                endpoint,
                limit,
                wait,
            } if wait.as_secs() > 0 => {
                self.show(&format!(
                    "{source}/{endpoint}: waiting {} s for {limit}",
                    wait.as_secs()
                ));
            }
            _ => {}
        }
    }
}

/// The word for it, and why.
pub(crate) fn described(availability: &Availability) -> (&'static str, Option<&str>) {
    match availability {
        Availability::Available => ("available", None),
        Availability::Unavailable(reason) => ("unavailable", Some(reason)),
        Availability::Refused(reason) => ("refused", Some(reason)),
        Availability::Failed(reason) => ("failed", Some(reason)),
    }
}
