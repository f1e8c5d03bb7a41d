//! What the program says about itself.

use std::process::Command;

use insta::assert_snapshot;
use pipeline_simulator::{Simulation, Simulator};

use crate::support::{Sandbox, ran};

/// The connectors whose descriptions are compared. Those that come later have tests of their own,
/// so that a new one changes nothing here.
const CONNECTORS: [&str; 3] = ["mixpanel", "stripe", "zendesk"];

/// The names that a command lists when it was given a wrong one.
fn names(args: &[&str]) -> Vec<String> {
    let refused = Sandbox::new().run(args).ended_with(2).stderr;
    let (_, list) = refused
        .split_once("s: ")
        .unwrap_or_else(|| panic!("no list of names in {refused}"));
    list.trim().split(", ").map(str::to_owned).collect()
}

#[test]
fn help_names_every_command_and_exit_code() {
    let sandbox = Sandbox::new();
    assert_snapshot!("help", sandbox.run(&["--help"]).ended_with(0).stdout);
    for command in [
        "init", "check", "discover", "sync", "run", "status", "runs", "state", "purge", "simulate",
        "demo",
    ] {
        assert_snapshot!(
            format!("help_{command}"),
            sandbox.run(&[command, "--help"]).ended_with(0).stdout
        );
    }
}

#[test]
fn connectors_are_listed_with_what_they_need() {
    let listed = Sandbox::new().run(&["connectors"]).ended_with(0).stdout;
    let row = |name: &str| {
        listed
            .lines()
            .find(|line| line.starts_with(name))
            .unwrap_or_else(|| panic!("{name} in {listed}"))
    };
    assert_snapshot!("connectors", CONNECTORS.map(row).join("\n"));
    let count = listed.lines().take_while(|line| !line.is_empty()).count() - 1;
    assert_eq!(
        count,
        names(&["init", "--connector", "unknown"]).len(),
        "{listed}"
    );
}

#[test]
fn specifications_mark_secrets() {
    let sandbox = Sandbox::new();
    for connector in CONNECTORS {
        let spec = sandbox.run(&["spec", connector]).ended_with(0).stdout;
        assert!(spec.contains("\"writeOnly\": true"), "{spec}");
        assert_snapshot!(format!("spec_{connector}"), spec);
    }
    let unknown = sandbox.run(&["spec", "stipe"]).ended_with(2);
    assert!(
        unknown.stderr.contains("did you mean `stripe`?"),
        "{unknown:?}"
    );
}

#[test]
fn init_writes_a_file_that_loads_and_never_overwrites_one() {
    let sandbox = Sandbox::new();
    assert_snapshot!(
        "init",
        sandbox
            .run(&["init", "--connector", &CONNECTORS.join(",")])
            .ended_with(0)
            .stdout
    );
    let text = std::fs::read_to_string(sandbox.path("pipeline.toml")).unwrap();
    let type_line = text
        .lines()
        .find(|line| line.starts_with("type = "))
        .unwrap();
    assert_snapshot!(
        "init_file",
        text.replace(type_line, "type = \"sqlite\"    # …")
    );
    sandbox
        .run(&["init", "--connector", "stripe"])
        .ended_with(2);
    assert_eq!(
        std::fs::read_to_string(sandbox.path("pipeline.toml")).unwrap(),
        text
    );
    sandbox.run(&["status"]).ended_with(0);
    let active = |text: &str| {
        text.lines()
            .filter(|line| line.starts_with("[sources."))
            .count()
    };
    assert_eq!(active(&text), CONNECTORS.len(), "{text}");
    let streams = sandbox
        .run(&["init", "--config", "one.toml", "--connector", "stripe"])
        .ended_with(0);
    assert!(streams.stdout.contains("Wrote one.toml"));
    assert!(
        sandbox
            .run(&["discover", "--config", "one.toml"])
            .ended_with(0)
            .stdout
            .contains("charges")
    );
    sandbox
        .run(&["init", "--config", "two.toml", "--connector", "salesforce"])
        .ended_with(2);
    sandbox.run(&["init", "--config", "all.toml"]).ended_with(0);
    let all = std::fs::read_to_string(sandbox.path("all.toml")).unwrap();
    assert_eq!(active(&all), 1, "{all}");
    for connector in names(&["init", "--connector", "unknown"]) {
        assert!(
            all.contains(&format!("[sources.{connector}]\n")),
            "{connector}"
        );
    }
}

#[test]
fn every_destination_is_in_init_spec_and_status() {
    for destination in names(&["init", "--destination", "unknown"]) {
        let sandbox = Sandbox::new();
        sandbox
            .run(&[
                "init",
                "--connector",
                "stripe",
                "--destination",
                &destination,
            ])
            .ended_with(0);
        let text = std::fs::read_to_string(sandbox.path("pipeline.toml")).unwrap();
        assert!(
            text.contains(&format!("type = \"{destination}\" ")),
            "{text}"
        );
        // A server is named by a variable that is not set here.
        let status = sandbox.run(&["status"]);
        if let Some(variable) = text.contains("${DATABASE_URL}").then_some("DATABASE_URL") {
            let refused = status.ended_with(2).stderr;
            assert!(refused.contains(variable), "{destination}: {refused}");
        } else {
            let shown = status.ended_with(0).stdout;
            assert!(shown.contains("No data yet"), "{destination}: {shown}");
        }
        assert!(
            sandbox
                .run(&["spec", &destination])
                .ended_with(0)
                .stdout
                .contains("\"properties\""),
            "{destination}"
        );
        // A member that it does not have is refused, whichever it is.
        sandbox.write(
            "pipeline.toml",
            &text.replace("\n# [sync]", "nonsense = 1\n\n# [sync]"),
        );
        let refused = sandbox.run(&["status"]).ended_with(2).stderr;
        assert!(
            refused.contains("unknown setting `nonsense` in destination"),
            "{refused}"
        );
    }
}

/// Names and values of environment variables.
type Variables = &'static [(&'static str, &'static str)];

/// A stream of each connector, so that limits make nobody wait, and what its source needs before
/// `check` can pass.
const SECRETS: [(&str, &str, Variables); 3] = [
    (
        "mixpanel",
        "cohorts",
        &[
            ("MIXPANEL_PROJECT_ID", "2000001"),
            ("MIXPANEL_USERNAME", "sim.service-account"),
            ("MIXPANEL_SECRET", "sim_secret"),
        ],
    ),
    ("stripe", "charges", &[("STRIPE_API_KEY", "sk_test_sim")]),
    (
        "zendesk",
        "groups",
        &[
            ("ZENDESK_SUBDOMAIN", "acme"),
            ("ZENDESK_CLIENT_ID", "sim_client"),
            ("ZENDESK_CLIENT_SECRET", "sim_secret"),
        ],
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn what_init_writes_passes_check_once_the_secrets_are_set() {
    let simulator = Simulator::start(Simulation::default()).await.unwrap();
    for (connector, stream, secrets) in SECRETS {
        let sandbox = Sandbox::new();
        let wrote = sandbox
            .run(&["init", "--connector", connector])
            .ended_with(0)
            .stdout;
        let names: Vec<&str> = secrets.iter().map(|(name, _)| *name).collect();
        assert!(names.iter().all(|name| wrote.contains(name)), "{wrote}");
        let text = std::fs::read_to_string(sandbox.path("pipeline.toml")).unwrap();
        let heading = format!("[sources.{connector}]\n");
        sandbox.write(
            "pipeline.toml",
            &text.replace(
                &heading,
                &format!(
                    "{heading}base_url = \"{}\"\nstreams = [\"{stream}\"]\n",
                    simulator.url()
                ),
            ),
        );
        let without = ran(with(
            sandbox.command(&["check"]),
            names.iter().map(|name| (*name, None)),
        ));
        assert!(
            without.code == 2 && without.stderr.contains(names[0]),
            "{}",
            without.text()
        );
        let set = secrets.iter().map(|(name, value)| (*name, Some(*value)));
        ran(with(sandbox.command(&["check"]), set)).ended_with(0);
    }
}

fn with<'a>(
    mut command: Command,
    variables: impl Iterator<Item = (&'a str, Option<&'a str>)>,
) -> Command {
    for (name, value) in variables {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command
}
