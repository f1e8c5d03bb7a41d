//! The parameters of a request.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};

use super::answer::error;
use crate::server::Service;

/// The path under `/api/v2/`, and the query.
pub(super) struct Query {
    /// The brand whose host is asked, by its place among the account's.
    pub(super) brand: usize,
    pub(super) path: String,
    pub(super) pairs: Vec<(String, String)>,
}

impl Query {
    /// The base of links: the host that was asked.
    pub(super) fn base(&self, service: &Service) -> String {
        match service
            .simulation
            .zendesk
            .brands
            .get(self.brand)
            .filter(|_| self.brand > 0)
        {
            Some(brand) => format!("{}/brand/{brand}", service.url()),
            None => service.url(),
        }
    }

    /// The first value of a name.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    pub(super) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.pairs
            .iter()
            .filter(move |(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    /// A number, if there is one; refused as Zendesk does if it isn't a number.
    pub(super) fn number(&self, name: &str) -> Result<Option<i64>, Response> {
        let parsed = self.get(name).map(str::parse).transpose();
        parsed.map_err(|_| {
            error(
                StatusCode::BAD_REQUEST,
                "InvalidValue",
                &format!("{name} is not an integer"),
            )
        })
    }

    /// How many records are asked for. More than the server manages in time is 504.
    pub(super) fn page_size(
        &self,
        service: &Service,
        name: &str,
        most: usize,
    ) -> Result<usize, Response> {
        let asked = self
            .number(name)?
            .and_then(|number| usize::try_from(number).ok());
        let size = asked.unwrap_or(most).clamp(1, most);
        if service
            .simulation
            .zendesk
            .slow_pages_over
            .is_some_and(|slow| size > slow)
        {
            let text = [(header::CONTENT_TYPE, "text/plain")];
            return Err((
                StatusCode::GATEWAY_TIMEOUT,
                text,
                "upstream request timeout",
            )
                .into_response());
        }
        Ok(size)
    }

    pub(super) fn includes(&self, name: &str) -> bool {
        self.get("include")
            .is_some_and(|list| list.split(',').any(|included| included == name))
    }

    /// The parameters that a link to the next page keeps.
    pub(super) fn kept(&self) -> String {
        let kept = [
            "include",
            "per_page",
            "support_type_scope",
            "exclude_deleted",
        ];
        kept.iter()
            .filter_map(|name| Some(["&", name, "=", self.get(name)?].concat()))
            .collect()
    }
}
