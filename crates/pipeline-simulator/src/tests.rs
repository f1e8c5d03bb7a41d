#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::time::Duration;

use tokio::time::{Instant, advance};

use crate::limits::{Gate, Limits};
use crate::timeline::Timeline;
use crate::world::{Row, World};
use crate::written::Written;
use crate::{Simulation, StripeWorld};

#[tokio::test(start_paused = true)]
async fn a_bucket_refills_at_its_rate() {
    let limits = Limits {
        stripe_operation: Some(10),
        stripe_burst: Some(4),
        ..Limits::default()
    };
    let mut gate = Gate::new(limits, Instant::now());
    let mut accepted = 0;
    for _ in 0..1_000 {
        accepted += u32::from(gate.stripe("GET /v1/charges", Instant::now()).is_ok());
        advance(Duration::from_millis(10)).await;
    }
    assert!(
        (103..=104).contains(&accepted),
        "the burst and ten a second for ten seconds: {accepted}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_window_says_when_it_opens() {
    let limits = Limits {
        mixpanel_query_hour: Some(2),
        ..Limits::default()
    };
    let mut gate = Gate::new(limits, Instant::now());
    assert!(gate.mixpanel_query(Instant::now()).is_ok());
    advance(Duration::from_mins(20)).await;
    assert!(gate.mixpanel_query(Instant::now()).is_ok());
    let spent = gate.mixpanel_query(Instant::now()).unwrap_err();
    assert_eq!(
        (spent.limit, spent.remaining, spent.reset),
        (2, 0, Duration::from_mins(40))
    );
    advance(spent.reset).await;
    assert!(gate.mixpanel_query(Instant::now()).is_ok());
}

#[test]
fn a_timeline_never_goes_back_and_bisects_exactly() {
    for (count, recent, burst) in [
        (0, 50, 1),
        (1, 50, 128),
        (17, 900, 4),
        (5_000, 900, 128),
        (5_000, 1000, 1),
    ] {
        let line = Timeline {
            count,
            start: 1_000,
            span: 3_000,
            recent,
            burst,
        };
        let times: Vec<i64> = (0..count).map(|index| line.at(index)).collect();
        assert!(times.is_sorted() && times.iter().all(|time| (1_000..4_000).contains(time)));
        for time in 990..4_010 {
            assert_eq!(
                line.before(time),
                times.partition_point(|known| *known < time) as u64
            );
        }
    }
}

#[test]
fn ids_lead_back_to_their_records() {
    let stripe = StripeWorld {
        charges: 1_000_000,
        ..StripeWorld::default()
    };
    let world = World::new(&Simulation {
        stripe,
        ..Simulation::default()
    })
    .unwrap();
    // Those of Zendesk that follow another table have no number of their own.
    for table in world.tables.iter().filter(|table| table.count() < u64::MAX) {
        for index in [0, table.count() / 2, table.count() - 1] {
            assert_eq!(table.index(&table.id(index)), Some(index), "{}", table.name);
        }
        assert_eq!(table.index(&table.id(table.count())), None);
        assert_eq!(table.index("zz"), None);
    }
}

#[test]
fn records_written_beforehand_are_those_written_on_demand() {
    let stripe = StripeWorld {
        charges: 300,
        ..StripeWorld::default()
    };
    let world = World::new(&Simulation {
        stripe,
        ..Simulation::default()
    })
    .unwrap();
    let table = world.table("charges");
    let written = Written::new(&world, table, vec!["customer".to_owned()]);
    for indexes in [vec![299, 298], vec![120], vec![1, 0]] {
        let records = indexes.iter().map(|index| {
            let mut record = Vec::new();
            world.write(
                Row {
                    table,
                    index: *index,
                },
                &["customer"],
                &mut record,
            );
            String::from_utf8(record).unwrap()
        });
        let expected = records.collect::<Vec<_>>().join(",\n    ");
        assert_eq!(
            written.list(table, &indexes, &["customer".to_owned()]),
            Some(expected.as_bytes()),
            "{indexes:?}"
        );
    }
    for indexes in [vec![], vec![9, 7], vec![7, 8], vec![300]] {
        assert_eq!(
            written.list(table, &indexes, &["customer".to_owned()]),
            None,
            "{indexes:?}"
        );
    }
    assert_eq!(
        written.list(table + 1, &[1], &["customer".to_owned()]),
        None
    );
    assert_eq!(written.list(table, &[1], &[]), None);
}

#[test]
fn a_page_compressed_beforehand_is_the_page_in_one_gzip_file() {
    use std::io::Read as _;
    let stripe = StripeWorld {
        charges: 60,
        ..StripeWorld::default()
    };
    let world = World::new(&Simulation {
        stripe,
        ..Simulation::default()
    })
    .unwrap();
    let table = world.table("charges");
    let written = Written::new(&world, table, Vec::new())
        .compressed()
        .unwrap();
    for indexes in [
        (20..60).rev().collect(),
        (3..48).rev().collect(),
        (0..5).rev().collect::<Vec<u64>>(),
        vec![17],
    ] {
        let page = written
            .page(table, &indexes, &[], b"before", b"after")
            .unwrap();
        let mut text = Vec::new();
        let mut file = flate2::bufread::GzDecoder::new(&*page);
        file.read_to_end(&mut text).unwrap();
        assert!(file.into_inner().is_empty());
        assert_eq!(
            text,
            [
                b"before",
                written.list(table, &indexes, &[]).unwrap(),
                b"after"
            ]
            .concat()
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_without_a_port_lives_on_the_paused_clock() {
    use futures::TryStreamExt as _;
    let limits = Limits {
        zendesk_export: Some(1),
        ..Limits::default()
    };
    let simulation = Simulation {
        limits,
        latency: Duration::from_secs(2),
        ..Simulation::default()
    };
    let simulator = crate::Simulator::without_port(simulation).unwrap();
    let ask = || {
        let request =
            axum::http::Request::get("/api/v2/incremental/users/cursor?start_time=0&per_page=2");
        let request = request.header(
            "authorization",
            "Basic YWRtaW5AZXhhbXBsZS5jb20vdG9rZW46c2ltX3Rva2Vu",
        );
        simulator.answer(request.body(bytes::Bytes::new()).unwrap())
    };
    let started = Instant::now();
    let answer = ask().await;
    assert_eq!(answer.status(), 200);
    let body: Vec<bytes::Bytes> = answer.into_body().try_collect().await.unwrap();
    assert!(body.concat().starts_with(b"{\"users\":["));
    let refused = ask().await;
    assert_eq!(
        (
            refused.status().as_u16(),
            refused.headers()["retry-after"].to_str().unwrap()
        ),
        (429, "58")
    );
    assert_eq!(started.elapsed(), Duration::from_secs(4));
}
