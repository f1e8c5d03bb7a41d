//! `pipeline state`: shows or resets checkpoints, and lists missing units.

use std::collections::BTreeSet;
use std::sync::Arc;

use pipeline_core::state::{CheckpointDelta, EndpointId, EndpointState};
use pipeline_core::{Clock, SystemClock};
use pipeline_engine::{Commit, Destination};
use serde_json::{Map, Value, json};

use crate::args::{Format, GapsCommand, StateCommand};
use crate::config::{Config, suggest};
use crate::console::Console;
use crate::exit::{Exit, Failure, Result};
use crate::output::gaps;
use crate::output::gaps::Missing;
use crate::output::table::{Align, TextTable};
use crate::setup::Target;
use crate::{args, units};

pub(super) async fn run(args: &args::State, console: &Arc<Console>) -> Result<Exit> {
    let config = Config::load(&args.file.config)?;
    let is_read = matches!(
        args.command,
        None | Some(
            StateCommand::Show { .. }
                | StateCommand::Gaps(args::Gaps { command: None, .. })
                | StateCommand::Reset { yes: false, .. }
        )
    );
    let target = Target::of(&config, console)?;
    let destination = if is_read {
        target.to_read().await?
    } else if target.exists().await? {
        Some(target.open().await?)
    } else {
        None
    };
    let Some(destination) = destination else {
        console.print("{}");
        console.note("No checkpoints yet. Run `pipeline sync`.");
        return Ok(Exit::Done);
    };
    match &args.command {
        None => show(&*destination, None, console).await,
        Some(StateCommand::Show { what }) => show(&*destination, what.as_deref(), console).await,
        Some(StateCommand::Gaps(gaps)) => match &gaps.command {
            None => missing(&*destination, gaps, console).await,
            Some(GapsCommand::Drop {
                endpoint,
                names,
                all,
            }) => give_up(&*destination, endpoint, names, *all, console).await,
        },
        Some(StateCommand::Reset { what, yes }) => reset(&*destination, what, *yes, console).await,
    }
}

async fn show(
    destination: &dyn Destination,
    what: Option<&str>,
    console: &Console,
) -> Result<Exit> {
    let states = stored(destination, what).await?;
    let states = states
        .into_iter()
        .map(|(id, state)| (id.to_string(), json!(state)));
    console.print(&format!(
        "{:#}",
        Value::Object(states.collect::<Map<_, _>>())
    ));
    Ok(Exit::Done)
}

async fn reset(
    destination: &dyn Destination,
    what: &str,
    yes: bool,
    console: &Console,
) -> Result<Exit> {
    let states = stored(destination, Some(what)).await?;
    let names = states
        .iter()
        .map(|(id, _)| id.to_string())
        .collect::<Vec<_>>()
        .join(", ");
    if !yes {
        let help = "add --yes to reset them. The next sync reads everything again and replaces the \
                    tables when it is complete; until then they keep their rows";
        return Err(Failure::usage(
            format!("this would reset the checkpoints of {names}"),
            help,
        ));
    }
    let forget = |(endpoint, from): (EndpointId, EndpointState)| CheckpointDelta::Replace {
        endpoint,
        to: from.reset(),
        from,
    };
    commit(
        destination,
        "state-reset",
        states.into_iter().map(forget).collect(),
    )
    .await?;
    console.print(&format!(
        "Reset: {names}. The next sync reads everything again and replaces the tables when it is \
         complete; until then they keep their rows."
    ));
    Ok(Exit::Done)
}

/// Lists the units that are missing.
async fn missing(
    destination: &dyn Destination,
    args: &args::Gaps,
    console: &Console,
) -> Result<Exit> {
    let states = stored(destination, args.what.as_deref()).await?;
    let all: Vec<(&EndpointId, Missing<'_>)> = states
        .iter()
        .flat_map(|(id, state)| {
            gaps::of_state(state)
                .into_iter()
                .map(move |unit| (id, unit))
        })
        .collect();
    match args.output {
        Format::Json => {
            let json = |(id, unit): &(&EndpointId, Missing<'_>)| {
                let mut value = unit.json(console);
                (value["source"], value["endpoint"]) = (json!(id.source), json!(id.endpoint));
                value
            };
            console.print(&format!(
                "{:#}",
                Value::Array(all.iter().map(json).collect())
            ));
        }
        Format::Human if all.is_empty() => console.print("Nothing is missing."),
        Format::Human => {
            use Align::{Left, Right};
            let columns = [
                ("ENDPOINT", Left),
                ("UNIT", Left),
                ("SINCE", Left),
                ("ATTEMPTS", Right),
                ("REASON", Left),
            ];
            let mut table = TextTable::new(columns);
            for (id, unit) in &all {
                let (since, attempts) = (units::instant(unit.since), unit.attempts.to_string());
                table.row([
                    id.to_string(),
                    unit.name.to_owned(),
                    since,
                    attempts,
                    console.redact(unit.reason),
                ]);
            }
            console.print(&table.render());
        }
    }
    Ok(Exit::Done)
}

/// Gives up missing units of an endpoint. The state keeps their names, so that a later walk does
/// not report them as missing again.
async fn give_up(
    destination: &dyn Destination,
    endpoint: &str,
    names: &[String],
    all: bool,
    console: &Console,
) -> Result<Exit> {
    let mut states = stored(destination, Some(endpoint)).await?;
    let (Some((id, from)), true) = (states.pop(), states.is_empty()) else {
        let help = "name one endpoint as SOURCE/ENDPOINT; `pipeline state gaps` lists them";
        return Err(Failure::usage(
            format!("`{endpoint}` matches more than one endpoint"),
            help,
        ));
    };
    let known: Vec<&str> = from.missing().map(|gap| gap.name.as_str()).collect();
    if let Some(unknown) = names.iter().find(|name| !known.contains(&name.as_str())) {
        return Err(Failure::usage(
            format!("`{unknown}` is not a missing unit of {id}"),
            &suggest(unknown, "missing units", known),
        ));
    }
    let is_given_up = |name: &str| all || names.iter().any(|given| given == name);
    let dropped: Vec<String> = known
        .into_iter()
        .filter(|name| is_given_up(name))
        .map(str::to_owned)
        .collect();
    if dropped.is_empty() {
        console.print(&format!("{id} has no missing units."));
        return Ok(Exit::Done);
    }
    let mut to = from.clone();
    to.gaps
        .values_mut()
        .for_each(|gap| gap.given_up |= is_given_up(&gap.name));
    commit(
        destination,
        "state-gaps-drop",
        vec![CheckpointDelta::Replace {
            endpoint: id.clone(),
            from,
            to,
        }],
    )
    .await?;
    console.print(&format!(
        "Given up: {} of {id}. Such units no longer count as missing; `pipeline state reset` \
         undoes this.",
        dropped.join(", ")
    ));
    Ok(Exit::Done)
}

async fn commit(
    destination: &dyn Destination,
    run: &str,
    changes: Vec<CheckpointDelta>,
) -> Result<()> {
    // A running sync would fail at its next commit, so its checkpoints are not changed.
    let sources: BTreeSet<String> = changes
        .iter()
        .map(|change| change.endpoint().source.clone())
        .collect();
    let mut claims = Vec::with_capacity(sources.len());
    for source in &sources {
        claims.push(
            destination
                .claim(source, run)
                .await
                .map_err(|error| Failure::of_destination(&error))?,
        );
    }
    let commit = Commit {
        run: run.to_owned(),
        at: SystemClock.now(),
        changes,
        ..Commit::default()
    };
    let committed = match destination.begin().await {
        Ok(transaction) => transaction.commit(&commit).await,
        Err(error) => Err(error),
    };
    committed
        .map(drop)
        .map_err(|error| Failure::of_destination(&error))
}

/// The stored states of a source, of one of its accounts (`SOURCE@ACCOUNT`) or of an endpoint, or
/// all.
async fn stored(
    destination: &dyn Destination,
    what: Option<&str>,
) -> Result<Vec<(EndpointId, EndpointState)>> {
    let all = destination
        .status(0)
        .await
        .map_err(|error| Failure::of_destination(&error))?
        .endpoints;
    let Some(what) = what else { return Ok(all) };
    let is_account = |id: &EndpointId| {
        id.account()
            .is_some_and(|account| format!("{}@{account}", id.source) == what)
    };
    let known: Vec<String> = all.iter().map(|(id, _)| id.to_string()).collect();
    let states: Vec<_> = all
        .into_iter()
        .filter(|(id, _)| id.source == what || id.to_string() == what || is_account(id))
        .collect();
    if states.is_empty() {
        let help = suggest(what, "checkpoints", known.iter().map(String::as_str));
        return Err(Failure::usage(
            format!("unknown source or endpoint `{what}`: no checkpoint has this name"),
            &help,
        ));
    }
    Ok(states)
}
