//! Runs a scenario with the real program, and checks what must hold after every fault.

use std::cell::RefCell;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::LazyLock;
use std::time::Duration;

use pipeline_simulator::{Simulation, Simulator};
use pipeline_testkit::Secrets;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::time::Instant;

use crate::between::Between;
use crate::place::Place;
use crate::rows;
use crate::scenario::{KEY, Scenario};

/// The longest time of one run. No fault of the table lasts longer.
const PATIENCE: Duration = Duration::from_mins(2);
/// How often it is looked whether a run has ended.
const LOOK: Duration = Duration::from_millis(5);

/// One runtime serves all simulated vendors.
pub(crate) static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());

/// What a run printed, and how it ended.
#[derive(Debug)]
pub(crate) struct Ran {
    /// None when it was ended by a signal.
    pub(crate) code: Option<i32>,
    pub(crate) text: String,
}

/// A scenario's vendor, the server in front of it, and a folder.
pub(crate) struct Stage {
    pub(crate) scenario: Scenario,
    pub(crate) simulator: Simulator,
    pub(crate) between: Between,
    pub(crate) place: Place,
    folder: TempDir,
    /// Everything that was printed.
    printed: RefCell<String>,
}

/// Runs a scenario from its beginning to its end.
pub(crate) fn play(scenario: &Scenario) {
    let stage = Stage::new(scenario);
    if scenario.prepared {
        stage.sync(&[]);
    }
    stage.between.set(scenario.troubles.clone());
    if let Some(deed) = scenario.before {
        deed(stage.path());
    }
    stage.fault();
    stage.lift();
    stage.ends_well();
}

impl Stage {
    /// Starts the vendor, and writes the configuration.
    pub(crate) fn new(scenario: &Scenario) -> Self {
        Self::of(scenario, scenario.simulation())
    }

    /// Starts this vendor in the place of the scenario's own.
    pub(crate) fn of(scenario: &Scenario, simulation: Simulation) -> Self {
        let simulator = RUNTIME.block_on(Simulator::start(simulation)).unwrap();
        let between = Between::start(&simulator.url());
        let folder = tempfile::tempdir().unwrap();
        let place = Place::of(scenario.store);
        fs::write(
            folder.path().join("pipeline.toml"),
            scenario.configuration(&between.url(), &place.members(scenario.store)),
        )
        .unwrap();
        Self {
            scenario: scenario.clone(),
            simulator,
            between,
            place,
            folder,
            printed: RefCell::default(),
        }
    }

    /// The folder with the configuration and the destination.
    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The run that meets the fault.
    fn fault(&self) {
        let scenario = &self.scenario;
        let before = self.between.requests();
        let args = if scenario.args.is_empty() {
            &["sync"][..]
        } else {
            &scenario.args
        };
        let mut command = program(self.path(), args);
        if let Some(shell) = scenario.shell {
            command = behind(shell, &command);
        }
        command.envs(scenario.env.iter().copied());
        let ran = self.run(command);
        self.between.has_troubled();
        self.reacted(&ran, self.between.requests() - before);
        for (query, result) in &scenario.stores {
            assert_eq!(
                rows::query(self.path(), query),
                *result,
                "{query}\n{}",
                ran.text
            );
        }
        for stream in &scenario.unharmed {
            assert_eq!(
                rows::ids(self, stream),
                self.truth(stream),
                "{stream} is not whole although the fault is not its own\n{}",
                ran.text
            );
        }
    }

    /// The exit code, the words (I6), and the number of requests (I4).
    fn reacted(&self, ran: &Ran, requests: usize) {
        let scenario = &self.scenario;
        let text = &ran.text;
        assert!(
            ran.code.is_some_and(|code| scenario.exits.contains(&code)),
            "ended with {:?} and not {:?}\n{text}",
            ran.code,
            scenario.exits
        );
        let lower = text.to_lowercase();
        let is_failure = ran.code != Some(0);
        let hides = scenario
            .hides
            .iter()
            .copied()
            .chain(["this is a defect", "panicked"]);
        let missing: Vec<_> = scenario
            .says
            .iter()
            .filter(|said| !lower.contains(&said.to_lowercase()))
            .collect();
        assert!(missing.is_empty(), "does not say {missing:?}\n{text}");
        let told: Vec<_> = hides
            .filter(|hidden| lower.contains(&hidden.to_lowercase()))
            .collect();
        assert!(told.is_empty(), "says {told:?}\n{text}");
        assert!(
            !is_failure
                || ["error", "failed", "interrupted", "left", "time is up"]
                    .iter()
                    .any(|word| lower.contains(word)),
            "a failure without a word\n{text}"
        );
        let most = scenario.most_requests;
        assert!(
            (scenario.fewest_requests..=most).contains(&requests),
            "{requests} requests\n{text}\n{:#?}",
            self.between.asked()
        );
    }

    /// The fault is over, and so is what it left behind.
    pub(crate) fn lift(&self) {
        self.between.set(Vec::new());
        if let Some(deed) = self.scenario.repair {
            deed(self.path());
        }
    }

    /// Another sync reads what is missing (I1), doubles nothing (I2), and stores what a sync stores
    /// that met no fault (I7); and nothing that was written holds the secret (I5).
    pub(crate) fn ends_well(&self) {
        self.ends_well_but_for(|_| false);
    }

    /// The same, where some columns may depend on when a row was read.
    pub(crate) fn ends_well_but_for(&self, is_late: fn(&str) -> bool) {
        let after = self.sync(&self.scenario.resumes);
        let clean = tempfile::tempdir().unwrap();
        fs::copy(
            self.path().join("pipeline.toml"),
            clean.path().join("pipeline.toml"),
        )
        .unwrap();
        succeeds(&self.run(program(clean.path(), &["sync"])));
        for stream in &self.scenario.streams {
            let (found, truth) = (rows::ids(self, stream), self.truth(stream));
            assert!(
                found == truth,
                "{stream}: {} rows, but the account has {}\n{}",
                found.len(),
                truth.len(),
                after.text
            );
            let contents = |folder| rows::without(rows::contents(self, folder, stream), is_late);
            let (found, expected) = (contents(self.path()), contents(clean.path()));
            let difference = found
                .iter()
                .zip(&expected)
                .find(|(found, expected)| found != expected);
            assert!(
                found == expected,
                "{stream} differs from a sync without the fault: {difference:#?}"
            );
        }
        self.keeps_its_secrets();
    }

    fn keeps_its_secrets(&self) {
        let secrets = Secrets::new([KEY.to_owned()]);
        let leak = secrets.leak(&self.printed.borrow());
        assert_eq!(leak, None, "a secret was printed");
        let mut folders = vec![self.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let leak = secrets.leak(&String::from_utf8_lossy(&fs::read(&path).unwrap()));
                    assert_eq!(leak, None, "a secret is in {}", path.display());
                }
            }
        }
    }

    /// What the account has.
    pub(crate) fn truth(&self, stream: &str) -> Vec<String> {
        self.simulator.truth().ids(stream)
    }

    /// A sync that must end well.
    pub(crate) fn sync(&self, more: &[&str]) -> Ran {
        let ran = self.run(program(self.path(), &[&["sync"], more].concat()));
        succeeds(&ran);
        ran
    }

    /// Runs a command to its end, and ends one that does not end.
    pub(crate) fn run(&self, mut command: Command) -> Ran {
        let [stdout, stderr] =
            ["stdout", "stderr"].map(|name| self.path().join(format!(".{name}")));
        command
            .stdout(fs::File::create(&stdout).unwrap())
            .stderr(fs::File::create(&stderr).unwrap());
        let status = wait(command.spawn().unwrap());
        let text = [stdout, stderr]
            .map(|file| String::from_utf8_lossy(&fs::read(file).unwrap()).into_owned())
            .concat();
        self.printed.borrow_mut().push_str(&text);
        let status =
            status.unwrap_or_else(|| panic!("a run did not end within {PATIENCE:?}\n{text}"));
        Ran {
            code: status.code(),
            text,
        }
    }
}

fn succeeds(ran: &Ran) {
    assert_eq!(
        ran.code,
        Some(0),
        "a sync without a fault failed\n{}",
        ran.text
    );
}

/// The program in a folder, with the secret in its environment and nothing of the machine's own.
/// Everything is logged.
pub(crate) fn program(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pipeline"));
    command
        .args(args)
        .current_dir(folder)
        .stdin(Stdio::null())
        .env("SECRET", KEY);
    if args.first() == Some(&"sync") {
        command.args(["--log-requests", "requests.log"]);
    }
    for name in [
        "COLUMNS",
        "PIPELINE_CONFIG",
        "RUST_BACKTRACE",
        "http_proxy",
        "HTTP_PROXY",
        "ALL_PROXY",
        "all_proxy",
    ] {
        command.env_remove(name);
    }
    command
}

/// The same command behind one of a shell.
pub(crate) fn behind(shell: &str, command: &Command) -> Command {
    let mut shelled = Command::new("sh");
    shelled
        .args(["-c", &format!("{shell}; exec \"$0\" \"$@\"")])
        .arg(command.get_program())
        .args(command.get_args());
    shelled
        .current_dir(command.get_current_dir().unwrap())
        .stdin(Stdio::null());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => shelled.env(name, value),
            None => shelled.env_remove(name),
        };
    }
    shelled
}

/// How a process ended; none when it had to be ended.
#[expect(clippy::disallowed_methods, reason = "waits for another process")]
pub(crate) fn wait(mut child: Child) -> Option<ExitStatus> {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status);
        }
        std::thread::sleep(LOOK);
    }
    child.kill().unwrap();
    child.wait().unwrap();
    None
}
