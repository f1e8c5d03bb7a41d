//! How well the limiter uses a limit that it does not know, and how rarely it is refused.

mod baselines;
mod cases;
mod random;
mod run;
mod server;
#[cfg(test)]
mod tests;

use std::fmt::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use self::cases::{Bound, Case};
use self::run::{Figures, Limiter};
use super::report;
use crate::output::{Outcome, cargo};

const LIMITERS: [Limiter; 3] = [Limiter::Ours, Limiter::Fixed, Limiter::Cubic];

/// What the figures do not say.
const NOTE: &str = "A vendor that sends nothing but `Retry-After` sends it with a refusal: two \
                    pauses are needed to learn a window's permits and
its length. Where the second \
                    falls after the first 60 s, as in a quarter of the seeds, its refusals count. \
                    One request more
than the permits is sent 8 windows later, then 16, then 32, \
                    and in the end once an hour, so a rise is found in at most twice
the time that \
                    there was none, and in an hour. What is known of a window, fixed or sliding, \
                    is held: no more than its permits
in any span of its length. A length that no \
                    vendor uses is taken for the longest that fits what was seen.";

/// Measures the limiter against servers that count in different ways, on a clock of their own:
/// hours pass in seconds.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Seeds; the figures are medians.
    #[arg(long, default_value_t = 5)]
    seeds: u64,
    /// Only cases whose name contains this.
    #[arg(long)]
    case: Option<String>,
    /// Prints JSON instead of a table.
    #[arg(long)]
    output: Option<Output>,
    /// Prints the figures without writing them to BENCHMARKS.md.
    #[arg(long)]
    dry_run: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    Json,
}

/// A case with what came of it.
#[derive(Debug, serde::Serialize)]
struct Row {
    case: &'static str,
    limiter: &'static str,
    #[serde(flatten)]
    median: Figures,
    /// The least used and the most refused of any seed.
    worst: (f64, f64),
    targets: Vec<Verdict>,
}

#[derive(Debug, serde::Serialize)]
struct Verdict {
    what: &'static str,
    figure: f64,
    bound: String,
    holds: bool,
}

/// Runs the task. In a debug build it builds and runs the optimised one.
pub(crate) fn run(args: &Args) -> Outcome {
    if cfg!(debug_assertions) {
        let mut release = cargo(&["run", "--quiet", "--release", "--package", "xtask", "--"]);
        let status = release.args(std::env::args_os().skip(1)).status()?;
        return if status.success() {
            Ok(())
        } else {
            Err("the bench failed".into())
        };
    }
    let cases: Vec<_> = cases::all()
        .into_iter()
        .filter(|case| {
            args.case
                .as_ref()
                .is_none_or(|part| case.name.contains(part))
        })
        .collect();
    let rows = measure(&cases, args.seeds.max(1))?;
    if args.output == Some(Output::Json) {
        println!("{}", serde_json::to_string_pretty(&rows)?);
        return Ok(());
    }
    let text = format!("{}\n{}\n{NOTE}", introduction(args), table(&cases, &rows));
    println!("{text}");
    if args.dry_run || args.case.is_some() {
        Ok(())
    } else {
        report::write("Limits", &text)
    }
}

/// Runs every case with every limiter and seed, on all cores.
fn measure(cases: &[Case], seeds: u64) -> Outcome<Vec<Row>> {
    let jobs: Vec<_> = cases
        .iter()
        .flat_map(|case| LIMITERS.map(|limiter| (case, limiter)))
        .collect();
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some((index, (case, limiter))) = {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    jobs.get(n).map(|job| (n, job))
                } {
                    let row = row(case, *limiter, seeds).map_err(|error| error.to_string());
                    done.lock()
                        .unwrap_or_else(std::sync::PoisonError::into_inner)
                        .push((index, row));
                }
            });
        }
    });
    let mut done = done
        .into_inner()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    done.sort_by_key(|(index, _)| *index);
    done.into_iter()
        .map(|(_, row)| row.map_err(Into::into))
        .collect()
}

fn row(case: &Case, limiter: Limiter, seeds: u64) -> Outcome<Row> {
    let mut runs = Vec::new();
    for seed in 1..=seeds {
        runs.push(run::run(&case.scene, limiter, seed)?);
    }
    let median = |figure: &dyn Fn(&Figures) -> f64| {
        let mut figures: Vec<_> = runs.iter().map(figure).collect();
        figures.sort_by(f64::total_cmp);
        figures[figures.len() / 2]
    };
    let targets = case.targets.iter().map(|target| {
        let figure = median(&target.figure);
        let bound = match target.bound {
            Bound::AtLeast(least) => format!("≥ {least}"),
            Bound::AtMost(most) => format!("≤ {most}"),
        };
        Verdict {
            what: target.what,
            figure,
            bound,
            holds: target.bound.holds(figure),
        }
    });
    let limiter_name = match limiter {
        Limiter::Ours => "ours",
        Limiter::Fixed => "fixed rate",
        Limiter::Cubic => "CUBIC",
    };
    Ok(Row {
        case: case.name,
        limiter: limiter_name,
        targets: if limiter == Limiter::Ours {
            targets.collect()
        } else {
            Vec::new()
        },
        median: Figures {
            used: median(&|it| it.used),
            used_all: median(&|it| it.used_all),
            refused: median(&|it| it.refused),
            refused_all: median(&|it| it.refused_all),
            converged: median(&|it| it.converged),
            overrun: median(&|it| it.overrun),
            fair: median(&|it| it.fair),
            accepted: median(&|it| it.accepted),
            sent: median(&|it| it.sent),
            plan: runs.first().and_then(|it| it.plan.clone()),
            learned: runs.first().and_then(|it| it.learned),
            arrivals: Vec::new(),
        },
        worst: (
            runs.iter().map(|it| it.used).fold(f64::INFINITY, f64::min),
            runs.iter().map(|it| it.refused).fold(0.0, f64::max),
        ),
    })
}

fn introduction(args: &Args) -> String {
    format!(
        "`cargo xtask bench limits`, medians of {} seeds. The client, its limiter and the servers \
         run on a virtual clock, so the figures are the same on every machine.\n\nU: accepted of \
         what was allowed. E: refused of 1,000 sent. Both after the first 60 s, that of the worst \
         seed in brackets; *in all* includes the cold start. Settled: seconds until five in a row \
         used 90 %. Over: most requests in any span in which the server counts beyond what it \
         allows. Latency is lognormal around 200 ms, sigma 0.5; buckets hold one second.\n",
        args.seeds.max(1)
    )
}

fn table(cases: &[Case], rows: &[Row]) -> String {
    let mut text = String::from(
        "| case | U | E | U in all | E in all | settled | over | Jain | targets | fixed rate U / E \
         | CUBIC U / E |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for case in cases {
        let find = |name: &str| {
            rows.iter()
                .find(|row| row.case == case.name && row.limiter == name)
        };
        let (Some(ours), Some(fixed), Some(cubic)) =
            (find("ours"), find("fixed rate"), find("CUBIC"))
        else {
            continue;
        };
        let mut verdicts: Vec<_> = ours
            .targets
            .iter()
            .map(|it| {
                format!(
                    "{} {} {:.3} {}",
                    if it.holds { "pass" } else { "**miss**" },
                    it.what,
                    it.figure,
                    it.bound
                )
            })
            .collect();
        verdicts.extend(
            ours.median
                .plan
                .as_ref()
                .map(|plan| format!("told before: {plan}")),
        );
        let it = &ours.median;
        let _ = writeln!(
            text,
            "| {} | {:.3} ({:.3}) | {:.2} ({:.2}) | {:.3} | {:.2} | {:.0} s | {:.0} | {:.3} | {} | \
             {:.2} / {:.0} | {:.2} / {:.0} |",
            case.name,
            it.used,
            ours.worst.0,
            it.refused,
            ours.worst.1,
            it.used_all,
            it.refused_all,
            it.converged,
            it.overrun,
            it.fair,
            if verdicts.is_empty() {
                "-".to_owned()
            } else {
                verdicts.join("<br>")
            },
            fixed.median.used,
            fixed.median.refused,
            cubic.median.used,
            cubic.median.refused,
        );
    }
    text
}
