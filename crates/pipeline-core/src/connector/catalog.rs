//! The streams of a connector, for people and for generated documents.

use serde::Serialize;

use crate::connector::endpoint::{Endpoint, SyncMode};
use crate::connector::stream::{Deletes, Stream};
use crate::model::schema::Schema;

/// The streams of a connector.
#[derive(Clone, Debug, Serialize)]
pub struct Catalog {
    /// One entry a stream, in the connector's order.
    pub streams: Vec<CatalogStream>,
}

/// One stream of a catalog.
#[derive(Clone, Debug, Serialize)]
pub struct CatalogStream {
    /// The stream's name.
    pub name: String,
    /// The endpoint that feeds it.
    pub endpoint: String,
    /// The stream whose records it belongs to, each of which has a list of its own; none: the
    /// account has one list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// Members that identify a record.
    pub primary_key: Vec<String>,
    /// The member by which records are ordered in time.
    pub cursor: Option<String>,
    /// How it is read from one sync to the next.
    pub mode: &'static str,
    /// What a deletion looks like.
    pub deletes: String,
    /// What a reader of the data must know.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub note: &'static str,
    /// The declared columns.
    pub schema: Schema,
}

impl Catalog {
    /// The catalog of declared endpoints.
    pub fn of(endpoints: &[Endpoint]) -> Self {
        let entry = |endpoint: &Endpoint, stream: &Stream| CatalogStream {
            name: stream.name().to_owned(),
            endpoint: endpoint.name().to_owned(),
            parent: endpoint
                .parent_of(stream)
                .map(|parent| parent.name().to_owned()),
            primary_key: stream.key().iter().map(ToString::to_string).collect(),
            cursor: endpoint
                .cursor_field()
                .map(|cursor| cursor.field.to_owned()),
            mode: match endpoint.mode() {
                SyncMode::FullRefresh => "full refresh",
                SyncMode::Incremental => "incremental",
            },
            deletes: match stream.deletion() {
                Deletes::Invisible => "not visible".to_owned(),
                Deletes::Marked { field, value } => format!("{field} = {value}"),
                Deletes::Stamped { field } => format!("{field} is set"),
                Deletes::BySnapshot => "removed on the next full refresh".to_owned(),
                Deletes::Announced => "reported by the feed of changes".to_owned(),
            },
            note: stream.remark(),
            schema: stream.schema().clone(),
        };
        let mut streams: Vec<CatalogStream> = Vec::new();
        for endpoint in endpoints {
            for stream in endpoint.streams() {
                // Of several endpoints that feed a stream the first is the one that reads all of
                // it.
                if !streams.iter().any(|known| known.name == stream.name()) {
                    streams.push(entry(endpoint, stream));
                }
            }
        }
        Self { streams }
    }
}
