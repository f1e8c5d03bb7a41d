//! Places where a test may end the process as a power cut would, and calls of the operating system
//! that it may let fail.

use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// Environment variable that arms one crash point, as `name:nth`: the process aborts when it passes
/// it for the nth time.
pub const CRASH_POINT: &str = "PIPELINE_CRASH_POINT";

struct Armed {
    name: String,
    passes_left: AtomicU32,
}

/// Names a place between two effects of which one must not show without the other.
///
/// Costs one atomic load unless the process was started with [`CRASH_POINT`] set, which only test
/// harnesses do.
pub fn failpoint(name: &str) {
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
    Some(Armed {
        name: name.to_owned(),
        passes_left: AtomicU32::new(nth.parse().ok()?),
    })
}

/// Environment variable that lets calls of the operating system fail, as `operation:nth:errno`,
/// such as `rename:3:5`: the third call of that operation fails once with that error number. The
/// operation `any` counts all of them, and `3+` in the place of the number lets each call from the
/// third on fail.
pub const FAULT_POINT: &str = "PIPELINE_FAULT_POINT";

struct Fault {
    operation: String,
    nth: u32,
    lasts: bool,
    errno: i32,
    passes: AtomicU32,
}

static STRUCK: AtomicBool = AtomicBool::new(false);

/// Names a call of the operating system that is about to be made, and fails in its place when a
/// test wants that.
///
/// Costs one atomic load unless the process was started with [`FAULT_POINT`] set, which only test
/// harnesses do.
pub fn fault_point(operation: &str) -> io::Result<()> {
    static ARMED: OnceLock<Option<Fault>> = OnceLock::new();
    let Some(fault) = ARMED.get_or_init(|| Fault::parse(&std::env::var(FAULT_POINT).ok()?)) else {
        return Ok(());
    };
    let failed = fault.pass(operation);
    STRUCK.fetch_or(failed.is_err(), Ordering::Relaxed);
    failed
}

/// True when a call was let fail.
pub fn fault_struck() -> bool {
    STRUCK.load(Ordering::Relaxed)
}

impl Fault {
    fn parse(value: &str) -> Option<Self> {
        let mut parts = value.split(':');
        let (operation, nth, errno) = (parts.next()?, parts.next()?, parts.next()?.parse().ok()?);
        let nth_or_later = nth.strip_suffix('+');
        let lasts = nth_or_later.is_some();
        let nth = nth_or_later.unwrap_or(nth).parse().ok()?;
        Some(Self {
            operation: operation.to_owned(),
            nth,
            lasts,
            errno,
            passes: AtomicU32::new(0),
        })
    }

    fn pass(&self, operation: &str) -> io::Result<()> {
        if self.operation != "any" && self.operation != operation {
            return Ok(());
        }
        let pass = self.passes.fetch_add(1, Ordering::Relaxed) + 1;
        let fails = if self.lasts {
            pass >= self.nth
        } else {
            pass == self.nth
        };
        if fails {
            Err(io::Error::from_raw_os_error(self.errno))
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Fault;

    /// Which of the calls `open`, `rename`, `open`, `rename` fail.
    fn failing(value: &str) -> [bool; 4] {
        let Some(fault) = Fault::parse(value) else {
            panic!("{value} is well formed")
        };
        ["open", "rename", "open", "rename"].map(|operation| fault.pass(operation).is_err())
    }

    #[test]
    fn a_fault_strikes_the_call_that_it_names() {
        assert_eq!(failing("rename:2:5"), [false, false, false, true]);
        assert_eq!(failing("any:2:5"), [false, true, false, false]);
        assert_eq!(failing("any:2+:5"), [false, true, true, true]);
        assert!(Fault::parse("rename:x:5").is_none() && Fault::parse("").is_none());
    }
}
