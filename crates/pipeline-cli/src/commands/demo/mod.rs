//! `pipeline demo`: simulated vendors, a crash on purpose, and a proof that no record is missing or
//! duplicated.

mod proof;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;

use pipeline_simulator::{Limits, Simulation, Simulator, StripeWorld};
use serde_json::Value;
use tokio::time::Instant;

use super::simulate;
use crate::config::reason;
use crate::console::Console;
use crate::exit::{Exit, Failure, Result};
use crate::{args, units};

const DATABASE: &str = "demo.db";

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
    let place = DemoFiles::new()?;
    let simulator = simulate::start(simulation(args.charges)).await?;
    place.write(&simulator)?;
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

    console.print("\n3. The database, compared with the vendors' data:\n\n");
    let verdict = proof::compare(&place.database, simulator.truth())?;
    console.print(&verdict.text());
    if verdict.is_exact() {
        console.print(
            "\n4. One question across two vendors: who pays the most, and how often do they ask \
             for help?\n\n",
        );
        console.print(&proof::question(&place.database)?);
        console.print(&next(started.elapsed()));
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

/// Where the demo keeps its files: `demo.db` in the current folder, and the rest in a folder that
/// is removed at the end.
struct DemoFiles {
    folder: PathBuf,
    database: PathBuf,
}

impl DemoFiles {
    fn new() -> Result<Self> {
        let failed = |error: std::io::Error| {
            Failure::usage(
                format!("the demo cannot write its files: {}", reason(&error)),
                "run it in a writable folder",
            )
        };
        let database = std::env::current_dir().map_err(failed)?.join(DATABASE);
        if database.exists() {
            proof::is_demo(&database)?;
            std::fs::remove_file(&database).map_err(failed)?;
            for companion in ["-wal", "-shm"] {
                // There only if the demo before was interrupted.
                let _ = std::fs::remove_file(format!("{}{companion}", database.display()));
            }
        }
        let folder = std::env::temp_dir().join(format!("pipeline-demo-{}", std::process::id()));
        std::fs::create_dir_all(&folder).map_err(failed)?;
        Ok(Self { folder, database })
    }

    fn config(&self) -> PathBuf {
        self.folder.join("pipeline.toml")
    }

    fn write(&self, simulator: &Simulator) -> Result<()> {
        let database = self.database.display().to_string().replace('\\', "/");
        let mut text = simulate::configuration(simulator, "rk_live_sim", &database)
            + "\n[sync]\ncommit_interval = \"500ms\"\n";
        for (source, streams) in STREAMS {
            let header = format!("[sources.{source}]\n");
            text = text.replace(&header, &format!("{header}streams = {streams:?}\n"));
        }
        std::fs::write(self.config(), text).map_err(|error| {
            Failure::usage(
                format!(
                    "the demo's configuration cannot be written: {}",
                    reason(&error)
                ),
                "free some space",
            )
        })
    }
}

impl Drop for DemoFiles {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// What to type next.
fn next(elapsed: std::time::Duration) -> String {
    format!(
        "\nFinished in {}. Explore the database {DATABASE}:\n  sqlite3 {DATABASE} 'SELECT \
         currency, count(*), sum(amount) FROM payments_charges GROUP BY 1'\n\nWith your own \
         account:\n  pipeline init --connector stripe\n  export STRIPE_API_KEY=rk_live_…\n  \
         pipeline check && pipeline sync\n(`pipeline` is target/release/pipeline; `cargo install \
         --path crates/pipeline-cli` puts it on your path)\n",
        units::short(elapsed)
    )
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
