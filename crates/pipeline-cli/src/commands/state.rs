//! `pipeline state`: stored checkpoints, shown or forgotten.

use std::sync::Arc;

use pipeline_core::state::{Change, EndpointId, EndpointState};
use pipeline_core::{Clock, Commit, Destination, SystemClock};
use serde_json::{Map, Value, json};

use crate::args::{self, StateCommand};
use crate::config::{Config, suggest};
use crate::console::Console;
use crate::exit::{Exit, Failure, Result};
use crate::setup;

pub(super) async fn run(args: &args::State, console: &Arc<Console>) -> Result<Exit> {
    let config = Config::load(&args.file.config)?;
    if !config.destination.exists() {
        console.print("{}");
        console.note("Nothing is there yet: run `pipeline sync`.");
        return Ok(Exit::Done);
    }
    let destination = setup::destination(&config)?;
    match &args.command {
        None => show(&*destination, None, console).await,
        Some(StateCommand::Show { what }) => show(&*destination, what.as_deref(), console).await,
        Some(StateCommand::Reset { what, yes }) => reset(&*destination, what, *yes, console).await,
    }
}

async fn show(destination: &dyn Destination, what: Option<&str>, console: &Console) -> Result<Exit> {
    let states = stored(destination, what).await?;
    let states = states.into_iter().map(|(id, state)| (id.to_string(), json!(state)));
    console.print(&format!("{:#}", Value::Object(states.collect::<Map<_, _>>())));
    Ok(Exit::Done)
}

async fn reset(destination: &dyn Destination, what: &str, yes: bool, console: &Console) -> Result<Exit> {
    let states = stored(destination, Some(what)).await?;
    let names = states.iter().map(|(id, _)| id.to_string()).collect::<Vec<_>>().join(", ");
    if !yes {
        let help = "add --yes to do it; rows stay, those with a key are replaced when they are read again, and those without one are added a second time";
        return Err(Failure::usage(format!("this would forget how far these were read: {names}"), help));
    }
    let forget = |(endpoint, from)| Change::Replace { endpoint, from, to: EndpointState::default() };
    let commit = Commit {
        run: "state-reset".to_owned(),
        at: SystemClock.now(),
        changes: states.into_iter().map(forget).collect(),
        ..Commit::default()
    };
    let committed = match destination.begin().await {
        Ok(transaction) => transaction.commit(&commit).await,
        Err(error) => Err(error),
    };
    committed.map_err(|error| Failure::of_destination(&error))?;
    console.print(&format!("Forgotten: {names}. The next sync reads from the beginning."));
    Ok(Exit::Done)
}

/// The stored states of a source, of one of its accounts (`SOURCE@ACCOUNT`) or of an endpoint, or all.
async fn stored(destination: &dyn Destination, what: Option<&str>) -> Result<Vec<(EndpointId, EndpointState)>> {
    let all = destination.status(0).await.map_err(|error| Failure::of_destination(&error))?.endpoints;
    let Some(what) = what else { return Ok(all) };
    let is_account = |id: &EndpointId| id.account().is_some_and(|account| format!("{}@{account}", id.source) == what);
    let known: Vec<String> = all.iter().map(|(id, _)| id.to_string()).collect();
    let states: Vec<_> = all.into_iter().filter(|(id, _)| id.source == what || id.to_string() == what || is_account(id)).collect();
    if states.is_empty() {
        let help = suggest(what, "checkpoints", known.iter().map(String::as_str));
        return Err(Failure::usage(format!("there is no checkpoint of `{what}`"), &help));
    }
    Ok(states)
}
