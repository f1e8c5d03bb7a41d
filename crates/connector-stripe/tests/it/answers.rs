//! Stripe as it answers ordinary accounts: what it refuses, and what that does to everything else.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, Utc};
use connector_stripe::{Stripe, StripeConfig, streams};
use pipeline_core::http::Request;
use pipeline_core::state::{Change, EndpointState};
use pipeline_core::{BuildContext, Clock, ErrorKind, Event, Observer, TokioClock};
use pipeline_engine::{Commit, Destination, Job, Outcome, Selection, Source, Summary, sync};
use pipeline_testkit::MemoryDestination;
use serde_json::{Value, json};

use crate::fake::{Fake, Reply, param, refusal};

/// When the account is looked at first.
const NOW: &str = "2026-01-31T00:00:00Z";

/// An account: its lists by path, and answers of another kind.
#[derive(Debug, Default)]
struct Account {
    lists: BTreeMap<String, Vec<Value>>,
    /// By path.
    refused: BTreeMap<String, (u16, String)>,
    /// Whether every request is refused that expands something.
    no_expansion: bool,
}

impl Account {
    fn list(mut self, path: &str, objects: impl IntoIterator<Item = Value>) -> Self {
        self.lists
            .insert(path.to_owned(), objects.into_iter().collect());
        self
    }

    fn refuse(mut self, path: &str, status: u16, message: &str) -> Self {
        self.refused
            .insert(path.to_owned(), refusal(status, "", "", message));
        self
    }

    fn answer(&self, request: &Request) -> (u16, String) {
        let path = request.url.path();
        if path == "/v1/account" {
            return (200, r#"{"id":"acct_1"}"#.to_owned());
        }
        if self.no_expansion && param(request, "expand[0]").is_some() {
            return refusal(
                403,
                "more_permissions_required",
                "",
                "This key may not expand it.",
            );
        }
        if let Some(refused) = self.refused.get(path) {
            return refused.clone();
        }
        if path == "/v1/billing/credit_balance_transactions" && param(request, "customer").is_none()
        {
            return refusal(
                400,
                "parameter_missing",
                "customer",
                "Must provide customer or customer_account.",
            );
        }
        if let Some(objects) = self.lists.get(path) {
            return listed(request, objects);
        }
        let object = path.rsplit_once('/').and_then(|(list, id)| {
            let of_customers = self
                .lists
                .iter()
                .filter(|(path, _)| path.starts_with("/v1/customers/"))
                .flat_map(|(_, objects)| objects);
            let objects = self
                .lists
                .get(list)
                .into_iter()
                .flatten()
                .chain(of_customers);
            objects
                .into_iter()
                .find(|object| object["id"] == id)
                .cloned()
        });
        match object {
            Some(object) => (200, object.to_string()),
            None => (
                200,
                json!({ "object": "list", "data": [], "has_more": false }).to_string(),
            ),
        }
    }
}

/// A page of what is in the request's window, the newest first.
fn listed(request: &Request, objects: &[Value]) -> (u16, String) {
    let second = |name: &str| param(request, name).and_then(|text| text.parse::<i64>().ok());
    let is_inside = |object: &&Value| {
        let created = object["created"].as_i64().unwrap_or_default();
        second("created[gte]").is_none_or(|since| created >= since)
            && second("created[lt]").is_none_or(|until| created < until)
    };
    let is_active = |object: &&Value| {
        param(request, "active")
            .is_none_or(|active| object["active"].as_bool().unwrap_or(true).to_string() == active)
    };
    let mut found: Vec<&Value> = objects.iter().filter(is_inside).filter(is_active).collect();
    found.sort_by_key(|object| std::cmp::Reverse(object["created"].as_i64()));
    let start = param(request, "starting_after")
        .and_then(|id| Some(found.iter().position(|object| object["id"] == id)? + 1))
        .unwrap_or(0);
    let limit = param(request, "limit")
        .and_then(|limit| limit.parse().ok())
        .unwrap_or(10);
    let page: Vec<&Value> = found[start..].iter().take(limit).copied().collect();
    (
        200,
        json!({ "object": "list", "has_more": start + page.len() < found.len(), "data": page })
            .to_string(),
    )
}

/// An account, what is read of it, and what was said meanwhile.
struct Town {
    account: Arc<Mutex<Account>>,
    fake: Arc<Fake>,
    clock: Arc<TokioClock>,
    destination: Arc<MemoryDestination>,
    notices: Arc<Notices>,
    key: &'static str,
}

#[derive(Default)]
struct Notices(Mutex<Vec<String>>);

impl fmt::Debug for Notices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Notices")
    }
}

impl Observer for Notices {
    fn observe(&self, event: &Event<'_>) {
        if let Event::Notice { message, .. } = event {
            self.0.lock().unwrap().push((*message).to_owned());
        }
    }
}

impl Town {
    fn new(account: Account) -> Self {
        let account = Arc::new(Mutex::new(account));
        let start: DateTime<Utc> = NOW.parse().unwrap();
        let clock = Arc::new(TokioClock::starting_at(start));
        let (shared, time) = (Arc::clone(&account), Arc::clone(&clock));
        let fake = Fake::new(move |request| {
            let date = time.now().format("%a, %d %b %Y %H:%M:%S GMT").to_string();
            Reply::from(shared.lock().unwrap().answer(request)).header("date", &date)
        });
        Self {
            account,
            fake,
            clock,
            destination: Arc::default(),
            notices: Arc::default(),
            key: "rk_live_key",
        }
    }

    fn now(&self) -> i64 {
        self.clock.now().timestamp()
    }

    async fn sync(&self, streams: Selection) -> Summary {
        let observer = Arc::clone(&self.notices) as Arc<dyn Observer>;
        let context = BuildContext::new("s")
            .transport(self.fake.clone())
            .clock(self.clock.clone())
            .observer(Arc::clone(&observer))
            .seed(7);
        let connector = Arc::new(Stripe::new(StripeConfig::new(self.key), context).unwrap());
        let mut job = Job::new(
            "run",
            self.destination.clone(),
            vec![Source {
                name: "s".to_owned(),
                connector,
                streams,
            }],
        );
        (job.clock, job.observer) = (self.clock.clone(), observer);
        sync(job).await.unwrap()
    }

    async fn sync_of(&self, streams: &[&str]) -> Summary {
        self.sync(Selection::Named(
            streams.iter().map(|name| (*name).to_owned()).collect(),
        ))
        .await
    }

    /// Resets the state of an endpoint.
    async fn forget(&self, endpoint: &str) {
        let states = self.destination.states("s").await.unwrap();
        let (id, from) = states
            .into_iter()
            .find(|(id, _)| id.endpoint == endpoint)
            .unwrap();
        let to = EndpointState {
            plan: from.plan + 1,
            ..EndpointState::default()
        };
        let commit = Commit {
            changes: vec![Change::Replace {
                endpoint: id,
                from,
                to,
            }],
            ..Commit::default()
        };
        self.destination
            .begin()
            .await
            .unwrap()
            .commit(&commit)
            .await
            .unwrap();
    }

    fn ids(&self, stream: &str) -> Vec<String> {
        self.destination.column("s", stream, "id")
    }

    fn requests(&self) -> usize {
        self.fake.sent.lock().unwrap().len()
    }

    /// Objects have changed: events tell of them, and time goes by.
    async fn change(&self, list: &str, kind: &str, change: impl Fn(&mut Value)) {
        tokio::time::sleep(Duration::from_mins(15)).await;
        let at = self.now();
        {
            let mut account = self.account.lock().unwrap();
            let objects = account.lists.get_mut(list).unwrap();
            objects.iter_mut().for_each(&change);
            let event = |(index, object): (usize, &Value)| json!({ "id": format!("evt_{kind}_{at}_{index}"), "object": "event", "type": kind, "created": at, "data": { "object": object } });
            let events: Vec<Value> = objects.iter().enumerate().map(event).collect();
            account
                .lists
                .entry("/v1/events".to_owned())
                .or_default()
                .extend(events);
        }
        tokio::time::sleep(Duration::from_mins(5)).await;
    }
}

fn outcomes(summary: &Summary) -> BTreeMap<&str, &Outcome> {
    summary
        .endpoints
        .iter()
        .map(|endpoint| (&*endpoint.id.endpoint, &endpoint.outcome))
        .collect()
}

fn unavailable(summary: &Summary) -> BTreeSet<&str> {
    outcomes(summary)
        .into_iter()
        .filter(|(_, outcome)| matches!(outcome, Outcome::Unavailable { .. }))
        .map(|(name, _)| name)
        .collect()
}

fn gaps(summary: &Summary) -> Vec<String> {
    summary
        .endpoints
        .iter()
        .flat_map(|endpoint| {
            endpoint
                .gaps
                .iter()
                .map(|gap| format!("{} {}", endpoint.id.endpoint, gap.name))
        })
        .collect()
}

fn object(kind: &str, id: &str, created: i64) -> Value {
    json!({ "id": id, "object": kind, "created": created })
}

/// A second of the day before.
const YESTERDAY: i64 = 1_769_730_000;

const UNRECOGNIZED: &str = "Unrecognized request URL (GET: /v1/treasury/financial_accounts). (Hint: Have you onboarded to Treasury?)";

#[tokio::test(start_paused = true)]
async fn what_stripe_refuses_to_ordinary_accounts_is_unavailable_and_not_a_failure() {
    let grant = json!({ "id": "credgr_1", "object": "billing.credit_grant", "created": YESTERDAY, "customer": "cus_1" });
    let account = Account::default()
        .list("/v1/charges", [object("charge", "ch_1", YESTERDAY)])
        .list("/v1/billing/credit_grants", [grant])
        .list(
            "/v1/billing/credit_balance_transactions",
            [object(
                "billing.credit_balance_transaction",
                "cbtxn_1",
                YESTERDAY,
            )],
        )
        .refuse(
            "/v1/test_helpers/test_clocks",
            400,
            "This endpoint is only available in testmode. Try using your test keys instead.",
        )
        .refuse("/v1/treasury/financial_accounts", 400, UNRECOGNIZED)
        .refuse(
            "/v1/issuing/cards",
            400,
            "Your account is not set up to use Issuing. Please visit the dashboard.",
        )
        .refuse(
            "/v1/forwarding/requests",
            404,
            "Unrecognized request URL (GET: /v1/forwarding/requests).",
        )
        .refuse(
            "/v1/exchange_rates",
            400,
            "Exchange rates are not available for your account.",
        )
        .refuse(
            "/v1/sigma/scheduled_query_runs",
            403,
            "Your account is not enabled for Sigma.",
        )
        .refuse("/v1/climate/orders", 402, "Climate is for those who pay.")
        .refuse("/v1/apple_pay/domains", 302, "");
    let town = Town::new(account);
    let summary = town.sync(Selection::All).await;
    assert_eq!(summary.failure(), None, "{summary:#?}");
    let mut expected: BTreeSet<&str> = streams()
        .map(|stream| stream.name)
        .filter(|name| name.starts_with("treasury_"))
        .collect();
    expected.extend([
        "issuing_cards",
        "issuing_tokens",
        "forwarding_requests",
        "exchange_rates",
        "sigma_scheduled_query_runs",
    ]);
    expected.extend(["climate_orders", "apple_pay_domains"]);
    assert_eq!(unavailable(&summary), expected);
    assert_eq!(
        (town.ids("charges"), town.ids("credit_balance_transactions")),
        (vec!["ch_1".to_owned()], vec!["cbtxn_1".to_owned()])
    );
    // A live key does not even ask for what only the test mode has.
    let urls = town.fake.urls();
    assert!(
        !urls.iter().any(|url| url.contains("test_clocks"))
            && !outcomes(&summary).contains_key("test_clocks")
    );
    assert!(
        urls.contains(&"GET /v1/billing/credit_balance_transactions?credit_grant=credgr_1&customer=cus_1&limit=100".to_owned()),
        "{urls:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_new_test_account_is_read_without_a_failure() {
    let town = Town {
        key: "rk_test_key",
        ..Town::new(Account::default())
    };
    let summary = town.sync(Selection::All).await;
    assert_eq!(
        (summary.failure(), unavailable(&summary)),
        (None, BTreeSet::new())
    );
    assert!(outcomes(&summary).contains_key("test_clocks"));
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_a_defect_only_when_the_request_is_malformed() {
    let answers = [
        (
            refusal(400, "", "", "There was a problem."),
            ErrorKind::Refused,
        ),
        (refusal(404, "", "", "Something else."), ErrorKind::Refused),
        (refusal(402, "", "", "Pay first."), ErrorKind::Refused),
        (refusal(422, "", "", "No."), ErrorKind::Refused),
        ((302, String::new()), ErrorKind::Refused),
        ((404, "<html></html>".to_owned()), ErrorKind::Refused),
        (
            (
                200,
                r#"{ "error": { "type": "api_error", "message": "There was a problem." } }"#
                    .to_owned(),
            ),
            ErrorKind::Refused,
        ),
        (
            refusal(
                400,
                "parameter_unknown",
                "created",
                "Received unknown parameter: created",
            ),
            ErrorKind::Unexpected,
        ),
        (
            refusal(
                400,
                "",
                "expand[0]",
                "This property cannot be expanded (data.refunds).",
            ),
            ErrorKind::Unexpected,
        ),
    ];
    for (answer, expected) in answers {
        let mut account = Account::default();
        account
            .refused
            .insert("/v1/charges".to_owned(), answer.clone());
        let summary = Town::new(account).sync_of(&["charges"]).await;
        let Some(Outcome::Failed { error }) = outcomes(&summary).remove("charges") else {
            panic!("{answer:?}: {summary:#?}")
        };
        assert_eq!(error.kind, expected, "{answer:?}");
        let words = serde_json::from_str::<Value>(&answer.1)
            .ok()
            .and_then(|body| Some(body["error"]["message"].as_str()?.to_owned()));
        assert!(
            words.is_none_or(|words| error.message.contains(&words)),
            "{}",
            error.message
        );
    }
}

#[tokio::test(start_paused = true)]
async fn payment_methods_are_those_of_customers_and_then_those_that_events_tell_of() {
    let methods = |customer: &str| {
        (0..3).map(move |index| json!({ "id": format!("pm_{customer}{index}"), "object": "payment_method", "customer": customer, "created": YESTERDAY })).collect::<Vec<_>>()
    };
    let account = Account::default()
        .list(
            "/v1/customers",
            ["cus_1", "cus_2"].map(|id| object("customer", id, YESTERDAY)),
        )
        .list("/v1/payment_methods", [])
        .list("/v1/customers/cus_1/payment_methods", methods("cus_1"))
        .list("/v1/customers/cus_2/payment_methods", methods("cus_2"));
    let town = Town::new(account);
    assert_eq!(town.sync_of(&["payment_methods"]).await.failure(), None);
    assert_eq!(town.ids("payment_methods").len(), 6);
    let before = town.requests();
    tokio::time::sleep(Duration::from_mins(20)).await;
    town.sync_of(&["payment_methods"]).await;
    assert_eq!(
        town.requests() - before,
        3,
        "the account, new customers and events: {:?}",
        &town.fake.urls()[before..]
    );
    town.change(
        "/v1/customers/cus_1/payment_methods",
        "payment_method.updated",
        |method| method["type"] = json!("card"),
    )
    .await;
    let before = town.requests();
    town.sync_of(&["payment_methods"]).await;
    assert_eq!(
        town.destination
            .column("s", "payment_methods", "type")
            .iter()
            .filter(|kind| *kind == "card")
            .count(),
        3
    );
    let urls = town.fake.urls();
    assert_eq!(
        urls[before..]
            .iter()
            .filter(|url| url.contains("GET /v1/payment_methods/pm_cus_1"))
            .count(),
        3,
        "{:?}",
        &urls[before..]
    );
}

#[tokio::test(start_paused = true)]
async fn one_change_that_cannot_be_fetched_holds_up_no_other_and_heals() {
    for status in [400, 500] {
        let account = Account::default()
            .list(
                "/v1/charges",
                (0..5).map(|index| object("charge", &format!("ch_{index}"), YESTERDAY + index)),
            )
            .list("/v1/customers", [object("customer", "cus_1", YESTERDAY)]);
        let (town, streams) = (Town::new(account), ["charges", "customers"]);
        town.sync_of(&streams).await;
        town.account.lock().unwrap().refused.insert(
            "/v1/charges/ch_2".to_owned(),
            refusal(status, "", "", "There was a problem."),
        );
        town.change("/v1/charges", "charge.updated", |charge| {
            charge["status"] = json!("succeeded");
        })
        .await;
        town.change("/v1/customers", "customer.updated", |customer| {
            customer["name"] = json!("new");
        })
        .await;
        let statuses = |town: &Town| town.destination.column("s", "charges", "status");
        for _ in 0..2 {
            let summary = town.sync_of(&streams).await;
            assert_eq!(gaps(&summary), ["changes charge ch_2"], "{status}");
            assert_eq!(
                statuses(&town),
                ["succeeded", "succeeded", "", "succeeded", "succeeded"]
            );
            assert_eq!(town.destination.column("s", "customers", "name"), ["new"]);
            tokio::time::sleep(Duration::from_hours(1)).await;
        }
        town.account.lock().unwrap().refused.clear();
        let before = town.requests();
        let summary = town.sync_of(&streams).await;
        assert_eq!((gaps(&summary), summary.failure()), (Vec::new(), None));
        assert_eq!(statuses(&town), ["succeeded"; 5]);
        // The account, two lists, events, and what was missing.
        assert_eq!(
            town.requests() - before,
            5,
            "{:?}",
            &town.fake.urls()[before..]
        );
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_fetched_for_long_comes_with_its_list() {
    let account = Account::default()
        .list(
            "/v1/charges",
            (0..3).map(|index| object("charge", &format!("ch_{index}"), YESTERDAY + index)),
        )
        .refuse("/v1/charges/ch_1", 400, "There was a problem.");
    let town = Town::new(account);
    town.sync_of(&["charges"]).await;
    town.change("/v1/charges", "charge.updated", |charge| {
        charge["status"] = json!("succeeded");
    })
    .await;
    let mut syncs = 0;
    while town.destination.column("s", "charges", "status")[1] != "succeeded" {
        syncs += 1;
        assert!(syncs < 8, "it is never read");
        town.sync_of(&["charges"]).await;
        tokio::time::sleep(Duration::from_hours(3)).await;
    }
    let summary = town.sync_of(&["charges"]).await;
    assert_eq!((gaps(&summary), summary.failure()), (Vec::new(), None));
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_not_taken_for_objects_that_cannot_be_fetched() {
    let account = Account::default().list(
        "/v1/charges",
        (0..9).map(|index| object("charge", &format!("ch_{index}"), YESTERDAY + index)),
    );
    let town = Town::new(account);
    town.sync_of(&["charges"]).await;
    town.change("/v1/charges", "charge.updated", |charge| {
        charge["status"] = json!("succeeded");
    })
    .await;
    for index in 0..9 {
        town.account
            .lock()
            .unwrap()
            .refused
            .insert(format!("/v1/charges/ch_{index}"), (503, String::new()));
    }
    let summary = town.sync_of(&["charges"]).await;
    assert_eq!(
        (gaps(&summary), summary.failure()),
        (Vec::new(), Some(ErrorKind::Unavailable))
    );
    town.account.lock().unwrap().refused.clear();
    town.sync_of(&["charges"]).await;
    assert_eq!(
        town.destination.column("s", "charges", "status"),
        ["succeeded"; 9]
    );
}

#[tokio::test(start_paused = true)]
async fn one_parent_whose_list_cannot_be_read_is_named_and_holds_up_no_other() {
    let mut account = Account::default().list(
        "/v1/customers",
        (0..5).map(|index| object("customer", &format!("cus_{index}"), YESTERDAY + index)),
    );
    for index in 0..5 {
        let tax_id = json!({ "id": format!("txi_{index}"), "object": "tax_id", "customer": format!("cus_{index}"), "created": YESTERDAY });
        account = account.list(&format!("/v1/customers/cus_{index}/tax_ids"), [tax_id]);
    }
    let town = Town::new(account.refuse("/v1/customers/cus_2/tax_ids", 400, ""));
    let summary = town.sync_of(&["customer_tax_ids"]).await;
    assert_eq!(gaps(&summary), ["customer_tax_ids cus_2"]);
    assert_eq!(
        town.ids("customer_tax_ids"),
        ["txi_0", "txi_1", "txi_3", "txi_4"]
    );
    town.account.lock().unwrap().refused.clear();
    let summary = town.sync_of(&["customer_tax_ids"]).await;
    assert_eq!(
        (gaps(&summary).len(), town.ids("customer_tax_ids").len()),
        (0, 5)
    );
}

#[tokio::test(start_paused = true)]
async fn one_record_whose_list_cannot_be_completed_is_named_and_holds_up_no_other() {
    let lines = |more| json!({ "object": "list", "has_more": more, "data": [{ "id": "il_1", "object": "line_item" }] });
    let invoice = |index: i64| json!({ "id": format!("in_{index}"), "object": "invoice", "created": YESTERDAY + index, "lines": lines(index == 1) });
    let account = Account::default()
        .list("/v1/invoices", (0..3).map(invoice))
        .refuse("/v1/invoices/in_1/lines", 400, "Too many lines.");
    let town = Town::new(account.list(
        "/v1/invoices/in_1/lines",
        [
            object("line_item", "il_1", 2),
            object("line_item", "il_2", 1),
        ],
    ));
    let streams = ["invoices", "invoice_line_items"];
    let summary = town.sync_of(&streams).await;
    assert_eq!(
        (gaps(&summary), town.ids("invoices").len()),
        (vec!["invoices in_1".to_owned()], 3),
        "{summary:#?}"
    );
    town.account.lock().unwrap().refused.clear();
    let summary = town.sync_of(&streams).await;
    assert_eq!(
        (gaps(&summary), town.ids("invoice_line_items").len()),
        (Vec::new(), 4)
    );
}

#[tokio::test(start_paused = true)]
async fn c16_lines_that_do_not_add_up_are_named_and_hold_up_no_other() {
    let lines = |more, total: usize| json!({ "has_more": more, "total_count": total, "data": [{ "id": "il_1", "object": "line_item" }] });
    let invoice = |index: i64, lines: Value| json!({ "id": format!("in_{index}"), "object": "invoice", "created": YESTERDAY + index, "lines": lines });
    let account = Account::default()
        .list(
            "/v1/invoices",
            [
                invoice(1, lines(false, 1)),
                invoice(2, lines(true, 3)),
                invoice(3, lines(false, 1)),
            ],
        )
        .list(
            "/v1/invoices/in_2/lines",
            [
                object("line_item", "il_1", 2),
                object("line_item", "il_2", 1),
            ],
        );
    let town = Town::new(account);
    let summary = town.sync_of(&["invoices", "invoice_line_items"]).await;
    assert_eq!(gaps(&summary), ["invoices in_2"]);
    assert!(
        summary.endpoints.iter().any(|endpoint| endpoint
            .gaps
            .iter()
            .any(|gap| gap.reason.contains("2 of 3"))),
        "{summary:#?}"
    );
    assert_eq!(town.ids("invoices").len(), 3);
}

#[tokio::test(start_paused = true)]
async fn an_invoice_with_odd_lines_fails_no_other() {
    let odd = [
        json!({}),
        json!(null),
        json!([]),
        json!({ "data": null }),
        json!({ "data": [] }),
        json!({ "data": 7, "has_more": true }),
        json!("x"),
    ];
    let invoice = |(index, lines): (i64, Value)| json!({ "id": format!("in_{index}"), "object": "invoice", "created": YESTERDAY + index, "lines": lines });
    let whole = json!({ "object": "list", "has_more": false, "data": [{ "id": "il_1", "object": "line_item" }] });
    let mut invoices: Vec<Value> = (0..)
        .zip(odd.into_iter().chain([whole]))
        .map(invoice)
        .collect();
    invoices.push(object("invoice", "in_without", YESTERDAY));
    let town = Town::new(Account::default().list("/v1/invoices", invoices));
    let summary = town.sync_of(&["invoices", "invoice_line_items"]).await;
    assert_eq!(
        (
            town.ids("invoices").len(),
            town.ids("invoice_line_items").len()
        ),
        (9, 1),
        "{summary:#?}"
    );
}

#[tokio::test(start_paused = true)]
async fn members_that_a_key_may_not_expand_cost_no_stream() {
    let account =
        Account::default().list("/v1/customers", [object("customer", "cus_1", YESTERDAY)]);
    let town = Town::new(account);
    town.account.lock().unwrap().no_expansion = true;
    assert_eq!(
        town.sync_of(&["customers", "subscriptions"])
            .await
            .failure(),
        None
    );
    let said = town.notices.0.lock().unwrap().join("\n");
    assert!(
        town.ids("customers") == ["cus_1"] && said.contains("read without `cash_balance`, `tax`"),
        "{said}"
    );
    // What is fetched by itself is not asked for with them either.
    town.change("/v1/customers", "customer.updated", |customer| {
        customer["name"] = json!("new");
    })
    .await;
    assert_eq!(
        town.sync_of(&["customers", "subscriptions"])
            .await
            .failure(),
        None
    );
    assert_eq!(town.destination.column("s", "customers", "name"), ["new"]);
}

#[tokio::test(start_paused = true)]
async fn archived_tax_rates_are_read_as_well() {
    let rate = |id: &str, active: bool| json!({ "id": id, "object": "tax_rate", "active": active, "created": YESTERDAY });
    let town = Town::new(
        Account::default().list("/v1/tax_rates", [rate("txr_1", true), rate("txr_2", false)]),
    );
    assert_eq!(town.sync_of(&["tax_rates"]).await.failure(), None);
    assert_eq!(town.ids("tax_rates"), ["txr_1", "txr_2"]);
}

#[tokio::test(start_paused = true)]
async fn the_cost_of_a_first_sync_is_said_before_it_is_spent_and_a_later_one_is_cheap() {
    let account = Account::default()
        .list(
            "/v1/customers",
            (0..100).map(|index| object("customer", &format!("cus_{index}"), YESTERDAY + index)),
        )
        .list(
            "/v1/products",
            (0..100).map(|index| object("product", &format!("prod_{index}"), YESTERDAY + index)),
        )
        .list(
            "/v1/charges",
            (0..20).map(|index| object("charge", &format!("ch_{index}"), YESTERDAY + index)),
        );
    let town = Town::new(account);
    assert_eq!(town.sync(Selection::All).await.failure(), None);
    let first = town.requests();
    let said = town.notices.0.lock().unwrap().join("\n");
    assert!(
        said.contains("about 700 requests") && said.contains("about 100 requests"),
        "{said}"
    );
    let lists = town
        .fake
        .urls()
        .iter()
        .position(|url| url.contains("/v1/customers/"))
        .unwrap();
    assert!(lists > 0);
    tokio::time::sleep(Duration::from_hours(1)).await;
    assert_eq!(town.sync(Selection::All).await.failure(), None);
    let idle = town.requests() - first;
    // As the README says: a request for each list, and two for some.
    assert_eq!((first, idle), (904, 98));
}

#[tokio::test(start_paused = true)]
async fn what_is_pending_is_found_by_a_run_that_did_not_read_it() {
    let transaction = json!({ "id": "txn_1", "object": "balance_transaction", "created": YESTERDAY, "available_on": YESTERDAY + 3 * 86_400, "status": "pending" });
    let town = Town::new(Account::default().list("/v1/balance_transactions", [transaction]));
    town.sync_of(&["balance_transactions"]).await;
    // As after an earlier release, or a run that ended before it could be noted.
    town.forget("settling").await;
    for days in [1, 4] {
        tokio::time::sleep(Duration::from_hours(24 * days)).await;
        if days == 4 {
            town.account
                .lock()
                .unwrap()
                .lists
                .get_mut("/v1/balance_transactions")
                .unwrap()[0]["status"] = json!("available");
        }
        assert_eq!(
            town.sync_of(&["balance_transactions"]).await.failure(),
            None
        );
    }
    assert_eq!(
        town.destination
            .column("s", "balance_transactions", "status"),
        ["available"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_list_that_is_refused_is_not_asked_for_what_settles() {
    let account = Account::default()
        .refuse("/v1/balance_transactions", 400, "No.")
        .list("/v1/payouts", [object("payout", "po_1", YESTERDAY)]);
    let town = Town::new(account);
    let summary = town.sync(Selection::All).await;
    assert_eq!(
        (summary.failure(), unavailable(&summary)),
        (None, BTreeSet::from(["balance_transactions"])),
        "{summary:#?}"
    );
    assert_eq!(
        town.fake
            .urls()
            .iter()
            .filter(|url| url.contains("/v1/balance_transactions?created"))
            .count(),
        1
    );
}
