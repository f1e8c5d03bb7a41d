//! One day of Mixpanel's events, however many: its memory is bounded, and it is there once, however
//! often it was killed.
//!
//! `PIPELINE_DAY_EVENTS=7300000 cargo test --release -p pipeline-cli --test acceptance day_ -- --nocapture --test-threads 1`
//! is a day of five gigabytes. It needs room for temporary files and for what is stored, prints
//! time, processor and memory, and runs each destination four times.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::RowAccessor;
use pipeline_simulator::{MixpanelWorld, Simulation, Simulator};
use pipeline_testkit::acceptance::setting;
use rusqlite::Connection;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

/// The only day that has events, and as the configuration has it.
const DAY: &str = "2026-10-31";

/// Most memory that a sync may hold, in KiB.
const MEMORY: u64 = 200 << 10;

#[tokio::test(flavor = "multi_thread")]
async fn c13_day_to_sqlite() {
    day("type = \"sqlite\"\npath = \"web.db\"", |folder| {
        let database = Connection::open(folder.join("web.db")).unwrap();
        if !database.table_exists(None, "web_export").unwrap() {
            return Vec::new();
        }
        let mut statement = database
            .prepare("SELECT insert_id FROM web_export")
            .unwrap();
        statement
            .query_map([], |row| row.get(0))
            .unwrap()
            .map(Result::unwrap)
            .collect()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn c13_day_to_parquet() {
    day("type = \"parquet\"\npath = \"lake\"", |folder| {
        let files = fs::read_dir(folder.join("lake/web/export"))
            .into_iter()
            .flatten();
        files
            .flat_map(|file| insert_ids(&file.unwrap().path()))
            .collect()
    })
    .await;
}

fn insert_ids(file: &Path) -> Vec<String> {
    let reader = SerializedFileReader::new(fs::File::open(file).unwrap()).unwrap();
    let schema = reader.metadata().file_metadata().schema();
    let columns = schema
        .get_fields()
        .iter()
        .filter(|field| field.name() == "insert_id")
        .cloned()
        .collect();
    let only = parquet::schema::types::Type::group_type_builder(schema.name())
        .with_fields(columns)
        .build()
        .unwrap();
    reader
        .get_row_iter(Some(only))
        .unwrap()
        .map(|row| row.unwrap().get_string(0).unwrap().clone())
        .collect()
}

/// Reads the day once, and once more with two kills on the way.
async fn day(destination: &str, stored: impl Fn(&Path) -> Vec<String>) {
    let events_per_day = setting("PIPELINE_DAY_EVENTS", 10_000);
    let mixpanel = MixpanelWorld {
        days: 1,
        events_per_day,
        ..MixpanelWorld::default()
    };
    let simulator = Simulator::start(Simulation {
        mixpanel,
        ..Simulation::default()
    })
    .await
    .unwrap();
    let truth = simulator.truth().ids("export");

    let folder = configured(&simulator, destination);
    let (cost, ended) = Sync::start(folder.path()).end().await;
    assert!(ended, "the sync failed");
    println!(
        "{events_per_day} events: {:.1} s, {:.1} s of processor, {} MiB at most; {} MiB stored",
        cost.wall.as_secs_f64(),
        cost.processor,
        cost.memory >> 10,
        size(folder.path()) >> 20,
    );
    same(stored(folder.path()), &truth);
    assert!(cost.memory < MEMORY, "{} KiB", cost.memory);
    drop(folder);

    let folder = configured(&simulator, destination);
    let mut killed = 0;
    for part in [0.4, 0.8] {
        let mut sync = Sync::start(folder.path());
        sleep(cost.wall.mul_f64(part)).await;
        killed += u32::from(sync.kill());
        let found = stored(folder.path());
        assert!(
            found.is_empty() || found.len() == truth.len(),
            "a part of the day is visible: {}",
            found.len()
        );
    }
    let (again, ended) = Sync::start(folder.path()).end().await;
    assert!(ended && killed > 0, "killed {killed} times");
    println!(
        "killed {killed} times on the way, then {:.1} s and {} MiB",
        again.wall.as_secs_f64(),
        again.memory >> 10
    );
    same(stored(folder.path()), &truth);
    assert!(again.memory < MEMORY, "{} KiB", again.memory);
    simulator.stop().await;
}

fn same(mut stored: Vec<String>, truth: &[String]) {
    stored.sort_unstable();
    assert!(
        stored == truth,
        "{} rows instead of {}",
        stored.len(),
        truth.len()
    );
}

fn configured(simulator: &Simulator, destination: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let MixpanelWorld {
        project_id,
        username,
        secret,
        ..
    } = MixpanelWorld::default();
    let source = format!(
        "[sources.web]\nconnector = \"mixpanel\"\nproject_id = {project_id}\nusername = \
         \"{username}\"\nsecret = \"{secret}\"\nbase_url = \"{}\"\nstart_date = \
         \"{DAY}\"\nend_date = \"{DAY}\"\nstreams = [\"export\"]\n",
        simulator.url()
    );
    fs::write(
        folder.path().join("pipeline.toml"),
        format!("[destination]\n{destination}\n\n{source}"),
    )
    .unwrap();
    folder
}

fn size(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    entries
        .map(|path| {
            if path.is_dir() {
                size(&path)
            } else {
                fs::metadata(path).unwrap().len()
            }
        })
        .sum()
}

/// What a sync took.
pub(crate) struct Cost {
    pub(crate) wall: Duration,
    /// Seconds of processor time of all threads.
    pub(crate) processor: f64,
    /// The most memory held, in KiB.
    pub(crate) memory: u64,
}

/// A sync in a process of its own.
pub(crate) struct Sync {
    child: Child,
    started: Instant,
}

impl Sync {
    pub(crate) fn start(folder: &Path) -> Sync {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pipeline"));
        command
            .arg("sync")
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        for name in [
            "PIPELINE_CONFIG",
            "http_proxy",
            "HTTP_PROXY",
            "ALL_PROXY",
            "all_proxy",
        ] {
            command.env_remove(name);
        }
        Sync {
            child: command.spawn().unwrap(),
            started: Instant::now(),
        }
    }

    /// Waits until it ends. The system keeps the peak of memory, so that only its last moment is
    /// missed.
    pub(crate) async fn end(mut self) -> (Cost, bool) {
        let mut cost = Cost {
            wall: Duration::ZERO,
            processor: 0.0,
            memory: 0,
        };
        loop {
            let process = format!("/proc/{}", self.child.id());
            if let Some(status) = self.child.try_wait().unwrap() {
                cost.wall = self.started.elapsed();
                return (cost, status.success());
            }
            let (status, line) = (
                read(&format!("{process}/status")),
                read(&format!("{process}/stat")),
            );
            let peak = status
                .lines()
                .find_map(|line| line.strip_prefix("VmHWM:"))
                .unwrap_or_default();
            cost.memory = cost
                .memory
                .max(peak.trim().trim_end_matches(" kB").parse().unwrap_or(0));
            // User and system time, in hundredths of a second.
            let fields = line
                .rsplit(')')
                .next()
                .unwrap_or_default()
                .split_whitespace();
            let ticks: f64 = fields
                .skip(11)
                .take(2)
                .filter_map(|field| field.parse::<f64>().ok())
                .sum();
            cost.processor = cost.processor.max(ticks / 100.0);
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Kills it; false when it had ended.
    pub(crate) fn kill(&mut self) -> bool {
        let runs = self.child.try_wait().unwrap().is_none();
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        runs
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}
