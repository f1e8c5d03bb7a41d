//! `pipeline spec`: the JSON Schema of a connector's configuration.

use crate::args;
use crate::config::suggest;
use crate::connectors;
use crate::console::Console;
use crate::exit::{Exit, Failure, Result};

pub(super) fn run(args: &args::Spec, console: &Console) -> Result<Exit> {
    let registry = connectors::registry();
    let name = &args.connector;
    let spec = registry.spec(name).map_err(|_| {
        Failure::usage(format!("unknown connector `{name}`"), &suggest(name, "connectors", registry.names().collect::<Vec<_>>()))
    })?;
    console.print(&format!("{spec:#}"));
    Ok(Exit::Done)
}
