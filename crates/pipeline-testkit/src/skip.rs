//! Tests that need something which is not on every machine, such as a server.
#![allow(clippy::panic, reason = "the suite is test code")]

use std::io::Write as _;

/// Environment variable that makes a test fail which would be skipped: where everything is to be
/// tested, nothing may be missing.
pub const NO_SKIPS: &str = "PIPELINE_NO_SKIPS";

/// True when a test of a package is to be skipped, because something is missing. Says so on
/// standard error, by name, whether or not the output of tests is captured.
///
/// # Panics
/// When something is missing and [`NO_SKIPS`] is set.
pub fn skips(package: &str, test: &str, missing: Option<String>) -> bool {
    let Some(missing) = missing else {
        return false;
    };
    let line = format!("skipped: {package}: {missing}: {test}\n");
    assert!(std::env::var_os(NO_SKIPS).is_none(), "{line}");
    // Nobody is left to be told where this fails.
    let _ = std::io::stderr().write_all(line.as_bytes());
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_missing_is_skipped() {
        assert!(!skips("a-package", "a_test", None));
        if std::env::var_os(NO_SKIPS).is_none() {
            assert!(skips(
                "a-package",
                "a_test_of_skipping",
                Some("nothing is missing".to_owned())
            ));
        }
    }
}
