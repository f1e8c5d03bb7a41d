//! Live progress on standard error: a line per active endpoint on a terminal, a line now and then
//! otherwise.

use std::collections::BTreeMap;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use pipeline_core::state::EndpointId;
use pipeline_core::{Event, Observer};
use tokio::time::Instant;

use crate::console::Console;
use crate::units;

/// How often a terminal is drawn.
const FRAME: Duration = Duration::from_millis(200);
/// Most draws a second: every line of a frame is one, and one that is left out would leave an old
/// line on the screen.
const DRAWS: u8 = 250;
/// How often a line is written when standard error is not a terminal.
const REMARK: Duration = Duration::from_secs(5);
/// Endpoints shown at once.
const LINES: usize = 12;
/// How long an endpoint without news stays on the screen.
const RECENT: Duration = Duration::from_secs(3);
/// How long a wait stays on the screen after its end: most are shorter than a frame.
const LINGER: Duration = Duration::from_secs(1);
/// From which wait on a limit counts as the one that binds.
const BINDING: Duration = Duration::from_millis(20);
/// Weight of the newest frame in the rate shown.
const SMOOTHING: f64 = 0.15;

/// Gathers what is shown.
#[derive(Debug, Default)]
pub(crate) struct Progress(Mutex<Board>);

#[derive(Debug, Default)]
struct Board {
    endpoints: BTreeMap<EndpointId, Line>,
    commits: u64,
    rows: u64,
}

#[derive(Debug)]
struct Line {
    records: u64,
    drawn: u64,
    rate: f64,
    last: Instant,
    waiting: Option<(String, Instant)>,
    finished: bool,
}

impl Default for Line {
    fn default() -> Self {
        Self {
            records: 0,
            drawn: 0,
            rate: 0.0,
            last: Instant::now(),
            waiting: None,
            finished: false,
        }
    }
}

impl Progress {
    fn board(&self) -> MutexGuard<'_, Board> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for Progress {
    fn observe(&self, event: &Event<'_>) {
        let mut board = self.board();
        match event {
            Event::EndpointStarted { endpoint, .. } => {
                board.endpoints.entry((*endpoint).clone()).or_default();
            }
            Event::Attempt(attempt) => {
                let line = board.line(EndpointId::new(attempt.source, attempt.endpoint));
                line.touch();
                // A wait that is too short for an event of its own still shows which limit binds.
                if let Some(limit) = attempt.limit.filter(|_| attempt.limit_wait >= BINDING) {
                    line.wait(format!("waiting for {limit}"), Duration::ZERO);
                }
            }
            Event::Waiting {
                source,
                endpoint,
                limit,
                wait,
            } => {
                board
                    .line(EndpointId::new(*source, *endpoint))
                    .wait(format!("waiting for {limit}"), *wait);
            }
            Event::Retrying {
                source,
                endpoint,
                reason,
                wait,
            } => {
                let text = format!("retrying in {}: {reason}", units::short(*wait));
                board
                    .line(EndpointId::new(*source, *endpoint))
                    .wait(text, *wait);
            }
            Event::PageRead {
                endpoint, records, ..
            } => {
                let line = board.line((*endpoint).clone());
                line.records += records;
                line.touch();
            }
            Event::Committed { rows, .. } => {
                board.commits += 1;
                board.rows += rows;
            }
            Event::EndpointFinished { endpoint, .. } => {
                board.line((*endpoint).clone()).finished = true;
            }
            _ => {}
        }
    }
}

impl Line {
    fn touch(&mut self) {
        self.last = Instant::now();
    }

    fn wait(&mut self, text: String, wait: Duration) {
        self.touch();
        self.waiting = Some((text, self.last + wait + LINGER));
    }

    fn is_active(&self, now: Instant) -> bool {
        let waits = self.waiting.as_ref().is_some_and(|(_, until)| *until > now);
        !self.finished && (waits || now.duration_since(self.last) < RECENT)
    }

    #[expect(clippy::cast_precision_loss, reason = "a rate for display")]
    fn sample(&mut self, span: Duration) {
        let rate = (self.records - self.drawn) as f64 / span.as_secs_f64().max(0.001);
        self.drawn = self.records;
        self.rate += SMOOTHING * (rate - self.rate);
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rate for display"
    )]
    fn text(&self, id: &EndpointId, name_width: usize, now: Instant) -> String {
        let waiting = self
            .waiting
            .as_ref()
            .filter(|(_, until)| *until > now)
            .map_or("", |(text, _)| text);
        let (name, records, rate) = (
            id.to_string(),
            units::number(self.records),
            units::number(self.rate.round() as u64),
        );
        format!("  {name:name_width$} {records:>12} records {rate:>8}/s  {waiting}")
    }
}

impl Board {
    fn line(&mut self, id: EndpointId) -> &mut Line {
        self.endpoints.entry(id).or_default()
    }

    /// The lines of active endpoints, and the one about everything.
    fn frame(&mut self, span: Duration, elapsed: Duration) -> (Vec<String>, String) {
        let now = Instant::now();
        self.endpoints
            .values_mut()
            .for_each(|line| line.sample(span));
        let active: Vec<_> = self
            .endpoints
            .iter()
            .filter(|(_, line)| line.is_active(now))
            .collect();
        let name_width = active
            .iter()
            .map(|(id, _)| id.to_string().len())
            .max()
            .unwrap_or(0);
        let mut lines: Vec<String> = active
            .iter()
            .take(LINES)
            .map(|(id, line)| line.text(id, name_width, now))
            .collect();
        if let Some(more) = active.len().checked_sub(LINES).filter(|more| *more > 0) {
            lines.push(format!("  and {more} more"));
        }
        (lines, self.total(elapsed))
    }

    fn total(&self, elapsed: Duration) -> String {
        let finished = self.endpoints.values().filter(|line| line.finished).count();
        let records: u64 = self.endpoints.values().map(|line| line.records).sum();
        format!(
            "{finished} of {} endpoints done, {} records read, {} rows in {} commits, {}",
            self.endpoints.len(),
            units::number(records),
            units::number(self.rows),
            self.commits,
            units::short(elapsed)
        )
    }
}

/// The thread that draws.
#[derive(Debug)]
pub(crate) struct Drawing {
    stop: SyncSender<()>,
    thread: JoinHandle<()>,
}

impl Drawing {
    /// Starts to draw.
    pub(crate) fn start(progress: Arc<Progress>, console: Arc<Console>) -> Self {
        let (stop, stopped) = sync_channel::<()>(0);
        let thread = std::thread::spawn(move || {
            let wait = |span| matches!(stopped.recv_timeout(span), Err(RecvTimeoutError::Timeout));
            if Console::is_watched() {
                on_terminal(&progress, &console, wait);
            } else {
                in_lines(&progress, &console, wait);
            }
        });
        Self { stop, thread }
    }

    /// Clears the lines, and returns when the terminal is free.
    pub(crate) fn finish(self) {
        drop(self.stop);
        let _ = self.thread.join();
    }
}

fn on_terminal(progress: &Progress, console: &Console, wait: impl Fn(Duration) -> bool) {
    let (screen, started) = (
        MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(DRAWS)),
        Instant::now(),
    );
    // Lines are cut at the terminal's edge; a wrapped line could not be cleared.
    let style = || {
        ProgressStyle::with_template("{wide_msg}")
            .unwrap_or_else(|_| ProgressStyle::default_spinner())
    };
    let total = screen.add(ProgressBar::new_spinner().with_style(style()));
    let mut bars: Vec<ProgressBar> = Vec::new();
    while wait(FRAME) {
        let (lines, summary) = progress.board().frame(FRAME, started.elapsed());
        while bars.len() < lines.len() {
            bars.push(screen.insert_before(&total, ProgressBar::new_spinner().with_style(style())));
        }
        for surplus in bars.drain(lines.len()..) {
            screen.remove(&surplus);
        }
        for (bar, line) in bars.iter().zip(lines) {
            bar.set_message(console.redact(&line));
        }
        total.set_message(summary);
    }
    let _ = screen.clear();
}

fn in_lines(progress: &Progress, console: &Console, wait: impl Fn(Duration) -> bool) {
    let started = Instant::now();
    while wait(REMARK) {
        let (lines, total) = progress.board().frame(REMARK, started.elapsed());
        let waiting = lines
            .iter()
            .find(|line| line.contains("waiting for"))
            .and_then(|line| line.split("waiting for ").nth(1));
        let waiting = waiting
            .map(|limit| format!(", waiting for {limit}"))
            .unwrap_or_default();
        console.note(&format!("{total}{waiting}"));
    }
}
