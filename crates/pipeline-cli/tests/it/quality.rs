//! Checks of a configuration: what the command writes, keeps, says, and ends with.

use crate::support::{SQLITE, Sandbox};
use crate::vendor::{Vendor, list};

/// Tax ids of which the fourth has no country.
fn tax_ids() -> Vec<String> {
    let country = |index: usize| if index == 3 { "null" } else { "\"DE\"" };
    (0..8)
        .map(|index| {
            format!(
                r#"{{"id":"txi_{index:03}","object":"tax_id","country":{},"value":"{index}","created":1700000000}}"#,
                country(index)
            )
        })
        .collect()
}

fn sandbox(vendor: &Vendor, check: &str) -> Sandbox {
    vendor.sandbox(&format!(
        "streams = [\"tax_ids\"]\n[[sources.payments.quality.checks]]\nstream = \
         \"tax_ids\"\nnot_null = [\"country\"]\n{check}"
    ))
}

fn vendor() -> Vendor {
    Vendor::stripe(|path, _| (path == "/v1/tax_ids").then(|| (200, list(&tax_ids()))))
}

/// Rows of the table of rejected records: why, of which key, and the record.
fn rejected(sandbox: &Sandbox) -> Vec<(String, String, String, String)> {
    let database = rusqlite::Connection::open(sandbox.path("warehouse.db")).unwrap();
    let mut statement = database
        .prepare("SELECT cause, reason, key, record FROM payments__rejected")
        .unwrap();
    let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?));
    let rows = statement.query_map([], row).unwrap();
    rows.map(Result::unwrap).collect()
}

#[test]
fn a_row_in_quarantine_is_named_and_kept_as_it_came_once() {
    let vendor = vendor();
    let sandbox = sandbox(&vendor, "");
    for _ in 0..3 {
        let ran = sandbox.run(&["sync"]).ended_with(0);
        assert!(
            ran.stdout.contains(
                "payments/tax_ids: `country` is null in 1 row, kept in payments's table \
                 `_rejected` instead; the first is {\"id\":\"txi_003\"}"
            ),
            "{}",
            ran.stdout
        );
        assert_eq!(sandbox.ids("payments_tax_ids").len(), 7);
    }
    let kept = (
        "quality".to_owned(),
        "`country` is null".to_owned(),
        r#"{"id":"txi_003"}"#.to_owned(),
        tax_ids()[3].clone(),
    );
    assert_eq!(rejected(&sandbox), [kept]);
    let ran = sandbox.run(&["sync", "--output", "json"]).ended_with(0);
    let stream = &ran.finished()["streams"][0];
    assert_eq!(
        stream["quality"],
        serde_json::json!([{
            "reason": "`country` is null",
            "on_failure": "quarantine",
            "records": 1,
            "first": "{\"id\":\"txi_003\"}",
        }])
    );
    assert_eq!(stream["rejected"], 0);
}

#[test]
fn a_warning_names_rows_that_are_written() {
    let vendor = vendor();
    let sandbox = sandbox(&vendor, "on_failure = \"warn\"");
    let ran = sandbox.run(&["sync"]).ended_with(0);
    assert!(
        ran.stdout
            .contains("`country` is null in 1 row, written all the same"),
        "{}",
        ran.stdout
    );
    assert_eq!(sandbox.ids("payments_tax_ids").len(), 8);
}

#[test]
fn a_stop_ends_with_4_and_resumes_when_the_check_is_gone() {
    let vendor = vendor();
    let sandbox = sandbox(&vendor, "on_failure = \"stop\"");
    for _ in 0..2 {
        let ran = sandbox.run(&["sync"]).ended_with(4);
        assert!(
            ran.stdout
                .contains("quality check failed: `country` is null in 1 row of `tax_ids`"),
            "{}",
            ran.stdout
        );
        assert!(sandbox.ids("payments_tax_ids").is_empty());
    }
    let config = std::fs::read_to_string(sandbox.path("pipeline.toml")).unwrap();
    assert!(config.contains(SQLITE));
    sandbox.write("pipeline.toml", &config.replace("\"stop\"", "\"warn\""));
    sandbox.run(&["sync"]).ended_with(0);
    assert_eq!(sandbox.ids("payments_tax_ids").len(), 8);
}
