use std::time::Duration;

use pipeline_simulator::{Limits, Simulation, ZendeskWorld};
use serde_json::{Value, json};

use crate::{Api, ids, send, sorted};

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
async fn tickets_and_metrics_in_one_walk() {
    let api = Api::start(Simulation::default()).await;
    let first = "/api/v2/incremental/tickets/cursor?start_time=0&per_page=700&include=metric_sets&support_type_scope=all";
    let pages = walk(&api, first).await;
    assert_eq!(pages.len(), 5);
    let tickets = records(&pages, "tickets");
    assert_eq!(
        sorted(ids(&tickets, "id")),
        api.simulator.truth().ids("tickets")
    );
    let all = tickets.as_array().unwrap();
    let key = |ticket: &Value| {
        (
            ticket["generated_timestamp"].as_i64().unwrap(),
            ticket["id"].as_i64().unwrap(),
        )
    };
    assert!(
        all.is_sorted_by_key(key),
        "ordered by (generated_timestamp, id)"
    );
    assert!(
        all.iter()
            .all(|ticket| ticket["metric_set"].is_null() == (ticket["status"] == "deleted"))
    );
    let metrics: Value = all
        .iter()
        .map(|ticket| ticket["metric_set"].clone())
        .filter(|set| !set.is_null())
        .collect();
    assert_eq!(
        sorted(ids(&metrics, "id")),
        api.simulator.truth().ids("ticket_metrics")
    );
    assert!(metrics[0]["ticket_id"].is_i64());
    let agents = records(
        &walk(&api, "/api/v2/incremental/tickets/cursor.json?start_time=0").await,
        "tickets",
    );
    assert!(
        agents
            .as_array()
            .unwrap()
            .iter()
            .all(|ticket| ticket["support_type"] == "agent" && ticket.get("metric_set").is_none())
    );
    let kept = walk(&api, "/api/v2/incremental/tickets/cursor?start_time=0&exclude_deleted=true&support_type_scope=all").await;
    assert_eq!(
        records(&kept, "tickets").as_array().unwrap().len() as u64,
        api.simulator.truth().count("ticket_metrics")
    );
}

#[tokio::test]
async fn users_with_identities_and_an_idle_cursor() {
    let api = Api::start(Simulation::default()).await;
    let pages = walk(
        &api,
        "/api/v2/incremental/users/cursor?start_time=0&per_page=250&include=identities",
    )
    .await;
    let truth = api.simulator.truth();
    assert_eq!(
        sorted(ids(&records(&pages, "users"), "id")),
        truth.ids("users")
    );
    assert_eq!(
        sorted(ids(&records(&pages, "identities"), "id")),
        truth.ids("user_identities")
    );
    let cursor = pages.last().unwrap()["after_cursor"]
        .as_str()
        .unwrap()
        .replace('=', "%3D");
    let idle = api
        .zendesk(&format!("/api/v2/incremental/users/cursor?cursor={cursor}"))
        .await
        .json();
    assert_eq!(
        (&idle["users"], &idle["end_of_stream"]),
        (&json!([]), &json!(true))
    );
    // The same people as Stripe's customers.
    let customers = truth.ids("customers");
    let emails: std::collections::HashSet<Value> = customers
        .iter()
        .map(|id| truth.record("customers", id).unwrap()["email"].clone())
        .collect();
    let users = records(&pages, "users");
    assert_eq!(
        users
            .as_array()
            .unwrap()
            .iter()
            .filter(|user| emails.contains(&user["email"]))
            .count(),
        500
    );
}

#[tokio::test]
async fn organizations_repeat_the_boundary_second() {
    let zendesk = ZendeskWorld {
        organizations: 900,
        burst: 40,
        ..ZendeskWorld::default()
    };
    let api = Api::start(Simulation {
        zendesk,
        ..Simulation::default()
    })
    .await;
    let (mut start, mut seen, mut rows) = (0, std::collections::BTreeSet::new(), 0);
    loop {
        let path = format!("/api/v2/incremental/organizations?start_time={start}&per_page=25");
        let page = api.zendesk(&path).await.json();
        rows += ids(&page["organizations"], "id").len();
        seen.extend(ids(&page["organizations"], "id"));
        if page["end_of_stream"] == true {
            break;
        }
        assert!(page["end_time"].as_i64().unwrap() > start, "progress");
        start = page["end_time"].as_i64().unwrap();
    }
    assert_eq!(
        sorted(seen.into_iter().collect()),
        api.simulator.truth().ids("organizations")
    );
    assert!(rows > 900, "the border's second came twice");
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
async fn exports_have_their_own_budget() {
    let limits = Limits {
        zendesk_export: Some(2),
        zendesk_account: Some(4),
        ..Limits::default()
    };
    let api = Api::start(Simulation {
        limits,
        ..Simulation::default()
    })
    .await;
    for expected in [200, 200, 429] {
        let answer = api
            .zendesk("/api/v2/incremental/users/cursor?start_time=0&per_page=1")
            .await;
        assert_eq!(answer.status, expected);
        if expected == 429 {
            assert_eq!(answer.json()["error"], "APIRateLimitExceeded");
            assert!(
                (50..=60).contains(
                    &answer
                        .header("retry-after")
                        .unwrap()
                        .parse::<u32>()
                        .unwrap()
                )
            );
        }
    }
    assert_eq!(
        api.zendesk("/api/v2/users/me")
            .await
            .header("x-rate-limit-remaining"),
        Some("1")
    );
    assert_eq!(api.zendesk("/api/v2/users/me").await.status, 200);
    let spent = api.zendesk("/api/v2/users/me").await;
    assert_eq!(
        (spent.status.as_u16(), spent.text().as_str()),
        (429, "Number of allowed API requests per minute exceeded")
    );
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
async fn changes_move_records_to_the_end_of_exports() {
    use pipeline_simulator::ZendeskChange::{
        Create, Delete, Redact, Remove, Scrub, Update, UpdateBySystem,
    };
    let api = Api::start(Simulation::default()).await;
    let (account, truth) = (api.simulator.zendesk(), api.simulator.truth());
    let first = "/api/v2/incremental/tickets/cursor?start_time=0&include=metric_sets&support_type_scope=all";
    let before = walk(&api, first).await;
    let cursor = before.last().unwrap()["after_cursor"]
        .as_str()
        .unwrap()
        .replace('=', "%3D");
    let changes = [
        (Create, 3),
        (Update, 10),
        (UpdateBySystem, 4),
        (Delete, 5),
        (Redact, 2),
    ];
    assert!(
        changes
            .into_iter()
            .all(|(change, count)| account.change("tickets", change, count) == count)
    );
    assert_eq!(account.change("tickets", Scrub, 1), 1);
    let next = format!("/api/v2/incremental/tickets/cursor?cursor={cursor}&support_type_scope=all");
    assert_eq!(
        records(&walk(&api, &next).await, "tickets"),
        json!([]),
        "the last minute is withheld"
    );
    api.simulator.advance(Duration::from_mins(2));
    let after = records(&walk(&api, &next).await, "tickets");
    let after = after.as_array().unwrap();
    assert!((20..=25).contains(&after.len()), "{}", after.len());
    let scrubbed: Vec<&Value> = after
        .iter()
        .filter(|ticket| ticket["subject"] == "SCRUBBED")
        .collect();
    assert_eq!(
        (scrubbed.len(), &scrubbed[0]["status"]),
        (1, &json!("deleted"))
    );
    assert!(
        scrubbed[0]["updated_at"].as_str().unwrap() < "2026-11-01",
        "scrubbing does not move updated_at"
    );
    assert_eq!(
        truth
            .members("tickets", "subject")
            .values()
            .filter(|subject| *subject == "\"SCRUBBED\"")
            .count(),
        1
    );
    let gone = truth.count("macros");
    assert_eq!(account.change("macros", Remove, 2), 2);
    assert_eq!(truth.count("macros"), gone - 2);
    let events = truth.members("ticket_events", "child_events");
    assert_eq!(
        events
            .values()
            .filter(|children| children.contains("CommentRedactionEvent"))
            .count(),
        2
    );
    assert_eq!(
        truth
            .members("ticket_comments", "body")
            .values()
            .filter(|body| body.contains('\u{2587}'))
            .count(),
        2
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

#[tokio::test]
async fn what_is_erased_is_shown_nowhere() {
    use pipeline_simulator::ZendeskChange::{Delete, Redact, Scrub};
    let zendesk = ZendeskWorld {
        erases: true,
        ..ZendeskWorld::default()
    };
    let api = Api::start(Simulation {
        zendesk,
        ..Simulation::default()
    })
    .await;
    let (account, truth) = (api.simulator.zendesk(), api.simulator.truth());
    let identities = truth.count("user_identities");
    for (table, change, count) in [
        ("tickets", Redact, 2),
        ("tickets", Scrub, 2),
        ("users", Delete, 1),
        ("users", Scrub, 2),
    ] {
        assert_eq!(account.change(table, change, count), count);
    }
    let erased = account.erased();
    assert!(
        erased.len() >= 2 + 2 * 3 + 2 * 2 && erased.iter().all(|text| text.len() > 8),
        "{erased:?}"
    );
    assert_eq!(identities - truth.count("user_identities"), 2);
    let shown = [
        ("ticket_events", "child_events"),
        ("ticket_comments", "body"),
        ("tickets", "subject"),
        ("tickets", "description"),
    ];
    let shown = shown
        .into_iter()
        .chain([("users", "email"), ("user_identities", "value")]);
    for (table, member) in shown {
        for value in truth.members(table, member).into_values() {
            assert!(
                !erased.iter().any(|text| value.contains(text)),
                "{table}: {value}"
            );
        }
    }
}

#[tokio::test]
async fn a_second_of_more_events_than_a_page_is_whole_or_a_trap() {
    for (cuts_seconds, expected) in [(false, 1500), (true, 1000)] {
        let zendesk = ZendeskWorld {
            organizations: 24_000,
            burst: 1500,
            cuts_seconds,
            ..ZendeskWorld::default()
        };
        let api = Api::start(Simulation {
            zendesk,
            ..Simulation::default()
        })
        .await;
        let second = {
            let mut times = std::collections::BTreeMap::<String, usize>::new();
            let updated = api.simulator.truth().members("organizations", "updated_at");
            for time in updated.into_values() {
                *times.entry(time).or_default() += 1;
            }
            times
                .into_iter()
                .find(|(_, count)| *count == 1500)
                .unwrap()
                .0
        };
        let start = chrono::DateTime::parse_from_rfc3339(second.trim_matches('"'))
            .unwrap()
            .timestamp();
        let page = api
            .zendesk(&format!(
                "/api/v2/incremental/organizations?start_time={start}"
            ))
            .await
            .json();
        assert_eq!(page["organizations"].as_array().unwrap().len(), expected);
        assert_eq!(page["end_time"], start + i64::from(!cuts_seconds));
    }
}
