//! `pipeline check`: tests credentials, every endpoint, and the destination.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use pipeline_core::{Availability, BuildContext, CheckReport, Error, Stream};
use pipeline_engine::{Damage, Delivery, Depth, Selection, Source};
use serde_json::{Map, Value, json};

use crate::args::Format;
use crate::config::{Config, build_all};
use crate::console::Console;
use crate::exit::{Exit, Failure, Result};
use crate::output::checks::{Checks, described};
use crate::output::table::{Align, TextTable};
use crate::setup::Target;
use crate::{args, connectors, setup};

/// A person waits for the result, so a check reports what a sync would wait out.
const ATTEMPTS: u32 = 2;
/// Longest time that one request may take, its second attempt included.
const PATIENCE: Duration = Duration::from_mins(1);

pub(super) async fn run(args: &args::Check, console: &Arc<Console>) -> Result<Exit> {
    let config = Config::load(&args.file.config)?;
    let checks = Arc::new(Checks::new(Arc::clone(console)));
    let target = Target::of(&config, console)?;
    let context = impatient(setup::context(&config, Arc::clone(&checks) as _));
    let sources = build_all(
        &config,
        &config.select(&args.sources)?,
        &connectors::registry(),
        &context,
        console,
    )?;
    for (of, source) in config.select(&args.sources)?.into_iter().zip(&sources) {
        of.webhook(source, &config, console)?;
    }
    let mut checked = Vec::with_capacity(sources.len());
    for source in &sources {
        let endpoints = selected(source);
        let names: Vec<&str> = endpoints.iter().map(String::as_str).collect();
        checks.begin(&source.name);
        checked.push((source.name.as_str(), source.connector.check(&names).await));
    }
    checks.begin("destination");
    let destination = held(
        &target,
        if args.deep {
            Depth::Content
        } else {
            Depth::Shape
        },
    )
    .await;
    checks.end();
    match args.output {
        Format::Human => console.print(&text(&target, &checked, &destination, args.deep)),
        Format::Json => console.print(&format!("{:#}", json(&checked, &destination, console))),
    }
    let sources = checked
        .iter()
        .zip(&sources)
        .map(|((_, result), source)| exit_of(result, source));
    Ok(sources
        .chain([destination.exit()])
        .max()
        .unwrap_or(Exit::Done))
}

/// Two attempts a request, and no long waits.
fn impatient(context: BuildContext) -> BuildContext {
    let retry = context
        .retry
        .max_attempts(ATTEMPTS)
        .max_elapsed(PATIENCE)
        .max_server_delay(PATIENCE);
    context.retry(retry)
}

/// What was found of the destination.
struct Held {
    /// What it promises, if it can be written.
    writable: Result<Delivery>,
    /// Where its content differs from its log.
    damage: Vec<Damage>,
}

impl Held {
    fn exit(&self) -> Exit {
        let damaged = if self.damage.is_empty() {
            Exit::Done
        } else {
            Exit::Destination
        };
        self.writable
            .as_ref()
            .map_or_else(|failure| failure.exit, |_| Exit::Done)
            .max(damaged)
    }
}

/// Compares the destination with its log, before it is opened to be written, and tries whether it
/// can be.
async fn held(target: &Target, depth: Depth) -> Held {
    let damage = async {
        match target.to_read().await? {
            Some(destination) => destination
                .verify(depth)
                .await
                .map_err(|error| Failure::of_destination(&error)),
            None => Ok(Vec::new()),
        }
    };
    let damage = match damage.await {
        Ok(damage) => damage,
        Err(failure) => {
            return Held {
                writable: Err(failure),
                damage: Vec::new(),
            };
        }
    };
    let writable = async {
        let destination = target.open().await?;
        destination
            .check()
            .await
            .map_err(|error| Failure::of_destination(&error))?;
        Ok(destination.delivery())
    };
    Held {
        writable: writable.await,
        damage,
    }
}

/// The endpoints that feed the selected streams; none for all.
fn selected(source: &Source) -> Vec<String> {
    let Selection::Named(streams) = &source.streams else {
        return Vec::new();
    };
    let feeds = |stream: &Stream| streams.iter().any(|name| name == stream.name());
    let endpoints = source
        .connector
        .endpoints()
        .iter()
        .filter(|endpoint| endpoint.streams().any(feeds));
    endpoints
        .map(|endpoint| endpoint.name().to_owned())
        .collect()
}

/// An endpoint that may not be read counts only when one of its streams was selected by name.
fn exit_of(result: &Result<CheckReport, Error>, source: &Source) -> Exit {
    let named = matches!(source.streams, Selection::Named(_));
    match result {
        Err(error) => error.kind().into(),
        Ok(report) => {
            // Where nothing can be read, it is not the account that lacks a product.
            let is_withheld = |(_, availability): &(String, Availability)| {
                *availability != Availability::Available
            };
            let counts = named || report.endpoints.iter().all(is_withheld);
            let worst = report
                .endpoints
                .iter()
                .map(|(_, availability)| match availability {
                    Availability::Unavailable(_) if counts => Exit::Authentication,
                    Availability::Refused(_) if counts => Exit::Incomplete,
                    Availability::Failed(_) => Exit::Incomplete,
                    _ => Exit::Done,
                });
            worst.max().unwrap_or(Exit::Done)
        }
    }
}

type Checked<'a> = (&'a str, Result<CheckReport, Error>);

fn text(target: &Target, checked: &[Checked<'_>], destination: &Held, is_deep: bool) -> String {
    let mut text = String::new();
    for (source, result) in checked {
        let _ = writeln!(text, "{source}");
        match result {
            Ok(report) => report_text(report, &mut text),
            Err(error) => text.push_str(&indented(&Failure::from(error).text)),
        }
        text.push('\n');
    }
    let location = target.location();
    match &destination.writable {
        Ok(delivery) => {
            let promise = match delivery {
                Delivery::ExactlyOnce => "exactly once",
                Delivery::AtLeastOnce => "at least once",
            };
            let _ = writeln!(
                text,
                "destination {location}\n  writable, delivers {promise}"
            );
        }
        Err(failure) => {
            let _ = write!(text, "destination {location}\n{}", indented(&failure.text));
        }
    }
    damage_text(destination, is_deep, &mut text);
    text
}

fn damage_text(Held { writable, damage }: &Held, is_deep: bool, text: &mut String) {
    if damage.is_empty() && writable.is_ok() {
        let compared = if is_deep {
            "its content matches its log"
        } else {
            "sizes and counts match its log"
        };
        let _ = writeln!(text, "  {compared}");
    }
    for Damage { table, what, help } in damage {
        let table = table.as_ref().map_or_else(String::new, |table| {
            format!("{}/{}: ", table.source, table.stream)
        });
        let _ = writeln!(text, "  error: {table}{what}\n   help: {help}");
    }
}

fn report_text(report: &CheckReport, text: &mut String) {
    for (name, value) in &report.facts {
        let _ = writeln!(text, "  {name}: {value}");
    }
    let mut table = TextTable::new([
        ("  ENDPOINT", Align::Left),
        ("RESULT", Align::Left),
        ("REASON", Align::Left),
    ]);
    let mut available = 0;
    for (endpoint, availability) in &report.endpoints {
        let (result, reason) = described(availability);
        available += usize::from(*availability == Availability::Available);
        table.row([
            format!("  {endpoint}"),
            result.to_owned(),
            reason.unwrap_or_default().to_owned(),
        ]);
    }
    text.push_str(&table.render());
    let _ = writeln!(
        text,
        "  {available} of {} endpoints can be read",
        report.endpoints.len()
    );
}

fn indented(text: &str) -> String {
    text.lines()
        .fold(String::new(), |text, line| text + "  " + line + "\n")
}

fn json(checked: &[Checked<'_>], destination: &Held, console: &Console) -> Value {
    let sources = checked.iter().map(|(source, result)| match result {
        Ok(report) => {
            let facts: Map<_, _> = report.facts.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
            let endpoints = report.endpoints.iter().map(|(endpoint, availability)| {
                let (result, reason) = described(availability);
                json!({ "endpoint": endpoint, "result": result, "reason": reason.map(|reason| console.redact(reason)) })
            });
            json!({ "source": source, "facts": facts, "endpoints": endpoints.collect::<Vec<_>>() })
        }
        Err(error) => json!({ "source": source, "error": console.redact(&Failure::from(error).text) }),
    });
    json!({
        "sources": sources.collect::<Vec<_>>(),
        "destination": match &destination.writable {
            Ok(delivery) => json!({ "delivery": delivery, "damage": destination.damage }),
            Err(failure) => json!({ "error": console.redact(&failure.text), "damage": destination.damage }),
        },
    })
}
