//! Rules against batches that the decoder makes.
#![allow(clippy::unwrap_used)]

use chrono::DateTime;
use pipeline_core::{Field, Schema, TimeFormat};
use proptest::prelude::*;

use super::*;
use crate::Generation;
use crate::decode::Decoder;

static FIELDS: [Field; 7] = [
    Field::new("id", pipeline_core::DataType::String),
    Field::new("status", pipeline_core::DataType::String),
    Field::new("amount", pipeline_core::DataType::Int64),
    Field::new("rate", pipeline_core::DataType::Float64),
    Field::new(
        "price",
        pipeline_core::DataType::Decimal {
            precision: 10,
            scale: 2,
        },
    ),
    Field::new("day", pipeline_core::DataType::Date),
    Field::new(
        "at",
        pipeline_core::DataType::Timestamp(TimeFormat::UnixSeconds),
    ),
];

fn batch(records: &[RawRecord]) -> RecordBatch {
    let mut decoder = Decoder::new(&Schema::from_static(&FIELDS), &["id".into()]);
    for record in records {
        decoder.push(record, DateTime::UNIX_EPOCH).unwrap();
    }
    decoder.finish().unwrap().unwrap()
}

/// The rows of records with this column that break a rule.
fn broken(rule: &QualityRule, column: &str, values: &[&str]) -> Vec<usize> {
    let records: Vec<RawRecord> = values
        .iter()
        .enumerate()
        .map(|(row, value)| RawRecord::upsert(format!(r#"{{"id":"r{row}","{column}":{value}}}"#)))
        .collect();
    let batch = batch(&records);
    rule.broken(&Rows::of(&batch).unwrap(), &["id".to_owned()])
}

fn range(column: &str, min: Option<RangeBound>, max: Option<RangeBound>) -> QualityRule {
    QualityRule::Range {
        column: column.to_owned(),
        min,
        max,
    }
}

#[test]
fn a_column_without_a_value_or_with_one_that_does_not_fit_is_null() {
    let rule = QualityRule::NotNull {
        column: "amount".to_owned(),
    };
    assert_eq!(
        broken(&rule, "amount", &["1", "null", "\"many\"", "0"]),
        [1, 2]
    );
    assert_eq!(broken(&rule, "status", &["\"paid\""]), [0], "it is absent");
}

#[test]
fn values_are_accepted_as_text_and_null_is() {
    let accepted = |column: &str, values: &[&str]| QualityRule::Accepted {
        column: column.to_owned(),
        values: values.iter().map(|value| (*value).to_owned()).collect(),
    };
    let rule = accepted("status", &["paid", "open"]);
    assert_eq!(
        broken(
            &rule,
            "status",
            &["\"paid\"", "\"Paid\"", "null", "\"\"", "\"open\""]
        ),
        [1, 3]
    );
    let rule = accepted("amount", &["1", "-2"]);
    assert_eq!(broken(&rule, "amount", &["1", "2", "-2"]), [1]);
}

#[test]
fn a_pattern_may_match_anywhere_unless_it_has_anchors() {
    let pattern = |pattern: &str| QualityRule::Pattern {
        column: "status".to_owned(),
        pattern: regex::Regex::new(pattern).unwrap(),
    };
    let values = ["\"paid\"", "\"unpaid\"", "null", "\"\""];
    assert_eq!(broken(&pattern("paid"), "status", &values), [3]);
    assert_eq!(broken(&pattern("^paid$"), "status", &values), [1, 3]);
}

#[test]
fn ranges_include_their_ends_for_every_type_that_has_an_order() {
    use RangeBound::{Instant, Integer, Number};
    let instant = |text: &str| Instant(text.parse().unwrap());
    for (column, min, max, values, expected) in [
        (
            "amount",
            Some(Integer(0)),
            Some(Integer(10)),
            vec!["-1", "0", "10", "11", "null"],
            vec![0, 3],
        ),
        (
            "amount",
            Some(Integer(i64::MAX)),
            None,
            vec!["9223372036854775806", "9223372036854775807"],
            vec![0],
        ),
        ("amount", None, Some(Number(0.5)), vec!["0", "1"], vec![1]),
        (
            "rate",
            Some(Integer(0)),
            Some(Number(0.5)),
            vec!["-0.1", "0", "0.5", "0.6"],
            vec![0, 3],
        ),
        (
            "price",
            Some(Integer(1)),
            Some(Number(1.5)),
            vec!["0.99", "1.00", "1.5", "1.51"],
            vec![0, 3],
        ),
        (
            "day",
            Some(instant("2026-01-01T00:00:00Z")),
            Some(instant("2026-01-31T00:00:00Z")),
            vec![
                "\"2025-12-31\"",
                "\"2026-01-01\"",
                "\"2026-01-31\"",
                "\"2026-02-01\"",
            ],
            vec![0, 3],
        ),
        (
            "at",
            Some(instant("1970-01-01T00:00:10Z")),
            None,
            vec!["9", "10"],
            vec![0],
        ),
    ] {
        assert_eq!(
            broken(&range(column, min, max), column, &values),
            expected,
            "{column} {min:?} {max:?}"
        );
    }
}

#[test]
fn versions_of_one_row_are_not_repetitions() {
    let rule = QualityRule::Unique {
        columns: vec!["status".to_owned(), "amount".to_owned()],
    };
    let records = [
        r#"{"id":"a","status":"x","amount":1}"#,
        r#"{"id":"a","status":"x","amount":1}"#,
        r#"{"id":"b","status":"x","amount":1}"#,
        r#"{"id":"c","status":"x","amount":11}"#,
        r#"{"id":"d","status":"x1","amount":1}"#,
        r#"{"id":"e","status":"x"}"#,
        r#"{"id":"f","status":"x"}"#,
    ]
    .map(|json| RawRecord::upsert(json.to_owned()));
    let batch = batch(&records);
    let rows = Rows::of(&batch).unwrap();
    assert_eq!(rule.broken(&rows, &["id".to_owned()]), [2]);
    assert_eq!(
        rule.broken(&rows, &[]),
        [1, 2],
        "without a key all are rows"
    );
}

#[test]
fn a_tombstone_breaks_nothing() {
    let batch = batch(&[
        RawRecord::delete(r#"{"id":"a"}"#.to_owned()),
        RawRecord::upsert(r#"{"id":"b"}"#.to_owned()),
    ]);
    let rule = QualityRule::NotNull {
        column: "amount".to_owned(),
    };
    let rows = Rows::of(&batch).unwrap();
    assert_eq!(rule.broken(&rows, &["id".to_owned()]), [1]);
}

fn table() -> Arc<Table> {
    Arc::new(Table {
        source: "shop".to_owned(),
        stream: "orders".to_owned(),
        primary_key: vec!["id".to_owned()],
        schema: Decoder::arrow_schema(&Schema::from_static(&FIELDS)),
        generation: Generation::Current,
    })
}

#[test]
fn a_check_of_an_unknown_column_is_refused() {
    let check = |column: &str| {
        let check = QualityCheck {
            stream: "orders".to_owned(),
            rule: QualityRule::NotNull {
                column: column.to_owned(),
            },
            on_failure: OnFailure::Warn,
        };
        check_columns(
            &[("shop".to_owned(), vec![check])].into(),
            [&table()].into_iter(),
        )
    };
    assert!(check("amount").is_ok());
    let error = check("amuont").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConfigInvalid);
    assert!(error.to_string().contains("`amuont`"), "{error}");
}

proptest! {
    /// Whatever breaks, of whichever endpoint: what is written and what is in quarantine are all
    /// rows, each once, and nothing of an endpoint that stops is in either.
    #[test]
    fn every_row_is_written_or_kept_or_read_again(
        values in prop::collection::vec((0_i64..6, 0_usize..3), 1..60),
        split in 0_usize..60,
    ) {
        let checks = [(3, OnFailure::Warn), (2, OnFailure::Quarantine), (5, OnFailure::Stop)];
        let checks = checks.map(|(unwanted, on_failure)| QualityCheck {
            stream: "orders".to_owned(),
            // Of six values one breaks each.
            rule: QualityRule::Accepted {
                column: "amount".to_owned(),
                values: (0..6).filter(|value| *value != unwanted).map(|value| value.to_string()).collect(),
            },
            on_failure,
        });
        let all: SourceChecks = [("shop".to_owned(), checks.to_vec())].into();
        let records: Vec<RawRecord> = values.iter().enumerate().map(|(row, (value, _))| {
            RawRecord::upsert(format!(r#"{{"id":"r{row}","amount":{value}}}"#))
        }).collect();
        let split = split.min(records.len());
        let batches = [&records[..split], &records[split..]];
        let batches = batches.into_iter().filter(|part| !part.is_empty()).map(batch).collect();
        let mut originals = Originals::default();
        for record in &records {
            originals.push(record);
        }
        let owners = values.iter().map(|(_, owner)| (*owner, 1)).collect();
        let mut all_rows = Batches::new(&table(), batches, owners, Some(originals));
        all_rows.judge(&all).unwrap();
        let stopped: BTreeSet<usize> = all_rows.stops(&all).into_keys().collect();
        let expected: BTreeSet<usize> = values.iter().filter(|(value, _)| *value == 5).map(|(_, owner)| *owner).collect();
        prop_assert_eq!(&stopped, &expected);
        let quarantined = all_rows.sift(&all, &stopped).unwrap();
        let count = |wanted: &dyn Fn(i64) -> bool| values.iter().filter(|(value, owner)| {
            !stopped.contains(owner) && wanted(*value)
        }).count();
        prop_assert_eq!(quarantined.len(), count(&|value| value == 2));
        let written: usize = all_rows.parts.iter().map(RecordBatch::num_rows).sum();
        prop_assert_eq!(written, count(&|value| value != 2));
        let counted: u64 = all_rows.rows().values().sum();
        prop_assert_eq!(counted, written as u64);
        let warned = all_rows.broken().iter().filter(|((_, check), _)| *check == 0).map(|(_, broken)| broken.records).sum::<u64>();
        prop_assert_eq!(warned, values.iter().filter(|(value, _)| *value == 3).count() as u64);
    }
}
