//! Scans of profiles that end before they should, and remove nobody.

use std::sync::Mutex;

use pipeline_engine::Outcome;
use serde_json::json;

use crate::project::{Project, me, profiles, value};

#[tokio::test(start_paused = true)]
async fn a_scan_that_ends_short_of_its_total_removes_nobody() {
    const IDS: [&str; 7] = ["a", "b", "c", "d", "e", "f", "g"];
    let pages = |asked: &str, pages: &[&[&str]]| {
        let page: usize = value(asked, "page").map_or(0, |page| page.parse().unwrap());
        profiles(
            page,
            2,
            (page == 0).then_some(7),
            pages.get(page).copied().unwrap_or_default(),
        )
    };
    let whole = move |asked: &str| {
        if asked.contains("/me") {
            me(r#""7":{"timezone":"UTC"}"#)
        } else {
            pages(asked, &[&IDS[..2], &IDS[2..4], &IDS[4..6], &IDS[6..]])
        }
    };
    let project = Project::new(json!({ "group_ids": [5] }), whole);
    for streams in [["engage"], ["group_profiles"]] {
        let (stream, requests) = (streams[0], |project: &Project| project.count("/engage "));
        project.answers(whole);
        assert!(matches!(
            project.sync(&streams).await.endpoint(stream).outcome,
            Outcome::Done
        ));
        assert_eq!(project.column(stream, "distinct_id").len(), 7);
        // One scan that was cut short is begun anew.
        let first = Mutex::new(true);
        project.answers(move |asked| {
            let mut first = first.lock().unwrap();
            if value(asked, "page") == Some("1") && std::mem::take(&mut *first) {
                profiles(1, 2, None, &[])
            } else {
                whole(asked)
            }
        });
        let before = requests(&project);
        assert!(matches!(
            project.sync(&streams).await.endpoint(stream).outcome,
            Outcome::Done
        ));
        assert_eq!(
            (
                project.column(stream, "distinct_id").len(),
                requests(&project) - before
            ),
            (7, 4 + 4),
            "{stream}"
        );
        // Two are a failure.
        project.answers(move |asked| pages(asked, &[&IDS[..2], &IDS[2..3]]));
        let run = project.sync(&streams).await;
        assert!(
            matches!(
                run.endpoint(stream).outcome,
                Outcome::Failed { .. } | Outcome::Incomplete
            ),
            "{:?}",
            run.endpoint(stream).outcome
        );
        assert_eq!(project.column(stream, "distinct_id").len(), 7, "{stream}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_scan_that_repeats_profiles_removes_nobody() {
    const PAGES: [&[&str]; 4] = [&["a", "b"], &["c", "d"], &["e", "f"], &["g", "h"]];
    let scan = |asked: &str, pages: [&[&str]; 4]| {
        if asked.contains("/me") {
            return me(r#""7":{"timezone":"UTC"}"#);
        }
        let page: usize = value(asked, "page").map_or(0, |page| page.parse().unwrap());
        profiles(
            page,
            2,
            (page == 0).then_some(8),
            pages.get(page).copied().unwrap_or_default(),
        )
    };
    let repeated = [
        [PAGES[0], PAGES[1], PAGES[1], PAGES[3]],
        [PAGES[0], PAGES[1], PAGES[2], PAGES[0]],
        [PAGES[0]; 4],
        // Not a whole page, but as many records as are counted.
        [PAGES[0], &["b", "c"], PAGES[2], PAGES[3]],
    ];
    for stream in ["engage", "group_profiles"] {
        for pages in repeated {
            let project =
                Project::new(json!({ "group_ids": [5] }), move |asked| scan(asked, PAGES));
            for healthy in [true, false, false, true] {
                project.answers(move |asked| scan(asked, if healthy { PAGES } else { pages }));
                let run = project.sync(&[stream]).await;
                assert_eq!(
                    matches!(run.endpoint(stream).outcome, Outcome::Done),
                    healthy,
                    "{pages:?}: {:?}",
                    run.endpoint(stream).outcome
                );
                assert_eq!(
                    project.column(stream, "distinct_id").len(),
                    8,
                    "{stream}: {pages:?}"
                );
            }
        }
    }
}

/// The pages of scans that end before they should.
const ENDED_EARLY: [&[&[&str]]; 2] = [&[&["a", "b"]], &[]];

#[tokio::test(start_paused = true)]
async fn a_scan_without_a_total_ends_with_a_short_page_and_not_with_an_empty_one() {
    let scan = |asked: &str, pages: &[&[&str]]| {
        if asked.contains("/me") {
            return me(r#""7":{"timezone":"UTC"}"#);
        }
        let page: usize = value(asked, "page").map_or(0, |page| page.parse().unwrap());
        profiles(page, 2, None, pages.get(page).copied().unwrap_or_default())
    };
    let project = Project::new(json!({}), move |asked| {
        scan(asked, &[&["a", "b"], &["c", "d"], &["e"]])
    });
    assert!(matches!(
        project.sync(&["engage"]).await.endpoint("engage").outcome,
        Outcome::Done
    ));
    for pages in ENDED_EARLY {
        project.answers(move |asked| scan(asked, pages));
        let run = project.sync(&["engage"]).await;
        assert!(
            matches!(run.endpoint("engage").outcome, Outcome::Failed { .. }),
            "{:?}",
            run.endpoint("engage").outcome
        );
        assert_eq!(
            project.column("engage", "distinct_id").len(),
            5,
            "nothing shows that the others are gone"
        );
    }
    project.answers(move |asked| scan(asked, &[&["a", "b"], &["c"]]));
    assert!(matches!(
        project.sync(&["engage"]).await.endpoint("engage").outcome,
        Outcome::Done
    ));
    assert_eq!(project.column("engage", "distinct_id").len(), 3);
}
