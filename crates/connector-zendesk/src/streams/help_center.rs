//! Help Center and Community. Both have a budget of requests of their own, and answer with a web
//! page when they are off.

use std::time::Duration;

use pipeline_core::TimeFormat::Rfc3339;

use pipeline_core::declarative::{ListDef, ParentRef, StreamDef};

use crate::limits::HELP_CENTER;
use crate::vendor::{Pages, Slices, Zendesk};
use crate::{columns, transform};

const LIMITS: &[&str] = &[HELP_CENTER];

/// What a vote, and a subscription, call the record that they belong to.
const OF_ITEM: &[(&str, &str)] = &[("id", "item_id")];
const OF_CONTENT: &[(&str, &str)] = &[("id", "content_id")];

pub(super) const LISTS: &[ListDef<Zendesk>] = &[
    ListDef::get("articles", "/api/v2/help_center/incremental/articles")
        .records("articles")
        .streams(&[StreamDef::generated("articles")
            .added(&[columns::NAME, columns::BRAND])
            .note(
                "drafts for those who may manage them; a vote sends the article again; one \
                     that is archived or deleted just vanishes",
            )])
        .pages(Pages::TimePages)
        .slices(Slices::Changes(Duration::ZERO))
        .incremental()
        .cursor("updated_at", Rfc3339)
        .cache_pages(transform::article)
        .cost(LIMITS),
    ListDef::get(
        "article_attachments",
        "/api/v2/help_center/articles/{id}/attachments",
    )
    .records("article_attachments")
    .streams(&[StreamDef::generated("article_attachments")
        .added(&[columns::BRAND])
        .note("descriptions, not the files; one request for each changed article")])
    .cost(LIMITS)
    .child_of(ParentRef::to("articles").include(&[("id", "article_id")])),
    ListDef::get(
        "article_comments",
        "/api/v2/help_center/articles/{id}/comments",
    )
    .records("comments")
    .streams(&[StreamDef::generated("article_comments")
        .added(&[columns::BRAND])
        .note("`source_id` is the article; one request for each changed article")])
    .cache_pages(transform::comment)
    .cost(LIMITS)
    .child_of(ParentRef::to("articles").include(&[("id", "source_id")])),
    ListDef::get("article_votes", "/api/v2/help_center/articles/{id}/votes")
        .records("votes")
        .streams(&[StreamDef::generated("article_votes")
            .added(&[columns::BRAND])
            .note(
                "for changed articles that have votes; `help_center_votes` has all votes at \
                     once",
            )])
        .cost(LIMITS)
        .child_of(
            ParentRef::to("articles")
                .filter(transform::has_votes)
                .include(OF_ITEM),
        ),
    ListDef::get(
        "article_comment_votes",
        "/api/v2/help_center/articles/{source_id}/comments/{id}/votes",
    )
    .records("votes")
    .streams(&[StreamDef::generated("article_comment_votes")
        .added(&[columns::OF_ARTICLE, columns::BRAND])
        .note("for comments of changed articles that have votes")])
    .cost(LIMITS)
    .child_of(
        ParentRef::to("article_comments")
            .filter(transform::has_votes)
            .include(&[("source_id", "article_id"), ("id", "item_id")]),
    ),
    ListDef::get(
        "article_translations",
        "/api/v2/help_center/articles/{id}/translations",
    )
    .records("translations")
    .streams(&[StreamDef::generated("article_translations")
        .added(&[columns::OF_ARTICLE, columns::BRAND])
        .note("`body` in every locale; an article's own is that of its source locale")])
    .cost(LIMITS)
    .child_of(ParentRef::to("articles").include(&[("id", "article_id"), ("id", "source_id")])),
    ListDef::get("article_labels", "/api/v2/help_center/articles/labels")
        .records("labels")
        .streams(&[StreamDef::generated("article_labels").added(&[columns::BRAND])])
        .cost(LIMITS),
    ListDef::get("categories", "/api/v2/help_center/categories")
        .records("categories")
        .streams(&[StreamDef::generated("categories").added(&[columns::NAME, columns::BRAND])])
        .cost(LIMITS),
    ListDef::get("sections", "/api/v2/help_center/sections")
        .records("sections")
        .streams(&[StreamDef::generated("sections").added(&[columns::BRAND])])
        .cache_pages(transform::followed)
        .cost(LIMITS),
    ListDef::get("user_segments", "/api/v2/help_center/user_segments")
        .records("user_segments")
        .streams(&[StreamDef::generated("user_segments")])
        .cost(LIMITS),
    ListDef::get(
        "article_subscriptions",
        "/api/v2/help_center/articles/{id}/subscriptions",
    )
    .records("subscriptions")
    .streams(&[StreamDef::generated("article_subscriptions")
        .added(&[columns::BRAND])
        .note(
            "who follows an article; one request for each article, so read only when \
                     named",
        )])
    .cost(LIMITS)
    .child_of(ParentRef::to("all_articles").include(OF_CONTENT))
    .opt_in(),
    ListDef::get(
        "section_subscriptions",
        "/api/v2/help_center/sections/{id}/subscriptions",
    )
    .records("subscriptions")
    .streams(&[StreamDef::generated("section_subscriptions")
        .added(&[columns::BRAND])
        .note("who follows a section; one request for each section, so read only when named")])
    .cost(LIMITS)
    .child_of(ParentRef::to("sections").include(OF_CONTENT))
    .opt_in(),
    ListDef::get("help_center_votes", "/api/v2/help_center/votes")
        .records("votes")
        .streams(&[StreamDef::generated("help_center_votes")
            .added(&[columns::BRAND])
            .note("every vote in one list: `item_type` and `item_id` say on what")])
        .cost(LIMITS),
    ListDef::get("topics", "/api/v2/community/topics")
        .records("topics")
        .streams(&[StreamDef::generated("topics").added(&[columns::TOPIC_MORE, columns::BRAND])])
        .cache_pages(transform::followed)
        .cost(LIMITS),
    ListDef::get("posts", "/api/v2/community/posts")
        .records("posts")
        .streams(&[StreamDef::generated("posts")
            .added(&[columns::POST_MORE, columns::BRAND])
            .note("needs Gather")])
        .cache_pages(transform::followed)
        .cost(LIMITS),
    ListDef::get(
        "topic_subscriptions",
        "/api/v2/community/topics/{id}/subscriptions",
    )
    .records("subscriptions")
    .streams(&[StreamDef::generated("topic_subscriptions")
        .added(&[columns::BRAND])
        .note("who follows a topic; one request for each topic, so read only when named")])
    .cost(LIMITS)
    .child_of(ParentRef::to("topics").include(OF_CONTENT))
    .opt_in(),
    ListDef::get(
        "post_subscriptions",
        "/api/v2/community/posts/{id}/subscriptions",
    )
    .records("subscriptions")
    .streams(&[StreamDef::generated("post_subscriptions")
        .added(&[columns::BRAND])
        .note("who follows a post; one request for each post, so read only when named")])
    .cost(LIMITS)
    .child_of(ParentRef::to("posts").include(OF_CONTENT))
    .opt_in(),
    ListDef::get("post_comments", "/api/v2/community/posts/{id}/comments")
        .records("comments")
        .streams(&[StreamDef::generated("post_comments")
            .added(&[columns::BRAND])
            .note("for changed posts that have comments")])
        .cache_pages(transform::comment)
        .cost(LIMITS)
        .child_of(
            ParentRef::to("changed_posts")
                .filter(transform::has_comments)
                .include(&[("id", "post_id")]),
        ),
    ListDef::get("post_votes", "/api/v2/community/posts/{id}/votes")
        .records("votes")
        .streams(&[StreamDef::generated("post_votes")
            .added(&[columns::OF_POST, columns::BRAND])
            .note("for changed posts that have votes")])
        .cost(LIMITS)
        .child_of(
            ParentRef::to("changed_posts")
                .filter(transform::has_votes)
                .include(&[("id", "post_id"), ("id", "item_id")]),
        ),
    ListDef::get(
        "post_comment_votes",
        "/api/v2/community/posts/{post_id}/comments/{id}/votes",
    )
    .records("votes")
    .streams(&[StreamDef::generated("post_comment_votes")
        .added(&[columns::OF_POST, columns::BRAND])
        .note("for comments of changed posts that have votes")])
    .cost(LIMITS)
    .child_of(
        ParentRef::to("post_comments")
            .filter(transform::has_votes)
            .include(&[("post_id", "post_id"), ("id", "item_id")]),
    ),
];

/// Lists that feed no stream, and are read for their children.
pub const PARENTS: &[ListDef<Zendesk>] = &[
    // The articles again, all of them: that somebody follows one does not change it.
    ListDef::get("all_articles", "/api/v2/help_center/articles")
        .records("articles")
        .streams(&[StreamDef::generated("articles")])
        .cache_pages(transform::followed)
        .cost(LIMITS),
    // The posts again, newest first and only as far as they changed.
    ListDef::get("changed_posts", "/api/v2/community/posts")
        .records("posts")
        .streams(&[StreamDef::generated("posts")])
        .slices(Slices::NewestFirst)
        .incremental()
        .cursor("updated_at", Rfc3339)
        .params(&[("sort_by", "updated_at")])
        .cache_pages(transform::post)
        .cost(LIMITS),
];
