//! Ctrl-C and SIGTERM: the first one stops the sync with a commit, the second one stops at once.

use std::sync::Arc;

use pipeline_engine::CancellationToken;

use crate::console::Console;

/// Exit code after the second one, as shells have it for an interrupted program.
const INTERRUPTED: i32 = 130;

/// Listens from now on.
pub(crate) fn listen(cancel: CancellationToken, console: Arc<Console>) {
    tokio::spawn(async move {
        let Some(mut signals) = Signals::new() else {
            return;
        };
        signals.next().await;
        console.note("stopping: committing what is complete (interrupt again to stop immediately)");
        cancel.cancel();
        signals.next().await;
        std::process::exit(INTERRUPTED);
    });
}

/// Stops the sync when the reader of standard output is gone, which would otherwise show only at
/// the next commit.
pub(crate) fn end_with_reader(cancel: CancellationToken, console: Arc<Console>) {
    #[cfg(unix)]
    std::thread::spawn(move || {
        use rustix::event::{PollFd, PollFlags, poll};
        let stdout = std::io::stdout();
        loop {
            // Without requested events, `poll` reports only errors and hang-ups.
            let mut watched = [PollFd::new(&stdout, PollFlags::empty())];
            match poll(&mut watched, None) {
                Err(rustix::io::Errno::INTR) => {}
                Ok(_)
                    if watched[0]
                        .revents()
                        .intersects(PollFlags::ERR | PollFlags::HUP) =>
                {
                    break;
                }
                // A file has no reader.
                Ok(_) | Err(_) => return,
            }
        }
        console.stdout_failed(std::io::ErrorKind::BrokenPipe.into());
        cancel.cancel();
    });
    #[cfg(not(unix))]
    drop((cancel, console));
}

/// Calls `stop` at the first one, and ends the process at the second.
pub(crate) fn stop_with(stop: impl FnOnce() + Send + 'static) {
    let signals = Signals::new();
    tokio::spawn(async move {
        let Some(mut signals) = signals else {
            return;
        };
        signals.next().await;
        stop();
        signals.next().await;
        std::process::exit(INTERRUPTED);
    });
}

/// Calls `reload` at every SIGHUP.
pub(crate) fn reload_with(reload: impl Fn() + Send + 'static) {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let hangups = signal(SignalKind::hangup());
        tokio::spawn(async move {
            let Ok(mut hangups) = hangups else {
                return;
            };
            while hangups.recv().await.is_some() {
                reload();
            }
        });
    }
    #[cfg(not(unix))]
    drop(reload);
}

/// Waits for one.
pub(crate) async fn wait() {
    match Signals::new() {
        Some(mut signals) => signals.next().await,
        None => std::future::pending().await,
    }
}

#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> Option<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Some(Self {
            interrupt: signal(SignalKind::interrupt()).ok()?,
            terminate: signal(SignalKind::terminate()).ok()?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> Option<Self> {
        Some(Self)
    }

    async fn next(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Takes the signal of a file that grows beyond the shell's limit, so that the write fails instead
/// of the process.
pub(crate) fn survive_file_limit() {
    #[cfg(any(target_os = "linux", target_os = "macos"))]
    {
        const SIGXFSZ: i32 = 25;
        // A registered handler stays for the life of the process.
        drop(tokio::signal::unix::signal(
            tokio::signal::unix::SignalKind::from_raw(SIGXFSZ),
        ));
    }
}
