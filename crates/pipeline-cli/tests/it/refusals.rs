//! What a vendor withholds, and odd text: nothing is called a defect that is not one, and nothing
//! is dropped without a word.

use pipeline_core::{Clock, SystemClock};
use rusqlite::Connection;
use serde_json::Value;

use crate::support::{KEY, Sandbox, ran};
use crate::vendor::{Vendor, list, refusal};

const PORTAL: &str = "<html><body>Please log in</body></html>";

fn customers(ids: impl IntoIterator<Item = u32>) -> String {
    list(
        &ids.into_iter()
            .map(|id| format!(r#"{{"id":"cus_{id}","object":"customer","created":1700000000}}"#))
            .collect::<Vec<_>>(),
    )
}

/// All values of a column, as text, in the order of their ids.
fn column(sandbox: &Sandbox, table: &str, column: &str) -> Vec<String> {
    let database = Connection::open(sandbox.path("warehouse.db")).unwrap();
    let mut statement = database
        .prepare(&format!("SELECT {column} FROM {table} ORDER BY id"))
        .unwrap();
    statement
        .query_map([], |row| row.get(0))
        .unwrap()
        .map(Result::unwrap)
        .collect()
}

#[test]
fn every_reason_is_shown_once_with_all_streams_that_it_concerns() {
    let vendor = Vendor::stripe(|path, _| match path {
        "/v1/reviews" => Some((403, refusal("First reason."))),
        "/v1/charges" | "/v1/refunds" | "/v1/disputes" | "/v1/payouts" | "/v1/plans"
        | "/v1/coupons" | "/v1/prices" | "/v1/products" | "/v1/topups" => {
            Some((403, refusal("Second reason.")))
        }
        _ => None,
    });
    let streams = [
        "reviews", "charges", "refunds", "disputes", "payouts", "plans", "coupons", "prices",
        "products", "top_ups",
    ];
    let sandbox = vendor.sandbox(&format!(
        "streams = {:?}",
        [&streams[..], &["customers"]].concat()
    ));
    let refused = sandbox.run(&["sync"]).ended_with(3);
    for reason in ["First reason.", "Second reason."] {
        assert_eq!(
            refused.stdout.matches(reason).count(),
            1,
            "{reason}\n{}",
            refused.stdout
        );
    }
    let of_second = refused
        .stdout
        .lines()
        .find(|line| line.starts_with("payments/") && line.contains("charges"))
        .unwrap();
    assert!(
        streams[1..]
            .iter()
            .all(|stream| of_second.contains(&format!("payments/{stream}"))),
        "{of_second}"
    );
    assert!(
        !refused.stdout.contains("Run the same command again"),
        "{}",
        refused.stdout
    );
    let events = sandbox
        .run(&["sync", "--output", "json"])
        .ended_with(3)
        .finished();
    let told = |stream: &str| {
        events["streams"]
            .as_array()
            .unwrap()
            .iter()
            .find(|entry| entry["stream"] == stream)
            .unwrap()["error"]
            .clone()
    };
    assert!(
        streams[1..]
            .iter()
            .all(|stream| told(stream).as_str().unwrap().contains("Second reason.")),
        "{events}"
    );
}

/// Without this, a captive portal would end every sync with exit 0 and nothing read.
#[test]
fn a_source_of_which_nothing_can_be_read_has_failed_although_no_stream_is_named() {
    let portal = Vendor::start(|_, _| (200, PORTAL.to_owned()));
    let sandbox = portal.sandbox("");
    let failed = sandbox.run(&["sync"]).ended_with(4);
    assert_eq!(
        failed.stdout.matches("captive portal)").count(),
        1,
        "{}",
        failed.stdout
    );
    sandbox.run(&["check"]).ended_with(4);
    let forbidden = Vendor::start(|_, _| (403, refusal("Not with this key.")));
    let failed = forbidden.sandbox("").run(&["sync"]).ended_with(3);
    assert!(
        failed.stdout.contains("Not with this key.") && failed.stdout.contains("help:"),
        "{}",
        failed.stdout
    );
}

/// What a portal answers says nothing of the account: the lists that it refuses are not those that
/// an account does not have.
#[test]
fn a_portal_that_begins_in_the_middle_of_the_first_sync_is_a_failure_although_no_stream_is_named() {
    for answered in [3, 30, 90] {
        let asked = std::sync::atomic::AtomicUsize::new(0);
        let vendor = Vendor::start(move |path, _| {
            match asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
                number if number >= answered => (200, PORTAL.to_owned()),
                _ if path == "/v1/account" => {
                    (200, r#"{"id":"acct_1","object":"account"}"#.to_owned())
                }
                _ => (200, list(&[])),
            }
        });
        let failed = vendor.sandbox("").run(&["sync"]).ended_with(4);
        assert!(
            failed.stdout.contains("captive portal)"),
            "{}",
            failed.stdout
        );
    }
}

#[test]
fn the_path_of_the_base_url_stays() {
    for path in ["/gateway/stripe", "/v1", "/gateway/"] {
        let below = path.trim_end_matches('/').to_owned();
        let vendor = Vendor::start(move |path, _| match path.strip_prefix(&*below) {
            Some("/v1/customers") => (200, customers(1..3)),
            Some("/v1/account") => (200, r#"{"id":"acct_1","object":"account"}"#.to_owned()),
            Some(_) => (200, list(&[])),
            None => (404, refusal("Unrecognized request URL.")),
        });
        let sandbox = vendor.sandbox_below(path, "streams = [\"customers\"]");
        sandbox.run(&["check"]).ended_with(0);
        sandbox.run(&["sync"]).ended_with(0);
        assert_eq!(
            sandbox.ids("payments_customers"),
            ["cus_1", "cus_2"],
            "{:?}",
            vendor.asked()
        );
    }
}

/// The address of tokens is below the same path, and so is what the tokens are for.
#[test]
fn tokens_are_asked_for_below_the_path_of_the_base_url() {
    let vendor = Vendor::start(|path, _| {
        match path {
        "/gateway/zendesk/oauth/tokens" => (200, r#"{"access_token":"t","token_type":"bearer","scope":"read","expires_in":3600}"#.to_owned()),
        "/gateway/zendesk/api/v2/groups" => {
            (200, r#"{"groups":[{"id":1,"name":"g","created_at":"2026-01-01T00:00:00Z","updated_at":"2026-01-01T00:00:00Z"}],"meta":{"has_more":false},"links":{}}"#.to_owned())
        }
        _ => (404, r#"{"error":"InvalidEndpoint"}"#.to_owned()),
    }
    });
    let sandbox = vendor.sandbox("");
    let config = format!(
        "[destination]\ntype = \"sqlite\"\npath = \"warehouse.db\"\n\n[sources.desk]\nconnector = \
         \"zendesk\"\nsubdomain = \"acme\"\nclient_id = \"c\"\nclient_secret = \
         \"secret\"\nbase_url = \"{}/gateway/zendesk\"\nstreams = [\"groups\"]\n",
        vendor.url()
    );
    sandbox.write("pipeline.toml", &config);
    sandbox.run(&["sync"]).ended_with(0);
    assert_eq!(column(&sandbox, "desk_groups", "name"), ["g"]);
    assert!(
        vendor
            .asked()
            .iter()
            .all(|path| path.starts_with("/gateway/zendesk/")),
        "{:?}",
        vendor.asked()
    );
}

/// Half a character, in a value, in a name, in nested objects and in a key: every column that holds
/// JSON can be read as JSON.
#[test]
fn half_characters_are_replaced_and_counted() {
    const CUSTOMERS: [&str; 3] = [
        r#"{"id":"cus_1","object":"customer","created":1700000000,"name":"cut \ud83d","metadata":{"n\ude00":"v\ud83d","deep":[{"\ud83d":"\ude00\ud83d"}]}}"#,
        r#"{"id":"cus_2","object":"customer","created":1700000000,"name":"\uD83D\uDE00","unheard\udc00of":{"a":"\udfff"}}"#,
        r#"{"id":"cus_3\ud83d","object":"customer","created":1700000000,"name":"\\ud83d","unheard":1e999,"twice":{"a":1,"a":2}}"#,
    ];
    let vendor = Vendor::stripe(|path, _| {
        (path == "/v1/customers").then(|| (200, list(&CUSTOMERS.map(str::to_owned))))
    });
    let sandbox = vendor.sandbox("streams = [\"customers\"]");
    let synced = sandbox.run(&["sync"]).ended_with(0);
    assert!(
        synced
            .stdout
            .contains("payments/customers: 9 characters could not be read"),
        "{}",
        synced.stdout
    );
    assert_eq!(
        column(&sandbox, "payments_customers", "id"),
        ["cus_1", "cus_2", "cus_3\u{FFFD}"]
    );
    assert_eq!(
        column(&sandbox, "payments_customers", "name"),
        ["cut \u{FFFD}", "\u{1F600}", "\\ud83d"]
    );
    let database = Connection::open(sandbox.path("warehouse.db")).unwrap();
    let invalid = "SELECT count(*) FROM payments_customers WHERE NOT json_valid(coalesce(metadata, \
                   '{}')) OR NOT json_valid(coalesce(_extra, '{}'))";
    assert_eq!(
        database
            .query_row(invalid, [], |row| row.get::<_, i64>(0))
            .unwrap(),
        0
    );
    for text in column(
        &sandbox,
        "payments_customers",
        "coalesce(metadata, '{}') || char(10) || coalesce(_extra, '{}')",
    ) {
        for line in text.lines() {
            serde_json::from_str::<serde::de::IgnoredAny>(line)
                .unwrap_or_else(|error| panic!("{error}: {line}"));
            let is_read = serde_json::from_str::<Value>(&line.replace("1e999", "1"));
            is_read.unwrap_or_else(|error| panic!("{error}: {line}"));
        }
    }
}

#[test]
fn a_key_in_quotation_marks_is_refused_before_anything_is_asked_for() {
    let vendor = Vendor::stripe(|_, _| None);
    let sandbox = vendor.sandbox("");
    for (around, words) in [
        ("\"KEY\"", "in quotation marks"),
        ("'KEY'", "in quotation marks"),
        (" KEY", "white space"),
        ("KEY\n", "white space"),
    ] {
        let mut command = sandbox.command(&["sync"]);
        command.env("STRIPE_API_KEY", around.replace("KEY", KEY));
        let refused = ran(command).ended_with(2);
        assert!(
            refused.text().contains(words) && !refused.text().contains(KEY),
            "{}",
            refused.text()
        );
    }
    let file = std::fs::read_to_string(sandbox.path("pipeline.toml")).unwrap();
    for around in ["\\\"KEY\\\"", "'KEY'", "KEY\\n", "\\u0022KEY\\u0022"] {
        let key = format!("api_key = \"{}\"", around.replace("KEY", KEY));
        sandbox.write(
            "pipeline.toml",
            &file.replace("api_key = \"${STRIPE_API_KEY}\"", &key),
        );
        let refused = sandbox.run(&["sync"]).ended_with(2);
        assert!(!refused.text().contains(KEY), "{}", refused.text());
    }
    assert_eq!(vendor.asked(), [""; 0]);
}

#[test]
fn a_start_that_is_still_to_come_is_refused() {
    let sandbox =
        Vendor::stripe(|_, _| None).sandbox("streams = [\"charges\"]\nstart_date = \"2999-01-01\"");
    let refused = sandbox.run(&["sync"]).ended_with(2);
    assert!(
        refused.text().contains("the start date is in the future"),
        "{}",
        refused.text()
    );
}

/// An event that does not say what has changed says at least of which kind that is: the lists of
/// this kind are read again.
#[test]
fn events_that_name_no_object_cost_the_next_sync_a_list_and_lose_nothing() {
    for event in [
        r#""id":"evt_1","type":"customer.updated","data":{"object":null}"#,
        r#""id":"evt_1","type":"customer.updated","data":{"object":{"object":"customer"}}"#,
        r#""id":"evt_1","type":"customer.updated","data":null"#,
        r#""id":"evt_1","data":{}"#,
        r#""type":"customer.updated","data":{"object":{"id":"cus_1","object":"customer"}}"#,
        r#""id":null,"type":"customer.updated","data":{"object":{"id":"cus_1","object":"customer"}}"#,
    ] {
        let changed = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let is_changed = std::sync::Arc::clone(&changed);
        let vendor = Vendor::stripe(move |path, _| {
            let is_changed = is_changed.load(std::sync::atomic::Ordering::Relaxed);
            let name = if is_changed { "new" } else { "old" };
            let customer = format!(
                r#"{{"id":"cus_1","object":"customer","created":1700000000,"name":"{name}"}}"#
            );
            match path {
                "/v1/customers" => Some((200, list(&[customer]))),
                "/v1/customers/cus_1" => Some((200, customer)),
                "/v1/events" if is_changed => {
                    let created = SystemClock.now().timestamp() - 1;
                    Some((
                        200,
                        list(&[format!(
                            r#"{{"object":"event","created":{created},{event}}}"#
                        )]),
                    ))
                }
                _ => None,
            }
        });
        let sandbox = vendor.sandbox("streams = [\"customers\"]");
        sandbox.run(&["sync"]).ended_with(0);
        assert_eq!(column(&sandbox, "payments_customers", "name"), ["old"]);
        changed.store(true, std::sync::atomic::Ordering::Relaxed);
        sandbox.run(&["sync"]).ended_with(0);
        sandbox.run(&["sync"]).ended_with(0);
        assert_eq!(
            column(&sandbox, "payments_customers", "name"),
            ["new"],
            "{event}"
        );
    }
}
