//! `pipeline demo`: simulated vendors, a crash on purpose, and a proof that no record is missing or
//! duplicated.

mod place;
mod proof;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;

use pipeline_simulator::{Limits, Simulation, Simulator, StripeWorld};
use serde_json::Value;
use tokio::time::Instant;

use self::place::Place;
use super::simulate;
use crate::console::Console;
use crate::exit::{Exit, Failure, Result};
use crate::{args, units};

/// The streams that are read: not all of them, because lists that need a request per record, or
/// allow ten requests a minute, take minutes under the limits of a live account.
const STREAMS: [(&str, &[&str]); 3] = [
    (
        "payments",
        &[
            "balance_transactions",
            "charges",
            "credit_notes",
            "customers",
            "disputes",
            "invoice_items",
            "invoice_line_items",
            "invoices",
            "payment_intents",
            "payouts",
            "prices",
            "products",
            "refunds",
            "subscription_items",
            "subscriptions",
        ],
    ),
    (
        "support",
        &[
            "brands",
            "groups",
            "macros",
            "organizations",
            "ticket_metrics",
            "tickets",
            "user_identities",
            "users",
            "views",
        ],
    ),
    ("product", &["cohorts", "engage", "export"]),
];

pub(super) async fn run(args: &args::Demo, console: &Arc<Console>) -> Result<Exit> {
    let started = Instant::now();
    let place = Place::new(args)?;
    let simulator = simulate::start(simulation(args.charges)).await?;
    place.write(&simulator)?;
    place.refuse_used(console).await?;
    introduce(&simulator, console);

    console.print("1. `pipeline sync`, killed (SIGKILL) once about half is committed:\n\n");
    let half = total(&simulator) / 2;
    let (binary, file) = (binary()?, place.config());
    match blocking(move || killed_sync(&binary, &file, half)).await? {
        Crash::Killed(rows) => console.print(&format!(
            "   killed after {} committed rows\n\n",
            units::number(rows)
        )),
        Crash::Ended(status) if status.success() => {
            console.print("   it finished before it could be killed\n\n");
        }
        Crash::Ended(_) => return Err(failed("first")),
    }

    console.print("2. The same command again. It resumes after the last commit:\n\n");
    let (binary, file) = (self::binary()?, place.config());
    let finished = blocking(move || sync(&binary, &file).status()).await?;
    if !finished.success() {
        return Err(failed("second"));
    }

    console.print("\n3. What is stored, compared with the vendors' data:\n\n");
    let verdict = place.compare(simulator.truth(), console).await?;
    console.print(&verdict.text());
    if verdict.is_exact() {
        if let Some(database) = place.database() {
            console.print(
                "\n4. One question across two vendors: who pays the most, and how often do they \
                 ask for help?\n\n",
            );
            console.print(&proof::question(database)?);
        }
        console.print(&place.next(started.elapsed()));
    }
    simulator.stop().await;
    Ok(if verdict.is_exact() {
        Exit::Done
    } else {
        Exit::Bug
    })
}

fn simulation(charges: u64) -> Simulation {
    Simulation {
        stripe: StripeWorld {
            charges,
            customers: 600,
            live: true,
            ..StripeWorld::default()
        },
        limits: Limits::live(),
        latency: std::time::Duration::from_millis(40),
        ..Simulation::default()
    }
}

fn total(simulator: &Simulator) -> u64 {
    let truth = simulator.truth();
    STREAMS
        .iter()
        .flat_map(|(_, streams)| *streams)
        .map(|stream| truth.count(stream))
        .sum()
}

fn introduce(simulator: &Simulator, console: &Console) {
    let truth = simulator.truth();
    let count = |table: &str| units::number(truth.count(table));
    console.print(&format!(
        "Stripe with {} charges, Zendesk with {} tickets and Mixpanel with {} events are simulated \
         at {},\nwith the rate limits of a live account and 40 ms of latency.\n\n",
        count("charges"),
        count("tickets"),
        count("export"),
        simulator.url()
    ));
}

fn binary() -> Result<PathBuf> {
    std::env::current_exe().map_err(|error| {
        Failure::new(
            Exit::Bug,
            format!("the program's executable cannot be located: {error}"),
            None,
        )
    })
}

fn sync(binary: &Path, config: &Path) -> Command {
    let mut command = Command::new(binary);
    command.arg("sync").arg("--config").arg(config);
    command
}

fn failed(which: &str) -> Failure {
    Failure::new(
        Exit::Bug,
        format!("the {which} sync did not finish"),
        Some("see its output above"),
    )
}

/// How the first sync ended.
enum Crash {
    /// Killed after this number of committed rows.
    Killed(u64),
    /// By itself, before that.
    Ended(ExitStatus),
}

/// Starts a sync and kills it once `rows_wanted` rows are committed.
fn killed_sync(binary: &Path, config: &Path, rows_wanted: u64) -> std::io::Result<Crash> {
    let mut child = sync(binary, config)
        .args(["--output", "json"])
        .stdout(Stdio::piped())
        .spawn()?;
    let killed = kill_after(&mut child, rows_wanted);
    if killed.is_some() {
        child.kill()?;
    }
    let status = child.wait()?;
    Ok(killed.map_or(Crash::Ended(status), Crash::Killed))
}

fn kill_after(child: &mut Child, rows_wanted: u64) -> Option<u64> {
    let mut rows = 0;
    for line in BufReader::new(child.stdout.take()?).lines() {
        let event: Value = serde_json::from_str(&line.ok()?).ok()?;
        if event["event"] == "committed" {
            rows += event["rows"].as_u64().unwrap_or(0);
        }
        if rows >= rows_wanted {
            return Some(rows);
        }
        if event["event"] == "sync_finished" {
            return None;
        }
    }
    None
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T> {
    let failed = |error: String| {
        Failure::new(
            Exit::Bug,
            format!("the sync cannot be started: {error}"),
            None,
        )
    };
    let ended = tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| failed(error.to_string()))?;
    ended.map_err(|error| failed(error.to_string()))
}
