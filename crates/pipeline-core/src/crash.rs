//! Places where a test may end the process as a power cut would.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// Environment variable that arms one crash point, as `name:nth`: the process aborts when it passes it for the nth time.
pub const CRASH_POINT: &str = "PIPELINE_CRASH_POINT";

struct Armed {
    name: String,
    passes_left: AtomicU32,
}

/// Names a place between two effects of which one must not show without the other.
///
/// Costs one atomic load unless the process was started with [`CRASH_POINT`] set, which only test harnesses do.
pub fn crash_point(name: &str) {
    static ARMED: OnceLock<Option<Armed>> = OnceLock::new();
    if let Some(armed) = ARMED.get_or_init(armed)
        && armed.name == name
        && armed.passes_left.fetch_sub(1, Ordering::Relaxed) == 1
    {
        std::process::abort();
    }
}

fn armed() -> Option<Armed> {
    let value = std::env::var(CRASH_POINT).ok()?;
    let (name, nth) = value.rsplit_once(':')?;
    Some(Armed { name: name.to_owned(), passes_left: AtomicU32::new(nth.parse().ok()?) })
}
