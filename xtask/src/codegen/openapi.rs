//! The part of an OpenAPI file that tells what a list takes and what its objects look like.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufReader, Read as _};
use std::path::Path;

use flate2::read::GzDecoder;
use serde::Deserialize;

use super::Result;

/// Where references to components begin.
const COMPONENTS: &str = "#/components/schemas/";

/// An OpenAPI file.
#[derive(Debug, Deserialize)]
pub(crate) struct Spec {
    pub(crate) info: Info,
    pub(crate) paths: BTreeMap<String, PathItem>,
    pub(crate) components: Components,
    /// Names of events, in a file that was cut down to what a reader needs.
    #[serde(default, rename = "x-event-types")]
    event_types: Vec<String>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Info {
    pub(crate) version: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct PathItem {
    pub(crate) get: Option<Operation>,
    #[serde(default)]
    post: serde_json::Value,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Operation {
    #[serde(default)]
    pub(crate) parameters: Vec<Parameter>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Parameter {
    pub(crate) name: String,
    #[serde(default, rename = "in")]
    pub(crate) place: String,
    #[serde(default)]
    pub(crate) required: bool,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Components {
    pub(crate) schemas: BTreeMap<String, Property>,
}

/// An object that the API sends, or a member of one.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Property {
    #[serde(rename = "type")]
    pub(crate) kind: Option<String>,
    pub(crate) format: Option<String>,
    pub(crate) nullable: bool,
    #[serde(rename = "enum")]
    pub(crate) values: Vec<serde_json::Value>,
    #[serde(rename = "anyOf")]
    pub(crate) any_of: Vec<Property>,
    #[serde(rename = "$ref")]
    pub(crate) reference: Option<String>,
    pub(crate) properties: BTreeMap<String, Property>,
    /// What an array holds.
    pub(crate) items: Option<Box<Property>>,
    pub(crate) required: Vec<String>,
    /// There when the member is an id that a request can turn into the object it names.
    #[serde(rename = "x-expansionResources")]
    pub(crate) expansion: Option<Expansion>,
    #[serde(rename = "x-expandableFields")]
    pub(crate) expandable: Vec<String>,
}

/// What a member can be expanded into.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Expansion {
    #[serde(rename = "oneOf")]
    pub(crate) one_of: Vec<Property>,
}

impl Property {
    /// The component that this refers to.
    pub(crate) fn component(&self) -> Option<&str> {
        self.reference.as_deref()?.strip_prefix(COMPONENTS)
    }

    /// True for an array of ids that a request can turn into the objects they name.
    pub(crate) fn is_array_of_references(&self) -> bool {
        self.items
            .as_ref()
            .is_some_and(|items| items.expansion.is_some())
    }

    /// True for an array of ids of objects of this component.
    pub(crate) fn is_array_of(&self, component: &str) -> bool {
        let expansion = self
            .items
            .as_ref()
            .and_then(|items| items.expansion.as_ref());
        expansion.is_some_and(|expansion| {
            expansion
                .one_of
                .iter()
                .any(|one| one.component() == Some(component))
        })
    }

    /// True for a list of objects with its own paging.
    pub(crate) fn is_list(&self) -> bool {
        ["data", "has_more", "url"]
            .iter()
            .all(|member| self.properties.contains_key(*member))
    }
}

/// The text of a file, which is gzipped if its name says so.
///
/// # Errors
/// When it cannot be read.
pub(super) fn file_text(path: &Path) -> Result<String> {
    let mut text = String::new();
    let mut file = BufReader::new(File::open(path)?);
    if path.extension().is_some_and(|extension| extension == "gz") {
        GzDecoder::new(file).read_to_string(&mut text)?;
    } else {
        file.read_to_string(&mut text)?;
    }
    Ok(text)
}

impl Spec {
    /// Reads a file.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let open = || -> Result<Self> { Ok(serde_json::from_str(&file_text(path)?)?) };
        open().map_err(|error| format!("{}: {error}", path.display()).into())
    }

    /// The list at a path.
    pub(crate) fn get(&self, path: &str) -> Option<&Operation> {
        self.paths.get(path)?.get.as_ref()
    }

    /// Whether single objects of a list can be read.
    pub(crate) fn has_object(&self, list: &str) -> bool {
        let is_object = |path: &str| {
            path.rsplit_once('/')
                .is_some_and(|(of, last)| of == list && last.starts_with('{'))
        };
        self.paths
            .iter()
            .any(|(path, item)| is_object(path) && item.get.is_some())
    }

    /// The names of events: those that a webhook endpoint can be told to send.
    pub(crate) fn event_types(&self) -> BTreeSet<&str> {
        let body = "/requestBody/content/application~1x-www-form-urlencoded/schema/properties/enabled_events/items/enum";
        let enabled = self
            .paths
            .get("/v1/webhook_endpoints")
            .and_then(|path| path.post.pointer(body)?.as_array());
        let enabled = enabled
            .into_iter()
            .flatten()
            .filter_map(serde_json::Value::as_str);
        enabled
            .chain(self.event_types.iter().map(String::as_str))
            .collect()
    }
}

impl Operation {
    /// The names of its query parameters.
    pub(crate) fn takes(&self) -> impl Iterator<Item = &str> {
        self.query().map(|parameter| parameter.name.as_str())
    }

    /// The parameters of the query.
    pub(crate) fn query(&self) -> impl Iterator<Item = &Parameter> {
        self.parameters
            .iter()
            .filter(|parameter| parameter.place != "path")
    }
}
