//! Has the C library give back memory that is free.
//!
//! glibc gives a block of memory pages of its own from a size on that it raises whenever such a
//! block is freed, up to 32 MiB. What is freed below that size stays with the process, so that one
//! which has read large pages holds several times what it uses, whatever its budget. Fixed sizes
//! end that. They are read from the environment when a process begins, and there is no way to set
//! them later without unsafe code: so the program begins once more, as the same process.
//!
//! Another allocator would do without that, and hold more: with a budget of 64 MiB and lists of
//! records in pages of 4 and 10 MB, mimalloc 2 took 207 and 243 MiB where this takes 179 and 224;
//! mimalloc 3, 329 and 360, or 209 and 238 when it gives back what is free after 10 ms, which is
//! set in the environment as well. It copies a block that grows, which here only gets more pages.

use std::env;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// The settings: blocks of 1 MiB and more have pages of their own, 8 MiB may be free at the end of
/// an arena, and there are two of these. Ordinary syncs take as much processor time as without.
const SETTINGS: [(&str, &str); 3] = [
    ("MALLOC_MMAP_THRESHOLD_", "1048576"),
    ("MALLOC_TRIM_THRESHOLD_", "8388608"),
    ("MALLOC_ARENA_MAX", "2"),
];

/// Starts the program again with the settings, unless one of them is already in the environment.
pub(crate) fn give_back_what_is_free() {
    if SETTINGS.iter().any(|(name, _)| env::var_os(name).is_some()) {
        return;
    }
    let Ok(program) = env::current_exe() else {
        return;
    };
    let mut arguments = env::args_os();
    let mut command = Command::new(program);
    if let Some(name) = arguments.next() {
        command.arg0(name);
    }
    // Returns only when it cannot start again, and then continues as it is.
    let _ = command.args(arguments).envs(SETTINGS).exec();
}
