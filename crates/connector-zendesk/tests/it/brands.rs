//! The Help Centers of all brands: which are read, from which hosts, and who gets the credentials.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use connector_zendesk::ZendeskConfig;
use futures::TryStreamExt;
use pipeline_core::http::{
    HeaderMap, HttpService, RawResponse, Request, StatusCode, TransportError,
};
use pipeline_core::slice::TimeRange;
use pipeline_core::state::EndpointState;
use pipeline_core::{BuildContext, Connector, ErrorKind, Plan, Registry};
use serde_json::{Value, json};

/// An account with the brands `acme`, `acme-pro`, and some without a Help Center that can be read.
#[derive(Debug, Default)]
struct Account {
    /// Hosts that were asked with credentials, and for what.
    asked: Mutex<Vec<String>>,
    /// What the list of brands answers instead.
    brands: Option<(u16, Value)>,
    /// Whether a brand's host knows nothing of users.
    knows_no_users: bool,
}

fn brand(id: u64, subdomain: &str, more: &Value) -> Value {
    let mut brand = json!({ "id": id, "name": subdomain, "subdomain": subdomain, "has_help_center": true, "help_center_state": "enabled" });
    brand
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    brand
}

impl Account {
    fn answer(&self, host: &str, path: &str) -> (u16, Value) {
        let list = |key: &str, records: Value| {
            (
                200,
                json!({ key: records, "meta": { "has_more": false }, "links": {} }),
            )
        };
        let id = if host.contains("pro") { 200 } else { 100 };
        match path {
            "/api/v2/users/me" if self.knows_no_users => {
                (404, json!({ "error": "InvalidEndpoint" }))
            }
            "/api/v2/users/me" => (200, json!({ "user": { "id": 1, "role": "admin" } })),
            "/api/v2/brands" => self.brands.clone().unwrap_or_else(|| {
                let brands = json!([
                    brand(1, "acme", &json!({ "default": true })),
                    brand(2, "acme-pro", &json!({ "name": "Acme Pro" })),
                    brand(3, "acme-off", &json!({ "help_center_state": "disabled" })),
                    brand(4, "acme-none", &json!({ "has_help_center": false })),
                    brand(5, "acme-gone", &json!({ "is_deleted": true })),
                    brand(6, "evil.test/", &json!({})),
                    { "id": "odd" },
                ]);
                list("brands", brands)
            }),
            "/api/v2/help_center/incremental/articles" => (
                200,
                json!({ "articles": [{ "id": id, "vote_count": 1 }], "count": 1, "next_page": null, "end_time": 0 }),
            ),
            path if path.ends_with("/votes") => {
                list("votes", json!([{ "id": id + 1, "item_id": null }]))
            }
            "/api/v2/help_center/sections" => {
                list("sections", json!([{ "id": id + 2, "brand_id": 9 }]))
            }
            "/api/v2/help_center/user_segments" => list("user_segments", json!([{ "id": 7 }])),
            _ => (404, json!({})),
        }
    }
}

#[async_trait]
impl HttpService for Account {
    async fn call(&self, request: Request) -> Result<RawResponse, TransportError> {
        let host = request.url[url::Position::BeforeHost..url::Position::AfterPort].to_owned();
        assert!(request.headers.contains_key("authorization"));
        let (status, body) = self.answer(&host, request.url.path());
        self.asked
            .lock()
            .unwrap()
            .push(format!("{host} {}", request.url.path()));
        let headers: HeaderMap = [(
            "content-type".parse().unwrap(),
            "application/json".parse().unwrap(),
        )]
        .into_iter()
        .collect();
        Ok(RawResponse::full(
            StatusCode::from_u16(status).unwrap(),
            headers,
            body.to_string(),
        ))
    }
}

fn connector(account: &Arc<Account>, more: Value) -> Arc<dyn Connector> {
    let mut config = json!({ "subdomain": "acme", "email": "a@acme.test", "api_token": "dummy-token", "custom_field_columns": false });
    config
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    let context = BuildContext::default().transport(Arc::clone(account) as _);
    let mut registry = Registry::default();
    registry.add::<ZendeskConfig>();
    registry.build("zendesk", config, context).unwrap()
}

/// Reads the named endpoints and those of other brands that stand for them. Gives the rows, and
/// what is told.
async fn read(zendesk: &Arc<dyn Connector>, names: &[&str]) -> (Vec<String>, Vec<String>) {
    let run = Arc::clone(zendesk).open(names).await.unwrap();
    let Plan {
        notices,
        endpoints,
        skipped,
        ..
    } = run.plan();
    assert!(skipped.is_empty(), "{skipped:?}");
    let notes = notices
        .iter()
        .filter(|note| !note.contains("API tokens"))
        .cloned()
        .collect();
    let is_read = |name: &str| names.contains(&name) || name.contains("_of_brand_");
    let mut rows = Vec::new();
    for endpoint in endpoints.iter().filter(|endpoint| is_read(endpoint.name())) {
        for slice in endpoint.slicer().plan(
            &EndpointState::default(),
            TimeRange::all(),
            run.client().now(),
        ) {
            let mut pages = run.read(endpoint, slice);
            while let Some(page) = pages.try_next().await.unwrap() {
                let stream = endpoint.streams().next().unwrap().name();
                let member = |record: &pipeline_core::RawRecord, name: &str| {
                    record.scalar(name).unwrap_or_else(|| "none".to_owned())
                };
                rows.extend(page.records.iter().flatten().map(|record| {
                    format!(
                        "{}: {stream} {} of brand {}",
                        endpoint.name(),
                        member(record, "id"),
                        member(record, "brand_id")
                    )
                }));
            }
        }
    }
    (rows, notes)
}

#[tokio::test(start_paused = true)]
async fn every_brand_has_its_own_help_center_and_the_account_its_own_lists() {
    let account = Arc::new(Account::default());
    let zendesk = connector(&account, json!({}));
    let (rows, notes) = read(
        &zendesk,
        &["articles", "article_votes", "sections", "user_segments"],
    )
    .await;
    insta::assert_snapshot!(rows.join("\n"), @"
    articles: articles 100 of brand 1
    article_votes: article_votes 101 of brand 1
    sections: sections 102 of brand 1
    user_segments: user_segments 7 of brand none
    articles_of_brand_2: articles 200 of brand 2
    article_votes_of_brand_2: article_votes 201 of brand 2
    sections_of_brand_2: sections 202 of brand 2
    ");
    insta::assert_snapshot!(notes.join("\n"), @"
    the Help Center of the brand Acme Pro (acme-pro) is read from acme-pro.zendesk.com
    the Help Center of the brand evil.test/ is not read, because its subdomain makes no host name
    ");
    let hosts: BTreeSet<String> = account
        .asked
        .lock()
        .unwrap()
        .iter()
        .map(|asked| asked.split(' ').next().unwrap().to_owned())
        .collect();
    assert_eq!(
        hosts.into_iter().collect::<Vec<_>>(),
        ["acme-pro.zendesk.com", "acme.zendesk.com"],
        "credentials go nowhere else"
    );
}

#[tokio::test(start_paused = true)]
async fn behind_a_gateway_the_hosts_of_brands_are_named() {
    let gateway = json!({ "base_url": "https://gateway.test" });
    let account = Arc::new(Account::default());
    let (rows, notes) = read(&connector(&account, gateway), &["sections"]).await;
    assert_eq!(rows, ["sections: sections 102 of brand 1"]);
    assert!(
        notes[0].contains("Acme Pro (acme-pro)") && notes[0].contains("brand_urls"),
        "{notes:?}"
    );

    let mapped = json!({ "base_url": "https://gateway.test", "brand_urls": { "Acme-Pro": "https://pro.gateway.test" } });
    let (rows, _) = read(&connector(&account, mapped), &["sections"]).await;
    assert_eq!(
        rows,
        [
            "sections: sections 102 of brand 1",
            "sections_of_brand_2: sections 202 of brand 2"
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn brands_that_may_not_be_listed_leave_the_help_center_of_the_host() {
    for status in [403, 404, 422] {
        let account = Arc::new(Account {
            brands: Some((status, json!({}))),
            ..Account::default()
        });
        let (rows, notes) = read(&connector(&account, json!({})), &["sections"]).await;
        // What the vendor itself says of the record stays.
        assert_eq!(rows, ["sections: sections 102 of brand 9"]);
        assert!(notes[0].starts_with("brands may not be read"), "{notes:?}");
    }
    // Nobody asks for brands who reads no Help Center.
    let account = Arc::new(Account {
        brands: Some((403, json!({}))),
        ..Account::default()
    });
    connector(&account, json!({}))
        .open(&["tickets"])
        .await
        .unwrap();
    assert!(account.asked.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_host_that_knows_no_users_can_be_checked_by_its_lists() {
    let account = Arc::new(Account {
        knows_no_users: true,
        ..Account::default()
    });
    let zendesk = connector(&account, json!({}));
    let report = zendesk.check(&["articles"]).await.unwrap();
    assert_eq!(
        report
            .facts
            .iter()
            .map(|(name, _)| name.as_str())
            .collect::<Vec<_>>(),
        ["authentication", "warning"]
    );
    let error = zendesk.check(&["topics"]).await.unwrap_err();
    assert_eq!(
        error.kind(),
        ErrorKind::NotFound,
        "nothing answers: the account's name is wrong"
    );
}
