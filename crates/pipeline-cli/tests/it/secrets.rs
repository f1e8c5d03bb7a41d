//! A configuration is shown in errors without anything in it that may be a secret.

use std::fmt::Write;
use std::fs;

use crate::support::{Sandbox, ran};

/// What people take for a key: characters that no word has.
const KEY: &str = "sk_live_51HqLyjWDarjtT1zdp7dc";
/// A secret that looks like words.
const WORDS: &str = "correct horse battery";
/// A secret that looks like a number.
const NUMBER: &str = "4815162342481516";

const DESTINATION: &str = "[destination]\ntype = \"sqlite\"\npath = \"warehouse.db\"\n";
const PAY: &str = "[sources.pay]\nconnector = \"stripe\"\n";

/// Configurations that are wrong and hold a secret in the place of `SECRET`: what they are, and the
/// text.
fn wrong_with_any_secret() -> Vec<(&'static str, String)> {
    let source = |members: &str| format!("{DESTINATION}{PAY}{members}\n");
    vec![
        (
            "the first line",
            format!("api_key = \"SECRET\"\n{DESTINATION}{PAY}"),
        ),
        (
            "under the destination",
            format!("{DESTINATION}api_key = \"SECRET\"\n{PAY}"),
        ),
        (
            "under the settings",
            format!(
                "{}[sync]\napi_key = \"SECRET\"\n",
                source("api_key = \"rk_test_1\"")
            ),
        ),
        (
            "under a mistyped header",
            format!("{DESTINATION}[sorces.pay]\nconnector = \"stripe\"\napi_key = \"SECRET\"\n"),
        ),
        (
            "under a header without end",
            format!("{DESTINATION}[sources.pay\nconnector = \"stripe\"\napi_key = \"SECRET\"\n"),
        ),
        (
            "a header without end on its line",
            format!("{DESTINATION}[sources.pay api_key = \"SECRET\"\n"),
        ),
        ("a string without end", source("api_key = \"SECRET")),
        (
            "a value without quotation marks",
            source("api_key = SECRET"),
        ),
        (
            "something after the value",
            source("api_key = \"SECRET\" x"),
        ),
        ("no equals sign", source("api_key \"SECRET\"")),
        ("a colon", source("api_key: \"SECRET\"")),
        ("the secret alone", source("\"SECRET\"")),
        (
            "an escape that does not exist",
            source("api_key = \"SECRET\\q\""),
        ),
        (
            "the member twice",
            source("api_key = \"SECRET\"\napi_key = \"SECRET\""),
        ),
        (
            "several lines without end",
            source("api_key = \"\"\"\nSECRET\nSECRET = 1"),
        ),
        (
            "several lines with a wrong escape",
            source("api_key = \"\"\"\nSECRET \\q SECRET\n\"\"\""),
        ),
        (
            "several lines at a wrong name",
            source("api_kye = \"\"\"SECRET\nSECRET\n\"\"\""),
        ),
        (
            "inline, no connector of that name",
            format!(
                "{DESTINATION}[sources]\npay = {{ connector = \"strip\", api_key = \"SECRET\" }}\n"
            ),
        ),
        (
            "inline, no streams",
            format!(
                "{DESTINATION}[sources]\npay = \
                 {{ connector = \"stripe\", streams = [], api_key = \"SECRET\" }}\n"
            ),
        ),
        (
            "inline, no connector",
            format!("{DESTINATION}[sources]\npay = {{ api_key = \"SECRET\" }}\n"),
        ),
        (
            "inline, a name that no table can have",
            format!("{DESTINATION}[sources]\n\"a b\" = {{ api_key = \"SECRET\" }}\n"),
        ),
        (
            "inline, a number too large",
            format!(
                "{DESTINATION}[sources]\npay = \
                 {{ connector = \"stripe\", api_key = \"SECRET\", rate_share = 2 }}\n"
            ),
        ),
        (
            "inline without end",
            format!(
                "{DESTINATION}[sources]\npay = {{ connector = \"stripe\", api_key = \"SECRET\"\n"
            ),
        ),
        (
            "all inline",
            "destination = { type = \"sqlite\", path = \"x\", token = \"SECRET\" }\n".to_owned(),
        ),
        ("a table", source("api_key = { value = \"SECRET\" }")),
        (
            "a table of its own",
            source("[sources.pay.api_key]\nvalue = \"SECRET\""),
        ),
        ("a list", source("api_key = [\"SECRET\"]")),
        (
            "a list over lines",
            source("api_key = [\n  \"SECRET\",\n  1,\n]"),
        ),
        (
            "a list without end",
            source("api_key = [\n  \"SECRET\",\n  oops"),
        ),
        ("a list of lists", source("api_key = [[\"SECRET\"]]")),
        ("a reference without end", source("api_key = \"SECRET${X\"")),
        (
            "a reference that is not set",
            source("api_key = \"SECRET-${NOT_SET_ANYWHERE}\""),
        ),
        (
            "in the place of a variable's name",
            source("api_key = \"${SECRET}\""),
        ),
        (
            "the default of a wrong name",
            source("api_kye = \"${NOT_SET_ANYWHERE:-SECRET}\""),
        ),
        (
            "in a comment",
            source("rate_share = 2.0 # SECRET\napi_key = \"rk_test_1\""),
        ),
        (
            "in a comment of a wrong name",
            source("api_kye = 1 # was SECRET"),
        ),
        (
            "in a comment of what is no TOML",
            source("rate_share = = 1 # SECRET"),
        ),
        (
            "in a comment at a header",
            format!("{DESTINATION}[source.pay] # SECRET\nconnector = \"stripe\"\n"),
        ),
        (
            "dotted, no connector",
            format!("sources.pay.api_key = \"SECRET\"\n{DESTINATION}"),
        ),
        (
            "dotted, at a wrong place",
            format!("pay.api_key = \"SECRET\"\n{DESTINATION}{PAY}"),
        ),
        (
            "a quoted name at a wrong place",
            format!("\"api_key\" = \"SECRET\"\n{DESTINATION}{PAY}"),
        ),
        (
            "in the place of a source",
            format!("{DESTINATION}[sources]\npay = \"SECRET\"\n"),
        ),
        (
            "in the place of all sources",
            format!("sources = \"SECRET\"\n{DESTINATION}"),
        ),
        (
            "in the place of the destination",
            format!("destination = \"SECRET\"\n{PAY}"),
        ),
        (
            "in the place of the settings",
            format!("sync = \"SECRET\"\n{DESTINATION}{PAY}"),
        ),
        (
            "a list of sources",
            format!("{DESTINATION}[[sources]]\nconnector = \"stripe\"\napi_key = \"SECRET\"\n"),
        ),
        (
            "a connector",
            format!("{DESTINATION}[sources.pay]\nconnector = \"SECRET\"\n"),
        ),
        (
            "a type of destination",
            "[destination]\ntype = \"SECRET\"\npath = \"x\"\n".to_owned(),
        ),
        (
            "a stream",
            source("api_key = \"rk_test_1\"\nstreams = [\"charges\", \"SECRET\"]"),
        ),
        (
            "streams",
            source("api_key = \"rk_test_1\"\nstreams = \"SECRET\""),
        ),
        (
            "a number in the list of streams",
            source("streams = [\"SECRET\", 1]"),
        ),
        (
            "beside a wrong stream",
            source("api_key = \"rk_test_1\"\nstreams = [\"SECRET\", \"chargs\"]"),
        ),
        ("an unknown member", source("api_kye = \"SECRET\"")),
        (
            "a table that is unknown",
            source("[sources.pay.credentials]\nkey = \"SECRET\""),
        ),
        (
            "a secret in quotation marks",
            source("api_key = \"'SECRET'\""),
        ),
        ("a secret with white space", source("api_key = \"SECRET \"")),
        (
            "of another connector",
            format!(
                "{DESTINATION}[sources.web]\nconnector = \"mixpanel\"\nproject_id = \"SECRET \
                 x\"\nsecret = \"SECRET\"\n"
            ),
        ),
        (
            "with another member wrong",
            format!(
                "{DESTINATION}[sources.desk]\nconnector = \"zendesk\"\nsubdomain = \"a b\"\nemail \
                 = \"a@b.cc\"\napi_token = \"SECRET\"\n"
            ),
        ),
    ]
}

/// The same for members that are known to be no secret: what stands there is shown unless it looks
/// like a credential.
fn wrong_with_a_key() -> Vec<(&'static str, String)> {
    let source = |members: &str| format!("{DESTINATION}{PAY}api_key = \"rk_test_1\"\n{members}\n");
    vec![
        ("a share", source("rate_share = \"SECRET\"")),
        ("a count", source("page_size = \"SECRET\"")),
        ("a day", source("start_date = \"SECRET\"")),
        ("no URL", source("base_url = \"SECRET\"")),
        (
            "a URL with a user",
            source("base_url = \"ftp://user:SECRET@host/\""),
        ),
        (
            "a duration",
            format!("{}[sync]\ncommit_interval = \"SECRET\"\n", source("")),
        ),
        ("a name of a member", source("SECRET = \"api_key\"")),
        (
            "a name of a table",
            format!("{DESTINATION}[SECRET.pay]\nconnector = \"stripe\"\n"),
        ),
        (
            "a name of a source",
            format!("{DESTINATION}[sources.\"SECRET!\"]\nconnector = \"stripe\"\n"),
        ),
        (
            "a header that is no TOML",
            format!("{DESTINATION}[SECRET\nconnector = \"stripe\"\n"),
        ),
        (
            "a file",
            format!("{DESTINATION}{PAY}api_key = \"file:SECRET\"\n"),
        ),
        (
            "a subdomain",
            format!(
                "{DESTINATION}[sources.desk]\nconnector = \"zendesk\"\nsubdomain = \
                 \"SECRET!\"\nemail = \"a@b.cc\"\napi_token = \"x1\"\n"
            ),
        ),
    ]
}

/// Commands that read the configuration, each with the outputs that it has.
const COMMANDS: [&[&str]; 14] = [
    &["sync"],
    &["sync", "--output", "json"],
    &["sync", "--dry-run", "--output", "json"],
    &["check"],
    &["check", "--output", "json"],
    &["discover"],
    &["discover", "--output", "json"],
    &["status"],
    &["status", "--output", "json"],
    &["state", "show"],
    &["state", "gaps", "--output", "json"],
    &["purge", "--output", "json"],
    &["runs"],
    &["runs", "--output", "json"],
];

/// Parts of a secret that say as much as the whole.
fn parts(secret: &str) -> Vec<&str> {
    let words = secret.split([' ', '_']).filter(|word| word.len() >= 6);
    words.chain([secret]).collect()
}

#[test]
fn a9_no_command_shows_a_secret_of_a_wrong_configuration() {
    let secrets = |is_any: bool| {
        if is_any {
            &[KEY, WORDS, NUMBER][..]
        } else {
            &[KEY]
        }
    };
    let all = wrong_with_any_secret()
        .into_iter()
        .map(|case| (case, true))
        .chain(wrong_with_a_key().into_iter().map(|case| (case, false)));
    let mut told = String::new();
    for ((case, toml), is_any) in all {
        for secret in secrets(is_any) {
            let sandbox = Sandbox::new();
            sandbox.write("pipeline.toml", &toml.replace("SECRET", secret));
            // What one kind of secret has shown of all commands, the others show of one.
            for command in COMMANDS
                .iter()
                .take(if *secret == KEY { COMMANDS.len() } else { 1 })
            {
                let ran = sandbox.run(command);
                let text = ran.text();
                let shown = parts(secret).into_iter().find(|part| text.contains(part));
                assert_eq!(shown, None, "{case}, {command:?}:\n{text}");
                // `discover` lists streams also where the configuration names one that there is
                // not.
                if matches!(command[0], "sync" | "check") {
                    assert_eq!(ran.code, 2, "{case}, {command:?}: {text}");
                    assert!(
                        text.contains("pipeline.toml:"),
                        "the place is named: {case}, {command:?}: {text}"
                    );
                }
            }
        }
        let sandbox = Sandbox::new();
        sandbox.write("pipeline.toml", &toml.replace("SECRET", KEY));
        let _ = writeln!(
            told,
            "## {case}\n{}\n",
            sandbox
                .run(&["sync"])
                .stderr
                .split(" known ")
                .next()
                .unwrap_or_default()
                .trim_end()
        );
    }
    insta::assert_snapshot!(told);
}

#[cfg(unix)]
#[test]
fn a9_a_configuration_that_everybody_can_read_is_a_warning_only_when_it_holds_a_secret() {
    use std::os::unix::fs::PermissionsExt;
    let cases = [
        (0o644, "rk_test_inline1inline2", true),
        (0o600, "rk_test_inline1inline2", false),
        (0o644, "${STRIPE_API_KEY}", false),
        (0o644, "rk_${STRIPE_API_KEY}", true),
    ];
    for (mode, key, is_warned) in cases {
        let sandbox = Sandbox::new();
        let path = sandbox.write(
            "pipeline.toml",
            &format!("{DESTINATION}{PAY}api_key = \"{key}\"\n"),
        );
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let mut command = sandbox.command(&["discover"]);
        command.env(
            "STRIPE_API_KEY",
            if key.starts_with("rk_$") {
                "test_1"
            } else {
                "rk_test_1"
            },
        );
        let ran = ran(command).ended_with(0);
        let warning = "pipeline.toml contains a secret, and every user of this machine can read it";
        assert_eq!(
            ran.stderr.contains(warning),
            is_warned,
            "{mode:o} {key}: {}",
            ran.stderr
        );
        assert!(!ran.text().contains("inline1"), "{}", ran.text());
    }
}

#[cfg(unix)]
#[test]
fn a9_secrets_from_pipes_and_devices_are_read_within_bounds() {
    let sandbox = Sandbox::new();
    let pipe = sandbox.path("pipe");
    assert!(
        std::process::Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    fs::write(sandbox.path("large"), "x".repeat(100 << 10)).unwrap();
    fs::create_dir(sandbox.path("folder")).unwrap();
    let mut told = String::new();
    for file in ["pipe", "/dev/zero", "large", "folder", "missing"] {
        sandbox.write(
            "pipeline.toml",
            &format!("{DESTINATION}{PAY}api_key = \"file:{file}\"\n"),
        );
        let started = tokio::time::Instant::now();
        let ran = sandbox.run(&["discover"]).ended_with(2);
        assert!(
            started.elapsed().as_secs() < 20,
            "{file}: {:?}",
            started.elapsed()
        );
        let _ = writeln!(told, "{}\n", ran.stderr.trim_end());
    }
    insta::assert_snapshot!(told);
    // A pipe that somebody writes to is as good as a file.
    sandbox.write(
        "pipeline.toml",
        &format!("{DESTINATION}{PAY}api_key = \"file:pipe\"\n"),
    );
    let writer = std::thread::spawn(move || fs::write(pipe, "rk_test_piped1piped2\n").unwrap());
    let ran = sandbox.run(&["discover"]).ended_with(0);
    writer.join().unwrap();
    assert!(!ran.text().contains("piped1"));
    // The configuration itself may be such a thing, too.
    let ran = sandbox
        .run(&["status", "--config", "/dev/zero"])
        .ended_with(2);
    assert!(ran.stderr.contains("larger than"), "{}", ran.stderr);
}
