//! Fetches what has changed, at the version and with the members that the lists have.

use std::collections::BTreeMap;

use pipeline_core::declarative::{ListDef, compile};
use pipeline_core::http::{Call, HttpClient, Method, Request, path_segment};
use pipeline_core::{Endpoint, Error, ErrorKind, RawRecord, Reader, Result, SyncMode};

use super::CHANGES;
use super::target::{Found, sweep, tombstone};
use crate::limits::{ACCOUNT, operation, retrieve_operation};
use crate::spare::Spare;
use crate::streams::{self, asked_for_each, inside, objects, streams};
use crate::vendor::Stripe;

/// What is to be done about something that was found.
#[derive(Debug)]
pub(super) enum What {
    /// Fetch the object by its id; for one that belongs to another object, by the values in its
    /// path.
    Object(Option<RawRecord>),
    /// Fetch what the list has when this parameter is the id.
    Listed(&'static str),
    /// Fetch the whole list that belongs to the id.
    Children,
    /// It is gone, and nobody has to ask.
    Gone,
    /// All that belong to the id are gone.
    RowsOfIt,
}

/// What was fetched.
#[derive(Debug)]
pub(super) struct Fetched {
    pub(super) stream: &'static ListDef<Stripe>,
    /// Records and tombstones, with the stream that each belongs to.
    pub(super) records: Records,
    /// Why it may not be read.
    pub(super) refusal: Option<Error>,
}

/// Knows how everything is fetched.
#[derive(Debug)]
pub(super) struct Fetcher {
    /// The endpoints that read lists, by each stream that they feed.
    lists: BTreeMap<&'static str, Endpoint>,
    /// Endpoints of lists that are filtered by one parameter, by stream and parameter.
    filtered: BTreeMap<(&'static str, &'static str), Endpoint>,
    spare: Spare,
}

impl Fetcher {
    pub(super) fn new(lists: &[Endpoint], stripe: &Stripe, spare: Spare) -> Self {
        let mut known = BTreeMap::new();
        for stream in streams() {
            let endpoint = lists
                .iter()
                .find(|endpoint| endpoint.streams().any(|fed| fed.name() == stream.name));
            known.extend(endpoint.map(|endpoint| (stream.name, endpoint.clone())));
        }
        let filtered = |name: &'static str, params: Params| {
            let list = of_one(streams::stream(name)?, params);
            let endpoint = compile(&[list], stripe).pop()?;
            Some(((name, params[0].0), endpoint))
        };
        let filtered = [
            filtered("invoice_items", OF_INVOICE),
            filtered("invoice_payments", OF_INVOICE),
        ];
        Self {
            lists: known,
            filtered: filtered.into_iter().flatten().collect(),
            spare,
        }
    }

    /// Name of the endpoint whose lists hold a stream.
    pub(super) fn list(&self, stream: &ListDef<Stripe>) -> Option<&str> {
        self.lists.get(stream.name).map(Endpoint::name)
    }

    /// Fetches one object, or list.
    pub(super) async fn fetch(&self, reader: &Reader, found: &Found) -> Result<Fetched> {
        let Found {
            stream, id, what, ..
        } = found;
        let records = match what {
            What::Object(path) => self.object(reader, stream, id, path.as_ref()).await,
            What::Listed(param) => self.listed(reader, stream, id, param).await,
            What::Children => self.children(reader, stream, id).await,
            What::Gone => Ok(gone(stream, id)),
            What::RowsOfIt => Ok(sweep(stream, id).into_iter().collect()),
        };
        match records {
            Ok(records) => Ok(Fetched {
                stream,
                records,
                refusal: None,
            }),
            // The object's own absence is not an error, so what is missing here is something that
            // only its list has.
            Err(refusal)
                if matches!(
                    refusal.kind(),
                    ErrorKind::PermissionDenied | ErrorKind::NotFound
                ) =>
            {
                Ok(Fetched {
                    stream,
                    records: Vec::new(),
                    refusal: Some(refusal),
                })
            }
            Err(error) => Err(error.with_context("stream", stream.name)),
        }
    }

    /// Asks for something that can be read whenever Stripe answers.
    pub(super) async fn probe(&self, client: &HttpClient) -> Result<()> {
        let invalid = |error| {
            Error::new(ErrorKind::Unexpected, "the list's path is not a URL path")
                .with_source(error)
        };
        let mut request = Request::new(
            Method::GET,
            client.base().join("/v1/events").map_err(invalid)?,
        );
        request.set_query("limit", "1");
        client
            .send(
                &request,
                &Call {
                    endpoint: CHANGES,
                    buckets: &[operation("/v1/events").into(), ACCOUNT.into()],
                },
            )
            .await
            .map(drop)
    }

    async fn object(
        &self,
        reader: &Reader,
        stream: &'static ListDef<Stripe>,
        id: &str,
        path: Option<&RawRecord>,
    ) -> Result<Records> {
        let Some(list) = self.lists.get(stream.name) else {
            return Ok(Vec::new());
        };
        let buckets = [retrieve_operation(objects(stream)).into(), ACCOUNT.into()];
        let client = reader.client();
        let response = match client
            .send(
                &self.request(client, stream, id, path)?,
                &Call {
                    endpoint: stream.name,
                    buckets: &buckets,
                },
            )
            .await
        {
            Ok(response) if response.status.is_success() => response,
            Ok(_) => return Ok(gone(stream, id)),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(gone(stream, id)),
            Err(error) => return Err(error),
        };
        let record = RawRecord::upsert(response.body);
        // A stub, of which nothing but the id must be believed.
        if record.member("deleted") == Some("true") {
            return Ok(gone(stream, id));
        }
        // The lists inside it are the truth for it: what they have lost since is gone, whether or
        // not an event mentions it.
        let is_there =
            |(_, member): &(&'static ListDef<Stripe>, &'static str)| has_entries(&record, member);
        let swept: Records = inside(stream)
            .filter(is_there)
            .filter_map(|(inside, _)| sweep(inside, id))
            .collect();
        let read = reader.read_record(list, record).await;
        // A refusal of a list inside it is not one of the object's own list.
        let records = by_stream(
            list,
            read.map_err(|error| match error.kind() {
                ErrorKind::PermissionDenied | ErrorKind::NotFound => {
                    Error::new(ErrorKind::Refused, error.to_string())
                }
                _ => error,
            })?,
        );
        Ok(swept.into_iter().chain(records).collect())
    }

    /// The request for one object.
    fn request(
        &self,
        client: &HttpClient,
        stream: &'static ListDef<Stripe>,
        id: &str,
        path: Option<&RawRecord>,
    ) -> Result<Request> {
        let invalid = |error| {
            Error::new(ErrorKind::Unexpected, "the object's path is not a URL path")
                .with_source(error)
        };
        let nowhere = || {
            Error::new(
                ErrorKind::Refused,
                "no path leads to an object whose id is empty or a dot",
            )
        };
        let fill = |segment: &str| match segment
            .strip_prefix('{')
            .and_then(|name| name.strip_suffix('}'))
        {
            Some(name) => path.and_then(|path| path.scalar(name)).unwrap_or_default(),
            None => segment.to_owned(),
        };
        // Ids that people choose hold any character: none may become a separator, nor a plus a
        // space.
        let segments = objects(stream)
            .trim_start_matches('/')
            .split('/')
            .map(fill)
            .chain([id.to_owned()]);
        let path = segments
            .map(|segment| Some(format!("/{}", path_segment(segment)?)))
            .collect::<Option<String>>()
            .ok_or_else(nowhere)?;
        let mut request = Request::new(Method::GET, client.base().join(&path).map_err(invalid)?);
        let asked = self.spare.asked_for(stream).enumerate();
        request.query = asked
            .map(|(index, member)| (format!("expand[{index}]"), member.to_owned()))
            .collect();
        Ok(request)
    }

    async fn listed(
        &self,
        reader: &Reader,
        stream: &'static ListDef<Stripe>,
        id: &str,
        param: &'static str,
    ) -> Result<Records> {
        let Some(endpoint) = self.filtered.get(&(stream.name, param)) else {
            return Ok(Vec::new());
        };
        Ok(by_stream(
            endpoint,
            reader.read_children(endpoint, &parent(id)).await?,
        ))
    }

    /// The whole list that belongs to something: what is not in it any more is gone.
    async fn children(
        &self,
        reader: &Reader,
        stream: &'static ListDef<Stripe>,
        id: &str,
    ) -> Result<Records> {
        let Some(endpoint) = self.lists.get(stream.name) else {
            return Ok(Vec::new());
        };
        match reader.read_children(endpoint, &parent(id)).await {
            // What they belong to is gone, which its own event tells.
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
            records => Ok(sweep(stream, id)
                .into_iter()
                .chain(by_stream(endpoint, records?))
                .collect()),
        }
    }
}

/// The parameters by which a list is filtered.
type Params = &'static [(&'static str, &'static str)];

/// The parameter by which lists are filtered.
const INVOICE: &str = "invoice";

/// That which an invoice has of a list.
const OF_INVOICE: Params = &[(INVOICE, "{id}")];

/// What a list has for these parameters, whenever it was created.
fn of_one(list: &ListDef<Stripe>, params: Params) -> ListDef<Stripe> {
    ListDef {
        params,
        slices: None,
        cursor: None,
        mode: SyncMode::FullRefresh,
        ..*list
    }
}

/// The parameter of this name, if a list is filtered by it.
pub(super) fn param(name: &str) -> Option<&'static str> {
    (name == INVOICE).then_some(INVOICE)
}

/// Tombstones of an object and of what was inside it.
fn gone(stream: &'static ListDef<Stripe>, id: &str) -> Records {
    let inside = inside(stream).filter_map(|(inside, _)| sweep(inside, id));
    inside
        .chain([(stream.name, tombstone(stream, id))])
        .collect()
}

/// Whether a member of an object is a list with its entries.
fn has_entries(record: &RawRecord, member: &str) -> bool {
    let list = record
        .member(member)
        .filter(|json| json.starts_with('{'))
        .map(|json| RawRecord::upsert(json.to_owned()));
    list.is_some_and(|list| {
        list.member("data")
            .is_some_and(|data| data.starts_with('['))
    })
}

pub(super) type Records = Vec<(&'static str, RawRecord)>;

/// How an object that an event carries is fetched; none when it is not one of this stream's, but of
/// another whose objects have the same type: what belongs to a customer, or to a connected account.
pub(super) fn object(stream: &ListDef<Stripe>, object: &RawRecord) -> Option<What> {
    let mut names = objects(stream)
        .split(['{', '}'])
        .skip(1)
        .step_by(2)
        .peekable();
    if names.peek().is_none() {
        return Some(What::Object(None));
    }
    names
        .all(|name| object.scalar(name).is_some())
        .then(|| What::Object(Some(object.clone())))
}

/// An object of which the id is known.
fn parent(id: &str) -> RawRecord {
    let id = serde_json::to_string(id).unwrap_or_else(|_| unreachable!("a string is always JSON"));
    let paths = streams().filter_map(|list| asked_for_each(list).map(|_| list.path));
    let names = paths.flat_map(|path| path.split(['{', '}']).skip(1).step_by(2));
    let names: std::collections::BTreeSet<&str> = names.chain(["id"]).collect();
    RawRecord::from_members(names.into_iter().map(|name| (name, id.as_str())))
}

/// Records with the stream that each belongs to.
fn by_stream(endpoint: &Endpoint, records: Vec<Vec<RawRecord>>) -> Records {
    let names = endpoint
        .streams()
        .filter_map(|fed| streams::stream(fed.name()))
        .map(|stream| stream.name);
    names
        .zip(records)
        .flat_map(|(name, records)| records.into_iter().map(move |record| (name, record)))
        .collect()
}
