//! Records that depart from what is declared: what a contract keeps from being written, and where
//! the next sync begins.

use std::sync::{Arc, Mutex};

use futures::StreamExt;
use futures::stream::{self, BoxStream};
use pipeline_core::http::HttpClient;
use pipeline_core::state::{Position, SliceState};
use pipeline_core::{
    Advance, BuildContext, CheckReport, Connector, DataType, Endpoint, ErrorKind, Page, RawRecord,
    Result, Schema, Session, Stream, SyncMode, TokioClock, declarative,
};

use super::account::NOW;
use super::fake::{Fake, open};
use super::store::Store;
use crate::{
    Contract, ContractMode, Job, Outcome, Selection, Source, StreamContracts, Summary, sync,
};

/// Records of a page.
const PAGE: usize = 10;

/// Two lists of the same records, `taxes` and `fees`.
#[derive(Debug)]
struct Lists {
    client: HttpClient,
    endpoints: Vec<Endpoint>,
    records: Mutex<Vec<RawRecord>>,
    /// True when the pages of a list are parts of one response, which has no place to stop inside.
    is_response: bool,
}

impl Lists {
    fn new(incremental: bool, is_response: bool) -> Arc<Self> {
        let endpoint = |name: &'static str, path: &'static str| {
            let schema = Schema::default()
                .with("id", DataType::String)
                .with("value", DataType::Int64);
            let endpoint = Endpoint::get(name, path)
                .records("data")
                .stream(Stream::new(name, schema).primary_key(["id"]));
            if incremental {
                endpoint.incremental()
            } else {
                endpoint
            }
        };
        let context = BuildContext::default().clock(Arc::new(TokioClock::starting_at(NOW)));
        let url = "https://shop.test".parse().unwrap();
        Arc::new(Self {
            client: HttpClient::builder(&context, url).build().unwrap(),
            endpoints: vec![endpoint("taxes", "/taxes"), endpoint("fees", "/fees")],
            records: Mutex::default(),
            is_response,
        })
    }

    fn set(&self, records: impl IntoIterator<Item = RawRecord>) {
        *self.records.lock().unwrap() = records.into_iter().collect();
    }

    /// Syncs with a contract for `taxes` alone.
    async fn sync(self: &Arc<Self>, store: &Arc<Store>, contract: Contract) -> Summary {
        let source = Source {
            name: "shop".to_owned(),
            connector: self.clone(),
            streams: Selection::All,
        };
        let contracts = StreamContracts {
            streams: [("taxes".to_owned(), contract)].into(),
            ..StreamContracts::default()
        };
        let job = Job::new("run", store.clone(), vec![source])
            .clock(Arc::new(TokioClock::starting_at(NOW)))
            .contracts([("shop".to_owned(), contracts)].into());
        sync(job).await.unwrap()
    }
}

#[async_trait::async_trait]
impl Connector for Lists {
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

impl Fake for Lists {
    fn read<'a>(
        &'a self,
        endpoint: &'a Endpoint,
        slice: SliceState,
    ) -> BoxStream<'a, Result<Page>> {
        let records = self.records.lock().unwrap().clone();
        let start: usize = match &slice.position {
            Position::At(at) => at.parse().unwrap(),
            _ => 0,
        };
        let (count, is_response) = (records.len(), self.is_response);
        let is_whole = endpoint.mode() == SyncMode::FullRefresh;
        let page = move |from: usize| {
            let until = (from + PAGE).min(count);
            let advance = match until < count {
                true if is_response => None,
                true => Some(Advance::Next(until.to_string())),
                false if is_whole => Some(Advance::End),
                false => Some(Advance::CaughtUp(count.to_string())),
            };
            Ok(Page::new(vec![records[from..until].to_vec()], advance))
        };
        let starts: Vec<usize> = (start..count.max(start + 1)).step_by(PAGE).collect();
        stream::iter(starts).map(page).boxed()
    }
}

/// Thirty records, of which the 25th departs from what is declared.
fn with(departure: &str) -> Vec<RawRecord> {
    let record = |index: usize| match index {
        25 => RawRecord::upsert(departure.to_owned()),
        _ => RawRecord::upsert(format!(r#"{{"id":"tx_{index:02}","value":{index}}}"#)),
    };
    (0..30).map(record).collect()
}

const UNDECLARED: &str = r#"{"id":"tx_25","value":25,"colour":"red"}"#;
const MISFIT: &str = r#"{"id":"tx_25","value":"many"}"#;

fn columns(mode: ContractMode) -> Contract {
    Contract {
        columns: mode,
        ..Contract::default()
    }
}

fn types(mode: ContractMode) -> Contract {
    Contract {
        types: mode,
        ..Contract::default()
    }
}

/// Each kind of departure, with the contract that does this about it.
fn kinds(mode: ContractMode) -> [(&'static str, Contract); 2] {
    [(UNDECLARED, columns(mode)), (MISFIT, types(mode))]
}

/// A list that is read on, one that is read whole, and one that comes in one response.
fn lists() -> [(Arc<Lists>, usize); 3] {
    [
        (Lists::new(true, false), 20),
        (Lists::new(false, false), 0),
        (Lists::new(true, true), 0),
    ]
}

fn failure(summary: &Summary) -> String {
    match &summary.endpoints[0].outcome {
        Outcome::Failed { error } => format!(
            "{}: {}\n{}",
            error.kind,
            error.message,
            error.help.clone().unwrap_or_default()
        ),
        other => format!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_frozen_contract_stops_its_endpoint_before_the_page_and_is_resumed_there() {
    for (departure, contract) in kinds(ContractMode::Freeze) {
        for (list, before) in lists() {
            let store = Store::new();
            list.set(with(departure));
            for _ in 0..2 {
                let summary = list.sync(&store, contract.clone()).await;
                assert_eq!(summary.failure(), Some(ErrorKind::Rejected), "{summary:?}");
                assert_eq!(store.len("taxes"), before, "{departure}");
                assert_eq!(store.len("_rejected"), 0, "{departure}");
                assert!(
                    matches!(summary.endpoints[1].outcome, Outcome::Done),
                    "{summary:?}"
                );
                assert_eq!(store.len("fees"), 30, "other endpoints go on");
            }
            let summary = list.sync(&store, Contract::default()).await;
            assert_eq!((summary.failure(), store.len("taxes")), (None, 30));
            let read = summary.endpoints[0].streams[0].records;
            assert_eq!(
                read,
                if list.is_response { 30 } else { 10 },
                "it resumes before the page"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_discarded_row_is_kept_with_its_reason_and_costs_no_other() {
    for (departure, contract) in kinds(ContractMode::DiscardRow) {
        for (list, _) in lists() {
            let store = Store::new();
            list.set(with(departure));
            let summary = list.sync(&store, contract.clone()).await;
            assert_eq!((summary.failure(), store.len("taxes")), (None, 29));
            assert!(!store.ids("taxes").contains(&"tx_25".to_owned()));
            assert_eq!((store.len("_rejected"), store.len("fees")), (1, 30));
            assert_eq!(summary.endpoints[0].streams[0].rejected, 1);
        }
    }
}

/// They are not wanted, so the error budget does not count them.
#[tokio::test(start_paused = true)]
async fn all_rows_may_be_discarded() {
    let (store, list) = (Store::new(), Lists::new(true, false));
    list.set((0..30).map(|index| {
        RawRecord::upsert(format!(r#"{{"id":"tx_{index:02}","value":1,"colour":1}}"#))
    }));
    let contract = columns(ContractMode::DiscardRow);
    let summary = list.sync(&store, contract).await;
    assert_eq!((summary.failure(), store.len("taxes")), (None, 0));
    assert_eq!(store.len("_rejected"), 30);
}

#[tokio::test(start_paused = true)]
async fn a_discarded_value_is_counted_and_the_rest_of_its_row_is_written() {
    for (departure, contract) in kinds(ContractMode::DiscardValue) {
        for (list, _) in lists() {
            let store = Store::new();
            list.set(with(departure));
            let summary = list.sync(&store, contract.clone()).await;
            assert_eq!((summary.failure(), store.len("taxes")), (None, 30));
            assert_eq!(store.len("_rejected"), 0);
            let drift = &summary.endpoints[0].streams[0].drift;
            assert_eq!(drift.len(), 1, "it is not in `_extra` besides: {drift:?}");
            assert!(drift[0].is_dropped());
            assert_eq!(drift[0].records, 1);
            let kept = &summary.endpoints[1].streams[0].drift;
            assert!(!kept[0].is_dropped(), "`fees` has no contract: {kept:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn each_part_of_a_contract_is_about_its_own_departures() {
    for mode in [
        ContractMode::Freeze,
        ContractMode::DiscardRow,
        ContractMode::DiscardValue,
    ] {
        for (departure, contract) in [(MISFIT, columns(mode)), (UNDECLARED, types(mode))] {
            let (store, list) = (Store::new(), Lists::new(true, false));
            list.set(with(departure));
            let summary = list.sync(&store, contract).await;
            assert_eq!((summary.failure(), store.len("taxes")), (None, 30));
            let drift = &summary.endpoints[0].streams[0].drift;
            assert!(!drift[0].is_dropped(), "{drift:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_accepted_member_and_a_tombstone_break_nothing() {
    let (store, list) = (Store::new(), Lists::new(true, false));
    let mut records = with(UNDECLARED);
    records.push(RawRecord::delete(r#"{"id":"tx_01","size":5,"value":"x"}"#));
    list.set(records);
    let contract = Contract {
        columns: ContractMode::Freeze,
        types: ContractMode::Freeze,
        accept: ["colour".to_owned()].into(),
    };
    let summary = list.sync(&store, contract).await;
    assert_eq!(summary.failure(), None, "{summary:?}");
    let drift = &summary.endpoints[0].streams[0].drift;
    assert_eq!((drift.len(), &*drift[0].field), (1, "colour"));
}

#[tokio::test(start_paused = true)]
async fn the_failure_says_which_field_of_which_record_and_what_to_do() {
    let mut said = Vec::new();
    for (departure, contract) in kinds(ContractMode::Freeze) {
        let (store, list) = (Store::new(), Lists::new(true, false));
        list.set(with(departure));
        said.push(failure(&list.sync(&store, contract).await));
    }
    insta::assert_snapshot!(said.join("\n\n"), @r#"
    rejected: `taxes` breaks its contract: field `colour` is not declared, and is a string (key: tx_25)
    nothing of the page was written; add `colour` to `accept` of the contract, or set `columns` of the contract to "evolve", then run again: the endpoint resumes before it

    rejected: `taxes` breaks its contract: field `value` is declared as a whole number of 64 bits, and is a string (key: tx_25)
    nothing of the page was written; set `types` of the contract to "evolve", then run again: the endpoint resumes before it
    "#);
}
