//! The tables `[run]` and `[alerts]`, and when a source is run.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono_tz::Tz;
use pipeline_service::{
    AlertSettings, Freshness, JITTER, Kind, LISTEN, MAX_RUNS, Overlap, Schedule, Settings,
    SourceSettings, check_url, zone,
};
use secrecy::SecretString;

use super::resolver::Resolver;
use super::tree::{Member, Node, Span, Table, Value};
use super::{
    Config, Problem, closest, known_members, positive, reference, suggest, table, text, unknown,
};
use crate::console::Console;
use crate::exit::{Failure, Result};
use crate::job::MAX_WAIT;
use crate::units;

pub(super) const RUN_MEMBERS: [&str; 6] =
    ["listen", "token", "state", "jitter", "max_runs", "max_wait"];
pub(super) const ALERT_MEMBERS: [&str; 3] = ["slack", "webhook", "when"];

/// Members of a source that say when it is run.
pub(super) const TIMING_MEMBERS: [&str; 7] = [
    "schedule",
    "every",
    "timezone",
    "overlap",
    "catch_up",
    "max_duration",
    "freshness",
];

/// Folder for tokens, limits, checkpoints of standard output, and what a service remembers.
const PRIVATE: &str = ".pipeline";

/// Shortest token, in bytes.
const SHORTEST_TOKEN: usize = 16;

/// Turns the server off.
const OFF: &str = "off";

/// `[run]` and `[alerts]` as written in the file; secrets are not replaced yet.
#[derive(Clone, Debug)]
pub(super) struct ServiceTables {
    listen: Option<SocketAddr>,
    listen_span: Span,
    token: Option<Node>,
    /// Folder beside the configuration, or wherever `state` says.
    pub(super) private: PathBuf,
    jitter: Duration,
    max_runs: usize,
    max_wait: Duration,
    slack: Option<Node>,
    webhook: Option<Node>,
    when: BTreeSet<Kind>,
}

impl ServiceTables {
    pub(super) fn parse(root: &Table, folder: &Path) -> Result<Self, Problem> {
        let none = Table::default();
        let inner = |name: &str| match root.get(name) {
            Some(member) => table(&member.node, name),
            None => Ok(&none),
        };
        let (run, alerts) = (inner("run")?, inner("alerts")?);
        known_members(run, "run", &RUN_MEMBERS)?;
        known_members(alerts, "alerts", &ALERT_MEMBERS)?;
        let secret = |table: &Table, name: &str| -> Result<Option<Node>, Problem> {
            let Some(member) = table.get(name) else {
                return Ok(None);
            };
            text(&member.node, name)?;
            Ok(Some(member.node.clone()))
        };
        Ok(Self {
            listen: listen(run)?,
            listen_span: run.get("listen").map_or(0..0, |it| it.node.span.clone()),
            token: secret(run, "token")?,
            private: private(run, folder)?,
            jitter: duration(run, "jitter")?.unwrap_or(JITTER),
            max_runs: match run.get("max_runs") {
                Some(member) => {
                    usize::try_from(positive(&member.node, "max_runs")?).unwrap_or(usize::MAX)
                }
                None => MAX_RUNS,
            },
            max_wait: duration(run, "max_wait")?.unwrap_or(MAX_WAIT),
            slack: secret(alerts, "slack")?,
            webhook: secret(alerts, "webhook")?,
            when: when(alerts)?,
        })
    }
}

impl Config {
    /// What the service is to do. Secrets are replaced and hidden from now on.
    pub(crate) fn service(&self, console: &Console) -> Result<Settings> {
        let shown = |problem: Problem| {
            let failure = self.failure(&problem);
            Failure {
                text: console.redact(&failure.text),
                ..failure
            }
        };
        let tables = &self.service;
        let token = self
            .secret("token", tables.token.as_ref(), console)
            .map_err(shown)?;
        if let (Some(secret), Some(node)) = (&token, &tables.token)
            && secret.len() < SHORTEST_TOKEN
        {
            let problem = Problem::new(node.span.clone(), "`token` is too short to be safe");
            return Err(shown(problem.help(
                "use at least 16 characters, such as the output of `openssl rand -hex 16`",
            )));
        }
        let is_open = tables.listen.is_some_and(|it| !it.ip().is_loopback());
        if is_open && token.is_none() {
            let problem = Problem::new(
                tables.listen_span.clone(),
                "other machines can connect to `listen`, and there is no `token`",
            );
            return Err(shown(problem.help(
                "add token = \"${PIPELINE_TOKEN}\" to [run], or listen on 127.0.0.1",
            )));
        }
        let url = |name: &str, node: Option<&Node>| {
            let found = self.secret(name, node, console)?;
            if let (Some(url), Some(node)) = (&found, node) {
                check_url(url).map_err(|message| {
                    Problem::new(node.span.clone(), format!("`{name}` {message}"))
                        .help("write the URL as it was issued, such as https://hooks.slack.com/services/…")
                })?;
                // A path may be all that an error repeats of it.
                let path = url.splitn(4, '/').nth(3).unwrap_or_default();
                console.hide(path.to_owned().into());
            }
            Ok(found.map(SecretString::from))
        };
        Ok(Settings {
            listen: tables.listen,
            token: token.map(SecretString::from),
            state: self.private().to_owned(),
            jitter: tables.jitter,
            max_runs: tables.max_runs,
            sources: self.sources.iter().map(|it| it.timing().clone()).collect(),
            alerts: AlertSettings {
                slack: url("slack", tables.slack.as_ref()).map_err(shown)?,
                webhook: url("webhook", tables.webhook.as_ref()).map_err(shown)?,
                when: tables.when.clone(),
            },
        })
    }

    /// Folder for what is kept besides the destination: tokens, limits, and what a service
    /// remembers.
    pub(crate) fn private(&self) -> &Path {
        &self.service.private
    }

    /// Longest time that a request of the service waits for a rate limit.
    pub(crate) fn max_wait(&self) -> Duration {
        self.service.max_wait
    }

    /// True when the service listens.
    pub(super) fn has_server(&self) -> bool {
        self.service.listen.is_some()
    }

    /// The secret that a member holds, which is hidden from now on.
    pub(super) fn secret(
        &self,
        name: &str,
        node: Option<&Node>,
        console: &Console,
    ) -> Result<Option<String>, Problem> {
        let Some(node) = node else {
            return Ok(None);
        };
        let mut resolver = Resolver::hiding_all(&self.folder, console);
        let value = resolver.json(node)?;
        resolver.warn(self);
        let value = value.as_str().unwrap_or_default().trim().to_owned();
        if value.is_empty() {
            return Err(Problem::new(
                node.span.clone(),
                format!("`{name}` is empty"),
            ));
        }
        console.hide(value.clone().into());
        Ok(Some(value))
    }
}

fn listen(run: &Table) -> Result<Option<SocketAddr>, Problem> {
    let Some(member) = run.get("listen") else {
        return Ok(LISTEN.parse().ok());
    };
    let address = text(&member.node, "listen")?;
    if address == OFF {
        return Ok(None);
    }
    address.parse().map(Some).map_err(|_| {
        let message = "`listen` is not an address with a port";
        Problem::new(member.node.span.clone(), message)
            .help("write listen = \"127.0.0.1:8080\", or \"off\" for no server")
    })
}

/// The folder beside the configuration, unless `state` names another one. A variable in it is
/// replaced now: every command needs the folder.
fn private(run: &Table, folder: &Path) -> Result<PathBuf, Problem> {
    let Some(member) = run.get("state") else {
        return Ok(folder.join(PRIVATE));
    };
    let path = text(&member.node, "state")?;
    let resolved = reference::resolve(path, folder, |name| std::env::var(name).ok())
        .map_err(|error| Problem::new(member.node.span.clone(), error.message).help(error.help))?;
    Ok(folder.join(resolved.text))
}

fn when(alerts: &Table) -> Result<BTreeSet<Kind>, Problem> {
    let Some(member) = alerts.get("when") else {
        return Ok(Kind::DEFAULT.into());
    };
    let names = Kind::ALL.map(Kind::name);
    let wrong = |span: &Span, message: String| {
        Problem::new(span.clone(), message).help(format!(
            "write when = [\"failed\", \"stale\"]; known events: {}",
            names.join(", ")
        ))
    };
    let Value::List(items) = &member.node.value else {
        return Err(wrong(
            &member.node.span,
            "`when` must be a list of events".to_owned(),
        ));
    };
    let kind = |item: &Node| {
        let Value::Text(name) = &item.value else {
            return Err(wrong(
                &item.span,
                "`when` must be a list of events".to_owned(),
            ));
        };
        let known = Kind::ALL.into_iter().find(|kind| kind.name() == name);
        known.ok_or_else(|| {
            let mut problem = wrong(&item.span, unknown("event", name, names));
            if closest(name, names).is_some() {
                problem.harmless.push(item.span.clone());
            }
            problem
        })
    };
    items.iter().map(kind).collect()
}

/// When a source is run.
pub(super) fn timing(name: &str, members: &Table) -> Result<SourceSettings, Problem> {
    let default = SourceSettings::new(name);
    Ok(SourceSettings {
        schedule: schedule(members)?,
        overlap: overlap(members)?,
        catch_up: truth(members, "catch_up")?.unwrap_or(default.catch_up),
        max_duration: duration(members, "max_duration")?,
        freshness: match members.get("freshness") {
            Some(member) => freshness(&member.node)?,
            None => default.freshness.clone(),
        },
        ..default
    })
}

/// The streams that `freshness` names.
pub(super) fn fresh_streams(members: &Table) -> Vec<(String, Span)> {
    match members.get("freshness").map(|member| &member.node.value) {
        Some(Value::Table(table)) => table
            .0
            .iter()
            .filter(|member| member.name != "*")
            .map(|member| (member.name.clone(), member.span.clone()))
            .collect(),
        _ => Vec::new(),
    }
}

fn schedule(members: &Table) -> Result<Option<Schedule>, Problem> {
    let (cron, every) = (members.get("schedule"), members.get("every"));
    let zone = members.get("timezone").map(time_zone).transpose()?;
    match (cron, every) {
        (Some(_), Some(every)) => Err(Problem::new(
            every.span.clone(),
            "there are both `schedule` and `every`",
        )
        .help("remove one of them")),
        (Some(member), None) => {
            let expression = text(&member.node, "schedule")?;
            let schedule = Schedule::cron(expression, zone.unwrap_or(Tz::UTC));
            schedule.map(Some).map_err(|error| {
                let problem = Problem::new(
                    member.node.span.clone(),
                    format!("invalid `schedule`: {error}"),
                );
                problem.help(
                    "write minute, hour, day of month, month and day of week, such as \"*/15 * * * *\" or \"30 2 * * 1-5\"",
                )
            })
        }
        (None, Some(member)) => {
            let interval = duration_of(&member.node, "every")?;
            Schedule::every(interval).map(Some).map_err(|error| {
                Problem::new(
                    member.node.span.clone(),
                    format!("invalid `every`: {error}"),
                )
                .help("write every = \"15m\"")
            })
        }
        (None, None) => Ok(None),
    }
}

fn time_zone(member: &Member) -> Result<Tz, Problem> {
    let name = text(&member.node, "timezone")?;
    zone(name).map_err(|_| {
        Problem::new(member.node.span.clone(), "unknown time zone")
            .help("write the name of a region and a city, such as \"Europe/Berlin\", or \"UTC\"")
    })
}

fn overlap(members: &Table) -> Result<Overlap, Problem> {
    let Some(member) = members.get("overlap") else {
        return Ok(Overlap::default());
    };
    match text(&member.node, "overlap")? {
        "skip" => Ok(Overlap::Skip),
        "queue" => Ok(Overlap::Queue),
        other => {
            let known = ["skip", "queue"];
            let problem = Problem::new(
                member.node.span.clone(),
                unknown("value of `overlap`", other, known),
            );
            Err(problem.help(suggest(other, "values", known)))
        }
    }
}

fn truth(members: &Table, name: &str) -> Result<Option<bool>, Problem> {
    match members.get(name).map(|member| &member.node) {
        None => Ok(None),
        Some(Node {
            value: Value::Plain(serde_json::Value::Bool(truth)),
            ..
        }) => Ok(Some(*truth)),
        Some(node) => Err(Problem::new(
            node.span.clone(),
            format!("`{name}` must be true or false"),
        )),
    }
}

fn freshness(node: &Node) -> Result<Freshness, Problem> {
    let Value::Table(streams) = &node.value else {
        return Ok(Freshness {
            default: Some(duration_of(node, "freshness")?),
            ..Freshness::default()
        });
    };
    let mut freshness = Freshness::default();
    for Member { name, node, .. } in &streams.0 {
        let age = duration_of(node, "freshness")?;
        if name == "*" {
            freshness.default = Some(age);
        } else {
            freshness.streams.insert(name.clone(), age);
        }
    }
    Ok(freshness)
}

fn duration(members: &Table, name: &str) -> Result<Option<Duration>, Problem> {
    let member = members.get(name);
    member
        .map(|member| duration_of(&member.node, name))
        .transpose()
}

/// A duration as a person writes it.
pub(super) fn duration_of(node: &Node, name: &str) -> Result<Duration, Problem> {
    units::duration(text(node, name)?).map_err(|_| {
        Problem::new(node.span.clone(), format!("invalid duration for `{name}`"))
            .help("write one such as 200ms, 90s, 10m, or 1h30m")
    })
}
