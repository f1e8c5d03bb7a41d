//! The log of a process that runs for long: one entry a line, without any secret.

use std::io::{self, Write};
use std::sync::Arc;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::args::{Format, LogLevel};
use crate::console::Console;

/// Crates whose entries are logged. What others log may hold what must not be seen.
const OURS: [&str; 3] = ["pipeline", "connector", "destination"];

/// Logs to standard output from now on.
pub(crate) fn start(format: Format, level: LogLevel, console: &Arc<Console>) {
    let level = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
    };
    let ours = Targets::new().with_targets(OURS.map(|name| (name, level)));
    let layer = tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .with_writer(Redacting(Arc::clone(console)));
    let layer = match format {
        Format::Human => layer.with_target(false).boxed(),
        Format::Json => layer
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .boxed(),
    };
    if matches!(format, Format::Json) {
        console.log_notes();
    }
    // A second subscriber, as in tests, changes nothing.
    let _ = tracing_subscriber::registry()
        .with(layer.with_filter(ours))
        .try_init();
}

/// Writes through the console, which hides secrets.
#[derive(Clone, Debug)]
struct Redacting(Arc<Console>);

impl Write for Redacting {
    /// The subscriber hands over a whole entry at a time.
    fn write(&mut self, entry: &[u8]) -> io::Result<usize> {
        self.0.print(&String::from_utf8_lossy(entry));
        Ok(entry.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Redacting {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}
