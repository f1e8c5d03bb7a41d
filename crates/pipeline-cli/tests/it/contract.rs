//! What a contract keeps from being written, through the whole program.

use std::fs::File;
use std::path::Path;
use std::sync::{Arc, Mutex};

use parquet::file::reader::FileReader;
use parquet::file::serialized_reader::SerializedFileReader;

use crate::support::{SQLITE, Sandbox};
use crate::vendor::{Vendor, list};

const PARQUET: &str = "type = \"parquet\"\npath = \"lake\"";

/// A tax id as Stripe sends it, or with a member or a value that Stripe does not document.
fn tax_id(index: usize, departure: &str) -> String {
    let created = if departure == "a type" && index == 7 {
        "\"yesterday\""
    } else {
        "1700000000"
    };
    let added = if departure == "a member" && index == 7 {
        r#","colour":"red""#
    } else {
        ""
    };
    format!(
        r#"{{"id":"txi_{index:03}","object":"tax_id","country":"DE","value":"{index}","created":{created}{added}}}"#
    )
}

/// A list of 20, of which one departs from what is declared.
fn answer(departure: &str) -> String {
    list(
        &(0..20)
            .map(|index| tax_id(index, departure))
            .collect::<Vec<_>>(),
    )
}

fn sandbox(vendor: &Vendor, destination: &str, contract: &str) -> Sandbox {
    let sandbox = vendor.sandbox("streams = [\"tax_ids\"]");
    configure(&sandbox, destination, contract);
    sandbox
}

fn configure(sandbox: &Sandbox, destination: &str, contract: &str) {
    let config = std::fs::read_to_string(sandbox.path("pipeline.toml")).unwrap();
    let own: Vec<&str> = config
        .lines()
        .filter(|line| !line.starts_with("contract"))
        .collect();
    let config = own.join("\n").replace(SQLITE, destination);
    sandbox.write(
        "pipeline.toml",
        &config.replace(
            "streams = [\"tax_ids\"]",
            &format!("streams = [\"tax_ids\"]\n{contract}"),
        ),
    );
}

/// The rows of a table as text.
fn rows(sandbox: &Sandbox, destination: &str, table: &str) -> Vec<String> {
    if destination == SQLITE {
        stored(&sandbox.path("warehouse.db"), &format!("payments_{table}"))
    } else {
        // A name that begins with `_` would be hidden from query engines.
        let table = table.replacen('_', "%5F", usize::from(table.starts_with('_')));
        in_files(&sandbox.path(&format!("lake/payments/{table}")))
    }
}

fn stored(database: &Path, table: &str) -> Vec<String> {
    let database = rusqlite::Connection::open(database).unwrap();
    if !database.table_exists(None, table).unwrap() {
        return Vec::new();
    }
    let mut statement = database.prepare(&format!("SELECT * FROM {table}")).unwrap();
    let columns = statement.column_count();
    let text = |row: &rusqlite::Row<'_>| {
        let values = (0..columns).map(|column| row.get::<_, rusqlite::types::Value>(column));
        Ok(format!("{:?}", values.collect::<Result<Vec<_>, _>>()?))
    };
    let rows = statement.query_map([], text).unwrap();
    rows.map(Result::unwrap).collect()
}

fn in_files(folder: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let paths = entries.map(|entry| entry.unwrap().path());
    let rows = |path| {
        let file = SerializedFileReader::new(File::open(path).unwrap()).unwrap();
        let rows = file.get_row_iter(None).unwrap();
        rows.map(|row| row.unwrap().to_string()).collect::<Vec<_>>()
    };
    paths
        .filter(|path| path.extension().is_some_and(|ext| ext == "parquet"))
        .flat_map(rows)
        .collect()
}

fn having(rows: &[String], text: &str) -> usize {
    rows.iter().filter(|row| row.contains(text)).count()
}

fn vendor(departure: &'static str) -> (Vendor, Arc<Mutex<String>>) {
    let given = Arc::new(Mutex::new(answer(departure)));
    let answer = Arc::clone(&given);
    let vendor = Vendor::stripe(move |path, _| {
        (path == "/v1/tax_ids").then(|| (200, answer.lock().unwrap().clone()))
    });
    (vendor, given)
}

const DEPARTURES: [(&str, &str, &str); 2] = [
    ("a member", "columns", "colour"),
    ("a type", "types", "created"),
];

#[test]
fn a_frozen_contract_keeps_a_page_out_of_its_table_until_it_evolves() {
    for destination in [SQLITE, PARQUET] {
        for (departure, part, field) in DEPARTURES {
            let (vendor, given) = vendor("nothing");
            let contract = format!("contract = {{ {part} = \"freeze\" }}");
            let sandbox = sandbox(&vendor, destination, &contract);
            sandbox.run(&["sync"]).ended_with(0);
            let before = rows(&sandbox, destination, "tax_ids");
            assert_eq!(before.len(), 20, "{destination}");
            *given.lock().unwrap() = answer(departure);
            for _ in 0..2 {
                let ran = sandbox.run(&["sync"]).ended_with(4);
                assert!(ran.text().contains(field), "{}", ran.text());
                assert!(ran.text().contains("key: txi_007"), "{}", ran.text());
                assert_eq!(rows(&sandbox, destination, "tax_ids"), before);
                assert!(rows(&sandbox, destination, "_rejected").is_empty());
            }
            let evolves = format!("contract = {{ {part} = \"evolve\" }}");
            configure(&sandbox, destination, &evolves);
            let ran = sandbox.run(&["sync"]).ended_with(0);
            assert!(ran.stdout.contains("Kept in `_extra`"), "{}", ran.stdout);
            let after = rows(&sandbox, destination, "tax_ids");
            assert!(having(&after, field) > 0, "{after:?}");
        }
    }
}

#[test]
fn a_discarded_row_is_in_quarantine_and_a_discarded_value_is_nowhere() {
    for destination in [SQLITE, PARQUET] {
        for (departure, part, field) in DEPARTURES {
            let sent = if departure == "a member" {
                "red"
            } else {
                "yesterday"
            };
            let (vendor, _given) = vendor(departure);
            let row = format!("contract = {{ {part} = \"discard_row\" }}");
            let sandbox = sandbox(&vendor, destination, &row);
            sandbox.run(&["sync"]).ended_with(0);
            let table = rows(&sandbox, destination, "tax_ids");
            assert_eq!((table.len(), having(&table, "txi_007")), (19, 0));
            let rejected = rows(&sandbox, destination, "_rejected");
            assert_eq!((rejected.len(), having(&rejected, sent)), (1, 1));
            assert_eq!(having(&rejected, &format!("field `{field}`")), 1);

            let value = format!("contract = {{ {part} = \"discard_value\" }}");
            let sandbox = self::sandbox(&vendor, destination, &value);
            let ran = sandbox.run(&["sync"]).ended_with(0);
            assert!(
                ran.stdout
                    .contains(&format!("{field} (dropped by `contract`, 1)")),
                "{}",
                ran.stdout
            );
            let table = rows(&sandbox, destination, "tax_ids");
            assert_eq!((table.len(), having(&table, "txi_007")), (20, 1));
            assert_eq!(having(&table, sent), 0);
            assert!(rows(&sandbox, destination, "_rejected").is_empty());
        }
    }
}
