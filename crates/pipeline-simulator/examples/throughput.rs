//! How fast the server is: pages of 100 charges over loopback, and a day of five million events.
//!
//! `cargo run --release -p pipeline-simulator --example throughput`

#![allow(clippy::print_stdout, reason = "the figures are the point")]

use std::error::Error;

use futures::future::try_join_all;
use pipeline_simulator::{MixpanelWorld, Simulation, Simulator, StripeWorld};
use reqwest::Client;
use tokio::time::Instant;

const PAGES: u32 = 2_000;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // The client wants a TLS provider even for plain HTTP. A second installation is refused,
    // harmlessly.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let stripe = StripeWorld {
        charges: 1_000_000,
        ..StripeWorld::default()
    };
    let mixpanel = MixpanelWorld {
        days: 1,
        events_per_day: 5_000_000,
        ..MixpanelWorld::default()
    };
    let simulator = Simulator::start(Simulation {
        stripe,
        mixpanel,
        ..Simulation::default()
    })
    .await?;
    let client = Client::builder().no_proxy().build()?;
    for connections in [1, 8] {
        let started = Instant::now();
        let readers =
            (0..connections).map(|_| pages(&client, simulator.url(), PAGES / connections));
        let bytes: usize = try_join_all(readers).await?.into_iter().sum();
        let seconds = started.elapsed().as_secs_f64();
        let (rate, size) = (f64::from(PAGES) / seconds, bytes / PAGES as usize / 100);
        println!(
            "{connections} connection(s): {rate:.0} pages/s of 100 charges, {size} bytes a charge"
        );
    }
    events(&client, simulator.url()).await?;
    simulator.stop().await;
    Ok(())
}

async fn pages(client: &Client, url: String, count: u32) -> Result<usize, reqwest::Error> {
    let mut bytes = 0;
    for _ in 0..count {
        let page = client
            .get(format!("{url}/v1/charges?limit=100"))
            .bearer_auth("sk_test_sim");
        bytes += page.send().await?.bytes().await?.len();
    }
    Ok(bytes)
}

async fn events(client: &Client, url: String) -> Result<(), reqwest::Error> {
    let started = Instant::now();
    let day = "project_id=2000001&from_date=2026-10-31&to_date=2026-10-31";
    let export = client.get(format!("{url}/api/2.0/export?{day}"));
    let mut response = export
        .basic_auth("sim.service-account", Some("sim_secret"))
        .send()
        .await?;
    let mut bytes = 0;
    while let Some(piece) = response.chunk().await? {
        bytes += piece.len();
    }
    let seconds = started.elapsed().as_secs_f64();
    println!(
        "5,000,000 events: {} MB in {seconds:.1} s",
        bytes / 1_000_000
    );
    Ok(())
}
