//! The suite itself, tried on a small connector that does everything right and on its siblings that
//! do one thing wrong.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fmt::{self, Debug};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use pipeline_core::http::{Authenticator, CredentialGeneration, HeaderValue, HttpClient, Request};
use pipeline_core::paginate::{CursorField, More};
use pipeline_core::state::{Position, SliceState};
use pipeline_core::{
    Advance, BuildContext, CheckReport, Connector, ConnectorConfig, DataType, DeclarativeConnector,
    Endpoint, Error, ErrorKind, Page, Plan, Reader, Result, Schema, Session, Stream, declarative,
};
use pipeline_testkit::{Report, Update, run_suite};
use schemars::JsonSchema;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct AcmeConfig {
    #[schemars(with = "String", extend("writeOnly" = true))]
    api_key: SecretString,
}

impl ConnectorConfig for AcmeConfig {
    const NAME: &'static str = "acme";
    const READS: &'static str = "a made-up vendor";

    fn build(self, context: BuildContext) -> Result<Arc<dyn Connector>> {
        Ok(Arc::new(self.connect(context)?))
    }
}

impl AcmeConfig {
    fn connect(self, context: BuildContext) -> Result<Acme> {
        let base = "https://api.acme.example"
            .parse()
            .map_err(|error| Error::new(ErrorKind::Unexpected, "base").with_source(error))?;
        let schema = Schema::default()
            .with("id", DataType::Int64)
            .with("name", DataType::String);
        let items = Endpoint::get("items", "/v1/items")
            .query("limit", "2")
            .records("data")
            .stream(Stream::new("items", schema).primary_key(["id"]));
        let more = Some(More::WhenTrue("more"));
        let cursor = CursorField {
            param: "cursor",
            token: "next",
            more,
            first_page_only: &[],
            resumable: false,
        };
        let client = HttpClient::builder(&context, base)
            .authenticator(Key(self.api_key))
            .build()?;
        Ok(Acme {
            client,
            endpoints: vec![items.paginate(cursor)],
        })
    }
}

#[derive(Debug)]
struct Acme {
    client: HttpClient,
    endpoints: Vec<Endpoint>,
}

#[async_trait]
impl Connector for Acme {
    fn client(&self) -> &HttpClient {
        &self.client
    }

    fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    async fn check(&self, endpoints: &[&str]) -> Result<CheckReport> {
        declarative::check(self.client(), self.endpoints(), endpoints).await
    }

    async fn open(self: Arc<Self>, endpoints: &[&str]) -> Result<Arc<dyn Session>> {
        Arc::new(DeclarativeConnector::new(
            self.client.clone(),
            self.endpoints.clone(),
        ))
        .open(endpoints)
        .await
    }
}

impl Acme {
    fn plan(&self) -> Plan {
        Plan {
            endpoints: self.endpoints.clone(),
            ..Plan::default()
        }
    }
}

struct Key(SecretString);

impl Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key")
    }
}

#[async_trait]
impl Authenticator for Key {
    async fn authenticate(&self, request: &mut Request) -> Result<CredentialGeneration> {
        let value = HeaderValue::try_from(format!("Key {}", self.0.expose_secret()));
        request.headers.insert(
            "authorization",
            value.map_err(|_| Error::new(ErrorKind::ConfigInvalid, "the key is no header"))?,
        );
        Ok(0)
    }

    async fn refresh(&self, _refused: CredentialGeneration) -> Result<bool> {
        Ok(false)
    }
}

/// The same connector with a configuration that prints its key.
#[derive(Deserialize, JsonSchema)]
struct Talkative {
    #[schemars(extend("writeOnly" = true))]
    api_key: String,
}

impl Debug for Talkative {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Talkative {{ {} }}", self.api_key)
    }
}

impl ConnectorConfig for Talkative {
    const NAME: &'static str = "acme";
    const READS: &'static str = "a made-up vendor";

    fn build(self, context: BuildContext) -> Result<Arc<dyn Connector>> {
        AcmeConfig {
            api_key: self.api_key.into(),
        }
        .build(context)
    }
}

/// The same connector, which starts each slice from its beginning.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(transparent)]
struct Forgetful(AcmeConfig);

#[derive(Debug)]
struct ForgetfulConnector(Acme);

impl ConnectorConfig for Forgetful {
    const NAME: &'static str = "acme";
    const READS: &'static str = "a made-up vendor";

    fn build(self, context: BuildContext) -> Result<Arc<dyn Connector>> {
        Ok(Arc::new(ForgetfulConnector(self.0.connect(context)?)))
    }
}

#[async_trait]
impl Connector for ForgetfulConnector {
    fn client(&self) -> &HttpClient {
        &self.0.client
    }

    fn endpoints(&self) -> &[Endpoint] {
        &self.0.endpoints
    }

    async fn check(&self, endpoints: &[&str]) -> Result<CheckReport> {
        declarative::check(self.client(), self.endpoints(), endpoints).await
    }

    async fn open(self: Arc<Self>, _endpoints: &[&str]) -> Result<Arc<dyn Session>> {
        Ok(Arc::new(ForgetfulRun {
            client: self.0.client.clone(),
            plan: self.0.plan(),
        }))
    }
}

#[derive(Debug)]
struct ForgetfulRun {
    client: HttpClient,
    plan: Plan,
}

impl Session for ForgetfulRun {
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
        Reader::new(self.client.clone()).read(
            endpoint,
            SliceState {
                position: Position::Start,
                ..slice
            },
        )
    }
}

/// The same connector, which takes an error for the end of the list.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(transparent)]
struct Careless(AcmeConfig);

#[derive(Debug)]
struct CarelessConnector(Acme);

impl ConnectorConfig for Careless {
    const NAME: &'static str = "acme";
    const READS: &'static str = "a made-up vendor";

    fn build(self, context: BuildContext) -> Result<Arc<dyn Connector>> {
        Ok(Arc::new(CarelessConnector(self.0.connect(context)?)))
    }
}

#[async_trait]
impl Connector for CarelessConnector {
    fn client(&self) -> &HttpClient {
        &self.0.client
    }

    fn endpoints(&self) -> &[Endpoint] {
        &self.0.endpoints
    }

    async fn check(&self, endpoints: &[&str]) -> Result<CheckReport> {
        declarative::check(self.client(), self.endpoints(), endpoints).await
    }

    async fn open(self: Arc<Self>, _endpoints: &[&str]) -> Result<Arc<dyn Session>> {
        Ok(Arc::new(CarelessRun {
            client: self.0.client.clone(),
            plan: self.0.plan(),
        }))
    }
}

#[derive(Debug)]
struct CarelessRun {
    client: HttpClient,
    plan: Plan,
}

impl Session for CarelessRun {
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
        Reader::new(self.client.clone())
            .read(endpoint, slice)
            .map(|page| page.or(Ok(Page::new(vec![Vec::new()], Some(Advance::End)))))
            .boxed()
    }
}

/// The same connector, which reads its list once in its life and takes it for read in every later
/// run.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(transparent)]
struct Hoarding(AcmeConfig);

#[derive(Debug)]
struct HoardingConnector {
    acme: Acme,
    is_read: Arc<AtomicBool>,
}

impl ConnectorConfig for Hoarding {
    const NAME: &'static str = "acme";
    const READS: &'static str = "a made-up vendor";

    fn build(self, context: BuildContext) -> Result<Arc<dyn Connector>> {
        Ok(Arc::new(HoardingConnector {
            acme: self.0.connect(context)?,
            is_read: Arc::default(),
        }))
    }
}

#[async_trait]
impl Connector for HoardingConnector {
    fn client(&self) -> &HttpClient {
        &self.acme.client
    }

    fn endpoints(&self) -> &[Endpoint] {
        &self.acme.endpoints
    }

    async fn check(&self, endpoints: &[&str]) -> Result<CheckReport> {
        declarative::check(self.client(), self.endpoints(), endpoints).await
    }

    async fn open(self: Arc<Self>, _endpoints: &[&str]) -> Result<Arc<dyn Session>> {
        let reader = Reader::new(self.acme.client.clone());
        Ok(Arc::new(HoardingRun {
            reader,
            plan: self.acme.plan(),
            is_read: Arc::clone(&self.is_read),
        }))
    }
}

#[derive(Debug)]
struct HoardingRun {
    reader: Reader,
    plan: Plan,
    is_read: Arc<AtomicBool>,
}

impl Session for HoardingRun {
    fn client(&self) -> &HttpClient {
        self.reader.client()
    }

    fn plan(&self) -> &Plan {
        &self.plan
    }

    fn read<'a>(
        &'a self,
        endpoint: &'a Endpoint,
        slice: SliceState,
    ) -> BoxStream<'a, Result<Page>> {
        if self.is_read.load(Ordering::Relaxed) {
            return stream::iter([Ok(Page::new(vec![Vec::new()], Some(Advance::End)))]).boxed();
        }
        let note = move |page: &Page| {
            self.is_read
                .store(page.advance == Some(Advance::End), Ordering::Relaxed);
        };
        self.reader.read(endpoint, slice).inspect_ok(note).boxed()
    }
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/acme")
}

/// A copy of the fixtures that a test may damage.
fn copy() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for entry in ["pages", "forbidden"] {
        std::fs::create_dir(folder.path().join(entry)).unwrap();
        for file in std::fs::read_dir(fixtures().join(entry)).unwrap() {
            let file = file.unwrap();
            std::fs::copy(
                file.path(),
                folder.path().join(entry).join(file.file_name()),
            )
            .unwrap();
        }
    }
    for file in ["spec.snap", "catalog.snap"] {
        std::fs::copy(fixtures().join(file), folder.path().join(file)).unwrap();
    }
    folder
}

fn problems(report: &Report) -> String {
    report.to_string()
}

#[test]
fn a_connector_that_does_everything_right_passes() {
    let report = run_suite::<AcmeConfig>(&fixtures(), Update::from_env());
    assert!(report.passed(), "\n{report}");
    let pages = report
        .cases
        .iter()
        .find(|case| case.case == "pages")
        .unwrap();
    assert_eq!((pages.pages, pages.records, pages.kills), (3, 5, 3));
    // Among them the refusals of its list, named and not.
    assert!(pages.faults >= 57, "{}", pages.faults);
}

#[test]
fn an_exchange_that_nobody_asks_for_fails() {
    let folder = copy();
    std::fs::copy(
        folder.path().join("pages/001.json"),
        folder.path().join("pages/004.json"),
    )
    .unwrap();
    let report = run_suite::<AcmeConfig>(folder.path(), Update::No);
    assert!(
        problems(&report)
            .contains("acme/pages: never asked for: exchange 4: GET /v1/items limit=2"),
        "{report}"
    );
}

#[test]
fn a_missing_exchange_fails() {
    let folder = copy();
    std::fs::remove_file(folder.path().join("pages/003.json")).unwrap();
    let report = run_suite::<AcmeConfig>(folder.path(), Update::No);
    assert!(
        problems(&report).contains("nothing is recorded for GET /v1/items cursor=c4 limit=2"),
        "{report}"
    );
}

#[test]
fn a_changed_record_and_a_stray_snapshot_fail() {
    let folder = copy();
    let path = folder.path().join("pages/003.json");
    std::fs::write(
        &path,
        std::fs::read_to_string(&path)
            .unwrap()
            .replace("eve", "eva"),
    )
    .unwrap();
    std::fs::copy(
        folder.path().join("spec.snap"),
        folder.path().join("other.snap"),
    )
    .unwrap();
    let report = run_suite::<AcmeConfig>(folder.path(), Update::No);
    assert!(
        problems(&report).contains("pages/records.snap: line 1 was"),
        "{report}"
    );
    assert!(
        problems(&report).contains("other.snap: nothing is compared with this snapshot"),
        "{report}"
    );
}

#[test]
fn a_stream_without_a_case_fails() {
    let folder = copy();
    std::fs::remove_dir_all(folder.path().join("pages")).unwrap();
    let report = run_suite::<AcmeConfig>(folder.path(), Update::No);
    assert!(
        problems(&report).contains("acme: no case reads the stream items without an error"),
        "{report}"
    );
}

#[test]
fn a_configuration_that_prints_its_key_fails() {
    let report = run_suite::<Talkative>(copy().path(), Update::No);
    assert!(
        problems(&report)
            .contains("the Debug of the configuration shows a secret: …Talkative { [secret] }"),
        "{report}"
    );
}

#[test]
fn a_connector_that_forgets_its_position_fails() {
    let report = run_suite::<Forgetful>(copy().path(), Update::No);
    assert!(
        problems(&report).contains(
            "killed after page 1 and resumed: stream items: 7 records instead of 5, different from \
             record 3 on"
        ),
        "{report}"
    );
}

#[test]
fn a_connector_that_remembers_a_run_in_the_next_fails() {
    let report = run_suite::<Hoarding>(copy().path(), Update::No);
    let problem = "acme/pages: a second sync of all streams, after a record came to each list: GET \
                   /v1/items?";
    assert!(
        problems(&report).contains(problem) && problems(&report).contains("is not requested again"),
        "{report}"
    );
}

#[test]
fn a_connector_that_takes_an_error_for_the_end_fails() {
    let report = run_suite::<Careless>(copy().path(), Update::No);
    assert!(
        problems(&report)
            .contains("Html at request 2: expected [Refused, Decode, Unavailable], found success"),
        "{report}"
    );
    assert!(
        problems(&report)
            .contains("OutageForEver at request 1: expected [Unavailable], found success"),
        "{report}"
    );
}
