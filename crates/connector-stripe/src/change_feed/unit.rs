//! What could not be fetched: what is kept of it, and how it is fetched later.

use std::borrow::Cow;

use pipeline_core::declarative::ListDef;
use pipeline_core::gap::Missed;
use pipeline_core::state::{EndpointState, SliceState};
use pipeline_core::{Error, ErrorKind, RawRecord, Result};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::fetch::What;
use super::target::Found;
use crate::streams::{objects, stream};
use crate::vendor::Stripe;

/// Attempts after which the whole list of an object is read again, once: it may show what cannot be
/// fetched by itself.
const READ_LIST_AFTER: u32 = 4;

/// What is stored of something that could not be fetched.
#[derive(Debug, Serialize, Deserialize)]
struct Unit<'a> {
    #[serde(borrow)]
    stream: Cow<'a, str>,
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    path: Option<&'a RawValue>,
    /// The parameter of the list that has it.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    listed: Option<Cow<'a, str>>,
    /// True for the list of what has the id.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    children: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    created: Option<i64>,
    happened: i64,
}

impl Found {
    /// What is passed over when this cannot be fetched.
    pub(super) fn missed(&self) -> Missed {
        let Self {
            stream,
            id,
            what,
            created,
            happened,
        } = self;
        let name = match what {
            What::Listed(_) | What::Children => format!("{} of {id}", stream.name),
            What::Object(_) | What::Gone | What::RowsOfIt => {
                format!("{} {id}", stream.facts.object)
            }
        };
        let path = match what {
            What::Object(Some(record)) => Some(named(stream, record)),
            _ => None,
        };
        let unit = Unit {
            stream: stream.name.into(),
            id: id.into(),
            path: path
                .as_ref()
                .and_then(|path| serde_json::from_slice(path.source()).ok()),
            listed: if let What::Listed(param) = what {
                Some((*param).into())
            } else {
                None
            },
            children: matches!(what, What::Children),
            created: *created,
            happened: *happened,
        };
        let unit = serde_json::to_string(&unit)
            .unwrap_or_else(|_| unreachable!("a unit has only string keys"));
        Missed::new(
            name,
            SliceState {
                unit: Some(unit),
                ..SliceState::default()
            },
        )
    }

    /// What a stored unit names; none when no stream of this name is heard of any more.
    ///
    /// # Errors
    /// [`ErrorKind::Decode`] when it is damaged.
    pub(super) fn of(unit: &str) -> Result<Option<Self>> {
        let damaged = |error| {
            Error::new(
                ErrorKind::Decode,
                "what is stored of a missing object is damaged",
            )
            .with_source(error)
        };
        let Unit {
            stream: name,
            id,
            path,
            listed,
            children,
            created,
            happened,
        } = serde_json::from_str(unit).map_err(damaged)?;
        let Some(stream) = stream(&name) else {
            return Ok(None);
        };
        let what = match (listed, children) {
            (Some(param), _) => super::fetch::param(&param).map(What::Listed),
            (None, true) => Some(What::Children),
            (None, false) => Some(What::Object(
                path.map(|path| RawRecord::upsert(path.get().to_owned())),
            )),
        };
        Ok(what.map(|what| Self {
            stream,
            id: id.into_owned(),
            what,
            created,
            happened,
        }))
    }
}

/// The members of an object that the path to it names.
fn named(stream: &ListDef<Stripe>, record: &RawRecord) -> RawRecord {
    let names = objects(stream).split(['{', '}']).skip(1).step_by(2);
    RawRecord::from_members(names.filter_map(|name| Some((name, record.member(name)?))))
}

/// The streams whose lists are to be read again, because something of theirs cannot be fetched by
/// itself.
pub(super) fn streams_to_read(state: &EndpointState) -> impl Iterator<Item = String> {
    let given_up = state
        .gaps
        .values()
        .filter(|gap| gap.attempts == READ_LIST_AFTER);
    let units = given_up
        .filter_map(|gap| serde_json::from_str::<Unit<'_>>(gap.slice.unit.as_deref()?).ok());
    units.map(|unit| unit.stream.into_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_missing_is_found_again() {
        let found = |name: &str, id: &str, what| Found {
            stream: stream(name).unwrap(),
            id: id.to_owned(),
            what,
            created: Some(7),
            happened: 9,
        };
        let tax_id = RawRecord::upsert(r#"{"id":"txi_1","customer":"cus_\"1","country":"DE"}"#);
        for (missing, name) in [
            (found("charges", "ch_2", What::Object(None)), "charge ch_2"),
            (
                found("plans", "Professional+", What::Object(None)),
                "plan Professional+",
            ),
            (
                found("customer_tax_ids", "txi_1", What::Object(Some(tax_id))),
                "tax_id txi_1",
            ),
            (
                found("invoice_items", "in_1", What::Listed("invoice")),
                "invoice_items of in_1",
            ),
            (
                found("setup_attempts", "seti_1", What::Children),
                "setup_attempts of seti_1",
            ),
        ] {
            let missed = missing.missed();
            assert_eq!(missed.name, name);
            let again = Found::of(missed.slice.unit.as_deref().unwrap())
                .unwrap()
                .unwrap();
            assert_eq!(
                (again.stream.name, &again.id, again.created, again.happened),
                (missing.stream.name, &missing.id, Some(7), 9)
            );
            assert_eq!(again.missed(), missed);
        }
        assert!(
            Found::of(r#"{"stream":"none","id":"x","happened":1}"#)
                .unwrap()
                .is_none()
        );
        assert!(Found::of("ch_2").is_err());
    }
}
