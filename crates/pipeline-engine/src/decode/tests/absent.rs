//! Columns of which a page has all values, some, or none.

use super::*;

/// Page after page of one decoder: where a page has values (`v`) and where it has none (`-`).
#[test]
fn every_column_has_its_nulls_where_the_records_have_none() {
    let mut decoder = decoder();
    for pattern in ["vvv", "---", "---", "--", "--v", "v--", "v", "-", "vvv"] {
        for (row, kind) in pattern.chars().enumerate() {
            let record = if kind == 'v' {
                format!(
                    r#"{{"id":"{row}","flag":true,"int":{row},"float":0.5,"money":"1.50","text":"t","day":"2026-11-26","seconds":1,
                    "millis":1,"time":"2026-11-26T00:00:00Z","midnight":"2026-11-26","json":1,"reference":"r","object":{{}},"array":[]}}"#
                )
            } else {
                format!(r#"{{"id":"{row}","int":null}}"#)
            };
            decoder
                .push(&RawRecord::upsert(record), DateTime::UNIX_EPOCH)
                .unwrap();
        }
        let batch = decoder.finish().unwrap().unwrap();
        for field in schema().fields() {
            let found = (0..batch.num_rows()).map(|row| {
                if cell(&batch, &field.name, row).is_some() {
                    'v'
                } else {
                    '-'
                }
            });
            let expected = if field.name == "id" {
                pattern.replace('-', "v")
            } else {
                pattern.to_owned()
            };
            assert_eq!(found.collect::<String>(), expected, "{}", field.name);
        }
    }
}
