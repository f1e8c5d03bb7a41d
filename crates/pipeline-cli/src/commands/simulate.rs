//! `pipeline simulate`: the three vendors on this machine.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta};
use pipeline_simulator::{
    Faults, MixpanelWorld, Simulation, Simulator, StripeWorld, Vendor, ZendeskWorld,
};

use crate::args::Limits;
use crate::console::Console;
use crate::exit::{Exit, Failure, Result};
use crate::{args, interrupt};

const VENDORS: [Vendor; 3] = [Vendor::Stripe, Vendor::Zendesk, Vendor::Mixpanel];

pub(super) async fn run(args: &args::Simulate, console: &Arc<Console>) -> Result<Exit> {
    let simulation = Simulation {
        seed: args.seed,
        port: args.port,
        stripe: StripeWorld {
            charges: args.charges,
            live: args.limits == Limits::Live,
            ..StripeWorld::default()
        },
        zendesk: ZendeskWorld {
            tickets: args.tickets,
            ..ZendeskWorld::default()
        },
        mixpanel: MixpanelWorld {
            events_per_day: args.events,
            ..MixpanelWorld::default()
        },
        limits: match args.limits {
            Limits::None => pipeline_simulator::Limits::default(),
            Limits::Sandbox => pipeline_simulator::Limits::sandbox(),
            Limits::Live => pipeline_simulator::Limits::live(),
        },
        latency: args.latency,
        rules: if args.ordinary {
            VENDORS
                .into_iter()
                .flat_map(Faults::ordinary_account)
                .collect()
        } else {
            Vec::new()
        },
        ..Simulation::default()
    };
    let simulator = start(simulation).await?;
    console.print(&format!(
        "[destination]\ntype = \"sqlite\"\npath = \"simulated.db\"\n\n{}",
        sources(&simulator, key(args.limits))
    ));
    console.note(&format!(
        "Serving at {}. Put the lines above into pipeline.toml and run `pipeline sync`. Press \
         Ctrl-C to stop.",
        simulator.url()
    ));
    interrupt::wait().await;
    let stats = simulator.stats();
    simulator.stop().await;
    console.note(&format!(
        "{} requests, {} rejected by a rate limit",
        stats.requests,
        stats.rejected.values().sum::<u64>()
    ));
    Ok(Exit::Done)
}

/// The kind of key decides which limits a client expects.
fn key(limits: Limits) -> &'static str {
    if limits == Limits::Live {
        "rk_live_sim"
    } else {
        "rk_test_sim"
    }
}

/// Starts a simulator.
pub(super) async fn start(simulation: Simulation) -> Result<Simulator> {
    let port = simulation.port;
    Simulator::start(simulation).await.map_err(|error| {
        let message = format!(
            "the simulator cannot listen on port {port}: {}",
            crate::config::reason(&error)
        );
        Failure::usage(
            message,
            "choose another port with --port; 0 picks a free one",
        )
    })
}

/// Sources that read everything from a simulator with default credentials. The simulated
/// data ends at a fixed day, so that events are asked for from a fixed day on, and in windows of
/// some days, because exports are few an hour.
pub(super) fn sources(simulator: &Simulator, key: &str) -> String {
    let (url, zendesk, mixpanel) = (
        simulator.url(),
        ZendeskWorld::default(),
        MixpanelWorld::default(),
    );
    let (email, token) = (zendesk.email, zendesk.token);
    let MixpanelWorld {
        project_id,
        username,
        secret,
        days,
        ..
    } = mixpanel;
    let end = DateTime::from_timestamp(Simulation::default().until, 0).unwrap_or_default();
    let start = (end - TimeDelta::days(days.into())).format("%Y-%m-%d");
    format!(
        r#"[sources.payments]
connector = "stripe"
api_key = "{key}"
base_url = "{url}"

[sources.support]
connector = "zendesk"
subdomain = "simulated"
email = "{email}"
api_token = "{token}"
base_url = "{url}"

[sources.product]
connector = "mixpanel"
project_id = {project_id}
username = "{username}"
secret = "{secret}"
start_date = "{start}"
export_window_days = 10
base_url = "{url}"
"#
    )
}
