//! What is read of an event.

use std::borrow::Cow;

use pipeline_core::{Error, ErrorKind, RawRecord, Result};
use serde::Deserialize;
use serde_json::value::RawValue;

/// An event, as far as it matters.
#[derive(Debug)]
pub(super) struct Event<'a> {
    /// None: it cannot be recognised when it comes again.
    pub(super) id: Option<Cow<'a, str>>,
    /// When it happened, to the second.
    pub(super) created: i64,
    /// Its name, such as `charge.updated`.
    pub(super) kind: Cow<'a, str>,
    /// The object as it was, in some version of the API.
    pub(super) object: RawRecord,
    /// Type of the object, such as `charge`.
    pub(super) object_type: String,
    /// What members of the object were before.
    pub(super) previous: Option<RawRecord>,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, default)]
    id: Option<Cow<'a, str>>,
    created: i64,
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    data: Data<'a>,
}

#[derive(Deserialize)]
struct Data<'a> {
    #[serde(borrow)]
    object: &'a RawValue,
    #[serde(borrow, default)]
    previous_attributes: Option<&'a RawValue>,
}

impl<'a> Event<'a> {
    pub(super) fn read(record: &'a RawRecord) -> Result<Self> {
        let Envelope {
            id,
            created,
            kind,
            data,
        } = serde_json::from_slice(record.source()).map_err(|error| {
            Error::new(ErrorKind::Decode, "an event is not what stripe documents")
                .with_source(error)
        })?;
        let raw = |json: &RawValue| RawRecord::upsert(json.get().to_owned());
        let object = raw(data.object);
        let object_type = object.scalar("object").unwrap_or_default();
        Ok(Self {
            id,
            created,
            kind,
            object,
            object_type,
            previous: data.previous_attributes.map(raw),
        })
    }

    /// When the object was created, if it says so.
    pub(super) fn object_created(&self) -> Option<i64> {
        let time = self
            .object
            .scalar("created")
            .or_else(|| self.object.scalar("date"));
        time?.parse().ok()
    }
}
