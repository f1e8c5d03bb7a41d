//! What the key may read: one object of every list.

use chrono::TimeDelta;
use futures::future::try_join_all;
use pipeline_core::declarative::ListDef;
use pipeline_core::http::{Call, HttpClient, Method, Request, Response};
use pipeline_core::{Availability, CheckReport, Clock, Error, ErrorKind, Reader, Result};

use crate::config::Key;
use crate::connect;
use crate::connect::{Clients, Connect, Connected};
use crate::errors::words;
use crate::limits::{ACCOUNT, operation};
use crate::streams::{inside, streams};
use crate::vendor::{Pages, Requires, Stripe, expansions};

/// Probes under way at the same time.
const PARALLEL: usize = 8;

/// In the place of an id, where a list belongs to a record: Stripe looks at the permission first,
/// so what is said of a record that does not exist tells whether its list may be read.
const NOBODY: &str = "none";

/// Connected accounts told one by one.
const ACCOUNTS_TOLD: usize = 100;

/// See [`Connector::check`](pipeline_core::Connector::check).
pub(crate) async fn check(
    client: &HttpClient,
    clock: &dyn Clock,
    key: Key,
    connect: Option<&Connect>,
    names: &[&str],
) -> Result<CheckReport> {
    let (kind, mode) = key.describe();
    let mut report = CheckReport {
        facts: vec![
            ("key".to_owned(), kind.to_owned()),
            ("mode".to_owned(), mode.to_owned()),
        ],
        ..CheckReport::default()
    };
    let is_asked = |list: &ListDef<Stripe>| {
        let is_there = key.is_test() || !list.requires.contains(&Requires::TestMode);
        is_there || names.contains(&list.name)
    };
    let is_read = |list: &ListDef<Stripe>| {
        is_asked(list) && connect.is_none_or(|connect| connect.reads_platform(list))
    };
    // Whose key it is: asked first, so that a bad key or a vendor that cannot be reached is found
    // by one request.
    let own = if connect.is_none_or(Connect::has_platform) {
        match connect::own_id(client).await {
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::Unauthenticated | ErrorKind::Unavailable | ErrorKind::Untrusted
                ) =>
            {
                return Err(error);
            }
            own => own.ok().flatten(),
        }
    } else {
        None
    };
    let probes = probe_all(client, names, &is_read).await?;
    report.facts.extend(
        probes
            .version
            .map(|version| ("api_version".to_owned(), version)),
    );
    report.endpoints = probes.endpoints;
    report
        .facts
        .extend(own.clone().map(|account| ("account".to_owned(), account)));
    report.facts.push((
        "clock".to_owned(),
        describe_skew(client.now() - clock.now()),
    ));
    if let Some(connect) = connect {
        let clients = connect.clients(own);
        check_accounts(client, connect, &clients, names, &is_asked, &mut report).await?;
    }
    Ok(report)
}

/// What there is to say of the connected accounts, and what one of them lets be read: the key has
/// the same permissions in all of them, and asking each for each list would take as long as a sync.
async fn check_accounts(
    client: &HttpClient,
    connect: &Connect,
    clients: &Clients,
    names: &[&str],
    is_asked: &(dyn Fn(&ListDef<Stripe>) -> bool + Sync),
    report: &mut CheckReport,
) -> Result<()> {
    let accounts = connect
        .accounts(&Reader::new(client.clone()), clients)
        .await?;
    let label = if connect.has_platform() {
        "connected accounts"
    } else {
        "accounts"
    };
    report
        .facts
        .push((label.to_owned(), accounts.len().to_string()));
    report.facts.extend(
        accounts
            .iter()
            .take(ACCOUNTS_TOLD)
            .map(|account| (account.id.clone(), account.describe())),
    );
    for Connected { id, refusal, .. } in &accounts {
        report.endpoints.extend(
            refusal
                .as_ref()
                .map(|refusal| (id.clone(), Availability::Failed(describe(refusal)))),
        );
    }
    if let Some(Connected { id, .. }) = accounts.iter().find(|account| account.refusal.is_none()) {
        let probes = probe_all(&clients.client(client, id)?, names, &|list| {
            is_asked(list) && connect.reads_connected(list)
        })
        .await?;
        report.endpoints.extend(
            probes
                .endpoints
                .into_iter()
                .map(|(name, availability)| (format!("{name}@{id}"), availability)),
        );
    }
    Ok(())
}

/// What the lists of one account have answered.
struct Probes {
    endpoints: Vec<(String, Availability)>,
    /// The version in which Stripe answers.
    version: Option<String>,
}

/// Asks each list that is wanted for one object.
async fn probe_all(
    client: &HttpClient,
    names: &[&str],
    is_read: &(dyn Fn(&ListDef<Stripe>) -> bool + Sync),
) -> Result<Probes> {
    let is_wanted = |list: &&ListDef<Stripe>| {
        list.embedded.is_none() && is_read(list) && (names.is_empty() || names.contains(&list.name))
    };
    let mut wanted: Vec<&'static ListDef<Stripe>> = streams().filter(is_wanted).collect();
    wanted.sort_by_key(|list| list.name);
    let mut probes = Probes {
        endpoints: Vec::with_capacity(wanted.len()),
        version: None,
    };
    for some in wanted.chunks(PARALLEL) {
        for (list, (availability, answered)) in some
            .iter()
            .zip(try_join_all(some.iter().map(|list| probe(client, list))).await?)
        {
            client.checked(list.name, &availability);
            probes.version = probes.version.or(answered);
            // The lists inside its objects are read with them.
            let inside = inside(list).map(|(inside, _)| inside.name);
            probes
                .endpoints
                .extend(inside.map(|name| (name.to_owned(), availability.clone())));
            probes.endpoints.push((list.name.to_owned(), availability));
        }
    }
    probes
        .endpoints
        .sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok(probes)
}

/// How far Stripe's clock, which syncs go by, is from this machine's.
fn describe_skew(ahead: TimeDelta) -> String {
    match ahead.num_seconds() {
        -1..=1 => "right".to_owned(),
        seconds @ 2.. => format!("{seconds} s behind Stripe's"),
        seconds => format!("{} s ahead of Stripe's", -seconds),
    }
}

/// Asks a list for one object: whether it may be read, and the version that Stripe answers in.
async fn probe(
    client: &HttpClient,
    list: &ListDef<Stripe>,
) -> Result<(Availability, Option<String>)> {
    let path = match (list.path.split_once('{'), list.path.split_once('}')) {
        (Some((before, _)), Some((_, after))) => format!("{before}{NOBODY}{after}"),
        _ => list.path.to_owned(),
    };
    let mut request = request(client, &path)?;
    let named = |(name, value): &(&str, &str)| {
        let value = if value.contains('{') { NOBODY } else { value };
        ((*name).to_owned(), value.to_owned())
    };
    request.query.extend(list.params.iter().map(named));
    let members = list.facts.expand.iter().copied();
    request.query.extend(expansions(members));
    if list.pages == Pages::AfterLast {
        request.set_query("limit", "1");
    }
    match client
        .send(
            &request,
            &Call {
                endpoint: list.name,
                buckets: &[operation(list.path).into(), ACCOUNT.into()],
            },
        )
        .await
    {
        Ok(response) => Ok((Availability::Available, version(&response))),
        Err(error) => match error.kind() {
            ErrorKind::PermissionDenied => Ok((Availability::Unavailable(describe(&error)), None)),
            ErrorKind::NotFound | ErrorKind::Refused => {
                Ok((Availability::Refused(describe(&error)), None))
            }
            ErrorKind::Unauthenticated
            | ErrorKind::ConfigInvalid
            | ErrorKind::Untrusted
            | ErrorKind::Disk => Err(error),
            // Not even a refusal came: there is no way to Stripe.
            ErrorKind::Unavailable if error.context_value("status").is_none() => Err(error),
            _ => Ok((Availability::Failed(describe(&error)), None)),
        },
    }
}

fn request(client: &HttpClient, path: &str) -> Result<Request> {
    let invalid = |error| {
        Error::new(ErrorKind::Unexpected, "the list's path is not a URL path").with_source(error)
    };
    Ok(Request::new(
        Method::GET,
        client.base().join(path).map_err(invalid)?,
    ))
}

fn version(response: &Response) -> Option<String> {
    Some(
        response
            .headers
            .get("stripe-version")?
            .to_str()
            .ok()?
            .to_owned(),
    )
}

/// What failed, what Stripe says about it, and what the user can do; without that, everything that
/// is known.
fn describe(error: &Error) -> String {
    let Some(help) = error.help() else {
        return error.to_string();
    };
    match error.context_value("answer").map(words) {
        Some(words) => format!("{} (Stripe says: {words}): {help}", error.message()),
        None => format!("{}: {help}", error.message()),
    }
}
