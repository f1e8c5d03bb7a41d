//! `pipeline run` as a process: schedules, kills, broken destinations, refused keys, signals.

mod browser;
mod hooks;
mod settings;
mod stage;

use std::time::Duration;

use pipeline_simulator::Simulator;
use serde_json::Value;
use tokio::time::Instant;

use self::stage::{Receiver, Running, eventually};
use crate::support::{KEY, SQLITE, Sandbox, stripe};

/// Writes a configuration with one Stripe source that reads its key from a file.
fn configure(sandbox: &Sandbox, simulator: &Simulator, timing: &str, further: &str) {
    let url = simulator.url();
    sandbox.write("key", KEY);
    sandbox.write(
        "pipeline.toml",
        &format!(
            "[destination]\n{SQLITE}\n\n[sources.payments]\nconnector = \"stripe\"\napi_key = \"file:key\"\n\
             base_url = \"{url}\"\nrate_share = 1.0\nstreams = [\"charges\", \"customers\"]\n{timing}\n\n\
             [sync]\ncommit_interval = \"100ms\"\n\n[run]\nlisten = \"127.0.0.1:0\"\njitter = \"0s\"\n{further}"
        ),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn it_runs_by_itself_and_stops_within_two_seconds() {
    let simulator = Simulator::start(stripe(300, 20)).await.unwrap();
    let sandbox = Sandbox::new();
    // Two sources that write into one file at the same time.
    let second = format!(
        "[sources.shop]\nconnector = \"stripe\"\napi_key = \"file:key\"\nbase_url = \"{}\"\nstreams = [\"customers\"]\nevery = \"1s\"\n",
        simulator.url()
    );
    configure(&sandbox, &simulator, "every = \"1s\"", &second);
    let mut running = Running::start(&sandbox);
    eventually("six runs", || running.count("run ended") >= 6).await;
    for ended in running.lines("run ended") {
        assert_eq!(ended["result"], "done", "{ended}");
    }
    assert_eq!(
        sandbox.ids("payments_charges"),
        simulator.truth().ids("charges")
    );
    assert_eq!(running.get("/health"), (200, "alive\n".to_owned()));
    assert_eq!(running.get("/ready"), (200, "ready\n".to_owned()));
    let (status, metrics) = running.get("/metrics");
    assert_eq!(status, 200);
    let line = |start: &str| {
        let found = metrics.lines().find(|line| line.starts_with(start));
        found
            .unwrap_or_else(|| panic!("{start} in {metrics}"))
            .to_owned()
    };
    let rows = line("pipeline_stream_rows{source=\"payments\",stream=\"charges\"}");
    assert!(rows.ends_with(" 300"), "{rows}");
    line("pipeline_requests_total{source=\"payments\",endpoint=\"charges\",status=\"2xx\"}");
    let (status, page) = running.get("/sources/payments");
    assert!(status == 200 && page.contains("charges"), "{page}");
    let stopped = Instant::now();
    running.signal("-TERM");
    let ended = running.wait();
    assert_eq!(ended.code, 0, "{}", ended.text());
    assert!(
        stopped.elapsed() < Duration::from_secs(2),
        "{:?}",
        stopped.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_in_the_log_names_run_endpoint_and_the_vendors_id() {
    let simulator = Simulator::start(stripe(10, 5)).await.unwrap();
    let sandbox = Sandbox::new();
    configure(&sandbox, &simulator, "every = \"1h\"", "");
    let mut running = Running::start_with(&sandbox, &["--log-level", "debug"]);
    eventually("a run", || running.count("run ended") >= 1).await;
    let request = running
        .lines("request")
        .into_iter()
        .find(|line| line["endpoint"] == "charges")
        .unwrap();
    let spans: Vec<&str> = request["spans"]
        .as_array()
        .unwrap()
        .iter()
        .map(|span| span["name"].as_str().unwrap())
        .collect();
    assert_eq!(spans, ["run", "endpoint", "request"], "{request}");
    assert_eq!(request["spans"][0]["source"], "payments");
    assert!(request["spans"][0]["run"].is_string(), "{request}");
    assert_eq!(request["spans"][1]["endpoint"], "charges", "{request}");
    let id = request["spans"][2]["request_id"].as_str().unwrap();
    assert!(id.starts_with("req_"), "{request}");
    running.signal("-INT");
    assert_eq!(running.wait().code, 0);
}

/// A program that reads the log must not meet text among the entries, nor beside them.
#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn a_warning_is_an_entry_of_the_log() {
    use std::os::unix::fs::PermissionsExt as _;
    let simulator = Simulator::start(stripe(10, 5)).await.unwrap();
    let sandbox = Sandbox::new();
    configure(&sandbox, &simulator, "every = \"1h\"", "max_wait = \"30s\"");
    let path = sandbox.path("pipeline.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("file:key", KEY)).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let mut running = Running::start(&sandbox);
    let warning = "pipeline.toml contains a secret, and every user of this machine can read it";
    let entry = running.lines(warning).into_iter().next();
    let entry = entry.unwrap_or_else(|| panic!("{}", running.log()));
    assert_eq!(entry["level"], "WARN", "{entry}");
    assert!(
        entry["shown"].as_str().unwrap().contains("chmod 600"),
        "{entry}"
    );
    assert!(!running.log().contains(KEY), "{}", running.log());
    running.signal("-TERM");
    let ended = running.wait();
    assert_eq!((ended.code, &*ended.stderr), (0, ""));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_process_goes_on_where_the_last_commit_was() {
    let mut simulation = stripe(6_000, 20);
    simulation.latency = Duration::from_millis(60);
    let simulator = Simulator::start(simulation).await.unwrap();
    let sandbox = Sandbox::new();
    // It is due again in an hour only: that it goes on is because its run was cut off.
    configure(&sandbox, &simulator, "every = \"1h\"", "");
    for _ in 0..2 {
        let mut running = Running::start(&sandbox);
        let before = sandbox.ids("payments_charges").len();
        eventually("rows", || sandbox.ids("payments_charges").len() > before).await;
        running.signal("-KILL");
        running.wait();
    }
    let mut running = Running::start(&sandbox);
    eventually("a run", || running.count("run ended") >= 1).await;
    assert_eq!(running.lines("run starts")[0]["reason"], "catch_up");
    assert_eq!(
        sandbox.ids("payments_charges"),
        simulator.truth().ids("charges")
    );
    // A stop in the middle of nothing, and a start that has nothing to make up for.
    running.signal("-TERM");
    assert_eq!(running.wait().code, 0);
    let mut running = Running::start(&sandbox);
    eventually("ready", || running.get("/ready").0 == 200).await;
    assert_eq!(running.count("run starts"), 0);
    running.signal("-TERM");
    assert_eq!(running.wait().code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_in_the_middle_of_a_run_commits_within_two_seconds() {
    let mut simulation = stripe(20_000, 20);
    simulation.latency = Duration::from_millis(100);
    let simulator = Simulator::start(simulation).await.unwrap();
    let sandbox = Sandbox::new();
    let receiver = Receiver::start();
    let alerts = format!("[alerts]\nwebhook = \"{}\"\n", receiver.url());
    configure(&sandbox, &simulator, "every = \"1h\"", &alerts);
    let mut running = Running::start(&sandbox);
    eventually("rows", || !sandbox.ids("payments_charges").is_empty()).await;
    let stopped = Instant::now();
    running.signal("-TERM");
    let ended = running.wait();
    assert!(
        stopped.elapsed() < Duration::from_secs(2),
        "{:?}",
        stopped.elapsed()
    );
    assert_eq!(ended.code, 0, "{}", ended.text());
    assert_eq!(running.lines("run ended")[0]["result"], "interrupted");
    assert_eq!(
        receiver.events(),
        [] as [&str; 0],
        "a stop is not a failure"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_key_is_alerted_once_and_once_when_it_works() {
    let simulator = Simulator::start(stripe(50, 5)).await.unwrap();
    let sandbox = Sandbox::new();
    let receiver = Receiver::start();
    let alerts = format!(
        "[alerts]\nwebhook = \"{0}\"\nslack = \"{0}/slack\"\n",
        receiver.url()
    );
    configure(&sandbox, &simulator, "every = \"1s\"", &alerts);
    sandbox.write("key", "sk_test_wrong0hush9");
    let mut running = Running::start(&sandbox);
    eventually("two alerts and three runs", || {
        receiver.events().len() >= 2 && running.count("run ended") >= 3
    })
    .await;
    // The channels are independent of each other, and either may be the first.
    let alerts = receiver.alerts();
    let alert = alerts.iter().find(|it| it["event"].is_string()).unwrap();
    assert_eq!(alert["streams"].as_array().unwrap().len(), 2, "{alert}");
    assert_eq!(alert["exit_code"], 3, "{alert}");
    assert!(alert["error"].as_str().unwrap().contains("req_"), "{alert}");
    assert!(
        alert["help"].is_string() && alert["run"].is_string(),
        "{alert}"
    );
    // A restart does not send it again.
    running.signal("-TERM");
    assert_eq!(running.wait().code, 0);
    let mut running = Running::start(&sandbox);
    eventually("two runs", || running.count("run ended") >= 2).await;
    sandbox.write("key", KEY);
    eventually("the end", || receiver.events().len() >= 4).await;
    let runs = running.count("run ended");
    eventually("two runs", || running.count("run ended") >= runs + 2).await;
    let mut events = receiver.events();
    events.sort();
    assert_eq!(
        events,
        [
            "credentials raised",
            "credentials resolved",
            "slack",
            "slack"
        ]
    );
    running.signal("-TERM");
    assert_eq!(running.wait().code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_destination_is_alerted_and_does_not_end_the_service() {
    let simulator = Simulator::start(stripe(50, 5)).await.unwrap();
    let sandbox = Sandbox::new();
    let receiver = Receiver::start();
    let alerts = format!("[alerts]\nwebhook = \"{}\"\n", receiver.url());
    configure(&sandbox, &simulator, "every = \"1s\"", &alerts);
    sandbox.write("warehouse.db", &"this is not a database. ".repeat(500));
    let mut running = Running::start(&sandbox);
    eventually("an alert", || !receiver.events().is_empty()).await;
    assert_eq!(receiver.alerts()[0]["exit_code"], 5);
    let (_, page) = running.get("/");
    assert!(page.contains("failed"), "{page}");
    std::fs::remove_file(sandbox.path("warehouse.db")).unwrap();
    eventually("the end", || receiver.events().len() >= 2).await;
    assert_eq!(receiver.events(), ["failed raised", "failed resolved"]);
    assert_eq!(
        sandbox.ids("payments_charges"),
        simulator.truth().ids("charges")
    );
    running.signal("-TERM");
    assert_eq!(running.wait().code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_another_process_reads_is_left_to_it() {
    let mut simulation = stripe(3_000, 20);
    simulation.latency = Duration::from_millis(100);
    let simulator = Simulator::start(simulation).await.unwrap();
    let sandbox = Sandbox::new();
    let receiver = Receiver::start();
    let alerts = format!("[alerts]\nwebhook = \"{}\"\n", receiver.url());
    configure(&sandbox, &simulator, "every = \"1s\"", &alerts);
    let mut by_hand = sandbox.command(&["sync"]).spawn().unwrap();
    eventually("rows", || !sandbox.ids("payments_charges").is_empty()).await;
    let mut running = Running::start(&sandbox);
    eventually("a try", || running.count("run ended") >= 1).await;
    assert_eq!(running.lines("run ended")[0]["result"], "busy");
    assert!(by_hand.wait().unwrap().success());
    eventually("its own run", || {
        running
            .lines("run ended")
            .iter()
            .any(|line| line["result"] == "done")
    })
    .await;
    assert_eq!(receiver.events(), [] as [&str; 0]);
    assert_eq!(
        sandbox.ids("payments_charges"),
        simulator.truth().ids("charges")
    );
    // A second service is refused at once.
    let second = sandbox.run(&["run"]).ended_with(6);
    assert!(
        second.stderr.contains("another `pipeline run`"),
        "{}",
        second.text()
    );
    running.signal("-TERM");
    assert_eq!(running.wait().code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hangup_reads_the_configuration_again_and_a_broken_one_changes_nothing() {
    let simulator = Simulator::start(stripe(50, 5)).await.unwrap();
    let sandbox = Sandbox::new();
    configure(&sandbox, &simulator, "every = \"1h\"", "");
    let mut running = Running::start(&sandbox);
    eventually("a run", || running.count("run ended") >= 1).await;
    let good = std::fs::read_to_string(sandbox.path("pipeline.toml")).unwrap();
    sandbox.write("pipeline.toml", &good.replace("\"1h\"", "\"soon\""));
    running.signal("-HUP");
    let kept = "the configuration is wrong; the old one stays in force";
    eventually("a complaint", || running.count(kept) == 1).await;
    let error = running.lines(kept)[0]["error"].as_str().unwrap().to_owned();
    assert!(
        error.contains("pipeline.toml:11:9") && error.contains("every = \"soon\""),
        "{error}"
    );
    assert_eq!(running.get("/ready").0, 200);
    sandbox.write("pipeline.toml", &good.replace("\"1h\"", "\"1s\""));
    running.signal("-HUP");
    eventually("runs of the new schedule", || {
        running.count("run ended") >= 3
    })
    .await;
    running.signal("-TERM");
    assert_eq!(running.wait().code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_person_asks_for_is_done() {
    let mut simulation = stripe(4_000, 20);
    simulation.latency = Duration::from_millis(50);
    let simulator = Simulator::start(simulation).await.unwrap();
    let sandbox = Sandbox::new();
    configure(&sandbox, &simulator, "schedule = \"0 0 1 1 *\"", "");
    let mut running = Running::start(&sandbox);
    assert_eq!(running.post("/sources/payments/run"), 202);
    eventually("rows", || !sandbox.ids("payments_charges").is_empty()).await;
    let (_, page) = running.get("/");
    assert!(
        page.contains("Under way") && page.contains("<progress"),
        "{page}"
    );
    assert_eq!(running.post("/sources/payments/stop"), 202);
    eventually("the end", || running.count("run ended") == 1).await;
    assert_eq!(running.lines("run ended")[0]["result"], "interrupted");
    assert_eq!(running.post("/sources/payments/pause"), 202);
    eventually("the pause", || running.get("/").1.contains("paused")).await;
    assert_eq!(running.post("/sources/other/run"), 404);
    running.signal("-TERM");
    assert_eq!(running.wait().code, 0);
}

/// As in a container: nothing but its own folder can be written.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn a_folder_of_its_own_is_all_that_it_writes() {
    const MOUNTS: &str = "mount --make-rprivate / && mount --bind state state && mount -o remount,ro,bind / && cd . && exec \"$@\"";
    let simulator = Simulator::start(stripe(50, 5)).await.unwrap();
    let sandbox = Sandbox::new();
    configure(
        &sandbox,
        &simulator,
        "every = \"1h\"",
        "state = \"state\"\n",
    );
    let text = std::fs::read_to_string(sandbox.path("pipeline.toml")).unwrap();
    sandbox.write(
        "pipeline.toml",
        &text.replace("warehouse.db", "state/warehouse.db"),
    );
    std::fs::create_dir(sandbox.path("state")).unwrap();
    let may_mount = std::process::Command::new("unshare")
        .args(["-m", "sh", "-c", "mount --make-rprivate /"])
        .status()
        .is_ok_and(|status| status.success());
    if !may_mount {
        println!("skipped a_folder_of_its_own_is_all_that_it_writes: mounting is not allowed here");
        return;
    }
    let before = ["unshare", "-m", "sh", "-c", MOUNTS, "sh"];
    let state = sandbox.path("state");
    let environment = [("TMPDIR", state.to_str().unwrap())];
    let mut running = Running::start_below(&before, &sandbox, &[], &environment);
    eventually("a run", || running.count("run ended") >= 1).await;
    assert_eq!(running.lines("run ended")[0]["result"], "done");
    assert!(!sandbox.path(".pipeline").exists());
    running.signal("-TERM");
    assert_eq!(running.wait().code, 0);
    let database = rusqlite::Connection::open(state.join("warehouse.db")).unwrap();
    let count = "SELECT count(*) FROM payments_charges";
    let rows: i64 = database.query_row(count, [], |row| row.get(0)).unwrap();
    assert_eq!(rows, 50);
}

/// What systemd receives with `Type=notify-reload`.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn systemd_is_notified_of_start_reload_and_stop() {
    use std::os::unix::net::UnixDatagram;

    let simulator = Simulator::start(stripe(10, 5)).await.unwrap();
    let sandbox = Sandbox::new();
    configure(&sandbox, &simulator, "every = \"1h\"", "");
    let path = sandbox.path("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    let next = |wanted: &str| {
        let mut buffer = [0; 4_096];
        loop {
            let length = socket.recv(&mut buffer).unwrap();
            let message = String::from_utf8_lossy(&buffer[..length]).into_owned();
            if message.contains(wanted) {
                return message;
            }
            assert_eq!(message.trim(), "WATCHDOG=1", "instead of {wanted}");
        }
    };
    let environment = [("NOTIFY_SOCKET", path.to_str().unwrap())];
    let mut running = Running::start_in(&sandbox, &[], &environment);
    assert!(next("READY=1").contains("STATUS=1 sources"));
    running.signal("-HUP");
    assert!(next("RELOADING=1").contains("MONOTONIC_USEC="));
    next("READY=1");
    running.signal("-TERM");
    next("STOPPING=1");
    assert_eq!(running.wait().code, 0);
}

/// Everything that is written or served while a key is refused, an alert cannot be sent, and a
/// person is logged in.
#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_logged_served_sent_or_stored() {
    const SECRETS: [&str; 4] = [
        "canary0key0hush",
        "canary0slack0hush",
        "canary0webhook0hush",
        "canary0token0hush",
    ];
    let simulator = Simulator::start(stripe(50, 5)).await.unwrap();
    let sandbox = Sandbox::new();
    let receiver = Receiver::start();
    let further = format!(
        "token = \"canary0token0hush\"\n[alerts]\nslack = \"{0}/services/canary0slack0hush\"\n\
         webhook = \"http://127.0.0.1:9/canary0webhook0hush\"\n",
        receiver.url()
    );
    configure(&sandbox, &simulator, "every = \"1s\"", &further);
    sandbox.write("key", "sk_test_canary0key0hush");
    let mut running = Running::start_with(&sandbox, &["--log-level", "debug"]);
    running.token = Some("canary0token0hush".to_owned());
    eventually("an alert that could not be sent", || {
        running.count("the alert could not be sent") >= 3 && !receiver.events().is_empty()
    })
    .await;
    let served = [
        "/",
        "/sources/payments",
        "/metrics",
        "/style.css",
        "/page.js",
    ]
    .map(|path| running.get(path));
    running.signal("-TERM");
    let ended = running.wait();
    let mut seen: Vec<(String, String)> = vec![
        ("standard error".to_owned(), ended.stderr),
        ("log".to_owned(), running.log()),
        (
            "alerts".to_owned(),
            Value::from(receiver.alerts()).to_string(),
        ),
    ];
    seen.extend(served.map(|(status, body)| {
        assert_eq!(status, 200);
        ("served".to_owned(), body)
    }));
    for entry in std::fs::read_dir(sandbox.path(".pipeline")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            let text = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned();
            seen.push((path.display().to_string(), text));
        }
    }
    let database = std::fs::read(sandbox.path("warehouse.db")).unwrap();
    seen.push((
        "database".to_owned(),
        String::from_utf8_lossy(&database).into_owned(),
    ));
    for (place, text) in seen {
        for secret in SECRETS {
            assert!(!text.contains(secret), "{secret} in {place}: {text}");
        }
    }
}
