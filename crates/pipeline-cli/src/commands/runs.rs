//! `pipeline runs`: how the last runs ended, including failed ones. Sends no request and needs no
//! credential.

use std::sync::Arc;

use pipeline_core::RUN_CAPACITY;
use serde_json::json;

use crate::args;
use crate::args::Format;
use crate::config::Config;
use crate::console::Console;
use crate::exit::{Exit, Failure, Result};
use crate::output::runs;
use crate::output::runs::Fates;
use crate::setup::Target;

pub(super) async fn run(args: &args::Runs, console: &Arc<Console>) -> Result<Exit> {
    let config = Config::load(&args.file.config)?;
    let (all, fates) = match Target::of(&config, console)?.to_read().await? {
        Some(destination) => {
            let runs = destination
                .runs(RUN_CAPACITY)
                .await
                .map_err(|error| Failure::of_destination(&error))?;
            let fates = Fates::of(&runs, &*destination).await;
            (runs, fates)
        }
        None => Default::default(),
    };
    let shown = &all[..all.len().min(args.limit)];
    match args.output {
        Format::Json => {
            let runs: Vec<_> = shown
                .iter()
                .map(|run| runs::json(run, &fates, console))
                .collect();
            console.print(&format!("{:#}", json!({ "runs": runs })));
        }
        Format::Human if all.is_empty() => console.print("No runs yet. Run `pipeline sync`."),
        Format::Human => console.print(&runs::table(shown, &fates, console)),
    }
    Ok(Exit::Done)
}
