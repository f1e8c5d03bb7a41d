//! The table `[sources.NAME.webhook]`: the vendor's webhooks, which `pipeline run` receives.

use std::collections::BTreeSet;

use pipeline_core::webhook::SigningSecrets;
use pipeline_engine::{Selection, Source};
use pipeline_service::WebhookSettings;
use secrecy::SecretString;

use super::tree::{Member, Node, Span, Value};
use super::{Config, Problem, known_members, table, text};
use crate::console::Console;

/// The member of a source that holds the table.
pub(super) const WEBHOOK: &str = "webhook";

const MEMBERS: [&str; 1] = ["secrets"];

const HELP: &str =
    "write secrets = [\"${WEBHOOK_SECRET}\"], and both secrets while one replaces the other";

/// The table as written in the file; secrets are not replaced yet.
#[derive(Clone, Debug)]
pub(super) struct WebhookTable {
    secrets: Vec<Node>,
    span: Span,
}

impl WebhookTable {
    /// Parses the table of the source that is called so.
    pub(super) fn parse(member: &Member, owner: &str) -> Result<Self, Problem> {
        let name = format!("{owner}.{WEBHOOK}");
        let members = table(&member.node, &name)?;
        known_members(members, &name, &MEMBERS)?;
        let wrong = |span: &Span, message: &str| Problem::new(span.clone(), message).help(HELP);
        let Some(secrets) = members.get("secrets") else {
            return Err(wrong(&member.span, "missing `secrets` in `webhook`"));
        };
        let Value::List(items) = &secrets.node.value else {
            let message = "`secrets` must be a list";
            return Err(wrong(&secrets.node.span, message));
        };
        if items.is_empty() {
            return Err(wrong(&secrets.node.span, "`secrets` is empty"));
        }
        for item in items {
            text(item, "secrets")?;
        }
        Ok(Self {
            secrets: items.clone(),
            span: member.span.clone(),
        })
    }

    /// What the service does with the webhooks of the source. Secrets are replaced and hidden from
    /// now on.
    pub(super) fn settings(
        &self,
        source: &Source,
        vendor: &str,
        config: &Config,
        console: &Console,
    ) -> Result<WebhookSettings, Problem> {
        let secret = |node: &Node| {
            let secret = config.secret("secrets", Some(node), console)?;
            Ok(SecretString::from(secret.unwrap_or_default()))
        };
        let secrets: Vec<SecretString> =
            self.secrets.iter().map(secret).collect::<Result<_, _>>()?;
        let secrets = SigningSecrets::new(secrets).map_err(|error| {
            Problem::new(self.span.clone(), error.message().to_owned()).help(HELP)
        })?;
        let reader = source.connector.webhooks(secrets).ok_or_else(|| {
            let message = format!("the connector `{vendor}` receives no webhooks");
            Problem::new(self.span.clone(), message)
                .help("remove `webhook`, and let a schedule read the source")
        })?;
        if !config.has_server() {
            let message = "`listen` is \"off\", so no webhook can come";
            return Err(Problem::new(self.span.clone(), message).help(
                "remove `webhook`, or listen on an address: [run] listen = \"127.0.0.1:8080\"",
            ));
        }
        Ok(WebhookSettings {
            reader,
            streams: selected(source),
        })
    }
}

/// The streams that a source reads.
fn selected(source: &Source) -> BTreeSet<String> {
    if let Selection::Named(names) = &source.streams {
        return names.iter().cloned().collect();
    }
    let endpoints = source.connector.endpoints().iter();
    endpoints
        .filter(|endpoint| !endpoint.is_opt_in())
        .flat_map(pipeline_core::Endpoint::streams)
        .map(|stream| stream.name().to_owned())
        .collect()
}
