//! A folder with a configuration, the binary run in it, and what it leaves behind.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use pipeline_simulator::{Simulation, Simulator, StripeWorld};
use rusqlite::{Connection, OpenFlags};
use serde_json::Value;
use tempfile::TempDir;

/// The simulated account's key. It is looked for in everything that is written.
pub(crate) const KEY: &str = "sk_test_hush0hush1hush2";

/// A key of the same account that is to expire.
pub(crate) const OLD_KEY: &str = "sk_test_old0hush1hush2";

/// A whole number from the environment, which makes a test larger.
pub(crate) fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// What a run printed, and how it ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// Everything printed.
    pub(crate) fn text(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }

    /// The last event of `--output json`.
    pub(crate) fn finished(&self) -> Value {
        let last = self
            .stdout
            .lines()
            .last()
            .unwrap_or_else(|| panic!("no output: {self:?}"));
        serde_json::from_str(last).unwrap()
    }

    /// Fails unless the run ended with this code.
    #[track_caller]
    pub(crate) fn ended_with(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{}", self.text());
        self
    }
}

/// A folder of its own for one test.
pub(crate) struct Sandbox {
    pub(crate) folder: TempDir,
}

impl Sandbox {
    pub(crate) fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// Writes `pipeline.toml` for one Stripe source and this destination.
    pub(crate) fn configure(&self, simulator: &Simulator, destination: &str, streams: &[&str]) {
        let url = simulator.url();
        self.write(
            "pipeline.toml",
            &format!(
                "[destination]\n{destination}\n\n[sources.payments]\nconnector = \
                 \"stripe\"\napi_key = \"${{STRIPE_API_KEY}}\"\nbase_url = \"{url}\"\nrate_share = \
                 1.0\nstreams = {streams:?}\n\n[sync]\ncommit_interval = \"100ms\"\n"
            ),
        );
    }

    /// The binary in this folder, with the key in its environment.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pipeline"));
        command.args(args);
        self.prepare(&mut command);
        command
    }

    /// Sets folder and environment, so that nothing of the machine's own shows.
    pub(crate) fn prepare(&self, command: &mut Command) {
        command
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .env("STRIPE_API_KEY", KEY);
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
    }

    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        ran(self.command(args))
    }

    /// A sync that is left running, with its events on a pipe.
    pub(crate) fn spawn_sync(&self) -> Child {
        self.command(&["sync", "--output", "json"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// The ids in a table of the database, sorted; none when it is not there yet.
    pub(crate) fn ids(&self, table: &str) -> Vec<String> {
        ids(&self.path("warehouse.db"), table)
    }
}

/// The text without the lists of what there is to choose from, which grow with every connector and
/// destination.
pub(crate) fn without_lists(text: &str) -> String {
    const LISTS: [&str; 4] = [
        "known connectors: ",
        "known destinations: ",
        "known types: ",
        "known names: ",
    ];
    let cut = |line: &str| match LISTS
        .iter()
        .find_map(|list| Some(line.find(list)? + list.len()))
    {
        Some(end) => format!("{}…\n", &line[..end]),
        None => format!("{line}\n"),
    };
    text.lines().map(cut).collect()
}

pub(crate) fn ran(mut command: Command) -> Ran {
    let output = loop {
        match command.output() {
            // A copy of the program that another thread's child still holds open for writing, for
            // an instant.
            Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => {
                std::thread::yield_now();
            }
            output => break output.unwrap(),
        }
    };
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran {
        code: output.status.code().unwrap_or(-1),
        stdout: text(output.stdout),
        stderr: text(output.stderr),
    }
}

fn ids(database: &Path, table: &str) -> Vec<String> {
    if !database.exists() {
        return Vec::new();
    }
    let connection =
        Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    if !connection.table_exists(None, table).unwrap() {
        return Vec::new();
    }
    let mut statement = connection
        .prepare(&format!("SELECT id FROM {table} ORDER BY id"))
        .unwrap();
    statement
        .query_map([], |row| row.get(0))
        .unwrap()
        .map(Result::unwrap)
        .collect()
}

/// Changes the database behind the program's back.
pub(crate) fn execute(database: &Path, sql: &str) {
    Connection::open(database)
        .unwrap()
        .execute_batch(sql)
        .unwrap();
}

/// A simulated Stripe account.
pub(crate) fn stripe(charges: u64, customers: u64) -> Simulation {
    let stripe = StripeWorld {
        keys: [KEY, OLD_KEY].map(str::to_owned).to_vec(),
        charges,
        customers,
        others: 20,
        ..StripeWorld::default()
    };
    Simulation {
        stripe,
        ..Simulation::default()
    }
}

/// The destination used where its kind does not matter.
pub(crate) const SQLITE: &str = "type = \"sqlite\"\npath = \"warehouse.db\"";
