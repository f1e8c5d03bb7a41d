//! Lists that name the next page by its URL.

use http::header::LINK;
use url::Url;

use super::{PageView, Paginator, current};
use crate::error::{Error, ErrorKind, Result};
use crate::message::Request;
use crate::model::record::Advance;
use crate::model::state::Position;

/// A URL in the body names the next page.
///
/// ```
/// use pipeline_core::http::{Method, Request};
/// use pipeline_core::paginate::{NextUrl, Paginator};
/// use pipeline_core::state::Position;
///
/// let mut request = Request::new(Method::GET, "https://api.acme.example/orders".parse()?);
/// let paginator = NextUrl { url: "links/next" };
/// paginator.apply(&Position::At("/orders?page=2".to_owned()), &mut request)?;
/// assert_eq!(request.full_url().as_str(), "https://api.acme.example/orders?page=2");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct NextUrl {
    /// Path of the URL in the body; null, empty or absent ends the list.
    pub url: &'static str,
}

impl Paginator for NextUrl {
    fn apply(&self, at: &Position, request: &mut Request) -> Result<()> {
        follow(at, request)
    }

    fn advance(&self, _at: &Position, page: &PageView<'_>) -> Result<Advance> {
        next(page, page.envelope.text(self.url))
    }
}

/// The `Link` header (RFC 8288) names the next page.
///
/// ```
/// use pipeline_core::http::{Method, Request};
/// use pipeline_core::paginate::{LinkHeader, Paginator};
/// use pipeline_core::state::Position;
///
/// let mut request = Request::new(Method::GET, "https://api.acme.example/orders".parse()?);
/// let paginator = LinkHeader;
/// paginator.apply(&Position::At("/orders?page=2".to_owned()), &mut request)?;
/// assert_eq!(request.full_url().as_str(), "https://api.acme.example/orders?page=2");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct LinkHeader;

impl Paginator for LinkHeader {
    fn apply(&self, at: &Position, request: &mut Request) -> Result<()> {
        follow(at, request)
    }

    fn advance(&self, _at: &Position, page: &PageView<'_>) -> Result<Advance> {
        for header in page.headers.get_all(LINK) {
            let links = parse_links(&String::from_utf8_lossy(header.as_bytes()))?;
            if let Some((url, _)) = links.into_iter().find(|(_, is_next)| *is_next) {
                return next(page, Some(url));
            }
        }
        Ok(Advance::End)
    }
}

/// Points the request at the stored URL, which holds every parameter that the next page needs.
///
/// Credentials follow the request, so another origin is refused, wherever the URL comes from.
fn follow(at: &Position, request: &mut Request) -> Result<()> {
    let Some(next) = current(at) else {
        return Ok(());
    };
    let url = same_origin(request, next)?;
    request.query = url.query_pairs().into_owned().collect();
    request.url = url;
    request.url.set_query(None);
    Ok(())
}

fn next(page: &PageView<'_>, url: Option<String>) -> Result<Advance> {
    let Some(url) = url.filter(|url| !url.is_empty()) else {
        return Ok(Advance::End);
    };
    let url = same_origin(page.request, &url)?;
    let mut parameters: Vec<_> = url.query_pairs().into_owned().collect();
    parameters.sort();
    let mut sent = page.request.query.clone();
    sent.sort();
    if url.path() == page.request.url.path() && parameters == sent {
        return Err(super::not_advancing(url.path()));
    }
    // Only path and query are kept: a stored position outlives a change of host, and never names
    // one.
    let place = &url[url::Position::BeforePath..url::Position::AfterQuery];
    // A path that begins with two slashes would be read as a host.
    let prefix = if place.starts_with("//") { "/." } else { "" };
    Ok(Advance::Next(format!("{prefix}{place}")))
}

fn same_origin(current: &Request, next: &str) -> Result<Url> {
    let invalid = |message: &str| {
        Error::new(ErrorKind::Decode, message)
            .with_help("report this: the vendor's link was not followed")
    };
    let mut url = current
        .url
        .join(next)
        .map_err(|error| invalid("the link to the next page is not a URL").with_source(error))?;
    if url.origin() != current.url.origin() {
        return Err(invalid(
            "the link to the next page leads to another host, where credentials must not go",
        ));
    }
    // A gateway writes the path of the base URL into links, or leaves the vendor's own there, which
    // is what is asked for.
    let below = |path: &str| {
        path.strip_prefix(&*current.mount)
            .filter(|own| own.starts_with('/'))
            .map(str::to_owned)
    };
    // The vendor's own paths may begin like the base URL's.
    if let Some(own) =
        below(url.path()).filter(|own| below(current.url.path()).is_none() || below(own).is_some())
    {
        url.set_path(&own);
    }
    Ok(url)
}

/// Reads one `Link` header: each target, and whether it is the next page.
///
/// Targets may hold commas and semicolons; parameter names and relations ignore case; one `rel` may
/// list several.
fn parse_links(header: &str) -> Result<Vec<(String, bool)>> {
    let mut links = Vec::new();
    let mut rest = header;
    while let Some((_, from_target)) = rest.split_once('<') {
        let unclosed = || {
            Error::new(
                ErrorKind::Decode,
                "the link header holds a target without an end",
            )
        };
        let (target, after) = from_target.split_once('>').ok_or_else(unclosed)?;
        let (parameters, remaining) = split_outside_quotes(after, ',');
        rest = remaining;
        let mut parameters = parameters;
        let mut is_next = false;
        while !parameters.is_empty() {
            let (parameter, remaining) = split_outside_quotes(parameters, ';');
            parameters = remaining;
            if let Some((name, value)) = parameter.split_once('=') {
                let relations = value.trim().trim_matches('"');
                is_next |= name.trim().eq_ignore_ascii_case("rel")
                    && relations
                        .split_whitespace()
                        .any(|rel| rel.eq_ignore_ascii_case("next"));
            }
        }
        links.push((target.to_owned(), is_next));
    }
    Ok(links)
}

fn split_outside_quotes(text: &str, separator: char) -> (&str, &str) {
    let (mut quoted, mut escaped) = (false, false);
    for (at, character) in text.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ if character == separator && !quoted => {
                return (&text[..at], &text[at + character.len_utf8()..]);
            }
            _ => {}
        }
    }
    (text, "")
}
