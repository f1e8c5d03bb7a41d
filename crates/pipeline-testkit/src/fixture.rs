//! Recorded exchanges on disk: `fixtures/<connector>/<case>/`. The format is described in
//! `fixtures/README.md`.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use pipeline_core::ErrorKind;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// Kinds that `expect_error` can name.
const KINDS: [ErrorKind; 15] = [
    ErrorKind::ConfigInvalid,
    ErrorKind::Unauthenticated,
    ErrorKind::PermissionDenied,
    ErrorKind::NotFound,
    ErrorKind::Refused,
    ErrorKind::RateLimited,
    ErrorKind::Unavailable,
    ErrorKind::TooLarge,
    ErrorKind::Decode,
    ErrorKind::CursorExpired,
    ErrorKind::CheckpointConflict,
    ErrorKind::Destination,
    ErrorKind::Unsupported,
    ErrorKind::Cancelled,
    ErrorKind::Unexpected,
];

/// One case: a configuration, and what the vendor answers to what a connector so configured asks.
#[derive(Debug)]
pub struct Fixture {
    /// Name of the case, which is its folder's.
    pub name: String,
    /// The folder.
    pub folder: PathBuf,
    /// Where the exchanges come from.
    pub origin: Origin,
    /// The connector's configuration.
    pub config: serde_json::Value,
    /// The streams that are read.
    pub streams: Vec<String>,
    /// The time that the run begins.
    pub now: DateTime<Utc>,
    /// The time that a second sync begins, with the same connector; none: there is one sync,
    /// without feeds of changes.
    pub again: Option<DateTime<Utc>>,
    /// Oldest data wanted; none: what the configuration says.
    pub start: Option<DateTime<Utc>>,
    /// The error that the run ends with; none: it succeeds.
    pub expect_error: Option<ErrorKind>,
    /// Requests and responses, in the order of their files.
    pub exchanges: Vec<Exchange>,
}

/// Where a case's exchanges come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// Written by hand from the vendor's documentation.
    Documented,
    /// Recorded from a real account, with identifying values replaced.
    Recorded,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Documented => "documented",
            Self::Recorded => "recorded",
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CaseFile {
    origin: Origin,
    source: String,
    config: serde_json::Value,
    streams: Vec<String>,
    now: DateTime<Utc>,
    #[serde(default)]
    again: Option<DateTime<Utc>>,
    #[serde(default)]
    start: Option<DateTime<Utc>>,
    #[serde(default, deserialize_with = "error_kind")]
    expect_error: Option<ErrorKind>,
}

/// One request and its response.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exchange {
    /// The request.
    pub request: RecordedRequest,
    /// The response.
    pub response: RecordedResponse,
}

/// What identifies a request. Headers do not: credentials and the client's own headers are not
/// recorded.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordedRequest {
    /// The method, in capitals.
    pub method: String,
    /// The URL's path.
    pub path: String,
    /// The decoded query, sorted.
    #[serde(default, deserialize_with = "query")]
    pub query: Vec<(String, String)>,
    /// The body; none: any.
    #[serde(default)]
    pub body: Option<String>,
}

/// A response.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "ResponseFile")]
pub struct RecordedResponse {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: BTreeMap<String, String>,
    /// The body, uncompressed.
    pub body: Bytes,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ResponseFile {
    status: u16,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    body: Option<Box<RawValue>>,
    #[serde(default)]
    body_text: Option<String>,
}

impl TryFrom<ResponseFile> for RecordedResponse {
    type Error = &'static str;

    fn try_from(file: ResponseFile) -> Result<Self, Self::Error> {
        let body = match (file.body, file.body_text) {
            (Some(_), Some(_)) => return Err("a response has `body` or `body_text`, not both"),
            // The text as it is in the file: numbers and member order are the vendor's.
            (Some(json), None) => Bytes::from(json.get().to_owned()),
            (None, text) => Bytes::from(text.unwrap_or_default()),
        };
        Ok(Self {
            status: file.status,
            headers: file.headers,
            body,
        })
    }
}

impl RecordedRequest {
    /// True for the request of an OAuth token: `POST …/token` or `…/tokens`.
    pub fn is_for_token(&self) -> bool {
        is_for_token(&self.method, &self.path)
    }
}

/// See [`RecordedRequest::is_for_token`].
pub(crate) fn is_for_token(method: &str, path: &str) -> bool {
    method == "POST"
        && path
            .rsplit('/')
            .next()
            .is_some_and(|last| last == "token" || last == "tokens")
}

impl Fixture {
    /// Reads the case in a folder.
    ///
    /// # Errors
    /// What is wrong with which file.
    pub fn load(folder: &Path) -> Result<Self, String> {
        let name = folder
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        let case: CaseFile = read_json(&folder.join("case.json"))?;
        if case.source.trim().is_empty() {
            return Err(format!(
                "{name}/case.json: `source` says where the exchanges come from, and is empty"
            ));
        }
        let mut exchanges = Vec::new();
        for file in files(folder)? {
            match file
                .file_name()
                .and_then(|name| name.to_str())
                .unwrap_or_default()
            {
                "case.json" => {}
                number if is_exchange(number) => exchanges.push(read_json(&file)?),
                other
                    if Path::new(other)
                        .extension()
                        .is_some_and(|extension| extension == "snap") => {}
                other => {
                    return Err(format!(
                        "{name}/{other}: neither case.json, nor NNN.json, nor a snapshot; delete \
                         or rename it"
                    ));
                }
            }
        }
        Ok(Self {
            name,
            folder: folder.to_owned(),
            origin: case.origin,
            config: case.config,
            streams: case.streams,
            now: case.now,
            again: case.again,
            start: case.start,
            expect_error: case.expect_error,
            exchanges,
        })
    }

    /// The cases of a connector, by name.
    ///
    /// # Errors
    /// When the folder cannot be read. A case that cannot be read is an error of its own.
    pub fn load_all(folder: &Path) -> Result<Vec<Result<Self, String>>, String> {
        Ok(files(folder)?
            .into_iter()
            .filter(|path| path.is_dir())
            .map(|path| Self::load(&path))
            .collect())
    }

    /// True when the vendor can be asked for another token, so that one refused request is no
    /// failure.
    pub fn refreshes_tokens(&self) -> bool {
        self.exchanges
            .iter()
            .any(|exchange| exchange.request.is_for_token())
    }
}

/// `001.json` and so on.
fn is_exchange(name: &str) -> bool {
    name.strip_suffix(".json")
        .is_some_and(|stem| stem.len() == 3 && stem.bytes().all(|byte| byte.is_ascii_digit()))
}

/// What a folder holds, sorted.
pub(crate) fn files(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = fs::read_dir(folder).map_err(|error| format!("{}: {error}", shown(folder)))?;
    let mut paths: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    paths.sort();
    Ok(paths)
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, String> {
    let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", shown(path)))?;
    serde_json::from_str(&text).map_err(|error| format!("{}: {error}", shown(path)))
}

/// The last two segments of a path: enough to find it, and the same on every machine.
pub(crate) fn shown(path: &Path) -> String {
    let mut last: Vec<_> = path
        .iter()
        .rev()
        .take(2)
        .map(|segment| segment.to_string_lossy())
        .collect();
    last.reverse();
    last.join("/")
}

/// An object, or a list of pairs when a name occurs twice.
fn query<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<(String, String)>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Query {
        Object(BTreeMap<String, String>),
        Pairs(Vec<(String, String)>),
    }
    let mut pairs = match Query::deserialize(deserializer)? {
        Query::Object(members) => members.into_iter().collect(),
        Query::Pairs(pairs) => pairs,
    };
    pairs.sort();
    Ok(pairs)
}

fn error_kind<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<ErrorKind>, D::Error> {
    let Some(name) = Option::<String>::deserialize(deserializer)? else {
        return Ok(None);
    };
    let known = KINDS.into_iter().find(|kind| snake_case(*kind) == name);
    known
        .map(Some)
        .ok_or_else(|| serde::de::Error::custom(format!("there is no error kind `{name}`")))
}

/// A kind as fixtures write it.
pub(crate) fn snake_case(kind: ErrorKind) -> String {
    let mut name = String::new();
    for letter in format!("{kind:?}").chars() {
        if letter.is_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_lowercase());
    }
    name
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn exchange(json: &str) -> Result<Exchange, serde_json::Error> {
        serde_json::from_str(json)
    }

    #[test]
    fn query_is_an_object_or_pairs() {
        let object = exchange(r#"{"request":{"method":"GET","path":"/a","query":{"b":"2","a":"1"}},"response":{"status":200}}"#).unwrap();
        let pairs =
            exchange(r#"{"request":{"method":"GET","path":"/a","query":[["b","2"],["a","1"]]},"response":{"status":200}}"#).unwrap();
        assert_eq!(object.request.query, pairs.request.query);
        assert_eq!(object.request.query[0], ("a".to_owned(), "1".to_owned()));
    }

    #[test]
    fn body_is_the_text_in_the_file() {
        let found = exchange(r#"{"request":{"method":"GET","path":"/"},"response":{"status":200,"body":{"z":1.10, "a":1e400}}}"#).unwrap();
        assert_eq!(found.response.body, r#"{"z":1.10, "a":1e400}"#.as_bytes());
    }

    #[test]
    fn unknown_members_are_refused() {
        assert!(
            exchange(
                r#"{"request":{"method":"GET","path":"/","headers":{}},"response":{"status":200}}"#
            )
            .is_err()
        );
        assert!(exchange(r#"{"request":{"method":"GET","path":"/"},"response":{"status":200,"body":1,"body_text":"1"}}"#).is_err());
    }

    #[test]
    fn token_requests_are_told_from_data() {
        assert!(is_for_token("POST", "/oauth/tokens"));
        assert!(!is_for_token("GET", "/oauth/tokens"));
        assert!(!is_for_token("POST", "/v1/tokens/list"));
    }

    #[test]
    fn kinds_have_snake_case_names() {
        assert_eq!(snake_case(ErrorKind::PermissionDenied), "permission_denied");
    }
}
