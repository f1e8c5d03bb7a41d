//! `pipeline.toml`: it is loaded or shown to be wrong, and no value of a secret's member is shown.

#![no_main]
#![allow(
    dead_code,
    missing_docs,
    reason = "the program's own files, of which this uses a part"
)]

use libfuzzer_sys::fuzz_target;

#[path = "../../crates/pipeline-cli/src/config/mod.rs"]
mod config;
#[path = "../../crates/pipeline-cli/src/connectors.rs"]
mod connectors;
#[path = "../../crates/pipeline-cli/src/console.rs"]
mod console;
#[path = "../../crates/pipeline-cli/src/exit.rs"]
mod exit;
#[path = "../../crates/pipeline-cli/src/schema.rs"]
mod schema;
#[path = "../../crates/pipeline-cli/src/setup.rs"]
mod setup;
#[path = "../../crates/pipeline-cli/src/units.rs"]
mod units;

const SECRET: &str = "sk_live_hush0hush1hush2";

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("pipeline.toml");
    std::fs::write(&file, text.replace("SECRET", SECRET)).expect("a file");
    let is_own_member = text.matches("SECRET").count() == 1
        && text
            .lines()
            .any(|line| line.trim() == r#"api_key = "SECRET""#);
    let check = |shown: &str| assert!(!is_own_member || !shown.contains(SECRET), "{shown}");
    match config::Config::load(&file) {
        Ok(config) => {
            let registry = connectors::registry();
            let console = std::sync::Arc::new(console::Console::default());
            let sources = config.select(&[]).unwrap_or_default();
            if let Err(failure) = config::build_all(
                &config,
                &sources,
                &registry,
                &pipeline_core::BuildContext::default(),
                &console,
            ) {
                check(&failure.text);
            }
        }
        Err(failure) => check(&failure.text),
    }
});
