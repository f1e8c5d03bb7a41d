//! Units that a vendor withholds: named wherever somebody may look, asked for again, and given up
//! when somebody says so.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

use crate::support::Sandbox;
use crate::vendor::{Vendor, list, refusal};

/// Customers of whom each has a tax id; those of the refused ones are withheld while the switch is
/// on.
fn account(
    customers: u32,
    filtered: bool,
    refused: impl Fn(u32) -> bool + Send + Sync + 'static,
) -> (Vendor, Arc<AtomicBool>) {
    let poisoned = Arc::new(AtomicBool::new(true));
    let switch = Arc::clone(&poisoned);
    let vendor = Vendor::stripe(move |path, query| {
        if path == "/v1/customers" {
            // All were created long before the second sync asks for what is new.
            if filtered && query.contains("gte") {
                return None;
            }
            let customer = |id| {
                format!(
                    r#"{{"id":"cus_{id:02}","object":"customer","created":{}}}"#,
                    1_700_000_000 - id
                )
            };
            return Some((200, list(&(0..customers).map(customer).collect::<Vec<_>>())));
        }
        let id: u32 = path
            .strip_prefix("/v1/customers/cus_")?
            .strip_suffix("/tax_ids")?
            .parse()
            .ok()?;
        if refused(id) && switch.load(Ordering::Relaxed) {
            return Some((403, refusal("This customer is locked.")));
        }
        Some((
            200,
            list(&[format!(
                r#"{{"id":"txi_{id:02}","object":"tax_id","customer":"cus_{id:02}","created":1700000000}}"#
            )]),
        ))
    });
    (vendor, poisoned)
}

fn json(sandbox: &Sandbox, args: &[&str]) -> Value {
    serde_json::from_str(&sandbox.run(args).ended_with(0).stdout).unwrap()
}

/// What was printed without what differs from run to run.
fn stable(text: &str) -> String {
    let is_time = |word: &&str| word.len() == 20 && word.ends_with('Z');
    text.split(' ')
        .map(|word| {
            Some(word)
                .filter(is_time)
                .map_or(word, |_| "0000-00-00T00:00:00Z")
        })
        .collect::<Vec<_>>()
        .join(" ")
}

#[test]
fn what_is_missing_is_named_everywhere_and_comes_when_it_can_be_read() {
    let (vendor, poisoned) = account(5, true, |id| id == 2);
    let sandbox = vendor.sandbox("streams = [\"customer_tax_ids\"]");
    let partial = sandbox.run(&["sync"]).ended_with(4);
    assert_eq!(
        sandbox.ids("payments_customer_tax_ids"),
        ["txi_00", "txi_01", "txi_03", "txi_04"]
    );
    for text in [
        "incomplete",
        "payments/customer_tax_ids: 1 unit is missing",
        "cus_02, since",
        "requested once",
        "This customer is locked.",
    ] {
        assert!(partial.stdout.contains(text), "{text}\n{}", partial.stdout);
    }
    assert_eq!(
        partial.stdout.matches("This customer is locked.").count(),
        1
    );
    let again = sandbox
        .run(&["sync", "--output", "json"])
        .ended_with(4)
        .finished();
    let missing = &again["streams"][0]["missing"];
    assert_eq!(
        (&missing["count"], &missing["units"][0]["attempts"]),
        (&1.into(), &2.into()),
        "{again}"
    );
    let status = sandbox.run(&["status"]).ended_with(0);
    assert!(
        status.stdout.contains("1 missing") && status.stdout.contains("cus_02, since"),
        "{}",
        status.stdout
    );
    let missing = json(&sandbox, &["status", "--output", "json"])["streams"][0]["missing"].clone();
    assert_eq!(missing["units"][0]["name"], "cus_02", "{missing}");
    let listed = json(&sandbox, &["state", "gaps", "payments", "--output", "json"]);
    assert_eq!(
        (&listed[0]["endpoint"], &listed[0]["name"]),
        (&"customer_tax_ids".into(), &"cus_02".into()),
        "{listed}"
    );
    poisoned.store(false, Ordering::Relaxed);
    sandbox.run(&["sync"]).ended_with(0);
    assert_eq!(sandbox.ids("payments_customer_tax_ids").len(), 5);
    assert_eq!(
        sandbox.run(&["state", "gaps"]).ended_with(0).stdout.trim(),
        "Nothing is missing."
    );
    assert!(
        !sandbox
            .run(&["status"])
            .ended_with(0)
            .stdout
            .contains("missing")
    );
}

#[test]
fn what_will_not_come_is_given_up() {
    let (vendor, _) = account(6, true, |id| id % 2 == 1);
    let sandbox = vendor.sandbox("streams = [\"customer_tax_ids\"]");
    sandbox.run(&["sync"]).ended_with(4);
    let endpoint = "payments/customer_tax_ids";
    insta::assert_snapshot!(
        "gaps",
        stable(
            &sandbox
                .run(&["state", "gaps", endpoint])
                .ended_with(0)
                .stdout
        )
    );
    let unknown = sandbox
        .run(&["state", "gaps", "drop", endpoint, "cus_1"])
        .ended_with(2);
    assert!(
        unknown.stderr.contains("`cus_1` is not a missing unit of"),
        "{}",
        unknown.stderr
    );
    sandbox
        .run(&["state", "gaps", "drop", endpoint])
        .ended_with(2);
    let dropped = sandbox
        .run(&["state", "gaps", "drop", endpoint, "cus_01", "cus_05"])
        .ended_with(0);
    assert!(
        dropped.stdout.contains("Given up: cus_01, cus_05"),
        "{}",
        dropped.stdout
    );
    let asked = vendor.asked().len();
    sandbox.run(&["sync"]).ended_with(4);
    let asked = vendor.asked().split_off(asked);
    assert!(
        asked.contains(&"/v1/customers/cus_03/tax_ids".to_owned()),
        "{asked:?}"
    );
    assert!(
        !asked.contains(&"/v1/customers/cus_01/tax_ids".to_owned()),
        "{asked:?}"
    );
    sandbox
        .run(&["state", "gaps", "drop", endpoint, "--all"])
        .ended_with(0);
    sandbox.run(&["sync"]).ended_with(0);
    assert_eq!(
        sandbox.ids("payments_customer_tax_ids"),
        ["txi_00", "txi_02", "txi_04"]
    );
}

/// A list that is read whole every time meets them again, and they still do not count.
#[test]
fn what_was_given_up_stays_so_when_it_is_met_again() {
    let (vendor, poisoned) = account(4, false, |id| id == 1 || id == 2);
    let sandbox = vendor.sandbox("streams = [\"customer_tax_ids\"]");
    sandbox.run(&["sync"]).ended_with(4);
    sandbox
        .run(&[
            "state",
            "gaps",
            "drop",
            "payments/customer_tax_ids",
            "cus_01",
        ])
        .ended_with(0);
    for args in [&["sync"][..], &["sync", "--full-refresh"]] {
        let partial = sandbox.run(args).ended_with(4);
        assert!(
            partial.stdout.contains("1 unit is missing") && !partial.stdout.contains("cus_01"),
            "{}",
            partial.stdout
        );
    }
    sandbox
        .run(&[
            "state",
            "gaps",
            "drop",
            "payments/customer_tax_ids",
            "--all",
        ])
        .ended_with(0);
    sandbox.run(&["sync"]).ended_with(0);
    sandbox.run(&["sync", "--full-refresh"]).ended_with(0);
    poisoned.store(false, Ordering::Relaxed);
    sandbox.run(&["sync", "--full-refresh"]).ended_with(0);
    assert_eq!(
        sandbox.ids("payments_customer_tax_ids").len(),
        4,
        "what can be read again is read"
    );
}

#[test]
fn many_missing_units_are_counted_and_their_reason_is_told_once() {
    let (vendor, _) = account(40, true, |id| id % 2 == 1);
    let sandbox = vendor.sandbox("streams = [\"customer_tax_ids\"]");
    let partial = sandbox.run(&["sync"]).ended_with(4);
    assert!(
        partial.stdout.contains("20 units are missing") && partial.stdout.contains("and 10 more"),
        "{}",
        partial.stdout
    );
    assert_eq!(
        partial.stdout.matches("This customer is locked.").count(),
        1,
        "{}",
        partial.stdout
    );
    assert_eq!(
        sandbox
            .run(&["state", "gaps"])
            .ended_with(0)
            .stdout
            .lines()
            .count(),
        21
    );
}
