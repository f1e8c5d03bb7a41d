//! Delivers alerts, in up to three attempts each. Runs never wait for it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pipeline_core::http::{HeaderValue, HttpService, Method, Request};
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::{Channel, Pending};
use crate::settings::AlertSettings;

/// Attempts for each alert and channel.
pub(crate) const TRIES: u32 = 3;

/// Longest time of an attempt.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Time until the next attempt, after this many.
pub(crate) fn pause(tries: u32) -> Duration {
    Duration::from_secs(u64::from(tries) * u64::from(tries) * 2)
}

/// Sends alerts over HTTP.
#[derive(Clone, Debug)]
pub(crate) struct Sender {
    transport: Arc<dyn HttpService>,
}

impl Sender {
    pub(crate) fn new(transport: Arc<dyn HttpService>) -> Self {
        Self { transport }
    }

    /// Sends an alert once. The error holds neither the URL nor what was answered: the URL is a
    /// credential, and an answer may repeat it.
    pub(crate) async fn send(
        &self,
        pending: &Pending,
        settings: &AlertSettings,
    ) -> Result<(), String> {
        let url = match pending.channel {
            Channel::Slack => &settings.slack,
            Channel::Webhook => &settings.webhook,
        };
        let Some(url) = url else {
            // It is not configured any more.
            return Ok(());
        };
        let body = match pending.channel {
            Channel::Slack => pending.alert.slack().to_string(),
            Channel::Webhook => serde_json::to_string(&pending.alert)
                .map_err(|error| format!("it cannot be written as JSON: {error}"))?,
        };
        let request = request(url, body)?;
        let answer = tokio::time::timeout(TIMEOUT, self.transport.call(request))
            .await
            .map_err(|_| format!("no answer within {} s", TIMEOUT.as_secs()))?
            .map_err(|_| "no connection".to_owned())?;
        if answer.status.is_success() {
            Ok(())
        } else {
            Err(format!("status {}", answer.status.as_u16()))
        }
    }
}

fn request(url: &SecretString, body: String) -> Result<Request, String> {
    let url = Url::parse(url.expose_secret()).map_err(|_| "the URL cannot be read".to_owned())?;
    let mut request = Request::new(Method::POST, url);
    request.body = Bytes::from(body);
    request
        .headers
        .insert("content-type", HeaderValue::from_static("application/json"));
    Ok(request)
}
