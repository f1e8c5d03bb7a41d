//! The page: an overview of all sources, and one page for each.

use std::fmt::Write;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use maud::{DOCTYPE, Markup, html};
use pipeline_core::RunRecord;
use pipeline_core::rate_limit::BucketUse;

use super::plot::{Bar, bars};
use crate::alerts::Kind;
use crate::live::Live;
use crate::runner::{StoredStream, Verdict};
use crate::settings::SourceSettings;
use crate::supervisor::{Phase, Seen};
use crate::view::View;
use crate::words;

/// Runs that are listed and drawn.
const RUNS: usize = 40;

/// Endpoints under way that are listed.
const UNDER_WAY: usize = 12;

/// Changes whenever the page would look different, and every ten seconds, for times in words such
/// as `in 3m`.
pub(super) fn mark(view: &View) -> String {
    let mut mark = format!("{};", view.at.timestamp() / 10);
    for (source, seen) in &view.sources {
        let _ = write!(
            mark,
            "{source} {:?} {:?} {};",
            seen.phase, seen.next, seen.paused
        );
    }
    for live in view.lives.values() {
        let progress = live.progress();
        let _ = write!(
            mark,
            "{} {} {};",
            progress.requests, progress.records, progress.rows
        );
    }
    let newest = view.stored.runs.first().map(|run| (&run.run, run.took));
    let rows: u64 = view.stored.streams.iter().map(|stream| stream.rows).sum();
    let _ = write!(
        mark,
        "{newest:?} {rows} {:?} {:?}",
        view.raised, view.unreadable
    );
    mark
}

fn layout(title: &str, has_token: bool, view: Option<&View>, content: Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) }
                link rel="icon" href="data:,";
                link rel="stylesheet" href="/style.css";
                @if view.is_some() { script src="/page.js" defer {} }
            }
            body {
                a.skip href="#main" { "Skip to content" }
                header.top {
                    h1 { a href="/" { "pipeline" } }
                    @if let Some(view) = view { span.faint { (words::count(view.sources.len() as u64, "source")) } }
                    span.right {
                        span.offline role="status" { "connection lost" }
                        @if has_token && view.is_some() {
                            " " form.inline method="post" action="/logout" { button { "Log out" } }
                        }
                    }
                }
                main #main { (content) }
            }
        }
    }
}

/// The form for the token.
pub(super) fn login(is_wrong: bool) -> Markup {
    let content = html! {
        form.card.login method="post" action="/login" {
            label for="token" { "Token" }
            input #token name="token" type="password" autocomplete="current-password" required autofocus;
            @if is_wrong { p.bad role="alert" { "This is not the token of [run] in pipeline.toml." } }
            button { "Log in" }
        }
    };
    layout("Log in", true, None, content)
}

/// All sources.
pub(super) fn overview(view: &View, has_token: bool) -> Markup {
    let content = html! {
        (unreadable(view))
        @for settings in &view.settings {
            @if let Some(seen) = view.sources.get(&settings.name) {
                (card(view, settings, seen, true))
            }
        }
        @if view.settings.is_empty() { div.card.empty { "No source is configured." } }
        (history(view, None))
    };
    layout("pipeline", has_token, Some(view), content)
}

/// One source with its streams and runs.
pub(super) fn source(view: &View, name: &str, has_token: bool) -> Option<Markup> {
    let settings = view.settings.iter().find(|source| source.name == name)?;
    let seen = view.sources.get(name)?;
    let content = html! {
        p { a href="/" { "← All sources" } }
        (unreadable(view))
        (card(view, settings, seen, false))
        (streams(view, name))
        (history(view, Some(name)))
    };
    Some(layout(
        &format!("{name} · pipeline"),
        has_token,
        Some(view),
        content,
    ))
}

fn unreadable(view: &View) -> Markup {
    html! {
        @if let Some(error) = &view.unreadable {
            div.card { div.reason.bad role="alert" {
                p { strong { "The destination cannot be read. " } (error) }
            } }
        }
    }
}

fn card(view: &View, settings: &SourceSettings, seen: &Seen, is_link: bool) -> Markup {
    let name = &settings.name;
    let (class, word) = state(view, name, seen);
    html! {
        section.card aria-label=(name) {
            div.head {
                h2 { @if is_link { a href={ "/sources/" (name) } { (name) } } @else { (name) } }
                span.badge.(class) { (word) }
                @if seen.paused { span.badge.warn { "paused" } }
                @if seen.again { span.badge.busy { "runs once more" } }
                div.buttons { (buttons(name, seen)) }
            }
            (facts(view, settings, seen))
            @if let Some(live) = view.lives.get(name) { (under_way(view, live)) }
            (trouble(view, name))
        }
    }
}

/// The state of a source in a word, and the class of its color.
fn state(view: &View, name: &str, seen: &Seen) -> (&'static str, &'static str) {
    match seen.phase {
        Phase::Running => return ("busy", "running"),
        Phase::Stopping => return ("busy", "stopping"),
        Phase::Waiting => return ("busy", "waiting for its turn"),
        Phase::Idle => {}
    }
    let raised = view.raised.get(name).map(Vec::as_slice).unwrap_or_default();
    let has = |kind| raised.iter().any(|(raised, _)| *raised == kind);
    if has(Kind::Credentials) {
        ("bad", "credentials refused")
    } else if has(Kind::Failed) {
        ("bad", "failed")
    } else if has(Kind::Stale) {
        ("bad", "too old")
    } else if has(Kind::Gaps) {
        ("warn", "units missing")
    } else if view
        .last
        .get(name)
        .is_some_and(|last| last.verdict == Verdict::Busy)
    {
        ("busy", "read by another process")
    } else if of_source(view, name).next().is_none() {
        ("faint", "no data yet")
    } else {
        ("good", "up to date")
    }
}

fn buttons(name: &str, seen: &Seen) -> Markup {
    let button = |action: &str, label: &str| {
        html! {
            form.act method="post" action={ "/sources/" (name) "/" (action) } {
                button id={ (name) "-" (action) } aria-label={ (label) " " (name) } { (label) }
            }
        }
    };
    html! {
        @match seen.phase {
            Phase::Running => (button("stop", "Stop")),
            Phase::Waiting => (button("stop", "Cancel")),
            Phase::Stopping => {},
            Phase::Idle => (button("run", "Run now")),
        }
        @if seen.paused { (button("resume", "Resume")) } @else { (button("pause", "Pause")) }
    }
}

fn of_source<'a>(view: &'a View, name: &'a str) -> impl Iterator<Item = &'a StoredStream> {
    view.stored
        .streams
        .iter()
        .filter(move |stream| stream.source == name)
}

fn facts(view: &View, settings: &SourceSettings, seen: &Seen) -> Markup {
    let name = &settings.name;
    let rows: u64 = of_source(view, name).map(|stream| stream.rows).sum();
    let missing: usize = of_source(view, name)
        .map(|stream| stream.missing.len())
        .sum();
    let oldest = of_source(view, name)
        .filter(|stream| stream.available)
        .filter_map(|stream| stream.succeeded)
        .min();
    let schedule = settings
        .schedule
        .as_ref()
        .map_or_else(|| "by hand".to_owned(), ToString::to_string);
    let none = || html! { "–" };
    let next = seen.next.map_or_else(none, |next| {
        html! { (time(next)) " " span.faint { (in_words(next - view.at)) } }
    });
    let oldest = oldest.map_or_else(none, |oldest| html! { (ago(view.at - oldest)) });
    let fact = |term: &str, value: Markup| html! { div { dt { (term) } dd { (value) } } };
    html! {
        dl.facts {
            (fact("Schedule", html! { (schedule) }))
            (fact("Next start", next))
            (fact("Oldest stream", oldest))
            (fact("Streams", html! { (of_source(view, name).count()) }))
            (fact("Rows", html! { (words::number(rows)) }))
            @if let Some(last) = view.webhooks.get(name) {
                (fact("Last webhook", html! { (last.kind) " " span.faint { (ago(view.at - last.at)) } }))
            }
            @if missing > 0 { (fact("Missing units", html! { span.warn { (missing) } })) }
        }
    }
}

/// What a run has done until now, and what it has left of each limit.
fn under_way(view: &View, live: &Live) -> Markup {
    let progress = live.progress();
    let limits = live.limits();
    let reading = progress
        .endpoints
        .iter()
        .filter(|(_, endpoint)| endpoint.done.is_none() && endpoint.records > 0);
    let done = progress
        .endpoints
        .values()
        .filter(|it| it.done.is_some())
        .count();
    html! {
        h3 { "Under way " span.faint { "since " (words::duration((view.at - live.started).to_std().unwrap_or_default())) } }
        p {
            (words::count(progress.records, "record")) " read, " (words::count(progress.rows, "row")) " committed, "
            (words::count(progress.requests, "request"))
            @if progress.throttled > 0 { ", " span.warn { (words::number(progress.throttled)) " refused by a limit" } }
            @if progress.failed > 0 { ", " span.warn { (words::number(progress.failed)) " failed" } }
            "; " (done) " of " (progress.endpoints.len()) " endpoints done"
        }
        @if let Some((limit, wait)) = progress.waiting.as_ref().filter(|(_, wait)| *wait > Duration::from_secs(1)) {
            p.faint { "Last wait: " (words::duration(*wait)) " for " (limit) }
        }
        @if !limits.is_empty() { (budget(&limits)) }
        @for (name, endpoint) in reading.take(UNDER_WAY) {
            span.badge { (name) " " (words::number(endpoint.records)) } " "
        }
    }
}

fn budget(limits: &[BucketUse]) -> Markup {
    html! {
        div.scroll { table {
            thead { tr { th { "Limit" } th {} th.number { "Used" } th.number { "Requests" } th.number { "Waited" } } }
            tbody {
                @for limit in limits {
                    @let used = limit.used().filter(|used| used.is_finite()).map(|used| used.min(1.0));
                    tr {
                        td { (limit.bucket) ": " (limit.limit) }
                        td { @if let Some(used) = used { progress value=(format!("{used:.3}")) max="1" aria-label={ "used of " (limit.bucket) } {} } }
                        td.number { @match used { Some(used) => { (format!("{:.0} %", used * 100.0)) } None => { "–" } } }
                        td.number { (words::number(limit.requests)) }
                        td.number { (words::duration(limit.waited)) }
                    }
                }
            }
        } }
    }
}

/// Why the last run is not well, and what to do.
fn trouble(view: &View, name: &str) -> Markup {
    let last = view.last.get(name);
    let class = match last.map(|last| last.verdict) {
        Some(Verdict::Failed | Verdict::Refused) => "bad",
        Some(Verdict::Missing) => "warn",
        _ => return html! {},
    };
    html! {
        @if let Some(last) = last {
            @if let Some(error) = &last.error {
                div.reason.(class) {
                    p { (error) }
                    @if let Some(help) = &last.help { p.faint { (help) } }
                }
            }
        }
    }
}

fn streams(view: &View, name: &str) -> Markup {
    html! {
        section.card {
            h2 { "Streams" }
            @if of_source(view, name).next().is_none() { p.empty { "Nothing is stored yet." } }
            @else {
                div.scroll { table {
                    thead { tr {
                        th { "Stream" } th.number { "Rows" } th { "State" } th { "Complete" } th { "Up to" } th { "" }
                    } }
                    tbody { @for stream in of_source(view, name) { (stream_row(view, stream)) } }
                } }
            }
        }
    }
}

fn stream_row(view: &View, stream: &StoredStream) -> Markup {
    let class = match (&stream.error, stream.missing.is_empty()) {
        (Some(_), _) if stream.available => "bad",
        (_, false) => "warn",
        _ => "",
    };
    html! {
        tr {
            td { (stream.stream) }
            td.number { (words::number(stream.rows)) }
            td class=(class) { (stream.state) }
            td.time { @match stream.succeeded { Some(at) => { (ago(view.at - at)) } None => { "–" } } }
            td.time { @match stream.cursor { Some(at) => { (time(at)) } None => { "–" } } }
            td.long {
                @if let Some(error) = &stream.error { span.faint { (error) } }
                @if !stream.missing.is_empty() {
                    details id={ "missing-" (stream.stream) } {
                        summary { (stream.missing.len()) " missing" }
                        ul { @for (unit, reason) in stream.missing.iter().take(50) { li { (unit) ": " (reason) } } }
                    }
                }
            }
        }
    }
}

/// The last runs of one source, or of all.
fn history(view: &View, name: Option<&str>) -> Markup {
    let runs: Vec<&RunRecord> = view
        .stored
        .runs
        .iter()
        .filter(|run| name.is_none_or(|name| run.sources.iter().any(|source| source == name)))
        .take(RUNS)
        .collect();
    html! {
        section.card {
            h2 { "Runs" }
            @if runs.is_empty() { p.empty { "No run yet." } }
            @else {
                div.plots { (plots(&runs, name)) }
                div.scroll { table {
                    thead { tr {
                        th { "Started" } @if name.is_none() { th { "Source" } } th { "Result" } th.number { "Took" } th.number { "Rows" } th { "Why" }
                    } }
                    tbody { @for run in &runs { (run_row(run, name)) } }
                } }
            }
        }
    }
}

fn plots(runs: &[&RunRecord], name: Option<&str>) -> Markup {
    let bar = |run: &&RunRecord, value: f64, shown: String| Bar {
        value,
        title: format!("{}: {shown}", time_text(run.started)),
        class: result(run).0,
    };
    #[expect(clippy::cast_precision_loss, reason = "the height of a bar")]
    let rows: Vec<Bar> = runs
        .iter()
        .rev()
        .map(|run| {
            let rows = rows(run, name);
            bar(run, rows as f64, format!("{} rows", words::number(rows)))
        })
        .collect();
    let took: Vec<Bar> = runs
        .iter()
        .rev()
        .map(|run| {
            let took = run.took.unwrap_or_default();
            bar(run, took.as_secs_f64(), words::duration(took))
        })
        .collect();
    let most_rows = runs
        .iter()
        .map(|run| self::rows(run, name))
        .max()
        .unwrap_or(0);
    let longest = runs
        .iter()
        .filter_map(|run| run.took)
        .max()
        .unwrap_or_default();
    html! {
        (bars("Rows of each run", &words::number(most_rows), &rows, RUNS))
        (bars("Duration of each run", &words::duration(longest), &took, RUNS))
    }
}

/// Rows that a run committed, of one source where one is asked for.
fn rows(run: &RunRecord, name: Option<&str>) -> u64 {
    let of = |name| {
        run.endpoints
            .iter()
            .filter(move |endpoint| endpoint.id.source == name)
            .map(|endpoint| endpoint.rows)
            .sum()
    };
    name.map_or(run.rows, of)
}

fn run_row(run: &RunRecord, name: Option<&str>) -> Markup {
    let (class, word) = result(run);
    let why = run.error.as_deref().or_else(|| {
        let mut failed = run.endpoints.iter().filter(|it| it.status != "unavailable");
        failed.find_map(|endpoint| endpoint.error.as_deref())
    });
    html! {
        tr {
            td.time { (time(run.started)) }
            @if name.is_none() { td { (run.sources.join(", ")) } }
            td class=(class) { (word) }
            td.number { @match run.took { Some(took) => { (words::duration(took)) } None => { "–" } } }
            td.number { (words::number(rows(run, name))) }
            td.long { @if class != "good" { span.faint { (why.unwrap_or_default()) } } }
        }
    }
}

/// How a run ended: class and words.
fn result(run: &RunRecord) -> (&'static str, &'static str) {
    match (run.failure.as_deref(), run.took) {
        (None, None) => ("busy", "running, or killed"),
        (None, Some(_)) => ("good", "done"),
        (Some("cancelled"), _) => ("warn", "interrupted"),
        (Some("checkpoint_conflict"), _) => ("warn", "read by another process"),
        (Some("unauthenticated" | "permission_denied"), _) => ("bad", "credentials refused"),
        (Some("unavailable"), _) => ("warn", "incomplete"),
        (Some(_), _) => ("bad", "failed"),
    }
}

fn time_text(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M:%S UTC").to_string()
}

fn time(at: DateTime<Utc>) -> Markup {
    let exact = at.to_rfc3339_opts(SecondsFormat::Secs, true);
    html! { time datetime=(exact) { (time_text(at)) } }
}

fn ago(age: TimeDelta) -> String {
    format!("{} ago", words::duration(age.to_std().unwrap_or_default()))
}

fn in_words(until: TimeDelta) -> String {
    match until.to_std() {
        Ok(until) if until >= Duration::from_secs(1) => format!("in {}", words::duration(until)),
        _ => "now".to_owned(),
    }
}
