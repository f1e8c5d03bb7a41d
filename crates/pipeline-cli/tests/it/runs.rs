//! Runs are remembered beside the data, and `status` says how each stream is.

use pipeline_simulator::{MixpanelWorld, Simulation, Simulator};
use serde_json::Value;

use crate::support::{Ran, SQLITE, Sandbox, ran, stripe};

fn json(sandbox: &Sandbox, args: &[&str]) -> Value {
    serde_json::from_str(&sandbox.run(args).ended_with(0).stdout).unwrap()
}

fn with_key(sandbox: &Sandbox, key: &str, args: &[&str]) -> Ran {
    let mut command = sandbox.command(args);
    command.env("STRIPE_API_KEY", key);
    ran(command)
}

#[tokio::test(flavor = "multi_thread")]
async fn d10_every_run_is_remembered_however_it_ended() {
    for destination in [
        SQLITE,
        "type = \"jsonl\"\npath = \"lake\"",
        "type = \"parquet\"\npath = \"lake\"",
    ] {
        let mut simulation = stripe(2_000, 10);
        simulation.latency = std::time::Duration::from_millis(50);
        let simulator = Simulator::start(simulation).await.unwrap();
        let sandbox = Sandbox::new();
        sandbox.configure(&simulator, destination, &["charges", "customers"]);
        assert!(
            sandbox
                .run(&["runs"])
                .ended_with(0)
                .stdout
                .contains("No runs yet")
        );
        let mut killed = crate::interrupts::after_a_commit(&sandbox);
        let running = json(&sandbox, &["runs", "--output", "json"]);
        assert_eq!(
            running["runs"][0]["result"], "running",
            "{destination}: {running}"
        );
        killed.kill().unwrap();
        killed.wait().unwrap();
        let listed = json(&sandbox, &["runs", "--output", "json"]);
        assert_eq!(
            listed["runs"][0]["result"], "killed",
            "{destination}: {listed}"
        );
        sandbox.run(&["sync"]).ended_with(0);
        with_key(&sandbox, "sk_test_wrong_wrong", &["sync"]).ended_with(3);
        sandbox.run(&["sync", "--streams", "chargs"]).ended_with(2);
        sandbox.run(&["sync", "--dry-run"]).ended_with(0);
        let listed = json(&sandbox, &["runs", "--output", "json"]);
        let results: Vec<&str> = listed["runs"]
            .as_array()
            .unwrap()
            .iter()
            .map(|run| run["result"].as_str().unwrap())
            .collect();
        assert_eq!(
            results,
            [
                "configuration refused",
                "credentials refused",
                "done",
                "killed"
            ],
            "{destination}"
        );
        assert!(
            listed["runs"][0]["error"]
                .as_str()
                .unwrap()
                .contains("chargs"),
            "{listed}"
        );
        assert!(
            listed["runs"][2]["took_ms"].as_u64() > Some(0)
                && listed["runs"][2]["rows"].as_u64() > Some(0),
            "{listed}"
        );
        assert_eq!(
            json(&sandbox, &["runs", "--limit", "2", "--output", "json"])["runs"]
                .as_array()
                .unwrap()
                .len(),
            2
        );
        let table = sandbox.run(&["runs"]).ended_with(0).stdout;
        for words in ["credentials refused", "killed", "chargs"] {
            assert!(table.contains(words), "{table}");
        }
        assert!(!table.contains("sk_test_wrong_wrong"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn d9_d10_status_says_in_words_how_each_stream_is_and_when_it_was_last_read() {
    let mut simulation = stripe(200, 10);
    simulation.stripe.forbidden = vec!["refunds".to_owned()];
    let simulator = Simulator::start(simulation).await.unwrap();
    let sandbox = Sandbox::new();
    sandbox.configure(&simulator, SQLITE, &["charges", "refunds"]);
    sandbox.run(&["sync"]).ended_with(3);
    let status = json(&sandbox, &["status", "--output", "json"]);
    let stream = |status: &Value, name: &str| {
        let found: Vec<Value> = status["streams"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|stream| stream["stream"] == name)
            .cloned()
            .collect();
        assert_eq!(found.len(), 1, "{name}: {status}");
        found[0].clone()
    };
    let (charges, refunds) = (stream(&status, "charges"), stream(&status, "refunds"));
    assert_eq!(
        (&charges["rows"], &charges["state"], &charges["last_error"]),
        (&200.into(), &"complete".into(), &Value::Null)
    );
    assert!(
        charges["lag_seconds"].as_i64() < Some(60),
        "the time since the last success: {charges}"
    );
    assert_eq!(
        (
            &refunds["state"],
            &refunds["last_success"],
            &refunds["rows"]
        ),
        (&"failed".into(), &Value::Null, &0.into())
    );
    assert!(refunds["last_error"]["error"].is_string(), "{refunds}");
    // A run that fails takes no success away.
    with_key(&sandbox, "sk_test_wrong_wrong", &["sync"]).ended_with(3);
    let later = json(&sandbox, &["status", "--output", "json"]);
    let charges_later = stream(&later, "charges");
    assert_eq!(charges_later["last_success"], charges["last_success"]);
    assert_eq!(
        (&charges_later["state"], &later["last_run"]["result"]),
        (&"failed".into(), &"credentials refused".into())
    );
    let text = sandbox.run(&["status"]).ended_with(0).stdout;
    for words in [
        "LAST SUCCESS",
        "failed",
        "Last run: ",
        "credentials refused",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn d2_status_shows_rows_beside_streams_of_the_same_endpoint_that_have_no_table() {
    let world = MixpanelWorld {
        days: 2,
        events_per_day: 20,
        ..MixpanelWorld::default()
    };
    let simulator = Simulator::start(Simulation {
        mixpanel: world.clone(),
        ..Simulation::default()
    })
    .await
    .unwrap();
    let sandbox = Sandbox::new();
    let MixpanelWorld {
        project_id,
        username,
        secret,
        ..
    } = world;
    let url = simulator.url();
    sandbox.write(
        "pipeline.toml",
        &format!(
            "[destination]\n{SQLITE}\n\n[sources.product]\nconnector = \"mixpanel\"\nproject_id = \
             {project_id}\nusername = \"{username}\"\nsecret = \"{secret}\"\nbase_url = \
             \"{url}\"\nstart_date = \"2026-10-30\"\nend_date = \"2026-10-31\"\nexport_window_days \
             = 10\n"
        ),
    );
    sandbox.run(&["sync", "--max-wait", "1s"]);
    let status = json(&sandbox, &["status", "--output", "json"]);
    let database = rusqlite::Connection::open(sandbox.path("warehouse.db")).unwrap();
    let stored: i64 = database
        .query_row("SELECT count(*) FROM product_engage", [], |row| row.get(0))
        .unwrap();
    let streams = status["streams"].as_array().unwrap();
    let mut names: Vec<&str> = streams
        .iter()
        .map(|stream| stream["stream"].as_str().unwrap())
        .collect();
    let engage: Vec<_> = streams
        .iter()
        .filter(|stream| stream["stream"] == "engage")
        .map(|stream| stream["rows"].as_i64())
        .collect();
    assert_eq!(engage, [Some(stored)], "{status}");
    assert!(stored > 0 && names.len() > 3, "{names:?}");
    names.dedup();
    assert_eq!(
        names.len(),
        streams.len(),
        "each stream is there once: {names:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn d5_of_two_overlapping_syncs_the_second_is_refused_at_its_start_and_the_first_completes() {
    for destination in [SQLITE, "type = \"jsonl\"\npath = \"lake\""] {
        let mut simulation = stripe(3_000, 10);
        simulation.latency = std::time::Duration::from_millis(50);
        let simulator = Simulator::start(simulation).await.unwrap();
        let sandbox = Sandbox::new();
        sandbox.configure(&simulator, destination, &["charges"]);
        let first = crate::interrupts::after_a_commit(&sandbox);
        let second = sandbox.run(&["sync"]).ended_with(6);
        for words in ["another sync", "process", "help: wait until it"] {
            assert!(second.stderr.contains(words), "{words}: {}", second.text());
        }
        assert_eq!(
            first.wait_with_output().unwrap().status.code(),
            Some(0),
            "{destination}: the first is not hurt"
        );
        let runs = json(&sandbox, &["runs", "--output", "json"]);
        assert!(
            runs["runs"]
                .as_array()
                .unwrap()
                .iter()
                .any(|run| run["result"] == "done"),
            "{runs}"
        );
    }
}
