//! The part of an OpenAPI file that tells what a list takes and what its objects look like.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read as _};
use std::path::Path;

use flate2::read::GzDecoder;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::Result;

/// An OpenAPI file.
#[derive(Debug, Deserialize)]
pub(crate) struct Spec {
    pub(crate) info: Info,
    pub(crate) paths: BTreeMap<String, PathItem>,
    pub(crate) components: Components,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Info {
    pub(crate) version: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct PathItem {
    pub(crate) get: Option<Operation>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Operation {
    #[serde(default)]
    pub(crate) parameters: Vec<Parameter>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Parameter {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) required: bool,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Components {
    pub(crate) schemas: BTreeMap<String, Component>,
}

/// An object that the API sends.
#[derive(Debug, Deserialize)]
pub(crate) struct Component {
    #[serde(default)]
    pub(crate) properties: BTreeMap<String, Property>,
    #[serde(default, rename = "x-expandableFields")]
    pub(crate) expandable: Vec<String>,
}

/// A member of an object.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Property {
    #[serde(rename = "type")]
    pub(crate) kind: Option<String>,
    pub(crate) format: Option<String>,
    #[serde(rename = "enum")]
    pub(crate) values: Vec<serde_json::Value>,
    #[serde(rename = "anyOf")]
    pub(crate) any_of: Vec<Property>,
    /// There when the member is an id that a request can turn into the object it names.
    #[serde(rename = "x-expansionResources")]
    pub(crate) expansion: Option<IgnoredAny>,
}

impl Spec {
    /// Reads a file, gzipped if its name says so.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let open = || -> Result<Self> {
            let mut text = String::new();
            let mut file = BufReader::new(File::open(path)?);
            if path.extension().is_some_and(|extension| extension == "gz") {
                GzDecoder::new(file).read_to_string(&mut text)?;
            } else {
                file.read_to_string(&mut text)?;
            }
            Ok(serde_json::from_str(&text)?)
        };
        open().map_err(|error| format!("{}: {error}", path.display()).into())
    }
}
