//! Random mixtures of faults: each seed draws an account, a destination and a few syncs, and what
//! goes wrong in each of them. In the end everything is there once, and no sync on the way said
//! otherwise.

use std::fmt::Write as _;
use std::fs;
use std::process::{Child, ExitCode, Stdio};
use std::time::Duration;

use chrono::TimeDelta;
use fastrand::Rng;
use libtest_mimic::{Arguments, Trial};
use pipeline_simulator::Simulation;

use crate::between::{Act, Answer, Then, Trouble};
use crate::scenario::{Scenario, Store, Vendor};
use crate::stage::{Ran, Stage, program};
use crate::{acts, rows};

/// Seeds that every test run tries.
pub(crate) const SEEDS: u64 = 20;

/// Syncs without a fault that may be needed at the end: one reads what is missing, one what the
/// vendor had refused before.
const MOST_RUNS: usize = 3;

/// Longest time before a kill. A sync without a fault takes about a second.
const LATEST_KILL: u64 = 1_500;

/// What one sync meets.
struct Turn {
    troubles: Vec<Trouble>,
    /// What they are, for the message of a failure.
    names: String,
    args: Vec<&'static str>,
    kill: Option<Duration>,
    /// The vendor's clock is said to be wrong by hours: then a sync may end before what is new, and
    /// says so.
    tells_wrong_time: bool,
}

/// The tests of the seeds that every test run tries.
pub(crate) fn trials() -> impl Iterator<Item = Trial> {
    (0..SEEDS).map(trial)
}

/// Runs `--mix SEEDS FIRST`.
pub(crate) fn run(args: &[String]) -> ExitCode {
    let [seeds, first] = args else {
        panic!("--mix SEEDS FIRST")
    };
    let (seeds, first): (u64, u64) = (seeds.parse().unwrap(), first.parse().unwrap());
    libtest_mimic::run(
        &Arguments::default(),
        (first..first + seeds).map(trial).collect(),
    )
    .exit_code()
}

fn trial(seed: u64) -> Trial {
    Trial::test(format!("mix_{seed:03}"), move || {
        play(seed);
        Ok(())
    })
}

/// Plays one seed.
fn play(seed: u64) {
    let mut random = Rng::with_seed(seed);
    let scenario = scenario(seed, &mut random);
    let until = (acts::now() - TimeDelta::hours(1)).timestamp();
    let usual = scenario.simulation();
    let simulation = match scenario.vendor {
        // Half of what there is comes while the syncs run.
        Vendor::Stripe | Vendor::Zendesk => Simulation {
            until,
            days: 1,
            shown_until: Some(until - 12 * 3_600),
            ..usual
        },
        // The days of its events are named in the configuration.
        Vendor::Mixpanel => usual,
    };
    let is_growing = simulation.shown_until.is_some();
    let stage = Stage::of(&scenario, simulation);
    let mut story = format!(
        "seed {seed}: {:?} into {:?}",
        scenario.vendor, scenario.store
    );
    let turns = random.i64(1..=3);
    for number in 0..turns {
        let turn = Turn::draw(scenario.vendor, number, &mut random);
        let _ = write!(
            story,
            "\n{} {:?}, killed: {:?}",
            turn.args.join(" "),
            turn.names,
            turn.kill
        );
        turn.play(&stage, &mut story);
        if is_growing {
            stage
                .simulator
                .show_until(until - 12 * 3_600 + (number + 1) * 12 * 3_600 / turns);
        }
    }
    stage.lift();
    settle(&stage, &mut story);
    println!("{story}");
    forget_limits(&stage);
    // A field that is new to an account is a column of the rows that come after it.
    stage.ends_well_but_for(|column| {
        column.starts_with("custom_field_2") || column.starts_with("user_field_")
    });
}

/// Every vendor with every destination, in turn.
fn scenario(seed: u64, random: &mut Rng) -> Scenario {
    let store = [Store::Sqlite, Store::Parquet, Store::Jsonl][(seed / 3 % 3) as usize];
    let mut scenario = match seed % 3 {
        0 => Scenario::stripe()
            .with("charges", random.u64(350..900))
            .with("customers", 150)
            .with("coupons", random.u64(5..220)),
        1 => Scenario::zendesk()
            .with("tickets", random.u64(40..200))
            .with("users", 80)
            .with("groups", random.u64(5..220)),
        _ => Scenario::mixpanel()
            .with("export", random.u64(10..300))
            .days(5),
    };
    match scenario.vendor {
        Vendor::Stripe => scenario.streams.push("customers"),
        Vendor::Zendesk => {
            scenario.streams.push("users");
            scenario.members = "export_rpm = 30\nexport_page_size = 60";
        }
        Vendor::Mixpanel => {}
    }
    // Several lists at once, in half of the seeds.
    if random.bool() {
        scenario.unharmed.clone_from(&scenario.streams);
    }
    Scenario {
        latency: Duration::from_millis(random.u64(0..8)),
        ..scenario
    }
    .into(store)
}

/// Lists that are requested.
fn paths(vendor: Vendor) -> &'static [&'static str] {
    match vendor {
        Vendor::Stripe => &[
            "/v1/charges",
            "/v1/customers",
            "/v1/coupons",
            "/v1/events",
            "/v1/account",
            "/",
        ],
        Vendor::Zendesk => &[
            "/api/v2/incremental/tickets",
            "/api/v2/incremental/users",
            "/api/v2/groups",
            "/",
        ],
        Vendor::Mixpanel => &["/api/2.0/export", "/"],
    }
}

impl Turn {
    fn draw(vendor: Vendor, number: i64, random: &mut Rng) -> Self {
        let mut turn = Self {
            troubles: Vec::new(),
            names: String::new(),
            args: vec!["sync"],
            kill: None,
            tells_wrong_time: false,
        };
        for _ in 0..random.usize(0..5) {
            let (name, act) = draw(vendor, random);
            let path = *random.choice(paths(vendor)).unwrap();
            let (after, times) = (random.usize(0..8), random.usize(1..4));
            let _ = write!(turn.names, "{path} {name} after {after}, {times} times; ");
            turn.tells_wrong_time |= name.contains("clock");
            turn.troubles
                .push(Trouble::new(path, act).after(after).times(times));
        }
        if number > 0 && random.u8(0..4) == 0 {
            turn.args.push("--full-refresh");
        }
        match random.u8(0..6) {
            0 | 1 => turn.kill = Some(Duration::from_millis(random.u64(30..LATEST_KILL))),
            2 => turn.args.extend(["--max-duration", "1s"]),
            _ => {}
        }
        turn
    }

    fn play(self, stage: &Stage, story: &mut String) {
        stage.between.set(self.troubles);
        forget_limits(stage);
        let ran = match self.kill {
            Some(moment) => {
                let mut command = program(stage.path(), &self.args);
                killed(
                    command
                        .stdout(Stdio::null())
                        .stderr(Stdio::null())
                        .spawn()
                        .unwrap(),
                    moment,
                );
                None
            }
            None => Some(stage.run(program(stage.path(), &self.args))),
        };
        let is_published_in_parts = stage.scenario.store != Store::Sqlite
            && ran.is_none()
            && self.args.contains(&"--full-refresh");
        for stream in stage
            .scenario
            .streams
            .iter()
            .filter(|_| !is_published_in_parts)
        {
            let (found, truth) = (rows::ids(stage, stream), stage.truth(stream));
            let doubled = found.windows(2).filter(|pair| pair[0] == pair[1]).count();
            let strange = found
                .iter()
                .filter(|id| truth.binary_search(id).is_err())
                .count();
            assert_eq!(
                (doubled, strange),
                (0, 0),
                "{stream}: rows that are doubled, or that are not the account's\n{story}"
            );
        }
        let Some(Ran { code, text }) = ran else {
            return;
        };
        let _ = write!(story, " -> {code:?}");
        assert!(
            [Some(0), Some(3), Some(4)].contains(&code),
            "{story}\n{text}"
        );
        assert!(
            !text.contains("panicked") && !text.contains("defect"),
            "{story}\n{text}"
        );
        if code == Some(0) && !self.tells_wrong_time {
            for stream in &stage.scenario.streams {
                let (found, truth) = (rows::ids(stage, stream).len(), stage.truth(stream).len());
                assert_eq!(
                    found, truth,
                    "{stream}: a sync ended with 0 without all rows\n{story}\n{text}"
                );
            }
        }
    }
}

/// What goes wrong with a request.
fn draw(vendor: Vendor, random: &mut Rng) -> (&'static str, Act) {
    let faults: &[fn() -> (&'static str, Act)] = &[
        || ("reset", acts::reset()),
        || ("reset after the head", acts::reset_after_head()),
        || ("closed", acts::close()),
        || ("closed after the answer", acts::answer_and_close()),
        || ("half a body, closed", acts::half_a_body(Then::Close)),
        || ("half a body, reset", acts::half_a_body(Then::Reset)),
        || ("half a chunked body", acts::half_a_chunked_body()),
        || ("garbled", acts::edit_bytes(garbled)),
        || ("not gzip", acts::header("content-encoding", "gzip")),
        || ("empty", acts::edit_bytes(|_| Vec::new())),
        || ("slow", acts::slow(Duration::from_millis(400))),
        || ("408", acts::status(408, "{}")),
        || ("425", acts::status(425, "{}")),
        || ("429", acts::throttled(None)),
        || {
            (
                "429 for a second",
                acts::throttled(Some(("retry-after", "1"))),
            )
        },
        || ("500", acts::status(500, "{}")),
        || ("502, a web page", acts::web_page(502)),
        || {
            (
                "503 for a second",
                acts::instead(Answer::json(503, "").with("retry-after", "1")),
            )
        },
        || ("504", acts::web_page(504)),
        || ("a web page", acts::web_page(200)),
        || ("another's JSON", acts::status(200, r#"{"status":"ok"}"#)),
        || ("null", acts::status(200, "null")),
        || ("clock an hour ahead", clock(TimeDelta::hours(1))),
        || ("clock a day ahead", clock(TimeDelta::days(1))),
        || ("clock forty days ahead", clock(TimeDelta::days(40))),
        || ("clock two hours behind", clock(TimeDelta::hours(-2))),
        || ("clock ten days behind", clock(TimeDelta::days(-10))),
    ];
    // Refusals of a day of events are gaps, which rest for longer than a test takes.
    let of_lists: &[fn() -> (&'static str, Act)] = &[
        || ("400", acts::refusal(400, "no")),
        || ("401", acts::refusal(401, "no")),
        || ("403", acts::refusal(403, "no")),
        || ("404", acts::refusal(404, "no")),
    ];
    let of_stripe: &[fn() -> (&'static str, Act)] = &[
        || ("the first page again", acts::first_page()),
        || ("reversed", acts::reversed()),
    ];
    let mut all = faults.to_vec();
    if vendor != Vendor::Mixpanel {
        all.extend(of_lists);
    }
    if vendor == Vendor::Stripe {
        all.extend(of_stripe);
    }
    random.choice(all).unwrap()()
}

/// Bytes in the middle that no JSON has.
fn garbled(mut body: Vec<u8>) -> Vec<u8> {
    let middle = body.len() / 2;
    body.splice(middle..(middle + 3).min(body.len()), *b"}\0{");
    body
}

/// The vendor's clock is another one than it was.
fn clock(ahead: TimeDelta) -> Act {
    acts::change(move |_, answer| {
        answer.with(
            "date",
            (acts::now() + ahead)
                .format("%a, %d %b %Y %H:%M:%S GMT")
                .to_string(),
        )
    })
}

/// Syncs until nothing is missing.
fn settle(stage: &Stage, story: &mut String) {
    for _ in 0..MOST_RUNS {
        forget_limits(stage);
        let ran = stage.run(program(stage.path(), &["sync"]));
        let _ = write!(story, "\nsync -> {:?}", ran.code);
        match ran.code {
            Some(0) => return,
            Some(4) => {}
            _ => panic!("a sync without a fault failed\n{story}\n{}", ran.text),
        }
    }
    panic!("something is still missing\n{story}");
}

/// Forgets what earlier syncs have spent: an export that may be requested so often in a minute
/// would be waited for.
fn forget_limits(stage: &Stage) {
    let _ = fs::remove_dir_all(stage.path().join(".pipeline/limits"));
}

#[expect(clippy::disallowed_methods, reason = "another process works meanwhile")]
fn killed(mut child: Child, moment: Duration) {
    std::thread::sleep(moment);
    child.kill().unwrap();
    child.wait().unwrap();
}
