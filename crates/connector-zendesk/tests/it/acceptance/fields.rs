//! Custom fields: columns that the account defines, and what becomes of them when it changes its
//! mind.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use pipeline_engine::Outcome;
use pipeline_simulator::ZendeskChange::{Create, Remove, Update};
use pipeline_simulator::{Simulation, Simulator, ZendeskWorld};
use pipeline_testkit::acceptance::reply;
use rusqlite::Connection;

use super::account::Account;

const STREAMS: [&str; 4] = ["tickets", "users", "organizations", "groups"];
/// The simulator's ticket fields have ids from here on, one of each type.
const FIRST: u64 = 26_000_000_000_101;
/// The field that does not exist at first, although tickets have values for it.
const LATER: u64 = FIRST + 12;

fn account(zendesk: ZendeskWorld) -> Account {
    Account::new(Simulation {
        zendesk: ZendeskWorld {
            tickets: 200,
            users: 40,
            organizations: 20,
            ..zendesk
        },
        ..Simulation::default()
    })
}

/// The first cell of a query's only row.
fn number(account: &Account, sql: &str) -> i64 {
    let database = Connection::open(account.database()).unwrap();
    database
        .query_row(sql, [], |row| row.get(0))
        .unwrap_or_else(|error| panic!("{error}: {sql}"))
}

fn columns(account: &Account, table: &str) -> Vec<String> {
    let database = Connection::open(account.database()).unwrap();
    let mut select = database
        .prepare(
            "SELECT name FROM pragma_table_info(?) WHERE name LIKE '%\\_field\\_%' ESCAPE '\\'",
        )
        .unwrap();
    select
        .query_map([table], |row| row.get(0))
        .unwrap()
        .map(Result::unwrap)
        .collect()
}

/// Rows whose column has a value, and rows in which it is another one than the JSON column holds.
fn filled_and_wrong(account: &Account, id: u64) -> (i64, i64) {
    let column = format!("custom_field_{id}");
    // Decimals are text, so that they stay exact.
    let as_number = |text: &str| {
        if (id - FIRST) % 8 == 3 {
            format!("CAST({text} AS REAL)")
        } else {
            text.to_owned()
        }
    };
    let (found, expected) = (
        as_number(&column),
        as_number("json_extract(value, '$.value')"),
    );
    let rows = format!(
        "FROM support_tickets, json_each(custom_fields) WHERE json_extract(value, '$.id') = {id}"
    );
    (
        number(
            account,
            &format!("SELECT count({column}) FROM support_tickets"),
        ),
        number(
            account,
            &format!("SELECT count(*) {rows} AND {found} IS NOT {expected}"),
        ),
    )
}

#[tokio::test(start_paused = true)]
async fn custom_fields_of_every_type_are_columns() {
    let account = account(ZendeskWorld::default());
    account.complete(&STREAMS).await;
    let tickets = number(&account, "SELECT count(*) FROM support_tickets");
    for id in FIRST..FIRST + 8 {
        let (filled, wrong) = filled_and_wrong(&account, id);
        assert!(
            filled > tickets / 3 && wrong == 0,
            "{id}: {filled} of {tickets} filled, {wrong} wrong"
        );
    }
    assert_eq!(
        columns(&account, "support_tickets").len(),
        12,
        "a field without any value has a column as well"
    );
    for (table, member, prefix) in [
        ("users", "user_fields", "user_field_"),
        (
            "organizations",
            "organization_fields",
            "organization_field_",
        ),
    ] {
        for (name, json) in [
            ("1", "$.field_1"),
            ("2", "$.field_2"),
            ("3", "$.field_3"),
            ("6", "$.field_6"),
            ("7", "$.field_7"),
        ] {
            let wrong = format!(
                "SELECT count(*) FROM support_{table} WHERE {prefix}field_{name} IS NOT \
                 json_extract({member}, '{json}')"
            );
            assert_eq!(number(&account, &wrong), 0, "{wrong}");
        }
        let days = format!(
            "SELECT count(*) FROM support_{table} WHERE {prefix}field_5 || 'T00:00:00Z' = \
             json_extract({member}, '$.field_5')"
        );
        let written =
            format!("SELECT count(json_extract({member}, '$.field_5')) FROM support_{table}");
        assert!(number(&account, &days) > 0);
        assert_eq!(
            number(&account, &days),
            number(&account, &written),
            "{table}"
        );
    }
    let notices = account.notices();
    assert!(
        !notices.iter().any(|notice| notice.contains("field")),
        "{notices:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_field_that_is_added_later_gets_a_column_and_one_that_is_removed_keeps_its_own() {
    let mut account = account(ZendeskWorld::default());
    account.complete(&STREAMS).await;
    let before = columns(&account, "support_tickets");
    let exports = account
        .accepted(|route| route.contains("incremental/tickets"))
        .len();

    account
        .simulator
        .zendesk()
        .change("ticket_fields", Create, 1);
    account.simulator.zendesk().change("tickets", Update, 30);
    tokio::time::sleep(Duration::from_secs(62)).await;
    account.complete(&STREAMS).await;
    assert_eq!(columns(&account, "support_tickets").len(), before.len() + 1);
    let tickets = number(&account, "SELECT count(*) FROM support_tickets");
    let (filled, _) = filled_and_wrong(&account, LATER);
    assert!(
        (20..=30).contains(&filled),
        "rows that did not change since are null: {filled} of {tickets}"
    );
    let wrong = format!(
        "SELECT count(*) FROM support_tickets WHERE custom_field_{LATER} IS NOT NULL AND \
         custom_fields NOT LIKE '%' || custom_field_{LATER} || '%'"
    );
    assert_eq!(number(&account, &wrong), 0);
    assert_eq!(
        account
            .accepted(|route| route.contains("incremental/tickets"))
            .len(),
        exports + 1,
        "nothing is read again for it"
    );

    // Without a definition nothing is known of any field: what is there stays.
    account
        .simulator
        .zendesk()
        .change("ticket_fields", Remove, 13);
    account.simulator.zendesk().change("tickets", Update, 30);
    tokio::time::sleep(Duration::from_secs(62)).await;
    account.complete(&STREAMS).await;
    assert_eq!(columns(&account, "support_tickets").len(), before.len() + 1);
    assert_eq!(filled_and_wrong(&account, LATER).0, filled);

    account
        .simulator
        .zendesk()
        .change("ticket_fields", Create, 13);
    account.full_refresh = true;
    account.complete(&STREAMS).await;
    assert_eq!(
        columns(&account, "support_tickets").len(),
        before.len() + 1 + 13,
        "a field made anew is another one"
    );
}

#[tokio::test(start_paused = true)]
async fn a_full_refresh_fills_the_column_of_a_field_in_every_row() {
    let mut account = account(ZendeskWorld::default());
    account.config["custom_field_columns"] = false.into();
    account.complete(&STREAMS).await;
    assert_eq!(columns(&account, "support_tickets"), [""; 0]);
    assert!(
        account
            .accepted(|route| route.contains("_fields"))
            .is_empty(),
        "nothing is asked for"
    );
    account.config["custom_field_columns"] = true.into();
    account.full_refresh = true;
    account.complete(&STREAMS).await;
    for id in FIRST..FIRST + 8 {
        assert_eq!(filled_and_wrong(&account, id).1, 0, "{id}");
    }
}

#[tokio::test(start_paused = true)]
async fn fields_that_may_not_be_read_are_told_and_stay_json() {
    let account = account(ZendeskWorld {
        forbidden: vec!["ticket_fields".to_owned()],
        ..ZendeskWorld::default()
    });
    account.complete(&STREAMS).await;
    assert_eq!(columns(&account, "support_tickets"), [""; 0]);
    assert_eq!(columns(&account, "support_users").len(), 12);
    assert_eq!(
        number(
            &account,
            "SELECT count(*) FROM support_tickets WHERE custom_fields IS NULL"
        ),
        0
    );
    let notices = account.notices();
    assert!(
        notices
            .iter()
            .any(|notice| notice.starts_with("ticket_fields may not be read")),
        "{notices:?}"
    );
}

/// Rows that are written without their columns would keep old values in them for ever: so they are
/// not written.
#[tokio::test(start_paused = true)]
async fn while_fields_cannot_be_asked_for_their_records_wait() {
    let mut account = account(ZendeskWorld::default());
    account.behind(Arc::new(
        |request: http::Request<Bytes>, simulator: Arc<Simulator>| {
            if request.uri().path() == "/api/v2/ticket_fields" {
                return async { reply(503, &[], "down") }.boxed();
            }
            simulator.answer(request).boxed()
        },
    ));
    let summary = account.sync(&STREAMS).await;
    let outcome = |name: &str| {
        &summary
            .endpoints
            .iter()
            .find(|endpoint| endpoint.id.endpoint == name)
            .unwrap()
            .outcome
    };
    assert!(
        matches!(outcome("tickets"), Outcome::Failed { error } if error.message.contains("ticket_fields")),
        "{summary:#?}"
    );
    assert!(
        matches!(outcome("users"), Outcome::Done) && matches!(outcome("groups"), Outcome::Done),
        "{summary:#?}"
    );
    assert!(
        account
            .accepted(|route| route.contains("incremental/tickets"))
            .is_empty()
    );
    account.behind(Arc::new(
        |request: http::Request<Bytes>, simulator: Arc<Simulator>| {
            simulator.answer(request).boxed()
        },
    ));
    account.complete(&STREAMS).await;
    assert_eq!(filled_and_wrong(&account, FIRST).1, 0);
}
