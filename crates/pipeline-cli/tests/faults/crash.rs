//! Kills syncs at random moments, as often as asked for, resumes them, and compares the destination
//! with the account.

use std::process::{Child, ExitCode, Stdio};
use std::time::Duration;

use pipeline_simulator::Rule;
use tokio::time::Instant;

use crate::rows;
use crate::scenario::{Scenario, Store};
use crate::stage::{Stage, program, wait};

/// Kills between two looks at what is there.
const A_ROUND: u64 = 4;

/// What is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Of {
    /// Syncs of an account that was never read.
    Plain,
    /// Full refreshes of tables that are whole.
    Refresh,
    /// Syncs that pass over a day that the vendor refuses, and one that fills it.
    Gaps,
}

/// What was counted.
#[derive(Debug, Default)]
struct Figures {
    rounds: u64,
    kills: u64,
    /// Syncs that had ended before their kill came.
    early: u64,
    lost: usize,
    doubled: usize,
    /// Rows that were twice to be seen right after a kill.
    doubled_meanwhile: usize,
}

/// Runs `--crash KILLS DESTINATION PLAIN|REFRESH|GAPS SEED`.
pub(crate) fn run(args: &[String]) -> ExitCode {
    let [kills, store, of, seed] = args else {
        panic!("--crash KILLS DESTINATION plain|refresh|gaps SEED")
    };
    let store = match store.as_str() {
        "sqlite" => Store::Sqlite,
        "parquet" => Store::Parquet,
        "jsonl" => Store::Jsonl,
        "postgres" => Store::Postgres,
        "bucket" => Store::Bucket,
        other => panic!("unknown destination `{other}`"),
    };
    let of = match of.as_str() {
        "plain" => Of::Plain,
        "refresh" => Of::Refresh,
        "gaps" => Of::Gaps,
        other => panic!("`{other}` cannot be killed"),
    };
    let (kills, seed) = (kills.parse().unwrap(), seed.parse().unwrap());
    let mut random = fastrand::Rng::with_seed(seed);
    let mut figures = Figures::default();
    let mut usual = Duration::ZERO;
    while figures.kills < kills {
        // The machine may be slower or faster after a while.
        if figures.rounds % 10 == 0 {
            usual = time_of_a_sync(&scenario(store, of), of);
        }
        round(&scenario(store, of), of, usual, &mut random, &mut figures);
    }
    let Figures {
        rounds,
        kills,
        early,
        lost,
        doubled,
        doubled_meanwhile,
    } = figures;
    println!(
        "{store:?}, {of:?}, seed {seed}: {kills} kills in {rounds} rounds ({early} syncs had ended \
         before): {lost} rows lost, {doubled} doubled, {doubled_meanwhile} doubled right after a \
         kill"
    );
    ExitCode::from(u8::from(lost + doubled + doubled_meanwhile > 0))
}

/// What is read.
fn scenario(store: Store, of: Of) -> Scenario {
    let scenario = match of {
        Of::Gaps => Scenario::mixpanel().with("export", 150).days(6),
        Of::Plain | Of::Refresh => Scenario::stripe()
            .with("charges", 1_200)
            .with("coupons", 300),
    };
    Scenario {
        latency: Duration::from_millis(4),
        ..scenario.into(store)
    }
}

/// A fresh account and folder: some kills, then a sync that is left alone.
fn round(
    scenario: &Scenario,
    of: Of,
    usual: Duration,
    random: &mut fastrand::Rng,
    figures: &mut Figures,
) {
    let stage = Stage::new(scenario);
    let args: &[&str] = if of == Of::Refresh {
        &["sync", "--full-refresh"]
    } else {
        &["sync"]
    };
    if of == Of::Refresh {
        stage.sync(&[]);
    }
    let refused = || {
        vec![
            Rule::refuse("/api/2.0/export", 400, "this day cannot be exported")
                .day("2026-10-29".parse().unwrap()),
        ]
    };
    if of == Of::Gaps {
        stage.simulator.set_rules(refused());
    }
    figures.rounds += 1;
    for number in 0..A_ROUND {
        // The last kill of a round meets the sync that fills the gap.
        if of == Of::Gaps && number == A_ROUND - 1 {
            let _ = wait(start(&stage, args));
            stage.simulator.set_rules(Vec::new());
        }
        let child = start(&stage, args);
        let moment = usual.mul_f64(random.f64() * 0.95);
        if killed(child, moment) {
            figures.kills += 1;
        } else {
            figures.early += 1;
        }
        // Files of a generation that is being published are moved one by one; readers of the
        // manifest are spared.
        if matches!(scenario.store, Store::Sqlite | Store::Postgres) || of == Of::Plain {
            figures.doubled_meanwhile += wrong(&stage);
        }
    }
    stage.sync(&args[1..]);
    figures.doubled += wrong(&stage);
    figures.lost += scenario
        .streams
        .iter()
        .map(|stream| missing(&stage, stream))
        .sum::<usize>();
}

/// How many rows are there more than once, or should not be there at all.
fn wrong(stage: &Stage) -> usize {
    let of_stream = |stream: &&'static str| {
        let (found, truth) = (rows::ids(stage, stream), stage.truth(stream));
        let doubled = found.windows(2).filter(|pair| pair[0] == pair[1]).count();
        let strange = found
            .iter()
            .filter(|id| truth.binary_search(id).is_err())
            .count();
        doubled + strange
    };
    stage.scenario.streams.iter().map(of_stream).sum()
}

fn missing(stage: &Stage, stream: &str) -> usize {
    let (found, truth) = (rows::ids(stage, stream), stage.truth(stream));
    truth
        .iter()
        .filter(|id| found.binary_search(id).is_err())
        .count()
}

fn start(stage: &Stage, args: &[&str]) -> Child {
    program(stage.path(), args)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Whether the kill came before the end.
#[expect(clippy::disallowed_methods, reason = "another process works meanwhile")]
fn killed(mut child: Child, moment: Duration) -> bool {
    std::thread::sleep(moment);
    let had_ended = child.try_wait().unwrap().is_some();
    child.kill().unwrap();
    child.wait().unwrap();
    !had_ended
}

/// How long such a sync takes on this machine at this moment.
fn time_of_a_sync(scenario: &Scenario, of: Of) -> Duration {
    let stage = Stage::new(scenario);
    let started = Instant::now();
    stage.sync(if of == Of::Refresh {
        &["--full-refresh"]
    } else {
        &[]
    });
    started.elapsed()
}
