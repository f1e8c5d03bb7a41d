//! A process that is measured: its wall time, its processor time, and the most memory that it held.

use std::fs;
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use tokio::time::Instant;

use crate::output::Outcome;

/// How often a process's memory is looked at; the system keeps the peak, so that this misses only
/// its last moments.
const LOOK: Duration = Duration::from_millis(5);
/// Ticks of a second in which the system counts processor time: the same on every Linux.
const TICKS: f64 = 100.0;

/// What a process took.
#[derive(Clone, Copy, Debug, Default, serde::Serialize, serde::Deserialize)]
pub(crate) struct Cost {
    /// Seconds from its start to its end.
    pub(crate) wall: f64,
    /// Seconds of processor time, of all threads.
    pub(crate) cpu: f64,
    /// The most memory in MiB; 0 where the system does not report it.
    pub(crate) peak: f64,
}

/// Runs a command to its end, which must be a good one.
pub(crate) fn measure(command: &mut Command) -> Outcome<Cost> {
    let (cost, status) = measure_any(command)?;
    if status.success() {
        Ok(cost)
    } else {
        Err(format!("{} ended with {status}", command.get_program().display()).into())
    }
}

/// Runs a command to its end, whichever it is.
#[expect(clippy::disallowed_methods, reason = "a measurement waits for real")]
pub(crate) fn measure_any(command: &mut Command) -> Outcome<(Cost, ExitStatus)> {
    let (before, start) = (children_cpu(), Instant::now());
    let mut child = command
        .spawn()
        .map_err(|error| format!("{}: {error}", command.get_program().display()))?;
    let mut peak: f64 = 0.0;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        peak = peak.max(peak_memory(&child.id().to_string()));
        std::thread::sleep(LOOK);
    };
    Ok((
        Cost {
            wall: start.elapsed().as_secs_f64(),
            cpu: children_cpu() - before,
            peak,
        },
        status,
    ))
}

/// Measures work inside this process.
pub(crate) fn measure_here<T>(work: impl FnOnce() -> Outcome<T>) -> Outcome<(T, Cost)> {
    let (before, start) = (own_cpu(), Instant::now());
    let done = work()?;
    Ok((
        done,
        Cost {
            wall: start.elapsed().as_secs_f64(),
            cpu: own_cpu() - before,
            peak: peak_memory("self"),
        },
    ))
}

/// Ends its process when it is dropped.
pub(crate) struct Running(pub(crate) Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// MiB.
fn peak_memory(process: &str) -> f64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap_or_default();
    peak.trim()
        .trim_end_matches(" kB")
        .parse::<f64>()
        .unwrap_or(0.0)
        / 1024.0
}

pub(crate) fn own_cpu() -> f64 {
    cpu_fields(11)
}

fn children_cpu() -> f64 {
    cpu_fields(13)
}

/// The sum of two neighbouring fields of this process's line, counted from the field after the
/// command's name.
fn cpu_fields(first: usize) -> f64 {
    let line = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = line
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace();
    fields
        .skip(first)
        .take(2)
        .filter_map(|field| field.parse::<f64>().ok())
        .sum::<f64>()
        / TICKS
}
