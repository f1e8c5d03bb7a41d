//! `pipeline spec`: the JSON Schema of the configuration of a connector or a destination.

use crate::config::suggest;
use crate::console::Console;
use crate::exit::{Exit, Failure, Result};
use crate::{args, connectors, destinations};

pub(super) fn run(args: &args::Spec, console: &Console) -> Result<Exit> {
    let (connectors, destinations, name) =
        (connectors::registry(), destinations::registry(), &args.name);
    let spec = connectors
        .spec(name)
        .or_else(|_| destinations.spec(name))
        .map_err(|_| {
            let known: Vec<&str> = connectors.names().chain(destinations.names()).collect();
            Failure::usage(
                format!("unknown connector or destination `{name}`"),
                &suggest(name, "names", known),
            )
        })?;
    console.print(&format!("{spec:#}"));
    Ok(Exit::Done)
}
