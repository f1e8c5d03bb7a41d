//! Rows that break a quality check, through the engine itself.

use std::sync::Arc;

use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use pipeline_core::http::HttpClient;
use pipeline_core::state::SliceState;
use pipeline_core::{
    Advance, BuildContext, CheckReport, Connector, DataType, Endpoint, ErrorKind, Page, Plan,
    RawRecord, Result, Schema, Session, Stream, declarative,
};
use pipeline_engine::decode::Decoder;
use pipeline_engine::{
    Destination, Generation, Job, OnFailure, QualityCheck, QualityRule, RangeBound, Selection,
    Source, Summary, Table, sync,
};

use super::{DestinationFixture, Scratch};

/// Records of the list, and the one that breaks the check.
const RECORDS: usize = 20;
const BROKEN: usize = 13;
const PAGE: usize = 5;

/// A list of 20 records in four pages.
#[derive(Clone, Debug)]
struct Bills {
    client: HttpClient,
    plan: Plan,
}

fn stream() -> Stream {
    let schema = Schema::default()
        .with("id", DataType::String)
        .with("value", DataType::Int64);
    Stream::new("bills", schema).primary_key(["id"])
}

fn record(index: usize) -> String {
    let value = if index == BROKEN { -1 } else { 1 };
    format!(r#"{{"id":"bill_{index:02}", "value":{value}}}"#)
}

impl Bills {
    fn new(is_whole: bool) -> Arc<Self> {
        let bills = Endpoint::get("bills", "/bills")
            .records("data")
            .stream(stream());
        let endpoint = if is_whole { bills } else { bills.incremental() };
        let url = "https://bills.test".parse().unwrap();
        let client = HttpClient::builder(&BuildContext::default(), url).build();
        Arc::new(Self {
            client: client.unwrap(),
            plan: Plan {
                endpoints: vec![endpoint],
                ..Plan::default()
            },
        })
    }

    async fn sync(
        self: &Arc<Self>,
        destination: &Arc<dyn Destination>,
        on_failure: Option<OnFailure>,
    ) -> Summary {
        let check = |on_failure| QualityCheck {
            stream: "bills".to_owned(),
            rule: QualityRule::Range {
                column: "value".to_owned(),
                min: Some(RangeBound::Integer(0)),
                max: None,
            },
            on_failure,
        };
        let source = Source {
            name: "shop".to_owned(),
            connector: Arc::clone(self) as Arc<dyn Connector>,
            streams: Selection::All,
        };
        let checks = on_failure.map(check).into_iter().collect();
        let job = Job::new("run", Arc::clone(destination), vec![source])
            .quality([("shop".to_owned(), checks)].into());
        sync(job).await.unwrap()
    }
}

#[async_trait::async_trait]
impl Connector for Bills {
    fn client(&self) -> &HttpClient {
        &self.client
    }

    fn endpoints(&self) -> &[Endpoint] {
        &self.plan.endpoints
    }

    async fn check(&self, endpoints: &[&str]) -> Result<CheckReport> {
        declarative::check(&self.client, &self.plan.endpoints, endpoints).await
    }

    async fn open(self: Arc<Self>, _endpoints: &[&str]) -> Result<Arc<dyn Session>> {
        Ok(self)
    }
}

impl Session for Bills {
    fn client(&self) -> &HttpClient {
        &self.client
    }

    fn plan(&self) -> &Plan {
        &self.plan
    }

    fn read<'a>(
        &'a self,
        endpoint: &'a Endpoint,
        slice: SliceState,
    ) -> BoxStream<'a, Result<Page>> {
        let pages = RECORDS / PAGE;
        let start = match &slice.position {
            pipeline_core::state::Position::At(at) => at.parse().unwrap(),
            _ => 0,
        };
        let is_whole = endpoint.mode() == pipeline_core::SyncMode::FullRefresh;
        let page = move |index: usize| {
            let records = (0..PAGE).map(|row| RawRecord::upsert(record(index * PAGE + row)));
            let records = if index < pages {
                records.collect()
            } else {
                Vec::new()
            };
            let advance = match index + 1 {
                next if next < pages => Advance::Next(next.to_string()),
                _ if is_whole => Advance::End,
                _ => Advance::CaughtUp(pages.to_string()),
            };
            Ok(Page::new(vec![records], Some(advance)))
        };
        stream::iter(start..pages.max(start + 1)).map(page).boxed()
    }
}

/// The visible rows of a table of the source.
async fn visible(
    fixture: &dyn DestinationFixture,
    scratch: &Scratch,
    stream_name: &str,
    stream: &Stream,
) -> Vec<String> {
    let table = Table {
        source: "shop".to_owned(),
        stream: stream_name.to_owned(),
        primary_key: stream.key().iter().map(ToString::to_string).collect(),
        schema: Decoder::arrow_schema(stream.schema()),
        generation: Generation::Current,
    };
    fixture.rows(scratch, &table).await
}

/// The table of rejected records.
fn rejected() -> Stream {
    let text = DataType::String;
    let schema = Schema::default()
        .with("stream", text)
        .with("reason", text)
        .with("record", text)
        .with("cause", text)
        .with("key", DataType::Object);
    Stream::new("_rejected", schema).primary_key(["stream", "record"])
}

pub async fn rows_that_break_a_check_do_not_reach_their_table(fixture: &dyn DestinationFixture) {
    let broken = format!("bill_{BROKEN}");
    let has_broken = |rows: &[String]| rows.iter().any(|row| row.contains(&broken));
    for is_whole in [false, true] {
        let list = Bills::new(is_whole);
        for on_failure in [OnFailure::Warn, OnFailure::Quarantine, OnFailure::Stop] {
            let what = format!("{on_failure:?}, read whole: {is_whole}");
            let scratch = fixture.scratch().await;
            let destination: Arc<dyn Destination> =
                Arc::from(fixture.open(&scratch).await.unwrap());
            let summary = list.sync(&destination, Some(on_failure)).await;
            let rows = visible(fixture, &scratch, "bills", &stream()).await;
            match on_failure {
                OnFailure::Warn => {
                    assert_eq!((summary.failure(), rows.len()), (None, RECORDS), "{what}");
                }
                OnFailure::Quarantine => {
                    assert_eq!(
                        (summary.failure(), rows.len()),
                        (None, RECORDS - 1),
                        "{what}"
                    );
                    assert!(!has_broken(&rows), "{what}: {rows:?}");
                    let kept = visible(fixture, &scratch, "_rejected", &rejected()).await;
                    assert_eq!(kept.len(), 1, "{what}: {kept:?}");
                    // With the space that the vendor sent.
                    let raw = record(BROKEN).replace('"', "\\\"");
                    assert!(
                        kept[0].contains(&raw) && kept[0].contains("`value` is below 0"),
                        "{what}: {kept:?}"
                    );
                }
                OnFailure::Stop => {
                    for _ in 0..2 {
                        let summary = list.sync(&destination, Some(on_failure)).await;
                        assert_eq!(summary.failure(), Some(ErrorKind::Rejected), "{what}");
                        let rows = visible(fixture, &scratch, "bills", &stream()).await;
                        assert!(!has_broken(&rows), "{what}: {rows:?}");
                    }
                    let summary = list.sync(&destination, None).await;
                    let rows = visible(fixture, &scratch, "bills", &stream()).await;
                    assert_eq!((summary.failure(), rows.len()), (None, RECORDS), "{what}");
                }
            }
        }
    }
}
