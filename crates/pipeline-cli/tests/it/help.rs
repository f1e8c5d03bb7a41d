//! What the program says about itself.

use insta::assert_snapshot;

use crate::support::Sandbox;

#[test]
fn help_names_every_command_and_exit_code() {
    let sandbox = Sandbox::new();
    assert_snapshot!("help", sandbox.run(&["--help"]).ended_with(0).stdout);
    for command in ["init", "check", "discover", "sync", "status", "state", "purge", "simulate", "demo"] {
        assert_snapshot!(format!("help_{command}"), sandbox.run(&[command, "--help"]).ended_with(0).stdout);
    }
}

#[test]
fn connectors_are_listed_with_what_they_need() {
    assert_snapshot!("connectors", Sandbox::new().run(&["connectors"]).ended_with(0).stdout);
}

#[test]
fn specifications_mark_secrets() {
    let sandbox = Sandbox::new();
    for connector in ["stripe", "zendesk", "mixpanel"] {
        let spec = sandbox.run(&["spec", connector]).ended_with(0).stdout;
        assert!(spec.contains("\"writeOnly\": true"), "{spec}");
        assert_snapshot!(format!("spec_{connector}"), spec);
    }
    let unknown = sandbox.run(&["spec", "stipe"]).ended_with(2);
    assert!(unknown.stderr.contains("did you mean `stripe`?"), "{unknown:?}");
}

#[test]
fn init_writes_a_file_that_loads_and_never_overwrites_one() {
    let sandbox = Sandbox::new();
    assert_snapshot!("init", sandbox.run(&["init"]).ended_with(0).stdout);
    let text = std::fs::read_to_string(sandbox.path("pipeline.toml")).unwrap();
    assert_snapshot!("init_file", text);
    sandbox.run(&["init", "--connector", "stripe"]).ended_with(2);
    assert_eq!(std::fs::read_to_string(sandbox.path("pipeline.toml")).unwrap(), text);
    sandbox.run(&["status"]).ended_with(0);
    let streams = sandbox.run(&["init", "--config", "one.toml", "--connector", "stripe"]).ended_with(0);
    assert!(streams.stdout.contains("Wrote one.toml"));
    assert!(sandbox.run(&["discover", "--config", "one.toml"]).ended_with(0).stdout.contains("charges"));
    sandbox.run(&["init", "--config", "two.toml", "--connector", "salesforce"]).ended_with(2);
}
