//! Errors of a request, with what is known of it.

use super::{Exchange, redirect_host};
use crate::error::{Error, ErrorKind};
use crate::http::HeaderMap;
use crate::http::client::classify::is_web_page;
use crate::http::client::received::{Body, Received};
use crate::http::client::redact;
use crate::message::ResponseView;

impl Exchange<'_> {
    pub(super) fn answer<'b>(&'b self, received: &'b Received) -> ResponseView<'b> {
        let body = match &received.body {
            Body::Memory(body) => body,
            Body::Spool(spool) => spool.beginning(),
        };
        ResponseView {
            request: &self.request,
            status: received.status,
            headers: &received.headers,
            body,
        }
    }

    pub(super) fn request_id(&self, headers: &HeaderMap) -> Option<String> {
        let id = headers
            .get(self.client.request_id.as_ref()?)?
            .to_str()
            .ok()?;
        Some(redact::request_id(id, &self.secrets))
    }

    /// An error about an answer, with what a person needs to look into it.
    pub(super) fn answer_error(
        &self,
        kind: ErrorKind,
        message: &str,
        received: &Received,
    ) -> Error {
        let mut error =
            Error::new(kind, message).with_context("status", received.status.as_u16().to_string());
        if let Some(id) = self.request_id(&received.headers) {
            error = error.with_context("request_id", id);
        }
        match redirect_host(&self.request, received) {
            Some(host) => error.with_context("redirect_host", self.secrets.hide(&host)),
            None => error,
        }
    }

    /// An error about an answer that is a refusal, in the vendor's words.
    pub(super) fn refusal(&self, kind: ErrorKind, message: &str, received: &Received) -> Error {
        let error = self.answer_error(kind, message, received);
        let answer = self.answer(received);
        let excerpt = redact::excerpt(answer.body, &self.secrets);
        match excerpt.filter(|_| self.client.quotes || is_web_page(&answer)) {
            Some(excerpt) => error.with_context("answer", excerpt),
            None => error,
        }
    }

    /// Adds where it happened.
    pub(super) fn located(&self, error: Error) -> Error {
        error
            .with_operation("requesting")
            .with_context("endpoint", self.call.endpoint)
            .with_context("path", self.secrets.hide(self.request.url.path()))
    }
}
