//! Whose data a source has, and from when on: another account is refused, and an earlier start
//! reads what is older.

use pipeline_core::ErrorKind;
use pipeline_simulator::{Simulation, ZendeskWorld};
use serde_json::json;

use super::account::Account;

/// Zendesk by its host: another subdomain is another account.
#[tokio::test(start_paused = true)]
async fn a1_another_zendesk_account_is_refused() {
    let zendesk = ZendeskWorld {
        tickets: 20,
        users: 10,
        organizations: 3,
        groups: 2,
        others: 2,
        ..ZendeskWorld::default()
    };
    let mut account = Account::new(Simulation {
        zendesk,
        ..Simulation::default()
    });
    account.complete(&["tickets"]).await;
    for (subdomain, failure) in [("other", Some(ErrorKind::ConfigInvalid)), ("SIM", None)] {
        account.config["subdomain"] = json!(subdomain);
        let summary = account.sync(&["tickets"]).await;
        assert_eq!(summary.failure(), failure, "{subdomain}");
        assert_eq!(account.rows("tickets", "id", "id").len(), 20);
    }
}

/// Exports show what is older with all the rest only; lists that take an end are asked for the
/// older part. All of it is there afterwards.
#[tokio::test(start_paused = true)]
async fn a2_a_zendesk_start_moved_back_reads_what_is_older() {
    let streams = [
        "tickets",
        "ticket_events",
        "ticket_metric_events",
        "users",
        "satisfaction_ratings",
        "tickets_search",
    ];
    let zendesk = ZendeskWorld {
        tickets: 200,
        users: 60,
        organizations: 10,
        groups: 3,
        others: 10,
        ..ZendeskWorld::default()
    };
    let mut account = Account::new(Simulation {
        zendesk,
        days: 100,
        ..Simulation::default()
    });
    let whole =
        |account: &Account| streams.map(|table| account.rows(table, "id", "id").len() as u64);
    account.config["start_date"] = json!("2030-02-20");
    account.complete(&streams).await;
    let first = whole(&account);
    account.config["start_date"] = json!("2020-01-01");
    account.complete(&streams).await;
    let notices = account.notices().join("\n");
    assert!(
        notices.contains(
            "the start was moved back: everything is read again and replaces what is there"
        ),
        "{notices}"
    );
    assert!(
        notices.contains("the start was moved back: what is older is read now, beside what is new"),
        "{notices}"
    );
    // The search index knows no deleted tickets.
    let status = account.simulator.truth().members("tickets", "status");
    let live = status
        .values()
        .filter(|status| *status != "\"deleted\"")
        .count() as u64;
    let truth = |table: &str| {
        if table == "tickets_search" {
            live
        } else {
            account.simulator.truth().count(table)
        }
    };
    assert_eq!(whole(&account), streams.map(truth), "first {first:?}");
    assert!(
        whole(&account)
            .iter()
            .zip(first)
            .all(|(all, first)| first < *all),
        "{first:?}: the start left something out"
    );
    account.complete(&streams).await;
    assert!(
        !account.notices().join("\n").contains("the start was moved"),
        "it is told once"
    );
}

/// Columns that stored rows do not have.
#[tokio::test(start_paused = true)]
async fn a2_columns_for_custom_fields_are_told_to_be_of_new_rows_only() {
    let zendesk = ZendeskWorld {
        tickets: 20,
        users: 10,
        organizations: 3,
        groups: 2,
        others: 2,
        ..ZendeskWorld::default()
    };
    let mut account = Account::new(Simulation {
        zendesk,
        ..Simulation::default()
    });
    for (columns, told) in [(false, 0), (false, 0), (true, 1), (true, 0)] {
        account.config["custom_field_columns"] = json!(columns);
        account.complete(&["tickets"]).await;
        let told_of = account
            .notices()
            .iter()
            .filter(|text| text.contains("`custom_field_columns` was changed"))
            .count();
        assert_eq!(told_of, told, "{:?}", account.notices());
    }
}
