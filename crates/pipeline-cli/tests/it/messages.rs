//! Every way to get the configuration wrong, and what is said about it.

use std::fmt::Write;

use insta::assert_snapshot;

use crate::support::{Sandbox, without_lists};

const DESTINATION: &str = "[destination]\ntype = \"sqlite\"\npath = \"warehouse.db\"\n";

fn source(members: &str) -> String {
    format!("{DESTINATION}\n[sources.payments]\nconnector = \"stripe\"\n{members}\n")
}

/// A source with one quality check.
fn checked(key: &str, check: &str) -> String {
    source(&format!(
        "{key}\n[[sources.payments.quality.checks]]\n{check}"
    ))
}

#[test]
fn a_broken_configuration_is_shown_where_it_is_broken() {
    let key = "api_key = \"sk_test_x1x2x3\"";
    let cases = [
        (
            "a table without end",
            format!("{DESTINATION}[sources.payments\nconnector = \"stripe\""),
        ),
        ("a string without end", source("api_key = \"sk_test_x1x2x3")),
        ("a value twice", format!("{DESTINATION}type = \"jsonl\"")),
        (
            "no destination",
            "[sources.payments]\nconnector = \"stripe\"".to_owned(),
        ),
        (
            "a destination without path",
            "[destination]\ntype = \"sqlite\"".to_owned(),
        ),
        (
            "an unknown destination",
            "[destination]\ntype = \"sqllite\"\npath = \"x\"".to_owned(),
        ),
        (
            "an unknown member of the destination",
            format!("{DESTINATION}paht = \"x\"\n[sources.payments]\nconnector = \"stripe\"\n{key}"),
        ),
        (
            "an unknown table",
            format!("{DESTINATION}\n[source.payments]\nconnector = \"stripe\""),
        ),
        ("no source", DESTINATION.to_owned()),
        (
            "a source that is no table",
            format!("sources = 5\n{DESTINATION}"),
        ),
        (
            "a name that no table can have",
            format!("{DESTINATION}\n[sources.\"my payments\"]\nconnector = \"stripe\""),
        ),
        (
            "a source without connector",
            format!("{DESTINATION}\n[sources.payments]\n{key}"),
        ),
        (
            "an unknown mode of a contract",
            source(&format!("{key}\ncontract = {{ columns = \"freze\" }}")),
        ),
        (
            "an unknown setting of a contract",
            source(&format!("{key}\ncontract = {{ column = \"freeze\" }}")),
        ),
        (
            "a contract of an unknown stream",
            source(&format!(
                "{key}\ncontract = {{ by_stream = {{ chargez = {{ types = \"freeze\" }} }} }}"
            )),
        ),
        (
            "an unknown connector",
            format!("{DESTINATION}\n[sources.payments]\nconnector = \"strype\""),
        ),
        (
            "a connector that is no string",
            format!("{DESTINATION}\n[sources.payments]\nconnector = 1"),
        ),
        ("an unknown member", source("api_kye = \"sk_test_x1x2x3\"")),
        ("a missing member", source("rate_share = 0.5")),
        (
            "a wrong type",
            source(&format!("{key}\nrate_share = \"half\"")),
        ),
        ("a secret of a wrong type", source("api_key = 12345678")),
        (
            "a value out of range",
            source(&format!("{key}\nrate_share = 2.0")),
        ),
        (
            "a hidden value of a wrong type",
            source(&format!("{key}\npage_size = \"${{HIDDEN}}\"")),
        ),
        (
            "a variable that is not set",
            source("api_key = \"${NOT_SET_ANYWHERE}\""),
        ),
        ("a reference without end", source("api_key = \"${STRIPE\"")),
        (
            "a secret file that is not there",
            source("api_key = \"file:secrets/stripe\""),
        ),
        (
            "streams that are no list",
            source(&format!("{key}\nstreams = \"charges\"")),
        ),
        ("no streams", source(&format!("{key}\nstreams = []"))),
        (
            "an unknown stream",
            source(&format!("{key}\nstreams = [\"charges\", \"custommers\"]")),
        ),
        (
            "an unknown setting",
            format!("{}\n[sync]\nmax_slice = 3", source(key)),
        ),
        (
            "a check of an unknown stream",
            checked(key, "stream = \"chargez\"\nnot_null = [\"id\"]"),
        ),
        (
            "a check of an unknown column",
            checked(key, "stream = \"charges\"\nnot_null = [\"id\", \"amuont\"]"),
        ),
        (
            "a rule that does not apply to its column",
            checked(
                key,
                "stream = \"charges\"\nrange = { created = { min = 0 } }",
            ),
        ),
        (
            "an invalid regular expression",
            checked(key, "stream = \"charges\"\npattern = { currency = \"(\" }"),
        ),
        (
            "an unknown consequence of a check",
            checked(
                key,
                "stream = \"charges\"\nnot_null = [\"id\"]\non_failure = \"stopp\"",
            ),
        ),
        (
            "no duration",
            format!("{}\n[sync]\ncommit_interval = \"soon\"", source(key)),
        ),
        (
            "no count",
            format!("{}\n[sync]\nmax_slices = 0", source(key)),
        ),
    ];
    let mut text = String::new();
    for (case, toml) in cases {
        let sandbox = Sandbox::new();
        sandbox.write("pipeline.toml", &toml);
        let mut command = sandbox.command(&["sync", "--dry-run"]);
        command.env("HIDDEN", "hidden-value");
        let ran = crate::support::ran(command).ended_with(2);
        assert!(
            !ran.text().contains("hidden-value") && !ran.text().contains("x1x2x3"),
            "{case}: {}",
            ran.text()
        );
        let _ = writeln!(text, "## {case}\n{}", ran.stderr);
    }
    assert_snapshot!(without_lists(&text));
}

#[test]
fn wrong_usage_says_what_is_right() {
    let sandbox = Sandbox::new();
    let mut text = String::new();
    let mut tell = |args: &[&str]| {
        let _ = writeln!(
            text,
            "## pipeline {}\n{}",
            args.join(" "),
            sandbox.run(args).ended_with(2).stderr
        );
    };
    tell(&["sync"]);
    tell(&["sync", "--max-duration", "soon"]);
    sandbox.write("pipeline.toml", &source("api_key = \"${STRIPE_API_KEY}\""));
    tell(&["sync", "paymets"]);
    tell(&["sync", "--streams", "chargs"]);
    tell(&["sync", "--log-requests", "no/such/folder/log"]);
    tell(&["spec", "stirpe"]);
    tell(&["init"]);
    assert_snapshot!(without_lists(&text));
}

#[cfg(unix)]
#[test]
fn a_secret_file_that_everybody_can_read_is_a_warning() {
    use std::os::unix::fs::PermissionsExt;
    let sandbox = Sandbox::new();
    let path = sandbox.write("key", "sk_test_fromfile\n");
    sandbox.write("pipeline.toml", &source("api_key = \"file:key\""));
    for (mode, warned) in [(0o644, true), (0o600, false)] {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let ran = sandbox.run(&["discover"]).ended_with(0);
        assert_eq!(
            ran.stderr.contains("every user of this machine can read"),
            warned,
            "{}",
            ran.stderr
        );
        assert!(!ran.text().contains("sk_test_fromfile"));
    }
}
