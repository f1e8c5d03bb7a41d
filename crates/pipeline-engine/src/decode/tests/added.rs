//! Members that were added to a record are columns like its own, and are never read twice.

use bytes::Bytes;
use pipeline_core::{Added, Composer};

use super::*;

/// Records cut from a page.
fn cut(json: &str) -> Vec<RawRecord> {
    let page = Bytes::from(json.to_owned());
    split(&page, &[RecordPath::new("")])
        .unwrap()
        .records
        .remove(0)
}

/// All of a decoder's rows, and how the records departed from what is declared.
fn rows(records: &[RawRecord]) -> String {
    let mut decoder = decoder();
    let mut shown = String::new();
    for record in records {
        if let Err(rejection) = decoder.push(record, DateTime::UNIX_EPOCH) {
            writeln!(shown, "rejected: {rejection}").unwrap();
        }
    }
    let bytes = decoder.bytes();
    let drift = decoder.drift();
    if let Some(batch) = decoder.finish().unwrap() {
        for row in 0..batch.num_rows() {
            for field in batch.schema().fields() {
                if let Some(value) = cell(&batch, field.name(), row) {
                    write!(shown, "{} = {value}; ", field.name()).unwrap();
                }
            }
            shown.truncate(shown.trim_end().len());
            shown.push('\n');
        }
    }
    for Drift { field, kind, count } in drift {
        writeln!(shown, "{kind:?} {field}: {count}").unwrap();
    }
    writeln!(shown, "{bytes} bytes").unwrap();
    shown
}

/// The rows of the records, which are those of the same records written as text.
fn same_rows(records: &[RawRecord]) -> String {
    let written = |record: &RawRecord| {
        let text = record.as_bytes().into_owned();
        match record.op() {
            Op::Delete => RawRecord::delete(text),
            Op::DeleteMatching => RawRecord::delete_matching(text),
            _ => RawRecord::upsert(text),
        }
    };
    let written: Vec<RawRecord> = records.iter().map(written).collect();
    let shown = rows(records);
    assert_eq!(shown, rows(&written));
    shown
}

#[test]
fn added_members_are_columns_like_a_records_own() {
    let parent = Added::before([("text", "\"parent\""), ("int", "7"), ("owner", "[ 1 ]")]);
    let account = Added::after([("reference", "\"acct_1\"")]);
    let lean = Added::without(&["json", "secret"]);
    let whole = Added::instead([("array", "[ 1, 2 ]"), ("day", "\"2026-01-31\"")]);
    let page = cut(r#"[{"id":"plain","text":"own"},
            { "id" : "null in its place", "text": null, "owner": null, "json": {"a" : 1}, "secret": 1 },
            {"id":"own of that name","reference":"other","array":[1],"day":"soon","new":1},
            {"id":"misfit","int":"x"}]"#);
    let all = [
        page[0].clone().with(&account),
        page[1].clone().with(&parent).with(&lean).with(&account),
        page[2].clone().with(&whole).with(&account),
        page[3]
            .clone()
            .with(&Added::after([("int", "\"y\""), ("also", "{\"z\": [ ]}")])),
        page[3].clone().with(&Added::instead([("id", "null")])),
        page[3].clone().with(&Added::without(&["id"])),
    ];
    insta::assert_snapshot!("added", same_rows(&all));
}

#[test]
fn tombstones_hold_what_was_added_to_them() {
    let owner = Added::before([("text", "\"parent\"")]);
    let account = Added::after([("reference", "\"acct_1\"")]);
    let gone = [
        RawRecord::delete_matching("{}").with(&owner).with(&account),
        RawRecord::delete(r#"{"id":"a","int":1}"#).with(&account),
        RawRecord::delete_matching("{}").with(&Added::after([("unknown", "1")])),
    ];
    insta::assert_snapshot!(same_rows(&gone), @r#"
    rejected: the record has no primary key
    text = "parent"; reference = "acct_1"; _synced_at = 1970-01-01 00:00:00; _deleted = true;
    id = "a"; _synced_at = 1970-01-01 00:00:00; _deleted = true;
    77 bytes
    "#);
}

#[test]
fn a_composed_record_is_decoded_from_its_parts() {
    let line = Bytes::from_static(
        br#"{"p":{"n":"a","city":"Z\u00fcrich","list":[1, 2],"when":1769860800,"odd":{"x" : 1}}}"#,
    );
    let text = std::str::from_utf8(&line).unwrap();
    let part = |part: &str| &text[text.find(part).unwrap()..][..part.len()];
    let mut composer = Composer::of(line.clone());
    composer.add("id", part("\"a\""));
    composer.add("text", part(r#""Z\u00fcrich""#));
    composer.add("array", part("[1, 2]"));
    composer.add("seconds", part("1769860800"));
    composer.add("int", "17");
    composer.add("od\"d", part(r#"{"x" : 1}"#));
    composer.add("int", "18");
    composer.add("json", &text[5..text.len() - 1]);
    let account = Added::after([("reference", "\"acct_1\"")]);
    let record = composer.build();
    let records = [record.clone(), record.with(&account)];
    insta::assert_snapshot!("composed", same_rows(&records));
}
