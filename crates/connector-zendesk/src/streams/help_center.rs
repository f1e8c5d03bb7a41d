//! Help Center and Community. Both have a budget of requests of their own, and answer with a web
//! page when they are off.

use std::time::Duration;

use pipeline_core::TimeFormat::Rfc3339;

use crate::limits::HELP_CENTER;
use crate::table::{List, Reads, Walk, list, stream};
use crate::{columns, maps};

const LIMITS: &[&str] = &[HELP_CENTER];

/// What a vote, and a subscription, call the record that they belong to.
const OF_ITEM: &[(&str, &str)] = &[("id", "item_id")];
const OF_CONTENT: &[(&str, &str)] = &[("id", "content_id")];

pub(super) const LISTS: &[List] = &[
    list(
        "articles",
        "/api/v2/help_center/incremental/articles",
        &[stream("articles", "articles")
            .by_brand()
            .added(columns::NAME)
            .note("drafts for those who may manage them; a vote sends the article again; one that is archived or deleted just vanishes")],
    )
    .walk(Walk::TimePages)
    .reads(Reads::Changes(Duration::ZERO))
    .cursor("updated_at", Rfc3339)
    .shared(maps::article)
    .limits(LIMITS),
    list(
        "article_attachments",
        "/api/v2/help_center/articles/{id}/attachments",
        &[stream("article_attachments", "article_attachments")
            .by_brand()
            .note("descriptions, not the files; one request for each changed article")],
    )
    .limits(LIMITS)
    .each("articles", None, &[("id", "article_id")]),
    list(
        "article_comments",
        "/api/v2/help_center/articles/{id}/comments",
        &[stream("article_comments", "comments").by_brand().note("`source_id` is the article; one request for each changed article")],
    )
    .shared(maps::comment)
    .limits(LIMITS)
    .each("articles", None, &[("id", "source_id")]),
    list(
        "article_votes",
        "/api/v2/help_center/articles/{id}/votes",
        &[stream("article_votes", "votes")
            .by_brand()
            .note("for changed articles that have votes; `help_center_votes` has all votes at once")],
    )
    .limits(LIMITS)
    .each("articles", Some(maps::has_votes), OF_ITEM),
    list(
        "article_comment_votes",
        "/api/v2/help_center/articles/{source_id}/comments/{id}/votes",
        &[stream("article_comment_votes", "votes")
            .by_brand()
            .added(columns::OF_ARTICLE)
            .note("for comments of changed articles that have votes")],
    )
    .limits(LIMITS)
    .each("article_comments", Some(maps::has_votes), &[("source_id", "article_id"), ("id", "item_id")]),
    list(
        "article_translations",
        "/api/v2/help_center/articles/{id}/translations",
        &[stream("article_translations", "translations")
            .by_brand()
            .added(columns::OF_ARTICLE)
            .note("`body` in every locale; an article's own is that of its source locale")],
    )
    .limits(LIMITS)
    .each("articles", None, &[("id", "article_id"), ("id", "source_id")]),
    list("article_labels", "/api/v2/help_center/articles/labels", &[stream("article_labels", "labels").by_brand()]).limits(LIMITS),
    list("categories", "/api/v2/help_center/categories", &[stream("categories", "categories").by_brand().added(columns::NAME)])
        .limits(LIMITS),
    list("sections", "/api/v2/help_center/sections", &[stream("sections", "sections").by_brand()]).shared(maps::followed).limits(LIMITS),
    list("user_segments", "/api/v2/help_center/user_segments", &[stream("user_segments", "user_segments")]).limits(LIMITS),
    list(
        "article_subscriptions",
        "/api/v2/help_center/articles/{id}/subscriptions",
        &[stream("article_subscriptions", "subscriptions")
            .by_brand()
            .note("who follows an article; one request for each article, so read only when named")],
    )
    .limits(LIMITS)
    .each("all_articles", None, OF_CONTENT)
    .opt_in(),
    list(
        "section_subscriptions",
        "/api/v2/help_center/sections/{id}/subscriptions",
        &[stream("section_subscriptions", "subscriptions")
            .by_brand()
            .note("who follows a section; one request for each section, so read only when named")],
    )
    .limits(LIMITS)
    .each("sections", None, OF_CONTENT)
    .opt_in(),
    list(
        "help_center_votes",
        "/api/v2/help_center/votes",
        &[stream("help_center_votes", "votes").by_brand().note("every vote in one list: `item_type` and `item_id` say on what")],
    )
    .limits(LIMITS),
    list("topics", "/api/v2/community/topics", &[stream("topics", "topics").added(columns::TOPIC_MORE).by_brand()])
        .shared(maps::followed)
        .limits(LIMITS),
    list("posts", "/api/v2/community/posts", &[stream("posts", "posts").added(columns::POST_MORE).by_brand().note("needs Gather")])
        .shared(maps::followed)
        .limits(LIMITS),
    list(
        "topic_subscriptions",
        "/api/v2/community/topics/{id}/subscriptions",
        &[stream("topic_subscriptions", "subscriptions")
            .by_brand()
            .note("who follows a topic; one request for each topic, so read only when named")],
    )
    .limits(LIMITS)
    .each("topics", None, OF_CONTENT)
    .opt_in(),
    list(
        "post_subscriptions",
        "/api/v2/community/posts/{id}/subscriptions",
        &[stream("post_subscriptions", "subscriptions")
            .by_brand()
            .note("who follows a post; one request for each post, so read only when named")],
    )
    .limits(LIMITS)
    .each("posts", None, OF_CONTENT)
    .opt_in(),
    list(
        "post_comments",
        "/api/v2/community/posts/{id}/comments",
        &[stream("post_comments", "comments").by_brand().note("for changed posts that have comments")],
    )
    .shared(maps::comment)
    .limits(LIMITS)
    .each("changed_posts", Some(maps::has_comments), &[("id", "post_id")]),
    list(
        "post_votes",
        "/api/v2/community/posts/{id}/votes",
        &[stream("post_votes", "votes").by_brand().added(columns::OF_POST).note("for changed posts that have votes")],
    )
    .limits(LIMITS)
    .each("changed_posts", Some(maps::has_votes), &[("id", "post_id"), ("id", "item_id")]),
    list(
        "post_comment_votes",
        "/api/v2/community/posts/{post_id}/comments/{id}/votes",
        &[stream("post_comment_votes", "votes").by_brand().added(columns::OF_POST).note("for comments of changed posts that have votes")],
    )
    .limits(LIMITS)
    .each("post_comments", Some(maps::has_votes), &[("post_id", "post_id"), ("id", "item_id")]),
];

/// Lists that feed no stream, and are read for their children.
pub(super) const PARENTS: &[List] = &[
    // The articles again, all of them: that somebody follows one does not change it.
    list(
        "all_articles",
        "/api/v2/help_center/articles",
        &[stream("articles", "articles")],
    )
    .shared(maps::followed)
    .limits(LIMITS),
    // The posts again, newest first and only as far as they changed.
    list(
        "changed_posts",
        "/api/v2/community/posts",
        &[stream("posts", "posts")],
    )
    .reads(Reads::NewestFirst)
    .cursor("updated_at", Rfc3339)
    .query(&[("sort_by", "updated_at")])
    .shared(maps::post)
    .limits(LIMITS),
];
