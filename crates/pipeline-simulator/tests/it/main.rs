//! The simulator, asked through a real socket.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod faults;
mod mixpanel;
mod stripe;
mod zendesk;

use pipeline_simulator::{Simulation, Simulator};
use reqwest::header::HeaderMap;
use reqwest::{Client, RequestBuilder, StatusCode};
use serde_json::Value;

/// A server and someone to ask it.
struct Api {
    simulator: Simulator,
    client: Client,
}

/// An answer, read to the end.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

impl Api {
    async fn start(simulation: Simulation) -> Api {
        // The client wants a TLS provider even for plain HTTP. A second installation is refused,
        // harmlessly.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .unwrap();
        Api {
            simulator: Simulator::start(simulation).await.unwrap(),
            client,
        }
    }

    fn get(&self, path: &str) -> RequestBuilder {
        self.client.get(self.simulator.url() + path)
    }

    fn post(&self, path: &str) -> RequestBuilder {
        self.client.post(self.simulator.url() + path)
    }

    async fn stripe(&self, path: &str) -> Answer {
        send(self.get(path).bearer_auth("sk_test_sim")).await
    }

    async fn zendesk(&self, path: &str) -> Answer {
        send(
            self.get(path)
                .basic_auth("admin@example.com/token", Some("sim_token")),
        )
        .await
    }

    async fn mixpanel(&self, path: &str) -> Answer {
        send(
            self.get(path)
                .basic_auth("sim.service-account", Some("sim_secret")),
        )
        .await
    }
}

async fn send(request: RequestBuilder) -> Answer {
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status(), response.headers().clone());
    Answer {
        status,
        headers,
        body: response.bytes().await.unwrap().to_vec(),
    }
}

/// The ids of a page's records, as strings.
fn ids(records: &Value, field: &str) -> Vec<String> {
    let text = |id: &Value| id.as_str().map_or_else(|| id.to_string(), str::to_owned);
    records
        .as_array()
        .unwrap()
        .iter()
        .map(|record| text(&record[field]))
        .collect()
}

fn sorted(mut ids: Vec<String>) -> Vec<String> {
    ids.sort_unstable();
    ids
}
