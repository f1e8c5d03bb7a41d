//! What is staged: rows in batches that pages share, and their positions.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::RecordBatch;
use chrono::DateTime;
use pipeline_core::state::{
    CheckpointDelta, EndpointId, EndpointState, Gap, Position, Seen, SliceState, Window,
};
use pipeline_core::{Coverage, DataType, ErrorKind, RawRecord, Schema, Since, Stream};

use super::account::{Account, NOW};
use super::job;
use super::store::Store;
use crate::decode::{Decoder, DriftKind};
use crate::dedup::Hashed;
use crate::destination::{Generation, Table};
use crate::stage::Stager;
use crate::staged::{PageRecords, Staged, push_change, with_room};

fn stream() -> Stream {
    Stream::new("orders", Schema::default().with("id", DataType::String)).primary_key(["id"])
}

fn table(stream: &Stream) -> Arc<Table> {
    let schema = Decoder::arrow_schema(stream.schema());
    let primary_key = vec!["id".to_owned()];
    Arc::new(Table {
        source: "shop".to_owned(),
        stream: "orders".to_owned(),
        primary_key,
        schema,
        generation: Generation::Current,
    })
}

fn records(json: &[&str]) -> Vec<Hashed> {
    json.iter()
        .map(|json| Hashed {
            record: RawRecord::upsert((*json).to_owned()),
            bytes: json.len(),
            hash: 1,
        })
        .collect()
}

#[test]
fn pages_of_a_table_share_a_batch_in_their_order() {
    let (stream, mut staged) = (stream(), Staged::default());
    let (one, other) = (table(&stream), table(&stream));
    let pages = [
        (&one, 0, vec![r#"{"id":"a"}"#, r#"{"id":"b","new":1}"#]),
        (&other, 1, vec![r#"{"id":"c"}"#]),
        (&one, 2, vec![r#"{"id":"a"}"#, "{}"]),
    ];
    for (table, endpoint, json) in pages {
        staged.add(
            vec![PageRecords {
                endpoint,
                table,
                stream: &stream,
                keeps: false,
                records: records(&json),
            }],
            NOW,
        );
    }
    assert_eq!(
        (staged.rejected.len(), staged.content_hash, staged.bytes),
        (1, 4, 48)
    );
    let [first, second] = staged.tables.as_mut_slice() else {
        panic!("two tables, whatever their names")
    };
    let (first, drift) = first.finish().unwrap();
    let (batches, owners) = (first.parts, first.owners);
    let ids = batches[0].column_by_name("id").unwrap();
    assert_eq!(
        (batches.len(), ids),
        (
            1,
            &(Arc::new(arrow_array::StringArray::from(vec!["a", "b", "a"])) as _)
        )
    );
    assert_eq!(
        (drift[0].field.as_str(), drift[0].kind, drift[0].count),
        ("new", DriftKind::UnknownField, 1)
    );
    assert_eq!(owners, [(0, 2), (2, 1)]);
    assert_eq!(second.finish().unwrap().0.parts[0].num_rows(), 1);
}

#[test]
fn a_table_that_was_written_takes_rows_again() {
    let (stream, mut staged) = (stream(), Staged::default());
    let table = table(&stream);
    for json in [
        vec![r#"{"id":"a"}"#, r#"{"id":"b"}"#],
        vec![],
        vec![r#"{"id":"c"}"#],
    ] {
        let count = json.len();
        staged.add(
            vec![PageRecords {
                endpoint: 0,
                table: &table,
                stream: &stream,
                keeps: false,
                records: records(&json),
            }],
            NOW,
        );
        let mut written = staged.hand_over();
        let rows: usize = written.tables[0]
            .finish()
            .unwrap()
            .0
            .parts
            .iter()
            .map(RecordBatch::num_rows)
            .sum();
        assert_eq!(
            (rows, staged.tables.len(), staged.bytes, staged.memory),
            (count, 0, 0, 0)
        );
        staged.take_back(written.tables);
    }
}

#[test]
fn a_batch_takes_no_more_memory_than_is_counted() {
    let decimal = DataType::Decimal {
        precision: 38,
        scale: 2,
    };
    let columns = ["a", "b", "c", "d", "e", "f"];
    let schema = columns.into_iter().fold(
        Schema::default().with("id", DataType::String),
        |schema, name| {
            schema.with(
                name,
                if name == "a" {
                    decimal
                } else {
                    DataType::String
                },
            )
        },
    );
    let stream = Stream::new("orders", schema).primary_key(["id"]);
    let (table, mut staged) = (table(&stream), Staged::default());
    let page = records(&[r#"{"id":"a"}"#, r#"{"id":"b","a":"1.5"}"#].repeat(500));
    staged.add(
        vec![PageRecords {
            endpoint: 0,
            table: &table,
            stream: &stream,
            keeps: false,
            records: page,
        }],
        NOW,
    );
    let counted = staged.memory;
    let taken: usize = staged.tables[0].finish().unwrap().0.parts[0]
        .columns()
        .iter()
        .map(|column| column.to_data().get_slice_memory_size().unwrap())
        .sum();
    assert!(
        taken as u64 <= counted && counted > staged.bytes,
        "{taken} bytes taken, {counted} counted, {} of text",
        staged.bytes
    );
}

#[test]
fn a_batch_takes_no_more_than_a_column_can_address() {
    let (stream, mut decoders) = (stream(), Vec::new());
    let record = RawRecord::upsert(format!(r#"{{"id":"{}"}}"#, "x".repeat(1 << 10)));
    for bytes in [1 << 30, 1 << 30, (1 << 31) - 1] {
        with_room(&mut decoders, &stream, bytes)
            .push(&record, NOW)
            .unwrap();
    }
    assert_eq!(
        decoders.iter().map(Decoder::len).collect::<Vec<_>>(),
        [2, 1]
    );
}

#[tokio::test]
async fn nothing_is_committed_after_a_panic_in_the_middle_of_a_page() {
    let store = Store::appending();
    let stager = Arc::new(Stager::new(Arc::new(job(&store, &Account::evenly(1)))));
    let panicking = Arc::clone(&stager);
    let panicked =
        tokio::spawn(async move { panicking.stage(Vec::new(), || panic!("a defect")).await }).await;
    assert!(panicked.unwrap_err().is_panic());
    let error = stager.commit().await.unwrap_err();
    assert_eq!((error.kind(), store.commits()), (ErrorKind::Unexpected, 0));
}

/// A commit holds one advance for many pages, which must leave the state that each of them would.
#[test]
fn advances_that_are_joined_leave_the_state_that_each_would() {
    let second = |second| DateTime::from_timestamp(second, 0).unwrap();
    let window = |until| SliceState {
        window: Some(Window {
            since: None,
            until: second(until),
        }),
        ..SliceState::default()
    };
    let mut state = EndpointState {
        coverage: Some(Coverage::new(Since::Beginning, None)),
        ..EndpointState::default()
    };
    state.add_slice(window(1_000));
    let at = |page: u32| {
        if page == 0 {
            Position::Start
        } else {
            Position::At(page.to_string())
        }
    };
    let missed = |page: u32| Gap {
        name: format!("or_{page}"),
        reason: "refused".to_owned(),
        since: second(0),
        tried: second(0),
        attempts: 1,
        keep: BTreeMap::new(),
        stale: false,
        given_up: false,
        rejected: false,
        slice: SliceState::default(),
    };
    let advance = |page: u32| CheckpointDelta::Advance {
        endpoint: EndpointId::new("shop", "orders"),
        plan: 0,
        slice: 0,
        from: at(page),
        to: at(page + 1),
        watermark: (page < 3).then(|| second(900 - i64::from(page))),
        newest: page
            .is_multiple_of(2)
            .then(|| second(990 - i64::from(page))),
        seen: vec![(
            page.into(),
            Seen {
                content: 7,
                at: 900,
            },
        )],
        gaps: vec![missed(page)],
    };
    let (mut joined, mut expected) = (Vec::new(), state.clone());
    for page in 0..5 {
        expected.apply(&advance(page)).unwrap();
        push_change(&mut joined, advance(page));
    }
    assert_eq!(joined.len(), 1);
    state.apply(&joined[0]).unwrap();
    assert_eq!(state, expected);
}
