//! A check as it goes: each endpoint as it is tried, on standard error, so that nobody wonders whether anything happens.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use pipeline_core::{Availability, Event, Observer};

use crate::console::Console;

/// Reports what was tried.
#[derive(Debug)]
pub(crate) struct Checks {
    console: Arc<Console>,
    /// True when one line is drawn anew, instead of a line for each.
    is_watched: bool,
    tried: AtomicUsize,
}

impl Checks {
    pub(crate) fn new(console: Arc<Console>) -> Self {
        let is_watched = Console::is_watched() && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        Self { console, is_watched, tried: AtomicUsize::new(0) }
    }

    /// Says what is tried now.
    pub(crate) fn begin(&self, what: &str) {
        self.tell(&format!("checking {what} …"));
    }

    /// Leaves the terminal to what is printed next.
    pub(crate) fn end(&self) {
        if self.is_watched {
            Self::draw("");
        }
    }

    fn tell(&self, text: &str) {
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
            Event::Checked { source, endpoint, availability } => {
                let tried = self.tried.fetch_add(1, Ordering::Relaxed) + 1;
                let (result, _) = told(availability);
                let number = if self.is_watched { format!("{tried} tried; ") } else { String::new() };
                self.tell(&format!("{number}{source}/{endpoint}: {result}"));
            }
            Event::Retrying { source, endpoint, reason, .. } => self.tell(&format!("{source}/{endpoint}: {reason}; tried again")),
            Event::Waiting { source, endpoint, limit, wait } if wait.as_secs() > 0 => {
                self.tell(&format!("{source}/{endpoint}: waits {} s for {limit}", wait.as_secs()));
            }
            _ => {}
        }
    }
}

/// The word for it, and why.
pub(crate) fn told(availability: &Availability) -> (&'static str, Option<&str>) {
    match availability {
        Availability::Available => ("available", None),
        Availability::Unavailable(reason) => ("unavailable", Some(reason)),
        Availability::Refused(reason) => ("refused", Some(reason)),
        Availability::Failed(reason) => ("failed", Some(reason)),
    }
}
