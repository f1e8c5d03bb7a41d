//! A person's walk through the page in a real browser: Chromium, driven over WebDriver. Skipped by
//! name where it is not installed. With `PIPELINE_SCREENSHOTS=FOLDER` it writes what it sees there.

use std::io::{BufRead, BufReader, Lines, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use pipeline_simulator::Simulator;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::configure;
use super::stage::{Running, eventually};
use crate::support::{KEY, Sandbox, stripe};

/// What tests of a page on this machine need, and nothing that calls other machines.
const ARGUMENTS: [&str; 9] = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1200,900",
];

struct Browser {
    driver: Child,
    _lines: Lines<BufReader<ChildStdout>>,
    port: u16,
    session: String,
    _profile: TempDir,
}

impl Browser {
    /// None where Chromium and its driver are not installed.
    fn start() -> Option<Self> {
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        // Kept open to the end: the driver writes more.
        let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
        let port = lines.by_ref().map_while(Result::ok).find_map(|line| {
            let rest = line.split("successfully on port ").nth(1)?;
            rest.trim_end_matches('.').parse().ok()
        });
        let profile = tempfile::tempdir().unwrap();
        let folder = format!("--user-data-dir={}", profile.path().display());
        let arguments: Vec<&str> = ARGUMENTS.into_iter().chain([folder.as_str()]).collect();
        let mut browser = Self {
            driver,
            _lines: lines,
            port: port.unwrap(),
            session: String::new(),
            _profile: profile,
        };
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "browserName": "chrome",
            "goog:loggingPrefs": { "browser": "ALL" },
            "goog:chromeOptions": { "args": arguments },
        } } });
        let created = browser.send("POST", "/session", &wanted);
        created["sessionId"]
            .as_str()
            .unwrap_or_else(|| panic!("no session: {created}"))
            .clone_into(&mut browser.session);
        Some(browser)
    }

    fn send(&self, method: &str, path: &str, body: &Value) -> Value {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let body = body.to_string();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        // The driver keeps the connection open, whatever it is asked for.
        let mut reader = BufReader::new(stream);
        let mut length = 0;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            let line = line.trim().to_lowercase();
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            if line.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let body: Value = serde_json::from_slice(&body).unwrap();
        body["value"].clone()
    }

    fn command(&self, command: &str, body: &Value) -> Value {
        self.send(
            "POST",
            &format!("/session/{}/{command}", self.session),
            body,
        )
    }

    fn open(&self, url: &str) {
        self.command("url", &json!({ "url": url }));
    }

    /// Runs a function body in the page.
    fn script(&self, script: &str) -> Value {
        self.command("execute/sync", &json!({ "script": script, "args": [] }))
    }

    fn text(&self) -> String {
        let text = self.script("return document.body.innerText");
        text.as_str().unwrap_or_default().to_owned()
    }

    /// Presses keys, as a person does who has no mouse.
    fn keys(&self, keys: &[char]) {
        let press = |key: &char| {
            [
                json!({ "type": "keyDown", "value": key.to_string() }),
                json!({ "type": "keyUp", "value": key.to_string() }),
            ]
        };
        let actions: Vec<Value> = keys.iter().flat_map(press).collect();
        self.command(
            "actions",
            &json!({ "actions": [{ "type": "key", "id": "keyboard", "actions": actions }] }),
        );
    }

    /// Clicks what a selector finds. An element that was replaced meanwhile is looked for again.
    fn click(&self, selector: &str) {
        let wanted = json!({ "using": "css selector", "value": selector });
        let mut last = Value::Null;
        for _ in 0..5 {
            last = self.command("element", &wanted);
            let element = last.as_object().and_then(|element| element.values().next());
            if let Some(id) = element.and_then(Value::as_str) {
                last = self.command(&format!("element/{id}/click"), &json!({}));
            }
            if last.is_null() {
                return;
            }
        }
        panic!("{selector} cannot be clicked: {last}");
    }

    fn look(&self, dark: bool, width: u32, height: u32) {
        let devtools = |command: &str, parameters: Value| {
            self.command(
                "goog/cdp/execute",
                &json!({ "cmd": command, "params": parameters }),
            )
        };
        let scheme = if dark { "dark" } else { "light" };
        devtools(
            "Emulation.setEmulatedMedia",
            json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] }),
        );
        devtools(
            "Emulation.setDeviceMetricsOverride",
            json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600 }),
        );
    }

    fn screenshot(&self, name: &str) {
        let Ok(folder) = std::env::var("PIPELINE_SCREENSHOTS") else {
            return;
        };
        let path = format!("/session/{}/screenshot", self.session);
        let image = self.send("GET", &path, &json!({}));
        let image = base64::prelude::BASE64_STANDARD
            .decode(image.as_str().unwrap())
            .unwrap();
        std::fs::write(format!("{folder}/{name}.png"), image).unwrap();
    }

    /// What the page has complained of.
    fn complaints(&self) -> Vec<String> {
        let log = self.command("se/log", &json!({ "type": "browser" }));
        let entries = log.as_array().cloned().unwrap_or_default();
        entries
            .iter()
            .map(|entry| entry["message"].as_str().unwrap_or_default().to_owned())
            .collect()
    }

    /// The id of what has the focus.
    fn focus(&self) -> String {
        let id = self.script("return document.activeElement.id");
        id.as_str().unwrap_or_default().to_owned()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let path = format!("/session/{}", self.session);
        if !std::thread::panicking() {
            self.send("DELETE", &path, &json!({}));
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

const TAB: char = '\u{E004}';
const ENTER: char = '\u{E007}';

#[tokio::test(flavor = "multi_thread")]
async fn a_person_walks_through_the_page() {
    let Some(browser) = Browser::start() else {
        println!("skipped a_person_walks_through_the_page: Chromium is not installed");
        return;
    };
    let mut simulation = stripe(4_000, 60);
    simulation.latency = Duration::from_millis(40);
    let simulator = Simulator::start(simulation).await.unwrap();
    let sandbox = Sandbox::new();
    let second = format!(
        "[sources.shop]\nconnector = \"stripe\"\napi_key = \"file:other\"\nbase_url = \"{}\"\nstreams = [\"customers\"]\n",
        simulator.url()
    );
    sandbox.write("other", KEY);
    configure(
        &sandbox,
        &simulator,
        "schedule = \"0 3 1 1 *\"\ntimezone = \"Europe/Berlin\"",
        &second,
    );
    let mut running = Running::start(&sandbox);
    let url = running.url();

    // Empty, in the light; then a run is started with the keyboard alone.
    browser.look(false, 1200, 800);
    browser.open(&url);
    eventually("the page", || browser.text().contains("no data yet")).await;
    browser.screenshot("page-empty");
    for _ in 0..20 {
        if browser.focus() == "payments-run" {
            break;
        }
        browser.keys(&[TAB]);
    }
    assert_eq!(
        browser.focus(),
        "payments-run",
        "it cannot be reached with the keyboard"
    );
    browser.keys(&[ENTER]);
    eventually("the run, without a reload", || {
        browser.text().contains("running")
    })
    .await;
    eventually("its budget", || {
        let text = browser.text();
        text.contains("account: 25 requests/s") && !text.contains("\n0 records read")
    })
    .await;
    browser.look(true, 1200, 800);
    browser.screenshot("page-running");
    eventually("its end, without a reload", || {
        browser.text().contains("up to date")
    })
    .await;

    // The source's own page.
    browser.look(false, 1200, 1000);
    browser.click("a[href='/sources/payments']");
    eventually("the streams", || browser.text().contains("4\u{202F}000")).await;
    eventually("the runs", || browser.text().contains("done")).await;
    browser.click("#payments-pause");
    eventually("the pause", || browser.text().contains("paused")).await;
    browser.screenshot("page-source");
    browser.click("#payments-resume");
    eventually("the end of it", || !browser.text().contains("paused")).await;

    // A refused key, and the same on a phone.
    sandbox.write("other", "sk_test_wrong0hush9");
    browser.open(&url);
    browser.click("#shop-run");
    eventually("the failure", || {
        browser.text().contains("credentials refused")
    })
    .await;
    browser.look(false, 1200, 800);
    browser.screenshot("page-failing");
    browser.look(true, 390, 844);
    browser.screenshot("page-phone");
    let overflow =
        browser.script("return document.documentElement.scrollWidth - window.innerWidth");
    assert!(
        overflow.as_i64().unwrap() <= 0,
        "it is wider than a phone by {overflow}"
    );
    assert_eq!(browser.complaints(), [] as [&str; 0]);

    // The page says so when the service is gone.
    running.signal("-TERM");
    assert_eq!(running.wait().code, 0);
    eventually("the loss", || browser.text().contains("connection lost")).await;
}
