//! A real Postgres server for tests: made when the first test needs it, and gone when the process
//! that made it ends in whatever way.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "this is test code, which waits for other processes"
)]

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::destination_suite::Scratch;

/// Where Debian, and others, install the server's programs.
const FOLDERS: &str = "/usr/lib/postgresql";

/// Environment variable with the folder of the server's programs, for another release than the one
/// installed.
const PROGRAMS: &str = "PIPELINE_POSTGRES_BIN";

/// Makes a cluster and runs it until standard input ends, which it does with the process that made
/// it. The first line that it prints has the folder and the number of the server's process.
const SCRIPT: &str = r#"
set -e
bin=$1 port=$2 fsync=$3
dir=$(mktemp -d "${TMPDIR:-/tmp}/pipeline-postgres-XXXXXX")
stop() {
    kill -QUIT "$(cat "$dir/pid")" 2>/dev/null || true
    wait
    rm -rf "$dir"
}
trap stop EXIT
trap 'exit 1' HUP INT TERM
"$bin/initdb" -D "$dir/data" -U postgres --auth=trust --no-sync -E UTF8 --locale=C.UTF-8 >"$dir/initdb.log" 2>&1
start() {
    "$bin/postgres" -D "$dir/data" -p "$port" -c listen_addresses=127.0.0.1 -c unix_socket_directories="$dir" \
        -c fsync="$fsync" -c full_page_writes="$fsync" -c autovacuum=off -c max_connections=200 -c max_wal_size=256MB \
        -c shared_buffers=64MB -c track_functions=none -c log_min_messages=fatal >>"$dir/log" 2>&1 &
    echo $! >"$dir/pid"
}
start
echo "$dir"
while read -r command; do
    case $command in
        start) start; echo started;;
        # A process that nobody has asked after is taken for one that runs.
        reap) wait "$(cat "$dir/pid")" || true; echo reaped;;
    esac
done
"#;

/// A running server.
#[derive(Debug)]
pub struct Cluster {
    shell: Child,
    answers: BufReader<std::process::ChildStdout>,
    /// Its folder, with `data` in it.
    pub dir: PathBuf,
    /// Where it listens.
    pub port: u16,
}

/// Where the server's programs are; none: it is not installed.
pub fn programs() -> Option<PathBuf> {
    if let Some(bin) = std::env::var_os(PROGRAMS) {
        return Some(PathBuf::from(bin));
    }
    let mut versions: Vec<PathBuf> = std::fs::read_dir(FOLDERS)
        .ok()?
        .map(|entry| entry.unwrap().path().join("bin"))
        .filter(|bin| bin.join("initdb").exists())
        .collect();
    versions.sort();
    versions.pop()
}

/// Why nothing can be tested here; none: a server can be started.
pub fn missing() -> Option<String> {
    programs()
        .is_none()
        .then(|| format!("no postgres server (nothing in {FOLDERS})"))
}

/// A command that is run as another user where this one is root, whom the server refuses.
pub fn as_other_user(program: &str) -> Command {
    if !rustix::process::geteuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args([
        "--reuid=postgres",
        "--regid=postgres",
        "--clear-groups",
        program,
    ]);
    command
}

/// A port that nobody listens on.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

impl Cluster {
    /// Makes a server. Without `fsync` it is quicker, and what it has written does not survive the
    /// machine, which no test turns off.
    pub fn start(fsync: bool) -> Self {
        let (bin, port) = (programs().expect("postgres is installed"), free_port());
        let mut shell = as_other_user("sh")
            .args(["-c", SCRIPT, "sh"])
            .arg(bin)
            .arg(port.to_string())
            .arg(if fsync { "on" } else { "off" })
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut answers = BufReader::new(shell.stdout.take().unwrap());
        let mut dir = String::new();
        answers.read_line(&mut dir).unwrap();
        let cluster = Self {
            shell,
            answers,
            dir: PathBuf::from(dir.trim()),
            port,
        };
        let is_up = cluster.answers_within(Duration::from_mins(1));
        assert!(is_up, "the server does not start: {}", cluster.log());
        cluster
    }

    /// The server of all tests that do nothing to it.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Cluster> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(false))
    }

    /// Waits until it takes connections.
    fn answers_within(&self, time: Duration) -> bool {
        let started = Instant::now();
        while !self.psql("postgres", "SELECT 1").status.success() {
            if started.elapsed() > time {
                return false;
            }
            pause(Duration::from_millis(50));
        }
        true
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    /// The URL of one of its databases.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// Makes an empty database, which is dropped with what is returned.
    pub fn database(&'static self) -> Scratch {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("t{}_{number}", std::process::id());
        self.run("postgres", &format!("CREATE DATABASE {name}"));
        Scratch::new(
            self.url(&name),
            Dropped {
                cluster: self,
                name,
            },
        )
    }

    /// Runs statements in a database.
    pub fn run(&self, database: &str, sql: &str) -> String {
        let output = self.psql(database, sql);
        assert!(
            output.status.success(),
            "{sql}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn psql(&self, database: &str, sql: &str) -> std::process::Output {
        let bundled = programs().unwrap().join("psql");
        // A package of the server alone comes without its client.
        let psql = if bundled.exists() {
            bundled
        } else {
            PathBuf::from("psql")
        };
        Command::new(psql)
            .args([
                "-XqAt",
                "-v",
                "ON_ERROR_STOP=1",
                "-d",
                &self.url(database),
                "-c",
                sql,
            ])
            .output()
            .unwrap()
    }

    /// Kills the server as a crash of its machine would.
    pub fn kill(&mut self) {
        let read = || std::fs::read_to_string(self.dir.join("data/postmaster.pid")).unwrap();
        let pid = read().lines().next().unwrap().to_owned();
        let killed = Command::new("kill").args(["-KILL", &pid]).status().unwrap();
        assert!(killed.success());
        self.tell("reap");
    }

    /// Starts it again after it was killed.
    pub fn restart(&mut self) {
        // Its children go by themselves, a moment after it, and keep another server from starting
        // until then.
        for _ in 0..3 {
            pause(Duration::from_millis(1_500));
            self.tell("start");
            if self.answers_within(Duration::from_secs(10)) {
                return;
            }
            self.tell("reap");
        }
        panic!("the server does not start again: {}", self.log());
    }

    fn tell(&mut self, command: &str) {
        use std::io::Write as _;
        writeln!(self.shell.stdin.as_mut().unwrap(), "{command}").unwrap();
        self.answers.read_line(&mut String::new()).unwrap();
    }

    /// Where a text is in the files of a database; none: nowhere.
    pub fn find(&self, database: &str, text: &str) -> Option<String> {
        self.run("postgres", "CHECKPOINT");
        let oid = self.run(
            "postgres",
            &format!("SELECT oid FROM pg_database WHERE datname = '{database}'"),
        );
        let holds = |path: &PathBuf| {
            std::fs::read(path)
                .unwrap_or_default()
                .windows(text.len())
                .any(|window| window == text.as_bytes())
        };
        files(&self.dir.join("data/base").join(oid))
            .into_iter()
            .find(holds)
            .map(|path| path.display().to_string())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
    }
}

/// Waits for another process.
pub fn pause(time: Duration) {
    std::thread::sleep(time);
}

struct Dropped {
    cluster: &'static Cluster,
    name: String,
}

impl Drop for Dropped {
    fn drop(&mut self) {
        let sql = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        let _ = self.cluster.psql("postgres", &sql);
    }
}

fn files(dir: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect()
}

/// The database of a URL.
pub fn database_of(url: &str) -> &str {
    url.rsplit('/').next().unwrap()
}
