//! Units that are missing, for people and for programs.

use std::fmt::Write;

use chrono::{DateTime, Utc};
use pipeline_core::state::{EndpointId, EndpointState, Gap};
use pipeline_engine::GapSummary;
use serde_json::{Value, json};

use crate::console::Console;
use crate::units;

/// Missing units that are named of an endpoint where others are counted.
const NAMED: usize = 10;

/// Missing units of an endpoint that are listed in JSON beside their number.
const LISTED: usize = 100;

/// A unit that is missing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Missing<'a> {
    pub(crate) name: &'a str,
    pub(crate) reason: &'a str,
    pub(crate) since: DateTime<Utc>,
    pub(crate) attempts: u32,
}

impl<'a> From<&'a GapSummary> for Missing<'a> {
    fn from(gap: &'a GapSummary) -> Self {
        Self {
            name: &gap.name,
            reason: &gap.reason,
            since: gap.since,
            attempts: gap.attempts,
        }
    }
}

impl<'a> From<&'a Gap> for Missing<'a> {
    fn from(gap: &'a Gap) -> Self {
        Self {
            name: &gap.name,
            reason: &gap.reason,
            since: gap.since,
            attempts: gap.attempts,
        }
    }
}

impl Missing<'_> {
    /// Since when it is missing, and how often it was requested.
    pub(crate) fn history(&self) -> String {
        let times = if self.attempts == 1 {
            "once".to_owned()
        } else {
            format!("{} times", self.attempts)
        };
        format!("since {}, requested {times}", units::instant(self.since))
    }

    pub(crate) fn json(&self, console: &Console) -> Value {
        json!({
            "name": self.name, "reason": console.redact(self.reason), "since": self.since, "attempts": self.attempts,
        })
    }
}

/// What a state has missing.
pub(crate) fn of_state(state: &EndpointState) -> Vec<Missing<'_>> {
    state.missing().map(Missing::from).collect()
}

/// How many are missing, and the first of them.
pub(crate) fn listed(missing: &[Missing<'_>], console: &Console) -> Value {
    let named: Vec<Value> = missing
        .iter()
        .take(LISTED)
        .map(|unit| unit.json(console))
        .collect();
    json!({ "count": missing.len(), "units": named })
}

/// Writes the missing units of an endpoint, each reason once with its units, and how to give them
/// up. Writes nothing when no unit is missing.
pub(crate) fn write(id: &EndpointId, missing: &[Missing<'_>], text: &mut String) {
    let verb = match missing.len() {
        0 => return,
        1 => "1 unit is missing; the next syncs request it again".to_owned(),
        count => format!(
            "{} units are missing; the next syncs request them again",
            units::number(count as u64)
        ),
    };
    let _ = writeln!(text, "\n{id}: {verb}");
    let mut reasons: Vec<(String, Vec<&Missing<'_>>)> = Vec::new();
    for unit in missing.iter().take(NAMED) {
        let reason = without_request(unit.reason);
        match reasons.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, units)) => units.push(unit),
            None => reasons.push((reason, vec![unit])),
        }
    }
    for (reason, units) in reasons {
        for unit in units {
            let _ = writeln!(text, "  {}, {}", unit.name, unit.history());
        }
        let _ = writeln!(text, "    {reason}");
    }
    if let Some(more) = missing.len().checked_sub(NAMED).filter(|more| *more > 0) {
        let _ = writeln!(
            text,
            "  and {} more: `pipeline state gaps {id}` lists them",
            units::number(more as u64)
        );
    }
    let _ = writeln!(
        text,
        " help: give up a unit that will never arrive: `pipeline state gaps drop {id} NAME`"
    );
}

/// A reason without what differs from request to request: its id and its path.
pub(crate) fn without_request(reason: &str) -> String {
    let mut reason = reason.to_owned();
    for context in [", request_id: ", ", path: "] {
        let Some(start) = reason.rfind(context) else {
            continue;
        };
        let rest = &reason[start + context.len()..];
        let end = rest.find([',', ')', ' ']).unwrap_or(rest.len());
        reason.replace_range(start..start + context.len() + end, "");
    }
    reason
}

#[cfg(test)]
mod tests {
    use super::*;

    const REASON: &str = "the server refused the request (while requesting, status: 400, \
                          request_id: req_7, answer: {\"m\": \"No.\"}, endpoint: customer_tax_ids, \
                          path: /v1/customers/cus_7/tax_ids)";

    fn missing(name: &'static str, reason: &'static str, attempts: u32) -> Missing<'static> {
        Missing {
            name,
            reason,
            since: DateTime::UNIX_EPOCH,
            attempts,
        }
    }

    #[test]
    fn what_is_missing_is_named_up_to_a_bound_with_each_reason_once() {
        let id = EndpointId::new("s", "customer_tax_ids");
        let mut text = String::new();
        write(&id, &[], &mut text);
        assert_eq!(text, "");
        let mut units = vec![
            missing("cus_7", REASON, 1),
            missing("cus_9", "the server failed (endpoint: customer_tax_ids)", 3),
        ];
        units.extend(
            ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"].map(|name| missing(name, REASON, 2)),
        );
        write(&id, &units, &mut text);
        insta::assert_snapshot!(text);
        let mut one = String::new();
        write(&id, &units[..1], &mut one);
        assert!(
            one.contains("1 unit is missing") && !one.contains("more"),
            "{one}"
        );
    }

    #[test]
    fn reasons_are_compared_without_the_request() {
        let other = REASON.replace("req_7", "req_8").replace("cus_7", "cus_8");
        assert_eq!(without_request(REASON), without_request(&other));
        assert_eq!(without_request("the disk is full"), "the disk is full");
    }
}
