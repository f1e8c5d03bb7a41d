//! What is wrong in `[run]`, `[alerts]`, and the timing of a source, shown at its place.

use insta::assert_snapshot;

use crate::support::Sandbox;

/// What `pipeline run` says about a source with these lines, and these tables after it.
fn refused(source: &str, tables: &str) -> String {
    let sandbox = Sandbox::new();
    sandbox.write(
        "pipeline.toml",
        &format!(
            "[destination]\ntype = \"sqlite\"\npath = \"warehouse.db\"\n\n[sources.payments]\nconnector = \"stripe\"\n\
             api_key = \"${{STRIPE_API_KEY}}\"\n{source}\n\n{tables}"
        ),
    );
    sandbox.run(&["run"]).ended_with(2).stderr
}

#[test]
fn what_is_wrong_is_shown_at_its_place() {
    let every = "every = \"15m\"";
    let cases: [(&str, &str); 19] = [
        ("", ""),
        ("schedule = \"* * * *\"", ""),
        ("schedule = \"0 0 30 2 *\"", ""),
        ("every = \"10\"", ""),
        ("every = \"10ms\"", ""),
        ("every = \"15m\"\nschedule = \"* * * * *\"", ""),
        ("schedule = \"* * * * *\"\ntimezone = \"Berlin\"", ""),
        ("every = \"15m\"\noverlap = \"que\"", ""),
        ("every = \"15m\"\ncatch_up = \"yes\"", ""),
        ("every = \"15m\"\nfreshness = { charge = \"2h\" }", ""),
        ("every = \"15m\"\nmax_duration = 7", ""),
        ("evry = \"15m\"", ""),
        (every, "[run]\nlisten = \"8080\""),
        (every, "[run]\nlisten = \"0.0.0.0:8080\""),
        (
            every,
            "[run]\nlisten = \"0.0.0.0:8080\"\ntoken = \"short0hush\"",
        ),
        (every, "[run]\nmax_runs = 0"),
        (
            every,
            "[alerts]\nslack = \"http://example.com/services/hush0hush\"",
        ),
        (every, "[alerts]\nslack = \"${SLACK_NOT_SET}\""),
        (every, "[alerts]\nwhen = [\"failed\", \"stael\"]"),
    ];
    let texts = cases.map(|(source, tables)| refused(source, tables));
    let text = texts.join("\n");
    assert!(!text.contains("hush"), "{text}");
    assert_snapshot!(text);
}

#[test]
fn what_is_wrong_about_webhooks_is_shown_at_its_place() {
    let cases: [(&str, &str); 7] = [
        ("webhook = \"hush0hush\"", ""),
        ("webhook = {}", ""),
        ("webhook = { secrets = \"hush0hush\" }", ""),
        ("webhook = { secrets = [] }", ""),
        ("webhook = { secret = [\"hush0hush\"] }", ""),
        ("webhook = { secrets = [\"${HOOK_NOT_SET}\"] }", ""),
        (
            "webhook = { secrets = [\"hush0hush\"] }",
            "[run]\nlisten = \"off\"",
        ),
    ];
    let of =
        |(webhook, tables): (&str, &str)| refused(&format!("every = \"15m\"\n{webhook}"), tables);
    let text = cases.map(of).join("\n");
    assert!(!text.contains("hush"), "{text}");
    assert_snapshot!(text);
}

/// Mixpanel sends no webhook that says what has changed: its cohort sync is data itself.
#[test]
fn a_vendor_without_webhooks_is_refused() {
    let sandbox = Sandbox::new();
    sandbox.write(
        "pipeline.toml",
        "[destination]\ntype = \"sqlite\"\npath = \"warehouse.db\"\n\n[sources.product]\nconnector = \"mixpanel\"\n\
         project_id = 1\nusername = \"u\"\nsecret = \"s\"\ntime_zone = \"UTC\"\n\
         every = \"15m\"\nwebhook = { secrets = [\"hush0hush\"] }\n",
    );
    let refused = sandbox.run(&["run"]).ended_with(2);
    let text = refused.text();
    assert!(
        text.contains("the connector `mixpanel` receives no webhooks"),
        "{text}"
    );
    assert!(!text.contains("hush"), "{text}");
}

#[test]
fn rows_on_standard_output_are_refused() {
    let sandbox = Sandbox::new();
    sandbox.write(
        "pipeline.toml",
        "[destination]\ntype = \"jsonl\"\npath = \"-\"\n\n[sources.payments]\nconnector = \"stripe\"\napi_key = \"${STRIPE_API_KEY}\"\nevery = \"15m\"\n",
    );
    let refused = sandbox.run(&["run"]).ended_with(2);
    assert!(
        refused.stderr.contains("standard output"),
        "{}",
        refused.text()
    );
}
