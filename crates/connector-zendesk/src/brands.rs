//! The Help Centers of an account: each brand may have one, on a host of its own.
//!
//! The account's host shows the Help Center of one brand only. Those of the others are read from
//! the brands' hosts, with the same credentials and within the same limits, into the same tables:
//! `brand_id` tells whose a row is. Ids are the account's, so rows of different brands never share
//! one.

use std::collections::BTreeMap;

use futures::TryStreamExt;
use futures::stream::BoxStream;
use pipeline_core::state::SliceState;
use pipeline_core::{Endpoint, Page, RawRecord, Reader, Result};
use serde::Deserialize;
use url::Url;

use crate::config::label;
use crate::{is_refusal, streams};

/// The list of brands.
pub(crate) const LIST: &str = "brands";

/// The column that tells whose Help Center a row is of.
pub(crate) const COLUMN: &str = "brand_id";

/// Stands between the name of a list and the brand that it is read of.
pub(crate) const OF: &str = "_of_brand_";

/// Where the Help Centers of a source's account are.
#[derive(Debug)]
pub(crate) struct Brands {
    /// The configured account, which is the subdomain of a brand as well.
    subdomain: String,
    /// Hosts of brands by their subdomain, as the configuration has them.
    urls: BTreeMap<String, Url>,
    /// Whether the account's host is the configuration's own, so that it says nothing of the
    /// brands' hosts.
    is_elsewhere: bool,
}

/// What matters of a brand.
#[derive(Debug, Deserialize)]
struct Brand {
    id: i64,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    subdomain: Option<String>,
    #[serde(default)]
    has_help_center: Option<bool>,
    #[serde(default)]
    help_center_state: Option<String>,
    #[serde(default)]
    is_deleted: Option<bool>,
    #[serde(default)]
    default: Option<bool>,
}

/// The Help Centers of an account.
#[derive(Debug, Default)]
pub(crate) struct HelpCenters {
    /// The endpoints of each but that of the account's host.
    pub(crate) endpoints: Vec<Endpoint>,
    /// What is read, and what is not, in words.
    pub(crate) notices: Vec<String>,
    /// The brand that the account's host shows.
    pub(crate) own: Option<String>,
}

impl Brands {
    pub(crate) fn new(subdomain: String, urls: BTreeMap<String, Url>, is_elsewhere: bool) -> Self {
        Self {
            subdomain,
            urls,
            is_elsewhere,
        }
    }

    /// Asks which brands there are, and gives the endpoints of their Help Centers, of those that
    /// are wanted.
    ///
    /// Without the list of brands, the Help Center of the account's host is read alone, which is
    /// told.
    ///
    /// # Errors
    /// When the credentials are refused, or the vendor cannot be reached.
    pub(crate) async fn learn(
        &self,
        reader: &Reader,
        list: &Endpoint,
        wanted: &[&str],
    ) -> Result<HelpCenters> {
        let brands = match brands(reader, list).await {
            Ok(brands) => brands,
            Err(error) if is_refusal(error.kind()) => {
                let note = format!(
                    "brands may not be read ({error}): the Help Center of {} is read, and of no other brand",
                    self.subdomain
                );
                return Ok(HelpCenters {
                    notices: vec![note],
                    ..HelpCenters::default()
                });
            }
            Err(error) => return Err(error),
        };
        let is_own = |brand: &&Brand| {
            brand
                .subdomain
                .as_deref()
                .is_some_and(|name| name.eq_ignore_ascii_case(&self.subdomain))
        };
        let own = brands
            .iter()
            .find(is_own)
            .or_else(|| brands.iter().find(|brand| brand.default == Some(true)));
        let mut centers = HelpCenters {
            own: own.map(|own| own.id.to_string()),
            ..HelpCenters::default()
        };
        let is_other = |brand: &&Brand| own.is_none_or(|own| own.id != brand.id);
        for brand in brands
            .iter()
            .filter(is_other)
            .filter(|brand| brand.is_open())
        {
            match self.host(brand) {
                Some(host) => {
                    reader.client().add_origin(host.clone())?;
                    let endpoints = streams::help_center(brand.id.to_string(), host.clone());
                    let is_wanted = |endpoint: &Endpoint| {
                        wanted.iter().any(|name| is_list(endpoint, name)) && !is_accounts(endpoint)
                    };
                    centers
                        .endpoints
                        .extend(endpoints.into_iter().filter(is_wanted));
                    centers.notices.push(format!(
                        "the Help Center of the brand {} is read from {}",
                        brand.shown(),
                        host.host_str().unwrap_or_default()
                    ));
                }
                None => centers.notices.push(brand.left_out()),
            }
        }
        Ok(centers)
    }

    /// The host of a brand's Help Center; none when nobody can tell. A subdomain that is no label
    /// makes no host.
    fn host(&self, brand: &Brand) -> Option<Url> {
        let subdomain = label(brand.subdomain.as_deref()?)?;
        if let Some(url) = self.urls.get(&subdomain) {
            return Some(url.clone());
        }
        if self.is_elsewhere {
            None
        } else {
            Url::parse(&format!("https://{subdomain}.zendesk.com")).ok()
        }
    }
}

impl Brand {
    /// Whether there is a Help Center to read.
    fn is_open(&self) -> bool {
        self.has_help_center == Some(true)
            && self.is_deleted != Some(true)
            && self.help_center_state.as_deref() != Some("disabled")
    }

    /// The brand's name in the account, and its subdomain.
    fn shown(&self) -> String {
        match (&self.name, &self.subdomain) {
            (Some(name), Some(subdomain)) if name != subdomain => format!("{name} ({subdomain})"),
            (_, Some(text)) | (Some(text), None) => text.clone(),
            (None, None) => self.id.to_string(),
        }
    }

    /// What is told of a brand whose host is not known.
    fn left_out(&self) -> String {
        let shown = self.shown();
        match self.subdomain.as_deref().and_then(label) {
            Some(subdomain) => format!(
                "the Help Center of the brand {shown} is not read, because its host does not follow from base_url: name it in brand_urls, \
                 as in brand_urls = {{ {subdomain} = \"https://…\" }}"
            ),
            None => format!(
                "the Help Center of the brand {shown} is not read, because its subdomain makes no host name"
            ),
        }
    }
}

/// Reads a list of a Help Center, and says of each row whose it is.
pub(crate) fn read<'a>(
    reader: &Reader,
    endpoint: &'a Endpoint,
    slice: SliceState,
    own: Option<&str>,
) -> BoxStream<'a, Result<Page>> {
    let pages = reader.read(endpoint, slice);
    let has_brand = endpoint
        .streams()
        .any(|stream| stream.schema().field(COLUMN).is_some());
    let brand = endpoint
        .name()
        .rsplit_once(OF)
        .map(|(_, brand)| brand.to_owned())
        .or_else(|| own.map(ToOwned::to_owned));
    let Some(brand) = brand.filter(|_| has_brand && streams::is_of_help_center(endpoint)) else {
        return pages;
    };
    let of_brand = move |record: &RawRecord| record.with_member(COLUMN, &brand);
    let tell = move |mut page: Page| {
        page.records
            .iter_mut()
            .flatten()
            .for_each(|record| *record = of_brand(record));
        page
    };
    Box::pin(pages.map_ok(tell))
}

/// Whether an endpoint of a brand stands for the list of this name.
fn is_list(endpoint: &Endpoint, name: &str) -> bool {
    endpoint
        .name()
        .split_once(OF)
        .is_some_and(|(list, _)| list == name)
}

/// Whether all brands show the same of a list: it is the account's.
fn is_accounts(endpoint: &Endpoint) -> bool {
    endpoint
        .streams()
        .all(|stream| stream.schema().field(COLUMN).is_none())
}

/// The brands of the account.
async fn brands(reader: &Reader, list: &Endpoint) -> Result<Vec<Brand>> {
    let mut brands = Vec::new();
    let mut pages = reader.read(list, SliceState::default());
    while let Some(page) = pages.try_next().await? {
        // One odd brand is none of which anything could be read.
        brands.extend(
            page.records
                .iter()
                .flatten()
                .filter_map(|record| record.deserialize().ok()),
        );
    }
    Ok(brands)
}
