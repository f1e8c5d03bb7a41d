//! A running service, and what receives its alerts.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use crate::support::{Ran, Sandbox};

/// Longest time until something happens that has to happen. Long, because tests share the machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// Waits until it is true.
pub(super) async fn eventually(what: &str, mut is_true: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_true() {
        assert!(start.elapsed() < PATIENCE, "no {what} within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// `pipeline run` with its log in JSON.
pub(super) struct Running {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
    address: String,
    /// What requests show.
    pub(super) token: Option<String>,
}

impl Running {
    pub(super) fn start(sandbox: &Sandbox) -> Self {
        Self::start_with(sandbox, &[])
    }

    /// The same with further arguments.
    pub(super) fn start_with(sandbox: &Sandbox, further: &[&str]) -> Self {
        Self::start_in(sandbox, further, &[])
    }

    /// Starts it with an environment, and returns once it listens.
    pub(super) fn start_in(
        sandbox: &Sandbox,
        further: &[&str],
        environment: &[(&str, &str)],
    ) -> Self {
        Self::start_below(&[], sandbox, further, environment)
    }

    /// The same as an argument of another program.
    pub(super) fn start_below(
        before: &[&str],
        sandbox: &Sandbox,
        further: &[&str],
        environment: &[(&str, &str)],
    ) -> Self {
        let program = env!("CARGO_BIN_EXE_pipeline");
        let args = [before, &[program, "run", "--log-format", "json"], further].concat();
        let mut command = Command::new(args[0]);
        command.args(&args[1..]);
        sandbox.prepare(&mut command);
        let mut child = command
            .envs(environment.iter().copied())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let log: Arc<Mutex<Vec<String>>> = Arc::default();
        let mut address = None;
        while address.is_none() {
            let mut line = String::new();
            if stdout.read_line(&mut line).unwrap() == 0 {
                let mut stderr = String::new();
                child
                    .stderr
                    .take()
                    .unwrap()
                    .read_to_string(&mut stderr)
                    .unwrap();
                panic!("it ended before it listened: {stderr}");
            }
            let entry: Value = serde_json::from_str(&line).unwrap();
            if entry["message"] == "listening" {
                address = entry["address"].as_str().map(str::to_owned);
            }
            log.lock().unwrap().push(line);
        }
        let kept = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in stdout.lines() {
                kept.lock().unwrap().push(line.unwrap());
            }
        });
        Self {
            child,
            log,
            address: address.unwrap(),
            token: None,
        }
    }

    /// The entries of the log with this message.
    pub(super) fn lines(&self, message: &str) -> Vec<Value> {
        let log = self.log.lock().unwrap();
        let entries = log.iter().map(|line| {
            serde_json::from_str::<Value>(line).unwrap_or_else(|_| panic!("not JSON: {line}"))
        });
        entries
            .filter(|entry| entry["message"] == message)
            .collect()
    }

    pub(super) fn count(&self, message: &str) -> usize {
        self.lines(message).len()
    }

    /// Everything that was logged.
    pub(super) fn log(&self) -> String {
        self.log.lock().unwrap().join("\n")
    }

    /// Where the page is.
    pub(super) fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// Status and body of a page.
    pub(super) fn get(&self, path: &str) -> (u16, String) {
        self.send(&format!("GET {path}"))
    }

    /// Presses a button.
    pub(super) fn post(&self, path: &str) -> u16 {
        self.send(&format!("POST {path}")).0
    }

    /// Sends a webhook as Stripe does.
    pub(super) fn hook(&self, source: &str, signature: &str, body: &str) -> (u16, String) {
        let header = format!("Stripe-Signature: {signature}\r\n");
        self.send_with(&format!("POST /hooks/{source}"), &header, body)
    }

    fn send(&self, request: &str) -> (u16, String) {
        self.send_with(request, "", "")
    }

    fn send_with(&self, request: &str, headers: &str, body: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let bearer = match &self.token {
            Some(token) => format!("Authorization: Bearer {token}\r\n"),
            None => String::new(),
        };
        let host = &self.address;
        let text = format!(
            "{request} HTTP/1.1\r\nHost: {host}\r\n{bearer}{headers}Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(text.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        (status, body.to_owned())
    }

    pub(super) fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args([name, &id])
                .status()
                .unwrap()
                .success()
        );
    }

    /// Waits for its end.
    pub(super) fn wait(&mut self) -> Ran {
        let mut stderr = String::new();
        if let Some(mut pipe) = self.child.stderr.take() {
            pipe.read_to_string(&mut stderr).unwrap();
        }
        let status = self.child.wait().unwrap();
        Ran {
            code: status.code().unwrap_or(-1),
            stdout: self.log(),
            stderr,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A test that has failed leaves nothing behind.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Receives alerts on this machine.
pub(super) struct Receiver {
    address: String,
    received: Arc<Mutex<Vec<Value>>>,
}

impl Receiver {
    pub(super) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let received: Arc<Mutex<Vec<Value>>> = Arc::default();
        let kept = Arc::clone(&received);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if let Some(alert) = receive(stream.unwrap()) {
                    kept.lock().unwrap().push(alert);
                }
            }
        });
        Self { address, received }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What was received.
    pub(super) fn alerts(&self) -> Vec<Value> {
        self.received.lock().unwrap().clone()
    }

    /// The same in two words each; `slack` for a body in Slack's form.
    pub(super) fn events(&self) -> Vec<String> {
        let word = |alert: &Value| match (alert["event"].as_str(), alert["status"].as_str()) {
            (Some(event), Some(status)) => format!("{event} {status}"),
            _ if alert["text"].is_string() => "slack".to_owned(),
            _ => panic!("not an alert: {alert}"),
        };
        self.alerts().iter().map(word).collect()
    }
}

/// Reads one request, and answers that it was received.
fn receive(stream: TcpStream) -> Option<Value> {
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let line = line.trim().to_lowercase();
        if let Some(value) = line.strip_prefix("content-length: ") {
            length = value.parse().unwrap();
        }
        if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    reader.get_mut().write_all(answer.as_bytes()).ok()?;
    serde_json::from_slice(&body).ok()
}
