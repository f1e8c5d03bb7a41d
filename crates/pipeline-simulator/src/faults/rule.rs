//! What goes wrong with certain requests: a list that is refused, a record that is poisoned, a day
//! that never comes, an outage.

use std::ops::Range;

use axum::http::Uri;
use chrono::NaiveDate;

use crate::Vendor;
use crate::book::percent_decoded;

/// What certain requests are answered with instead, for ever or a number of times.
///
/// ```
/// use pipeline_simulator::{Rule, Spoil};
///
/// let refused = Rule::refuse("/v1/disputes", 400, "This account cannot have disputes.");
/// let poisoned = Rule::poison("/v1/customers/*/tax_ids", Spoil::error(500, "oops")).with("/cus_2/").times(2);
/// # let _ = (refused, poisoned);
/// ```
#[derive(Clone, Debug)]
pub struct Rule {
    requests: Requests,
    pub(crate) spoil: Spoil,
    /// How many requests it still applies to; none: any number.
    times: Option<u64>,
    /// How many it applied to.
    hits: u64,
}

/// Which requests a rule applies to: all that each of these says.
#[derive(Clone, Debug, Default)]
struct Requests {
    path: String,
    vendor: Option<Vendor>,
    /// Texts that the path and the decoded parameters contain.
    texts: Vec<String>,
    /// Parameters and their values.
    parameters: Vec<(String, String)>,
    /// Parameters that are absent.
    absent: Vec<String>,
    /// A day of which `from_date` and `to_date` ask.
    day: Option<NaiveDate>,
    /// Seconds of the server's clock.
    between: Option<Range<i64>>,
}

/// What a request is answered with in the place of the right answer.
#[derive(Clone, Debug)]
pub enum Spoil {
    /// An error in the vendor's own words; with the status 200 it is an error inside of a success.
    Error {
        /// The status.
        status: u16,
        /// What the vendor says.
        message: String,
        /// The vendor's code, where its errors have one.
        code: Option<String>,
    },
    /// A redirect to a page where people log in.
    Redirect,
    /// A page for people, with this status.
    Page(u16),
    /// The right answer with a line in its middle that is not what it should be.
    Line(String),
    /// The right answer, broken off in its middle.
    Cut,
    /// The right answer with this many records at most, which says that no more follow. Totals stay
    /// what they are.
    Short(usize),
    /// No answer: the connection closes.
    Silence,
}

impl Spoil {
    /// An error in the vendor's envelope.
    pub fn error(status: u16, message: impl Into<String>) -> Spoil {
        Spoil::Error {
            status,
            message: message.into(),
            code: None,
        }
    }
}

/// The parts of a request that rules look at.
pub(crate) struct Asked {
    pub(crate) vendor: Vendor,
    pub(crate) path: String,
    /// Of the query and the body.
    pub(crate) parameters: Vec<(String, String)>,
    pub(crate) now: i64,
}

impl Asked {
    pub(crate) fn new(uri: &Uri, more: Vec<(String, String)>, now: i64) -> Asked {
        let mut parameters = pairs(uri);
        parameters.extend(more);
        Asked {
            vendor: Vendor::of(uri.path()),
            path: percent_decoded(uri.path()),
            parameters,
            now,
        }
    }

    fn value(&self, name: &str) -> Option<&str> {
        self.parameters
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }
}

/// A query's parameters.
pub(crate) fn pairs(uri: &Uri) -> Vec<(String, String)> {
    axum::extract::Query::<Vec<(String, String)>>::try_from_uri(uri)
        .map(|query| query.0)
        .unwrap_or_default()
}

impl Rule {
    /// Spoils the requests of a path for ever. In the pattern `*` stands for one segment, and `**`
    /// at its end for any rest.
    pub fn poison(path: impl Into<String>, spoil: Spoil) -> Rule {
        Rule {
            requests: Requests {
                path: path.into(),
                ..Requests::default()
            },
            spoil,
            times: None,
            hits: 0,
        }
    }

    /// Refuses the requests of a path for ever, in the vendor's envelope.
    pub fn refuse(path: impl Into<String>, status: u16, message: impl Into<String>) -> Rule {
        Rule::poison(path, Spoil::error(status, message))
    }

    /// Ends each page of a list after so many records; totals still say how many there are.
    pub fn short(path: impl Into<String>, records: usize) -> Rule {
        Rule::poison(path, Spoil::Short(records))
    }

    /// Answers nothing but 503 between two seconds of the server's clock.
    pub fn outage(seconds: Range<i64>) -> Rule {
        Rule::refuse("/**", 503, "Service Unavailable").between(seconds)
    }

    /// Adds the vendor's code to an error.
    #[must_use]
    pub fn code(mut self, text: impl Into<String>) -> Rule {
        if let Spoil::Error { code, .. } = &mut self.spoil {
            *code = Some(text.into());
        }
        self
    }

    /// Applies to one vendor only.
    #[must_use]
    pub fn only(mut self, vendor: Vendor) -> Rule {
        self.requests.vendor = Some(vendor);
        self
    }

    /// Applies to requests that name this text, such as an id, in the path or in the value of a
    /// parameter.
    #[must_use]
    pub fn with(mut self, text: impl Into<String>) -> Rule {
        self.requests.texts.push(text.into());
        self
    }

    /// Applies to requests with this value of a parameter.
    #[must_use]
    pub fn when(mut self, parameter: impl Into<String>, value: impl Into<String>) -> Rule {
        self.requests
            .parameters
            .push((parameter.into(), value.into()));
        self
    }

    /// Applies to requests without this parameter.
    #[must_use]
    pub fn without(mut self, parameter: impl Into<String>) -> Rule {
        self.requests.absent.push(parameter.into());
        self
    }

    /// Applies to requests whose `from_date` and `to_date` include this day.
    #[must_use]
    pub fn day(mut self, day: NaiveDate) -> Rule {
        self.requests.day = Some(day);
        self
    }

    /// Applies between two seconds of the server's clock.
    #[must_use]
    pub fn between(mut self, seconds: Range<i64>) -> Rule {
        self.requests.between = Some(seconds);
        self
    }

    /// Applies to so many requests; what comes after them is healthy.
    #[must_use]
    pub fn times(mut self, requests: u64) -> Rule {
        self.times = Some(requests);
        self
    }

    /// How many requests it has applied to.
    pub fn hits(&self) -> u64 {
        self.hits
    }

    /// Whether it applies to this request, which is counted then.
    pub(crate) fn apply(&mut self, asked: &Asked) -> bool {
        let applies = self.times != Some(self.hits) && self.requests.include(asked);
        self.hits += u64::from(applies);
        applies
    }

    /// Whether nothing of the right answer is needed, which is then neither made nor counted
    /// against a limit.
    pub(crate) fn is_outage(&self) -> bool {
        matches!(
            self.spoil,
            Spoil::Error { status: 503, .. } | Spoil::Silence
        )
    }

    /// Whether the right answer's text is changed, so that it must not be compressed.
    pub(crate) fn edits(&self) -> bool {
        matches!(self.spoil, Spoil::Line(_) | Spoil::Short(_))
    }
}

impl Requests {
    fn include(&self, asked: &Asked) -> bool {
        let names = |text: &String| {
            asked.path.contains(text)
                || asked
                    .parameters
                    .iter()
                    .any(|(_, value)| value.contains(text))
        };
        fits(&self.path, &asked.path)
            && self.vendor.is_none_or(|vendor| vendor == asked.vendor)
            && self.texts.iter().all(names)
            && self
                .parameters
                .iter()
                .all(|(name, value)| asked.value(name) == Some(value))
            && self.absent.iter().all(|name| asked.value(name).is_none())
            && self.day.is_none_or(|day| covers(asked, day))
            && self
                .between
                .as_ref()
                .is_none_or(|seconds| seconds.contains(&asked.now))
    }
}

fn covers(asked: &Asked, day: NaiveDate) -> bool {
    let bound = |name: &str| {
        asked
            .value(name)
            .and_then(|text| text.parse::<NaiveDate>().ok())
    };
    bound("from_date").is_some_and(|from| from <= day)
        && bound("to_date").is_some_and(|to| day <= to)
}

/// Whether a path is one of a pattern.
fn fits(pattern: &str, path: &str) -> bool {
    if let Some(start) = pattern.strip_suffix("**") {
        return path.starts_with(start);
    }
    let (mut pattern, mut path) = (pattern.split('/'), path.split('/'));
    loop {
        match (pattern.next(), path.next()) {
            (None, None) => return true,
            (Some(expected), Some(found)) if expected == "*" || expected == found => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(uri: &str) -> Asked {
        Asked::new(&uri.parse().unwrap_or_default(), Vec::new(), 100)
    }

    #[test]
    fn rules_apply_to_what_they_name() {
        let refuse = |path: &str| Rule::refuse(path, 400, "");
        let day = |text: &str| text.parse().unwrap_or_default();
        let days = "/export?from_date=2026-10-01&to_date=2026-10-03";
        let cases = [
            (refuse("/v1/charges"), "/v1/charges?limit=1", true),
            (refuse("/v1/charges"), "/v1/charges/ch_1", false),
            (refuse("/v1/*/tax_ids"), "/v1/customers/tax_ids", true),
            (
                refuse("/v1/customers/*/tax_ids"),
                "/v1/customers/tax_ids",
                false,
            ),
            (refuse("/v1/treasury/**"), "/v1/treasury/a/b", true),
            (refuse("/v1/plans/a b+c"), "/v1/plans/a%20b%2Bc", true),
            (
                refuse("/**").with("cus_2"),
                "/v1/tax_ids?customer=cus_2",
                true,
            ),
            (
                refuse("/**").with("cus_2"),
                "/v1/tax_ids?customer=cus_3",
                false,
            ),
            (refuse("/**").when("id", "7"), "/a?id=77", false),
            (
                refuse("/**").without("customer"),
                "/a?customer=cus_2",
                false,
            ),
            (refuse("/**").day(day("2026-10-02")), days, true),
            (refuse("/**").day(day("2026-10-04")), days, false),
            (refuse("/**").only(Vendor::Zendesk), "/v1/charges", false),
            (refuse("/**").between(90..100), "/v1/charges", false),
            (Rule::outage(100..101), "/v1/charges", true),
        ];
        for (mut rule, uri, expected) in cases {
            assert_eq!(rule.apply(&asked(uri)), expected, "{rule:?} and {uri}");
            assert_eq!(rule.hits(), u64::from(expected));
        }
    }

    #[test]
    fn a_rule_ends_after_its_number_of_requests() {
        let mut rule = Rule::refuse("/a", 400, "").times(2);
        let applied: Vec<bool> = (0..4).map(|_| rule.apply(&asked("/a"))).collect();
        assert_eq!(applied, [true, true, false, false]);
    }
}
