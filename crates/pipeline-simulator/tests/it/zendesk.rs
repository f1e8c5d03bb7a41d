use std::time::Duration;

use pipeline_simulator::{Simulation, ZendeskWorld};
use serde_json::{Value, json};

use crate::{Api, ids, send, sorted};

mod exports;

/// Follows a cursor export to its end.
async fn walk(api: &Api, first: &str) -> Vec<Value> {
    let mut pages = Vec::new();
    let mut next = first.to_owned();
    loop {
        let answer = api.zendesk(&next).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let page = answer.json();
        pages.push(page.clone());
        if page["end_of_stream"] == true {
            return pages;
        }
        let url = page["after_url"].as_str().unwrap();
        next = url.replace(&api.simulator.url(), "");
    }
}

fn records(pages: &[Value], key: &str) -> Value {
    pages
        .iter()
        .flat_map(|page| page[key].as_array().unwrap().iter().cloned())
        .collect()
}

#[tokio::test]
async fn groups_have_links_on_the_last_page_too() {
    let api = Api::start(Simulation::default()).await;
    let (mut found, mut path) = (Vec::new(), "/api/v2/groups?page%5Bsize%5D=5".to_owned());
    loop {
        let page = api.zendesk(&path).await.json();
        found.extend(ids(&page["groups"], "id"));
        path = page["links"]["next"]
            .as_str()
            .unwrap()
            .trim_start_matches(&api.simulator.url())
            .to_owned();
        if page["meta"]["has_more"] == false {
            break;
        }
    }
    assert_eq!(sorted(found), api.simulator.truth().ids("groups"));
}

#[tokio::test]
async fn refusals_and_headers() {
    let api = Api::start(Simulation::default()).await;
    let recent = api
        .zendesk("/api/v2/incremental/tickets/cursor?start_time=9999999999")
        .await;
    assert_eq!(recent.status, 422);
    assert!(
        recent.json()["description"]
            .as_str()
            .unwrap()
            .starts_with("Too recent start_time")
    );
    let bad = api
        .zendesk("/api/v2/incremental/users/cursor?cursor=AAAA")
        .await;
    assert_eq!(
        (bad.status.as_u16(), &bad.json()["error"]),
        (400, &json!("InvalidPaginationParameter"))
    );
    assert_eq!(api.zendesk("/api/v2/sandwiches").await.status, 404);
    let anonymous = send(api.get("/api/v2/users/me")).await;
    assert_eq!(
        (anonymous.status.as_u16(), anonymous.json()),
        (401, json!({ "error": "Couldn't authenticate you" }))
    );
    let me = api.zendesk("/api/v2/users/me.json").await;
    assert_eq!(me.json()["user"]["role"], "admin");
    for name in [
        "x-rate-limit",
        "x-rate-limit-remaining",
        "ratelimit-limit",
        "ratelimit-reset",
        "x-request-id",
    ] {
        assert!(me.header(name).is_some(), "{name}");
    }
}

#[tokio::test]
async fn oauth_rotates_refresh_tokens() {
    let zendesk = ZendeskWorld {
        token_lifetime: Duration::from_millis(300),
        ..ZendeskWorld::default()
    };
    let api = Api::start(Simulation {
        zendesk,
        ..Simulation::default()
    })
    .await;
    let ask = async |body: Value| send(api.post("/oauth/tokens").body(body.to_string())).await;
    let client = json!({ "client_id": "sim_client", "client_secret": "sim_secret" });
    let with = |more: Value| {
        let mut body = client.clone();
        body.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        body
    };
    let granted = ask(with(
        json!({ "grant_type": "client_credentials", "expires_in": 300 }),
    ))
    .await
    .json();
    assert!(granted["expires_in"].is_u64() && granted.get("refresh_token").is_none());
    let bearer = async |token: &Value| {
        send(
            api.get("/api/v2/users/me")
                .bearer_auth(token.as_str().unwrap()),
        )
        .await
    };
    assert_eq!(bearer(&granted["access_token"]).await.status, 200);
    tokio::time::sleep(Duration::from_millis(350)).await;
    let expired = bearer(&granted["access_token"]).await;
    assert_eq!(
        (expired.status.as_u16(), &expired.json()["error"]),
        (401, &json!("invalid_token"))
    );

    let refresh =
        |token: &Value| with(json!({ "grant_type": "refresh_token", "refresh_token": token }));
    let first = ask(refresh(&json!("sim_refresh"))).await.json();
    assert!(
        first.get("expires_in").is_none(),
        "told only when asked for"
    );
    assert_eq!(bearer(&first["access_token"]).await.status, 200);
    let reused = ask(refresh(&json!("sim_refresh"))).await;
    assert_eq!(
        (reused.status.as_u16(), &reused.json()["error"]),
        (400, &json!("invalid_grant"))
    );
    let second = ask(refresh(&first["refresh_token"])).await.json();
    assert_eq!(bearer(&second["access_token"]).await.status, 200);
    assert_eq!(
        bearer(&first["access_token"]).await.status,
        401,
        "the old pair is dead"
    );
    assert_eq!(
        ask(json!({ "grant_type": "client_credentials" }))
            .await
            .status,
        401
    );
}

/// The streams that have a list of their own, with its path.
fn lists() -> Vec<(String, String, String)> {
    let tables: Vec<Value> = serde_json::from_str(include_str!("../../data/zendesk.json")).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let listed = tables.iter().filter(|table| {
        ["cursor", "offset", "single"].contains(&table["list"]["pages"].as_str().unwrap())
    });
    let flat = listed.filter(|table| !table["list"]["path"].as_str().unwrap().contains('{'));
    flat.map(|table| {
        (
            text(&table["name"]),
            text(&table["list"]["path"]),
            text(&table["list"]["key"]),
        )
    })
    .collect()
}

#[tokio::test]
async fn every_list_walks_to_exactly_the_truth() {
    let api = Api::start(Simulation::default()).await;
    let lists = lists();
    assert_eq!(lists.len(), 52);
    for (name, list, key) in lists {
        let (mut found, mut path) = (
            Vec::new(),
            format!("/api/v2/{list}?page%5Bsize%5D=5&exclude_deleted=false"),
        );
        loop {
            let answer = api.zendesk(&path).await;
            assert_eq!(answer.status, 200, "{path}: {}", answer.text());
            let page = answer.json();
            let id = if name == "custom_objects" {
                "key"
            } else if name == "tags" {
                "name"
            } else {
                "id"
            };
            found.extend(ids(&page[&key], id));
            let next = if page["meta"]["has_more"] == true {
                &page["links"]["next"]
            } else {
                &page["next_page"]
            };
            let Some(next) = next.as_str() else { break };
            path = next.replace(&api.simulator.url(), "");
        }
        let truth = api.simulator.truth().ids(&name);
        // Lists of metrics leave archived tickets out.
        assert_eq!(
            found.len() < truth.len(),
            name == "ticket_metrics",
            "{name}"
        );
        if name != "ticket_metrics" {
            assert_eq!(sorted(found), truth, "{name}");
        }
    }
}

#[tokio::test]
async fn children_belong_to_their_parents() {
    let api = Api::start(Simulation::default()).await;
    let truth = api.simulator.truth();
    let mut found = Vec::new();
    for post in truth.ids("posts") {
        let answer = api
            .zendesk(&format!(
                "/api/v2/help_center/community/posts/{post}/comments?page%5Bsize%5D=100"
            ))
            .await
            .json();
        assert_eq!(
            answer["comments"].as_array().unwrap().len() as u64,
            truth.record("posts", &post).unwrap()["comment_count"],
            "{post}"
        );
        assert!(
            ids(&answer["comments"], "post_id")
                .iter()
                .all(|owner| *owner == post)
        );
        assert!(
            answer["links"].get("next").is_none(),
            "the Help Center drops the link"
        );
        found.extend(ids(&answer["comments"], "id"));
    }
    assert!(!found.is_empty());
    assert_eq!(sorted(found), truth.ids("post_comments"));
    let ticket = &truth.ids("tickets")[7];
    let audits = api
        .zendesk(&format!(
            "/api/v2/tickets/{ticket}/audits?page%5Bsize%5D=100"
        ))
        .await
        .json();
    let audits = json!(
        ids(&audits["audits"], "id")
            .iter()
            .map(|id| truth.record("ticket_audits", id).unwrap())
            .collect::<Vec<Value>>()
    );
    assert!(
        ids(&audits, "ticket_id")
            .iter()
            .all(|owner| owner == ticket)
    );
    let nothing = api.zendesk("/api/v2/tickets/999999999/audits").await;
    assert_eq!(
        (nothing.status.as_u16(), &nothing.json()["error"]),
        (404, &json!("RecordNotFound"))
    );
}

#[tokio::test]
async fn plans_and_products_refuse_what_they_lack() {
    let zendesk = ZendeskWorld {
        plan: pipeline_simulator::ZendeskPlan::Team,
        help_center: false,
        forbidden: vec!["macros".to_owned()],
        ..ZendeskWorld::default()
    };
    let api = Api::start(Simulation {
        zendesk,
        ..Simulation::default()
    })
    .await;
    let refused = api.zendesk("/api/v2/audit_logs").await;
    assert_eq!(
        (refused.status.as_u16(), &refused.json()["error"]["title"]),
        (403, &json!("Forbidden"))
    );
    assert_eq!(api.zendesk("/api/v2/macros").await.status, 403);
    let empty = api.zendesk("/api/v2/tickets/1/side_conversations").await;
    assert_eq!(
        (
            empty.status.as_u16(),
            empty.text().as_str(),
            empty.header("content-type")
        ),
        (403, "", Some("text/html"))
    );
    let off = api.zendesk("/api/v2/community/posts").await;
    assert_eq!(
        (
            off.status.as_u16(),
            off.text().starts_with("<!DOCTYPE html>")
        ),
        (404, true)
    );
}

#[tokio::test]
async fn each_brand_has_a_help_center_of_its_own() {
    let brands = ["sim", "sim-pro", "sim-shop"].map(str::to_owned).to_vec();
    let api = Api::start(Simulation {
        zendesk: ZendeskWorld {
            brands,
            ..ZendeskWorld::default()
        },
        ..Simulation::default()
    })
    .await;
    let listed = api.zendesk("/api/v2/brands?page[size]=100").await.json();
    assert_eq!(
        ids(&listed["brands"], "subdomain"),
        ["sim", "sim-pro", "sim-shop"]
    );
    assert_eq!(api.simulator.truth().count("brands"), 3);
    for list in ["articles", "categories"] {
        let mut all = Vec::new();
        for host in ["", "/brand/sim-pro", "/brand/sim-shop"] {
            let path = if list == "articles" {
                "incremental/articles?start_time=0"
            } else {
                "categories?page[size]=3"
            };
            let page = api
                .zendesk(&format!("{host}/api/v2/help_center/{path}"))
                .await
                .json();
            all.extend(ids(&page[list], "id"));
            if let Some(next) = page["links"]["next"].as_str() {
                assert!(
                    next.starts_with(&format!("{}{host}/api/v2/", api.simulator.url())),
                    "{next}"
                );
                all.extend(ids(
                    &api.zendesk(&next.replace(&api.simulator.url(), ""))
                        .await
                        .json()[list],
                    "id",
                ));
            }
        }
        all.sort_unstable();
        all.dedup();
        assert_eq!(all, api.simulator.truth().ids(list), "{list}");
    }
    let of_first = api
        .zendesk("/api/v2/help_center/incremental/articles?start_time=0")
        .await
        .json();
    let id = &ids(&of_first["articles"], "id")[0];
    assert_eq!(
        api.zendesk(&format!(
            "/api/v2/help_center/articles/{id}/translations?page[size]=100"
        ))
        .await
        .status,
        200
    );
    assert_eq!(
        api.zendesk(&format!(
            "/brand/sim-pro/api/v2/help_center/articles/{id}/translations"
        ))
        .await
        .status,
        404
    );
    assert_eq!(
        api.zendesk("/brand/other/api/v2/help_center/categories")
            .await
            .status,
        404
    );
}
