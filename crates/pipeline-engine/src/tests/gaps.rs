//! Units that cannot be read while the rest can: passed over, named, asked for again, and filled
//! once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use pipeline_core::gap::Missed;
use pipeline_core::http::{
    HeaderMap, HttpClient, HttpService, RawResponse, Request, StatusCode, TransportError,
};
use pipeline_core::paginate::AfterLastId;
use pipeline_core::slice::{Slicer, TimeRange, TimeSlicer};
use pipeline_core::state::{EndpointState, Gap, SliceState, Window};
use pipeline_core::{
    BuildContext, CheckReport, Connector, DataType, EmbeddedList, Endpoint, ErrorKind, Result,
    Schema, Session, Stream, TimeFormat, TokioClock, declarative,
};
use tokio::time::Instant;

use super::account::NOW;
use super::fake::{Fake, open};
use super::store::Store;
use crate::{GapSummary, Job, Outcome, Selection, Source, Summary, sync};

/// How a path answers, and how many requests more it does so.
type Trouble = (u16, usize);

const FOR_EVER: usize = usize::MAX;

/// A shop with customers, of whom each has one note; with orders, each with three lines of which it
/// brings one along; and with reports, each asked for by itself.
#[derive(Debug, Default)]
struct Shop {
    customers: usize,
    troubles: Mutex<BTreeMap<String, Trouble>>,
    /// Everything fails until then.
    down: Mutex<Option<(Instant, Instant)>>,
    requests: Mutex<Vec<String>>,
    /// Customers whose note comes without its id.
    nameless: Mutex<Vec<&'static str>>,
    /// How long after the first run the next one begins.
    later: Mutex<TimeDelta>,
}

impl Shop {
    fn with(customers: usize) -> Arc<Self> {
        Arc::new(Self {
            customers,
            ..Self::default()
        })
    }

    /// Makes a path fail.
    fn trouble(&self, path: &str, trouble: Trouble) {
        self.troubles
            .lock()
            .unwrap()
            .insert(path.to_owned(), trouble);
    }

    fn heal(&self) {
        self.troubles.lock().unwrap().clear();
    }

    fn requests_to(&self, path: &str) -> usize {
        self.requests
            .lock()
            .unwrap()
            .iter()
            .filter(|request| *request == path)
            .count()
    }

    fn fails(&self, path: &str) -> Option<u16> {
        if self
            .down
            .lock()
            .unwrap()
            .is_some_and(|(from, until)| (from..until).contains(&Instant::now()))
        {
            return Some(503);
        }
        let mut troubles = self.troubles.lock().unwrap();
        let (status, left) = troubles.get_mut(path).filter(|(_, left)| *left > 0)?;
        *left = left.saturating_sub(usize::from(*left != FOR_EVER));
        Some(*status)
    }

    fn answer(&self, request: &Request) -> (u16, String) {
        let url = request.full_url();
        self.requests.lock().unwrap().push(url.path().to_owned());
        if let Some(status) = self.fails(url.path()) {
            return (status, r#"{"error":"not today"}"#.to_owned());
        }
        let asked = |name: &str| {
            url.query_pairs()
                .find(|(known, _)| known == name)
                .map(|(_, value)| value.into_owned())
        };
        let path: Vec<_> = url.path_segments().unwrap().collect();
        let (since, until) = (
            asked("since").map_or(0, |at| at.parse().unwrap()),
            asked("until").map_or(i64::MAX, |at| at.parse().unwrap()),
        );
        let created =
            |index: &usize| NOW.timestamp() - 100_000 + i64::try_from(*index).unwrap() * 60;
        let listed = || {
            (0..self.customers)
                .rev()
                .filter(|index| (since..until).contains(&created(index)))
        };
        let customer =
            |index: usize| format!(r#"{{"id":"cu{index:03}","created":{}}}"#, created(&index));
        let order = |index: usize| {
            let lines = format!(r#"{{"data":[{{"id":"or{index:03}-0"}}],"more":true}}"#);
            format!(
                r#"{{"id":"or{index:03}","created":{},"lines":{lines}}}"#,
                created(&index)
            )
        };
        let records: Vec<String> = match *path {
            ["customers"] => listed().map(customer).collect(),
            ["customers", customer, "notes"]
                if self.nameless.lock().unwrap().contains(&customer) =>
            {
                vec![r#"{"text":""}"#.to_owned()]
            }
            ["customers", customer, "notes"] => vec![format!(r#"{{"id":"note-of-{customer}"}}"#)],
            ["orders"] => listed().map(order).collect(),
            ["orders", order, "lines"] => (0..3)
                .map(|line| format!(r#"{{"id":"{order}-{line}"}}"#))
                .collect(),
            ["reports", report] => vec![format!(r#"{{"id":"of-{report}"}}"#)],
            _ => return (404, "{}".to_owned()),
        };
        let id = |record: &String| record.split('"').nth(3).unwrap().to_owned();
        let start = asked("after")
            .and_then(|after| records.iter().position(|record| id(record) == after))
            .map_or(0, |index| index + 1);
        let page: Vec<_> = records[start..].iter().take(20).cloned().collect();
        (
            200,
            format!(
                r#"{{"data":[{}],"more":{}}}"#,
                page.join(","),
                start + 20 < records.len()
            ),
        )
    }
}

#[async_trait]
impl HttpService for Shop {
    async fn call(&self, request: Request) -> Result<RawResponse, TransportError> {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let (status, body) = self.answer(&request);
        Ok(RawResponse::full(
            StatusCode::from_u16(status).unwrap(),
            HeaderMap::new(),
            body,
        ))
    }
}

/// One slice for each report.
#[derive(Clone, Copy, Debug)]
struct Reports;

impl Slicer for Reports {
    fn plan(
        &self,
        state: &EndpointState,
        _range: TimeRange,
        _now: DateTime<Utc>,
    ) -> Vec<SliceState> {
        let slice = |name: &str| SliceState {
            query: vec![("report".to_owned(), name.to_owned())],
            ..SliceState::default()
        };
        if state.slices.is_empty() {
            ["a", "b", "c"].map(slice).to_vec()
        } else {
            Vec::new()
        }
    }

    fn apply(&self, slice: &SliceState, request: &mut Request) -> Result<()> {
        request
            .url
            .path_segments_mut()
            .unwrap()
            .push(&slice.query[0].1);
        Ok(())
    }

    fn unit(&self, slice: &SliceState) -> Option<Missed> {
        Some(Missed::new(slice.query[0].1.clone(), slice.clone()))
    }
}

#[derive(Debug)]
struct Seller {
    client: HttpClient,
    endpoints: Vec<Endpoint>,
}

#[async_trait]
impl Connector for Seller {
    fn client(&self) -> &HttpClient {
        &self.client
    }

    fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    async fn check(&self, endpoints: &[&str]) -> Result<CheckReport> {
        declarative::check(&self.client, &self.endpoints, endpoints).await
    }

    async fn open(self: Arc<Self>, _endpoints: &[&str]) -> Result<Arc<dyn Session>> {
        Ok(open(self))
    }
}

impl Fake for Seller {}

const PAGES: AfterLastId = AfterLastId {
    param: "after",
    more: "more",
    id: "id",
};

fn stream(name: &'static str) -> Stream {
    Stream::new(
        name,
        Schema::default()
            .with("id", DataType::String)
            .with("customer", DataType::String),
    )
    .primary_key(["id"])
}

fn list(name: &'static str, path: &'static str) -> Endpoint {
    Endpoint::get(name, path)
        .records("data")
        .stream(stream(name))
        .paginate(PAGES)
}

/// Notes of customers who are all listed by every sync.
fn notes() -> Endpoint {
    list("notes", "/customers/{id}/notes")
        .child_of(list("customers", "/customers"))
        .include_from_parent("id", "customer")
}

/// Notes of customers who are listed when they are new.
fn new_notes() -> Endpoint {
    list("notes", "/customers/{id}/notes")
        .child_of(windowed("customers", "/customers"))
        .include_from_parent("id", "customer")
}

fn windowed(name: &'static str, path: &'static str) -> Endpoint {
    let windows = TimeSlicer::newest_first("since", "until", TimeFormat::UnixSeconds);
    list(name, path)
        .cursor("created", TimeFormat::UnixSeconds)
        .slices(windows)
        .incremental()
}

fn orders() -> Endpoint {
    let lines = EmbeddedList::new("lines", "more", list("lines", "/orders/{id}/lines"))
        .include_from_parent("id", "customer");
    windowed("orders", "/orders").stream_embedded(lines)
}

fn reports() -> Endpoint {
    list("reports", "/reports").slices(Reports)
}

async fn run(store: &Arc<Store>, shop: &Arc<Shop>, endpoint: Endpoint) -> Summary {
    sync(job(store, shop, endpoint)).await.unwrap()
}

/// A run that reads everything again.
async fn refresh(store: &Arc<Store>, shop: &Arc<Shop>, endpoint: Endpoint) -> Summary {
    let mut job = job(store, shop, endpoint);
    job.options.full_refresh = true;
    sync(job).await.unwrap()
}

fn job(store: &Arc<Store>, shop: &Arc<Shop>, endpoint: Endpoint) -> Job {
    let clock = Arc::new(TokioClock::starting_at(NOW + *shop.later.lock().unwrap()));
    let context = BuildContext::default()
        .transport(Arc::clone(shop) as _)
        .clock(clock.clone())
        .seed(1);
    let client = HttpClient::builder(&context, "https://shop.test".parse().unwrap())
        .build()
        .unwrap();
    let connector = Arc::new(Seller {
        client,
        endpoints: vec![endpoint],
    });
    let mut job = Job::new(
        "run",
        Arc::clone(store) as _,
        vec![Source {
            name: "shop".to_owned(),
            connector,
            streams: Selection::All,
        }],
    );
    job.clock = clock;
    job.options.commit_bytes = 200;
    job.options.batch_bytes = 100;
    job
}

/// The units that are missing after a run, each with its attempts.
fn missing(summary: &Summary) -> Vec<(&str, u32)> {
    let endpoint = &summary.endpoints[0];
    assert_eq!(
        matches!(endpoint.outcome, Outcome::Incomplete),
        !endpoint.gaps.is_empty(),
        "{endpoint:?}"
    );
    let mut missing: Vec<_> = endpoint
        .gaps
        .iter()
        .map(|GapSummary { name, attempts, .. }| (name.as_str(), *attempts))
        .collect();
    missing.sort_unstable();
    missing
}

fn families() -> [Endpoint; 2] {
    [notes(), new_notes()]
}

#[tokio::test(start_paused = true)]
async fn one_unit_that_is_refused_for_ever_costs_its_own_rows_and_a_request_a_sync() {
    for (status, requests) in [(403, 1), (400, 1), (404, 1), (422, 1)] {
        for endpoint in families() {
            let (store, shop) = (Store::new(), Shop::with(50));
            shop.trouble("/customers/cu033/notes", (status, FOR_EVER));
            for sync in 1..=3 {
                let summary = run(&store, &shop, endpoint.clone()).await;
                assert_eq!(missing(&summary), [("cu033", sync)], "{status}");
                assert!(
                    summary.endpoints[0].gaps[0].reason.contains("not today"),
                    "{:?}",
                    summary.endpoints[0].gaps
                );
                assert_eq!(summary.failure(), Some(ErrorKind::Unavailable));
                assert_eq!(store.len("notes"), 49);
                assert_eq!(
                    shop.requests_to("/customers/cu033/notes"),
                    requests * sync as usize,
                    "{} {:?} {}",
                    status,
                    endpoint.mode(),
                    shop.requests.lock().unwrap().len()
                );
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_unit_that_fails_for_two_syncs_is_filled_once_by_the_third() {
    for endpoint in families() {
        let (store, shop) = (Store::appending(), Shop::with(50));
        shop.trouble("/customers/cu049/notes", (500, FOR_EVER));
        for sync in 1..=2 {
            assert_eq!(
                missing(&run(&store, &shop, endpoint.clone()).await),
                [("cu049", sync)]
            );
        }
        shop.heal();
        let summary = run(&store, &shop, endpoint.clone()).await;
        assert!(
            matches!(summary.endpoints[0].outcome, Outcome::Done),
            "{summary:?}"
        );
        let all: Vec<_> = (0..50)
            .map(|index| format!("note-of-cu{index:03}"))
            .collect();
        assert_eq!(store.ids("notes"), all);
        assert_eq!(store.state("notes").gaps.len(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn gaps_are_tried_at_growing_intervals() {
    let (store, shop) = (Store::new(), Shop::with(5));
    shop.trouble("/customers/cu003/notes", (400, FOR_EVER));
    let mut asked = Vec::new();
    for _ in 0..72 {
        let before = shop.requests_to("/customers/cu003/notes");
        run(&store, &shop, new_notes()).await;
        asked.push(shop.requests_to("/customers/cu003/notes") - before);
        *shop.later.lock().unwrap() += TimeDelta::hours(1);
    }
    let hours: Vec<_> = asked
        .iter()
        .enumerate()
        .filter(|(_, asked)| **asked > 0)
        .map(|(hour, _)| hour)
        .collect();
    assert!(asked.iter().all(|asked| *asked <= 1), "{asked:?}");
    assert_eq!(hours, [0, 1, 2, 3, 4, 6, 10, 18, 34, 58]);
}

#[tokio::test(start_paused = true)]
async fn an_outage_leaves_no_gap_and_the_run_after_it_reads_the_rest() {
    for endpoint in [notes(), new_notes(), orders()] {
        let (store, shop) = (Store::appending(), Shop::with(90));
        let started = Instant::now();
        *shop.down.lock().unwrap() = Some((
            started + Duration::from_millis(700),
            started + Duration::from_mins(10),
        ));
        let summary = run(&store, &shop, endpoint.clone()).await;
        let state = store.state(endpoint.name());
        assert!(state.gaps.is_empty(), "{:?}", state.gaps);
        if !matches!(summary.endpoints[0].outcome, Outcome::Done) {
            tokio::time::advance(Duration::from_mins(10)).await;
            let summary = run(&store, &shop, endpoint.clone()).await;
            assert!(
                matches!(summary.endpoints[0].outcome, Outcome::Done),
                "{summary:?}"
            );
        }
        let (table, each) = if endpoint.name() == "orders" {
            ("lines", 3)
        } else {
            ("notes", 1)
        };
        assert_eq!(store.len(table), 90 * each, "{}", endpoint.name());
    }
}

#[tokio::test(start_paused = true)]
async fn a_unit_that_fell_into_an_outage_is_read_before_the_run_ends() {
    for endpoint in families() {
        let (store, shop) = (Store::appending(), Shop::with(50));
        // As many failures as a request has attempts: the unit is passed over, and can be read when
        // all others are.
        shop.trouble("/customers/cu030/notes", (500, 8));
        assert_eq!(missing(&run(&store, &shop, endpoint.clone()).await), []);
        assert_eq!(store.len("notes"), 50);
        assert!(store.state("notes").gaps.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_record_whose_list_cannot_be_completed_is_stored_and_completed_later() {
    for status in [400, 500] {
        let (store, shop) = (Store::new(), Shop::with(50));
        shop.trouble("/orders/or021/lines", (status, FOR_EVER));
        // What an outage could explain is asked for once more before the run ends.
        let first = if status == 500 { 2 } else { 1 };
        assert_eq!(
            missing(&run(&store, &shop, orders()).await),
            [("or021", first)]
        );
        assert_eq!((store.len("orders"), store.len("lines")), (50, 148));
        let state = store.state("orders");
        let window = state.gaps.values().next().unwrap().slice.window.unwrap();
        assert_eq!(
            window,
            Window {
                since: Some(window.since.unwrap()),
                until: window.since.unwrap() + TimeDelta::seconds(1)
            }
        );
        assert_eq!(
            missing(&run(&store, &shop, orders()).await),
            [("or021", first + 1)]
        );
        shop.heal();
        assert_eq!(missing(&run(&store, &shop, orders()).await), []);
        assert_eq!((store.len("orders"), store.len("lines")), (50, 150));
    }
}

#[tokio::test(start_paused = true)]
async fn a_slice_that_is_a_unit_says_nothing_about_the_others() {
    for status in [400, 500] {
        let (store, shop) = (Store::new(), Shop::default());
        let shop = Arc::new(shop);
        shop.trouble("/reports/b", (status, FOR_EVER));
        assert_eq!(
            missing(&run(&store, &shop, reports()).await),
            [("b", 1)],
            "{status}"
        );
        assert_eq!(store.ids("reports"), ["of-a", "of-c"]);
        shop.heal();
        assert_eq!(missing(&run(&store, &shop, reports()).await), []);
        assert_eq!(store.len("reports"), 3);
    }
    let (store, shop) = (Store::new(), Arc::new(Shop::default()));
    for report in ["a", "b", "c"] {
        shop.trouble(&format!("/reports/{report}"), (503, FOR_EVER));
    }
    let summary = run(&store, &shop, reports()).await;
    assert!(
        matches!(&summary.endpoints[0].outcome, Outcome::Failed { error } if error.kind == ErrorKind::Unavailable),
        "{summary:?}"
    );
    assert!(store.state("reports").gaps.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_refresh_that_is_done_forgets_the_gaps_that_it_did_not_meet_again() {
    let (store, shop) = (Store::new(), Shop::with(30));
    shop.trouble("/customers/cu010/notes", (400, FOR_EVER));
    shop.trouble("/customers/cu020/notes", (400, 1));
    assert_eq!(
        missing(&run(&store, &shop, notes()).await),
        [("cu010", 1), ("cu020", 1)]
    );
    let summary = run(&store, &shop, notes()).await;
    assert_eq!(missing(&summary), [("cu010", 2)]);
    assert_eq!(
        summary.endpoints[0].gaps[0].since,
        store.state("notes").gaps.values().next().unwrap().since
    );
}

#[tokio::test(start_paused = true)]
async fn a_refresh_keeps_the_rows_of_a_unit_whose_records_cannot_be_rows() {
    for endpoint in families() {
        let (store, shop) = (Store::new(), Shop::with(40));
        assert_eq!(missing(&run(&store, &shop, endpoint.clone()).await), []);
        shop.nameless.lock().unwrap().push("cu007");
        for _ in 0..2 {
            let summary = refresh(&store, &shop, endpoint.clone()).await;
            assert_eq!(missing(&summary), [], "one record in forty is tolerated");
            let kept = store.kept();
            assert_eq!(
                kept.last().map(|keep| keep.values["customer"].as_str()),
                Some("\"cu007\""),
                "and takes no row with it"
            );
            let gaps: Vec<Gap> = store.state("notes").gaps.into_values().collect();
            assert_eq!(
                gaps.iter()
                    .map(|gap| (gap.name.as_str(), gap.rejected))
                    .collect::<Vec<_>>(),
                [("cu007", true)]
            );
            assert!(
                gaps[0].reason.contains("1 of its records cannot be rows"),
                "{}",
                gaps[0].reason
            );
        }
        run(&store, &shop, endpoint.clone()).await;
        assert_eq!(
            store.state("notes").gaps.len(),
            1,
            "asked for again, as long as it is so"
        );
        shop.nameless.lock().unwrap().clear();
        run(&store, &shop, endpoint.clone()).await;
        assert_eq!(
            (store.len("notes"), store.state("notes").gaps.len()),
            (40, 0)
        );
    }
}
