//! Whatever goes wrong: one clear message, the documented exit code, committed rows stay, and a run
//! after the repair completes.

use std::fs;
use std::process::Command;

use pipeline_simulator::{Faults, MixpanelWorld, Simulation, Simulator};

use crate::interrupts::after_a_commit;
use crate::support::{KEY, OLD_KEY, Ran, SQLITE, Sandbox, execute, ran, stripe};

/// A database that holds all customers, and is about to get the charges.
async fn half_done() -> (Sandbox, Simulator) {
    let simulator = Simulator::start(stripe(1_500, 300)).await.unwrap();
    let sandbox = Sandbox::new();
    sandbox.configure(&simulator, SQLITE, &["customers"]);
    sandbox.run(&["sync"]).ended_with(0);
    sandbox.configure(&simulator, SQLITE, &["customers", "charges"]);
    (sandbox, simulator)
}

/// Committed rows are still there, and a run after the repair completes.
fn repaired(sandbox: &Sandbox, simulator: &Simulator) {
    let truth = simulator.truth();
    assert_eq!(
        sandbox.ids("payments_customers"),
        truth.ids("customers"),
        "committed rows are lost"
    );
    sandbox.run(&["sync"]).ended_with(0);
    assert_eq!(sandbox.ids("payments_customers"), truth.ids("customers"));
    assert_eq!(sandbox.ids("payments_charges"), truth.ids("charges"));
}

/// The text is said, and said once.
#[track_caller]
fn says_once(ran: &Ran, text: &str) {
    assert_eq!(
        ran.text().matches(text).count(),
        1,
        "`{text}` is not there exactly once:\n{}",
        ran.text()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_credentials_end_with_3() {
    let (sandbox, simulator) = half_done().await;
    let mut command = sandbox.command(&["sync"]);
    command.env("STRIPE_API_KEY", "sk_test_wrong_wrong");
    let refused = ran(command).ended_with(3);
    assert!(refused.stdout.contains("help:"), "{}", refused.text());
    assert!(!refused.text().contains("sk_test_wrong_wrong"));
    repaired(&sandbox, &simulator);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_expires_half_way_ends_with_3_and_a_new_one_goes_on() {
    let (sandbox, simulator) = half_done().await;
    simulator.stripe().expire(OLD_KEY, 5);
    let mut command = sandbox.command(&["sync"]);
    command.env("STRIPE_API_KEY", OLD_KEY);
    let expired = ran(command).ended_with(3);
    assert!(
        expired
            .stdout
            .contains("help: stripe says `api_key_expired`: make a new key"),
        "{}",
        expired.text()
    );
    assert!(!expired.text().contains(OLD_KEY));
    repaired(&sandbox, &simulator);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_may_not_be_read_is_a_failure_only_when_it_is_named() {
    let mut simulation = stripe(200, 50);
    simulation.stripe.forbidden = vec!["charges".to_owned()];
    let simulator = Simulator::start(simulation).await.unwrap();
    let sandbox = Sandbox::new();
    sandbox.configure(&simulator, SQLITE, &["charges", "customers"]);
    let named = sandbox.run(&["sync"]).ended_with(3);
    assert!(named.stdout.contains("failed"), "{}", named.stdout);
    assert_eq!(
        sandbox.ids("payments_customers").len(),
        50,
        "the other stream is read all the same"
    );
    let config = fs::read_to_string(sandbox.path("pipeline.toml")).unwrap();
    let all: Vec<&str> = config
        .lines()
        .filter(|line| !line.starts_with("streams"))
        .collect();
    sandbox.write("pipeline.toml", &all.join("\n"));
    let unnamed = sandbox.run(&["sync"]).ended_with(0);
    assert!(unnamed.stdout.contains("unavailable"), "{}", unnamed.stdout);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_stream_ends_with_2() {
    let (sandbox, simulator) = half_done().await;
    let unknown = sandbox.run(&["sync", "--streams", "chargs"]).ended_with(2);
    says_once(&unknown, "did you mean `charges`?");
    repaired(&sandbox, &simulator);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_type_ends_with_2_and_shows_the_line() {
    let (sandbox, simulator) = half_done().await;
    let right = fs::read_to_string(sandbox.path("pipeline.toml")).unwrap();
    sandbox.write(
        "pipeline.toml",
        &right.replace("rate_share = 1.0", "rate_share = \"all\""),
    );
    says_once(
        &sandbox.run(&["sync"]).ended_with(2),
        "9 | rate_share = \"all\"",
    );
    sandbox.write("pipeline.toml", &right);
    repaired(&sandbox, &simulator);
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn a_destination_that_cannot_be_written_ends_with_5() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::os::unix::process::CommandExt;

    let (sandbox, simulator) = half_done().await;
    let (folder, database) = (
        sandbox.folder.path().to_owned(),
        sandbox.path("warehouse.db"),
    );
    let mode = |path: &std::path::Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    let copy = folder.join("copy-of-pipeline");
    fs::copy(env!("CARGO_BIN_EXE_pipeline"), &copy).unwrap();
    mode(&copy, 0o555);
    mode(&database, 0o444);
    mode(&folder, 0o555);
    let mut command = sandbox.command(&["sync"]);
    // Permissions do not bind root; and who is not root may not be let into the folder that was
    // built in.
    if fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0) {
        command = Command::new(&copy);
        sandbox.prepare(&mut command);
        command.arg("sync").uid(65_534);
    }
    let refused = ran(command).ended_with(5);
    mode(&folder, 0o755);
    mode(&database, 0o644);
    assert!(refused.text().contains("help:"), "{}", refused.text());
    repaired(&sandbox, &simulator);
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_ends_with_5() {
    let (sandbox, simulator) = half_done().await;
    let mut command = std::process::Command::new("sh");
    command.args([
        "-c",
        "ulimit -f 200; exec \"$0\" sync",
        env!("CARGO_BIN_EXE_pipeline"),
    ]);
    sandbox.prepare(&mut command);
    let full = ran(command).ended_with(5);
    assert!(full.text().contains("help:"), "{}", full.text());
    repaired(&sandbox, &simulator);
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_of_temporary_files_ends_with_5() {
    let world = MixpanelWorld {
        days: 1,
        events_per_day: 20_000,
        ..MixpanelWorld::default()
    };
    let simulator = Simulator::start(Simulation {
        mixpanel: world.clone(),
        ..Simulation::default()
    })
    .await
    .unwrap();
    let sandbox = Sandbox::new();
    let config = format!(
        "[destination]\n{SQLITE}\n\n[sources.web]\nconnector = \"mixpanel\"\nproject_id = \
         {}\nusername = \"{}\"\nsecret = \"{}\"\nbase_url = \"{}\"\nstart_date = \
         \"2026-10-31\"\nend_date = \"2026-10-31\"\nstreams = [\"export\"]\n",
        world.project_id,
        world.username,
        world.secret,
        simulator.url()
    );
    sandbox.write("pipeline.toml", &config);
    let mut command = std::process::Command::new("sh");
    // The empty database fits, the day does not, although it is compressed.
    command.args([
        "-c",
        "ulimit -f 1000; exec \"$0\" sync",
        env!("CARGO_BIN_EXE_pipeline"),
    ]);
    sandbox.prepare(&mut command);
    let full = ran(command).ended_with(5);
    says_once(&full, "the disk of temporary files is full");
    assert!(full.text().contains("TMPDIR"), "{}", full.text());
    sandbox.run(&["sync"]).ended_with(0);
    let database = rusqlite::Connection::open(sandbox.path("warehouse.db")).unwrap();
    let stored: i64 = database
        .query_row(
            "SELECT count(DISTINCT insert_id) FROM web_export",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(stored, 20_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_checkpoint_ends_with_5_and_is_not_taken_for_an_empty_one() {
    let (sandbox, simulator) = half_done().await;
    let database = sandbox.path("warehouse.db");
    execute(
        &database,
        "CREATE TABLE backup AS SELECT * FROM _pipeline_state; UPDATE _pipeline_state SET state = \
         substr(state, 1, 25)",
    );
    let damaged = sandbox.run(&["sync"]).ended_with(5);
    says_once(&damaged, "checkpoint is damaged");
    execute(
        &database,
        "DELETE FROM _pipeline_state; INSERT INTO _pipeline_state SELECT * FROM backup",
    );
    repaired(&sandbox, &simulator);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_web_page_instead_of_an_answer_ends_with_4_and_one_message() {
    let (sandbox, simulator) = half_done().await;
    simulator.set_faults(Faults {
        captive_portal: true,
        ..Faults::default()
    });
    let page = sandbox.run(&["sync"]).ended_with(4);
    assert_eq!(page.text().matches("error:").count(), 1, "{}", page.text());
    simulator.set_faults(Faults::default());
    repaired(&sandbox, &simulator);
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_changed_by_somebody_else_ends_with_6() {
    let mut simulation = stripe(20_000, 100);
    simulation.latency = std::time::Duration::from_millis(150);
    let simulator = Simulator::start(simulation).await.unwrap();
    let sandbox = Sandbox::new();
    sandbox.configure(&simulator, SQLITE, &["charges"]);
    let child = after_a_commit(&sandbox);
    // A command that would change it is refused while the sync runs, and the sync is not hurt by
    // it.
    let refused = sandbox
        .run(&["state", "reset", "payments/charges", "--yes"])
        .ended_with(6);
    assert!(
        refused.stderr.contains("another sync"),
        "{}",
        refused.text()
    );
    let next_plan = "UPDATE _pipeline_state SET state = json_set(state, '$.plan', \
                     json_extract(state, '$.plan') + 1)";
    execute(&sandbox.path("warehouse.db"), next_plan);
    let output = child.wait_with_output().unwrap();
    assert_eq!(
        output.status.code(),
        Some(6),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    sandbox.run(&["sync"]).ended_with(0);
    assert_eq!(
        sandbox.ids("payments_charges"),
        simulator.truth().ids("charges")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn no_output_holds_the_key() {
    let (sandbox, simulator) = half_done().await;
    let mut everything = String::new();
    for args in [
        &["check"][..],
        &["discover", "--columns"],
        &["sync", "--output", "json", "--log-requests", "requests.log"],
        &["sync"],
        &["status", "--output", "json"],
        &["state"],
    ] {
        everything.push_str(&sandbox.run(args).ended_with(0).text());
    }
    simulator.set_faults(Faults {
        unauthorized: true,
        ..Faults::default()
    });
    everything.push_str(&sandbox.run(&["sync"]).ended_with(3).text());
    let requests = fs::read_to_string(sandbox.path("requests.log")).unwrap();
    assert!(
        requests.lines().count() > 10 && !requests.contains('?'),
        "{requests}"
    );
    everything.push_str(&requests);
    assert!(!everything.contains(KEY));
    for file in fs::read_dir(sandbox.folder.path()).unwrap() {
        let path = file.unwrap().path();
        if path.is_file() {
            let bytes = fs::read(&path).unwrap();
            assert!(
                !bytes
                    .windows(KEY.len())
                    .any(|window| window == KEY.as_bytes()),
                "the key is in {}",
                path.display()
            );
        }
    }
}
