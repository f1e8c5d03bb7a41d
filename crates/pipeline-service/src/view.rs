//! The state that the loop publishes for the server: a snapshot, replaced as a whole.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use pipeline_core::Clock;
use tokio::time::Instant;

use crate::alerts::Kind;
use crate::live::Live;
use crate::metrics::Metrics;
use crate::runner::{Ended, Stored};
use crate::service::{Command, Handle};
use crate::settings::SourceSettings;
use crate::supervisor::Seen;
use crate::wishes::{LastWebhook, Wishes};

/// Time without a step of the loop after which the service counts as stuck.
const STUCK: Duration = Duration::from_secs(30);

/// A snapshot of the service.
#[derive(Clone, Debug)]
pub(crate) struct View {
    pub(crate) at: DateTime<Utc>,
    pub(crate) sources: BTreeMap<String, Seen>,
    pub(crate) settings: Vec<SourceSettings>,
    pub(crate) lives: BTreeMap<String, Arc<Live>>,
    pub(crate) stored: Arc<Stored>,
    pub(crate) last: BTreeMap<String, Ended>,
    pub(crate) raised: BTreeMap<String, Vec<(Kind, DateTime<Utc>)>>,
    pub(crate) unreadable: Option<String>,
    pub(crate) webhooks: BTreeMap<String, LastWebhook>,
}

/// What the loop and the server share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) wishes: Wishes,
    clock: Arc<dyn Clock>,
    handle: Handle,
    view: Mutex<Option<Arc<View>>>,
    is_ready: AtomicBool,
    beat: Mutex<Instant>,
}

impl Shared {
    pub(crate) fn new(
        metrics: Arc<Metrics>,
        wishes: Wishes,
        handle: Handle,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            metrics,
            wishes,
            clock,
            handle,
            view: Mutex::default(),
            is_ready: AtomicBool::new(false),
            beat: Mutex::new(Instant::now()),
        }
    }

    /// Publishes a snapshot, which also counts as a sign of life.
    pub(crate) fn show(&self, view: View) {
        *self.view.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(view));
        *self.beat.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    pub(crate) fn view(&self) -> Option<Arc<View>> {
        self.view
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Returns the snapshot with the current time, from which ages are computed.
    pub(crate) fn view_now(&self) -> Option<View> {
        let view = self.view()?;
        Some(View {
            at: self.clock.now(),
            ..View::clone(&view)
        })
    }

    pub(crate) fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    pub(crate) fn set_ready(&self, is_ready: bool) {
        self.is_ready.store(is_ready, Ordering::Relaxed);
    }

    /// True from the start of the schedules until the service is asked to end.
    pub(crate) fn is_ready(&self) -> bool {
        self.is_ready.load(Ordering::Relaxed)
    }

    /// False when the loop is stuck.
    pub(crate) fn is_alive(&self) -> bool {
        let beat = *self.beat.lock().unwrap_or_else(PoisonError::into_inner);
        beat.elapsed() < STUCK
    }

    pub(crate) fn send(&self, command: Command) {
        self.handle.send(command);
    }
}
