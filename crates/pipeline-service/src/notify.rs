//! Notifications to systemd (`Type=notify`). Does nothing on other systems, or without systemd.

/// The service has started: schedules run.
pub(crate) fn ready(status: &str) {
    #[cfg(target_os = "linux")]
    send(&[
        sd_notify::NotifyState::Ready,
        sd_notify::NotifyState::Status(status),
    ]);
    #[cfg(not(target_os = "linux"))]
    let _ = status;
}

/// The configuration is being read again. [`ready`] has to follow.
pub(crate) fn reloading() {
    #[cfg(target_os = "linux")]
    if let Ok(since) = sd_notify::NotifyState::monotonic_usec_now() {
        send(&[sd_notify::NotifyState::Reloading, since]);
    }
}

/// The service is about to end.
pub(crate) fn stopping() {
    #[cfg(target_os = "linux")]
    send(&[sd_notify::NotifyState::Stopping]);
}

/// The service is alive (`WatchdogSec=`).
pub(crate) fn alive() {
    #[cfg(target_os = "linux")]
    send(&[sd_notify::NotifyState::Watchdog]);
}

#[cfg(target_os = "linux")]
fn send(states: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "systemd cannot be notified");
    }
}
