//! Where a project's data resides, and the hosts that serve it.

use pipeline_core::{Error, ErrorKind, Result};
use schemars::JsonSchema;
use serde::Deserialize;
use url::Url;

/// Where a project's data resides. A project lives in exactly one region; in others its credentials
/// are unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Region {
    /// Found out: the first of the others, in their order, that knows the service account.
    #[default]
    Auto,
    /// United States.
    Us,
    /// European Union.
    Eu,
    /// India.
    In,
}

/// The hosts of one region.
#[derive(Clone, Debug)]
pub(crate) struct Hosts {
    /// Queries, and what Mixpanel's own pages are made of.
    pub(crate) query: Url,
    /// The raw export.
    pub(crate) data: Url,
    /// Where events are sent to, and lookup tables are listed.
    pub(crate) ingestion: Url,
}

impl Region {
    /// The regions to try, in order.
    pub(crate) fn candidates(self) -> Vec<Self> {
        match self {
            Self::Auto => vec![Self::Us, Self::Eu, Self::In],
            known => vec![known],
        }
    }

    /// Its name in a configuration.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Us => "us",
            Self::Eu => "eu",
            Self::In => "in",
        }
    }

    /// Its hosts.
    pub(crate) fn hosts(self) -> Result<Hosts> {
        let (query, data, ingestion) = match self {
            Self::Auto | Self::Us => (
                "https://mixpanel.com",
                "https://data.mixpanel.com",
                "https://api.mixpanel.com",
            ),
            Self::Eu => (
                "https://eu.mixpanel.com",
                "https://data-eu.mixpanel.com",
                "https://api-eu.mixpanel.com",
            ),
            Self::In => (
                "https://in.mixpanel.com",
                "https://data-in.mixpanel.com",
                "https://api-in.mixpanel.com",
            ),
        };
        let parse = |host| {
            Url::parse(host).map_err(|error| {
                Error::new(ErrorKind::Unexpected, "the region has no host").with_source(error)
            })
        };
        Ok(Hosts {
            query: parse(query)?,
            data: parse(data)?,
            ingestion: parse(ingestion)?,
        })
    }
}

impl Hosts {
    /// One server in the place of all hosts.
    pub(crate) fn all_at(url: &Url) -> Self {
        Self {
            query: url.clone(),
            data: url.clone(),
            ingestion: url.clone(),
        }
    }
}
