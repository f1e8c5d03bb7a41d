//! Lists that are not what they were: the table keeps its rows, and the run says so.

use std::path::Path;
use std::sync::{Arc, Mutex};

use crate::support::{SQLITE, Sandbox};
use crate::vendor::{Vendor, list};

const DESTINATIONS: [&str; 3] = [
    SQLITE,
    "type = \"jsonl\"\npath = \"lake\"",
    "type = \"parquet\"\npath = \"lake\"",
];

/// A tax id as Stripe sends it.
fn tax_id(index: usize) -> String {
    format!(
        r#"{{"id":"txi_{index:03}","object":"tax_id","country":"DE","value":"{index}","created":1700000000}}"#
    )
}

/// An account whose list of tax ids is what a test says.
struct Account {
    vendor: Vendor,
    answer: Arc<Mutex<String>>,
}

impl Account {
    fn new() -> Self {
        let answer = Arc::new(Mutex::new(list(&[])));
        let given = Arc::clone(&answer);
        let vendor = Vendor::stripe(move |path, _| {
            (path == "/v1/tax_ids").then(|| (200, given.lock().unwrap().clone()))
        });
        Self { vendor, answer }
    }

    fn set(&self, answer: String) {
        *self.answer.lock().unwrap() = answer;
    }

    fn sandbox(&self, destination: &str, members: &str) -> Sandbox {
        let sandbox = self
            .vendor
            .sandbox(&format!("streams = [\"tax_ids\"]\n{members}"));
        let config = std::fs::read_to_string(sandbox.path("pipeline.toml")).unwrap();
        sandbox.write("pipeline.toml", &config.replace(SQLITE, destination));
        sandbox
    }
}

/// Ways in which a list of 50 stops being what Stripe documents, and a part of what the run then
/// says.
fn broken_lists() -> Vec<(&'static str, String, &'static str)> {
    let records =
        |change: fn(String) -> String| list(&(0..50).map(tax_id).map(change).collect::<Vec<_>>());
    let in_place = |data: &str| {
        format!(r#"{{"object":"list","has_more":false,"url":"/v1/tax_ids","data":{data}}}"#)
    };
    vec![
        (
            "ids renamed",
            records(|record| record.replace("\"id\"", "\"uid\"")),
            "50 of 50 records of `tax_ids` cannot be rows",
        ),
        (
            "ids are numbers",
            records(|record| record.replace("\"txi_", "1").replacen("\",", ",", 1)),
            "50 of 50 records",
        ),
        (
            "ids are objects",
            records(|record| {
                record
                    .replacen(":\"txi_", ":{\"v\":\"txi_", 1)
                    .replacen("\",", "\"},", 1)
            }),
            "50 of 50 records",
        ),
        (
            "ids are null",
            records(|record| record.replacen(":\"txi_", ":null,\"x\":\"txi_", 1)),
            "50 of 50 records",
        ),
        (
            "records are ids",
            records(|record| record[6..15].to_owned()),
            "50 of 50 records",
        ),
        (
            "null",
            in_place("null"),
            "no records where the vendor documents them",
        ),
        (
            "an empty object",
            in_place("{}"),
            "no records where the vendor documents them",
        ),
        (
            "one object",
            in_place(&tax_id(1)),
            "one object where the vendor documents a list",
        ),
        (
            "text",
            in_place("\"none\""),
            "no records where the vendor documents them",
        ),
        (
            "another envelope",
            list(&(0..50).map(tax_id).collect::<Vec<_>>()).replace("\"data\"", "\"items\""),
            "no records",
        ),
        (
            "nothing but a flag",
            r#"{"has_more":false}"#.to_owned(),
            "no records where the vendor documents them",
        ),
        (
            "no object",
            "null".to_owned(),
            "no records where the vendor documents them",
        ),
    ]
}

#[test]
fn a5_a_table_of_fifty_rows_survives_whatever_becomes_of_its_list() {
    let account = Account::new();
    for (name, broken, said) in broken_lists() {
        let sandbox = account.sandbox(SQLITE, "");
        account.set(list(&(0..50).map(tax_id).collect::<Vec<_>>()));
        sandbox.run(&["sync"]).ended_with(0);
        account.set(broken);
        for _ in 0..2 {
            let ran = sandbox.run(&["sync"]).ended_with(4);
            assert!(ran.text().contains(said), "{name}: {}", ran.text());
            assert_eq!(sandbox.ids("payments_tax_ids").len(), 50, "{name}");
        }
        let kept = rejected(&sandbox);
        assert!(
            kept == 0 || kept == 50,
            "{name}: a record is kept once: {kept}"
        );
        account.set(list(&(0..51).map(tax_id).collect::<Vec<_>>()));
        sandbox.run(&["sync"]).ended_with(0);
        assert_eq!(
            sandbox.ids("payments_tax_ids").len(),
            51,
            "{name}: a list that is right again is read"
        );
    }
    // A list can become empty.
    let sandbox = account.sandbox(SQLITE, "");
    sandbox.run(&["sync"]).ended_with(0);
    account.set(list(&[]));
    sandbox.run(&["sync"]).ended_with(0);
    assert!(sandbox.ids("payments_tax_ids").is_empty());
}

/// Rows of the table of rejected records in the database.
fn rejected(sandbox: &Sandbox) -> usize {
    let database = rusqlite::Connection::open(sandbox.path("warehouse.db")).unwrap();
    if !database.table_exists(None, "payments__rejected").unwrap() {
        return 0;
    }
    let rows: i64 = database
        .query_row("SELECT count(*) FROM payments__rejected", [], |row| {
            row.get(0)
        })
        .unwrap();
    usize::try_from(rows).unwrap()
}

#[test]
fn a5_the_share_is_configured_for_a_source_or_a_stream() {
    let account = Account::new();
    let record = |index: usize| {
        if index < 12 {
            tax_id(index).replace("\"id\"", "\"uid\"")
        } else {
            tax_id(index)
        }
    };
    account.set(list(&(0..50).map(record).collect::<Vec<_>>()));
    for (members, code) in [
        ("", 4),
        ("max_rejected = \"25%\"", 0),
        ("max_rejected = \"23%\"", 4),
        ("max_rejected = { tax_ids = \"25%\" }", 0),
        ("max_rejected = { charges = \"25%\" }", 4),
        ("max_rejected = { charges = \"0%\", \"*\" = \"100%\" }", 0),
    ] {
        let sandbox = account.sandbox(SQLITE, members);
        sandbox.run(&["sync"]).ended_with(code);
        assert_eq!(
            sandbox.ids("payments_tax_ids").len(),
            if code == 0 { 38 } else { 0 },
            "{members}"
        );
        assert_eq!(rejected(&sandbox), 12, "{members}");
    }
    let ran = account
        .sandbox(SQLITE, "max_rejected = { tax_idz = \"25%\" }")
        .run(&["sync"])
        .ended_with(2);
    assert!(ran.stderr.contains("tax_ids"), "{}", ran.stderr);
    account
        .sandbox(SQLITE, "max_rejected = 25")
        .run(&["sync"])
        .ended_with(2);
}

#[test]
fn a17_a_rejected_record_is_kept_once_in_every_destination() {
    let account = Account::new();
    let record = |index: usize| {
        if index == 7 {
            tax_id(index).replace("\"id\"", "\"uid\"")
        } else {
            tax_id(index)
        }
    };
    account.set(list(&(0..50).map(record).collect::<Vec<_>>()));
    for destination in DESTINATIONS {
        let sandbox = account.sandbox(destination, "");
        for sync in 0..4 {
            let ran = sandbox.run(&["sync"]).ended_with(0);
            assert!(
                ran.stdout.contains("tax_ids: 1 record rejected"),
                "{destination}, sync {sync}: {}",
                ran.stdout
            );
        }
        let rows = if destination == SQLITE {
            rejected(&sandbox)
        } else {
            files(&sandbox.path("lake/payments/%5Frejected"))
        };
        assert_eq!(rows, 1, "{destination}");
    }
    // Read again after a reset, it is one record still.
    let sandbox = account.sandbox(SQLITE, "");
    sandbox.run(&["sync"]).ended_with(0);
    sandbox
        .run(&["state", "reset", "payments", "--yes"])
        .ended_with(0);
    sandbox.run(&["sync", "--full-refresh"]).ended_with(0);
    assert_eq!(rejected(&sandbox), 1);
}

/// Data files of a table; each sync that writes to it adds one.
fn files(table: &Path) -> usize {
    std::fs::read_dir(table).unwrap().count()
}
