//! `pipeline simulate`: the three vendors on this machine.

use std::sync::Arc;

use pipeline_simulator::{MixpanelWorld, Simulation, Simulator, StripeWorld, ZendeskWorld};

use crate::args::{self, Limits};
use crate::console::Console;
use crate::exit::{Exit, Failure, Result};
use crate::interrupt;

pub(super) async fn run(args: &args::Simulate, console: &Arc<Console>) -> Result<Exit> {
    let simulation = Simulation {
        seed: args.seed,
        port: args.port,
        stripe: StripeWorld { charges: args.charges, ..StripeWorld::default() },
        zendesk: ZendeskWorld { tickets: args.tickets, ..ZendeskWorld::default() },
        mixpanel: MixpanelWorld { events_per_day: args.events, ..MixpanelWorld::default() },
        limits: match args.limits {
            Limits::None => pipeline_simulator::Limits::default(),
            Limits::Sandbox => pipeline_simulator::Limits::sandbox(),
            Limits::Live => pipeline_simulator::Limits::live(),
        },
        latency: args.latency,
        ..Simulation::default()
    };
    let simulator = start(simulation).await?;
    console.print(&configuration(&simulator, "simulated.db"));
    console
        .note(&format!("Serving at {}. Put the lines above into pipeline.toml and run `pipeline sync`. Ctrl-C ends it.", simulator.url()));
    interrupt::wait().await;
    let stats = simulator.stats();
    simulator.stop().await;
    console.note(&format!("{} requests, {} refused by a limit", stats.requests, stats.rejected.values().sum::<u64>()));
    Ok(Exit::Done)
}

/// Starts a simulator.
pub(super) async fn start(simulation: Simulation) -> Result<Simulator> {
    let port = simulation.port;
    Simulator::start(simulation).await.map_err(|error| {
        let message = format!("the simulator cannot listen on port {port}: {}", crate::config::reason(&error));
        Failure::usage(message, "choose another port with --port, 0 for any")
    })
}

/// A configuration that reads everything from a simulator with default credentials.
pub(super) fn configuration(simulator: &Simulator, database: &str) -> String {
    let (url, zendesk, mixpanel) = (simulator.url(), ZendeskWorld::default(), MixpanelWorld::default());
    let (email, token) = (zendesk.email, zendesk.token);
    let MixpanelWorld { project_id, username, secret, .. } = mixpanel;
    format!(
        r#"[destination]
type = "sqlite"
path = "{database}"

[sources.payments]
connector = "stripe"
api_key = "sk_test_sim"
base_url = "{url}"

[sources.support]
connector = "zendesk"
subdomain = "simulated"
email = "{email}"
api_token = "{token}"
base_url = "{url}"

[sources.product]
connector = "mixpanel"
project_id = "{project_id}"
username = "{username}"
secret = "{secret}"
base_url = "{url}"
"#
    )
}
