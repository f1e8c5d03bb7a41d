//! Everything that a program holds can be shared by threads, and what it awaits can be spawned.

use connector_mixpanel::MixpanelConfig;
use connector_stripe::{StripeConfig, StripeConnector};
use connector_zendesk::ZendeskConfig;
use destination_jsonl::JsonlConfig;
use destination_parquet::ParquetConfig;
use destination_sqlite::{SqliteConfig, SqliteDestination};
use pipeline_core::http::{HttpClient, HttpClientBuilder, OAuth2, Request, RetryPolicy};
use pipeline_core::rate_limit::{MemoryLimits, Quota};
use pipeline_core::slice::{TimeRange, TimeSlicer};
use pipeline_core::state::{CheckpointDelta, EndpointState, SliceState};
use pipeline_core::{
    BuildContext, Catalog, CheckReport, Connector, Endpoint, Error, MemoryBudget, Op, Origin, Page,
    Plan, RawRecord, Registry, RunRecord, Schema, Stream,
};
use pipeline_engine::{
    CancellationToken, Commit, Destination, ErrorBudget, Job, Metrics, Options, Selection, Source,
    Status, Summary, Table,
};

const fn is_shared<T: Send + Sync>() {}

macro_rules! shared {
    ($($type:ty),+ $(,)?) => {
        const _: () = {
            $(is_shared::<$type>();)+
        };
    };
}

// Refused by the compiler as soon as one of them cannot be shared.
shared!(
    BuildContext,
    Catalog,
    CheckReport,
    Commit,
    Endpoint,
    Error,
    MemoryBudget,
    Op,
    Origin,
    Page,
    Plan,
    RawRecord,
    Registry,
    RunRecord,
    Schema,
    Status,
    Stream,
    Table,
);
shared!(
    CancellationToken,
    ErrorBudget,
    Job,
    Metrics,
    Options,
    Selection,
    Source,
    Summary
);
shared!(
    HttpClient,
    HttpClientBuilder,
    MemoryLimits,
    OAuth2,
    Quota,
    Request,
    RetryPolicy
);
shared!(
    CheckpointDelta,
    EndpointState,
    SliceState,
    TimeRange,
    TimeSlicer
);
shared!(Box<dyn Connector>, Box<dyn Destination>);
shared!(MixpanelConfig, StripeConfig, StripeConnector, ZendeskConfig);
shared!(JsonlConfig, ParquetConfig, SqliteConfig, SqliteDestination);

#[tokio::test]
async fn a_sync_can_be_spawned() {
    let folder = tempfile::tempdir().unwrap();
    let config = SqliteConfig {
        path: folder.path().join("empty.db"),
        deletes: destination_sqlite::Deletes::Remove,
    };
    let job = Job::new(
        "run",
        std::sync::Arc::new(SqliteDestination::open(config).unwrap()),
        Vec::new(),
    );
    let summary = tokio::spawn(pipeline_engine::sync(job))
        .await
        .unwrap()
        .unwrap();
    assert!(summary.endpoints.is_empty() && summary.failure().is_none());
}
