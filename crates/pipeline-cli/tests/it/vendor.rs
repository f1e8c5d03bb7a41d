//! A vendor that answers as a test says, for what the simulated ones do not do.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use crate::support::{SQLITE, Sandbox};

/// Status and body for a path and its query.
type Answer = dyn Fn(&str, &str) -> (u16, String) + Send + Sync;

/// A server on loopback that lives as long as the test.
pub(crate) struct Vendor {
    url: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Vendor {
    pub(crate) fn start(
        answer: impl Fn(&str, &str) -> (u16, String) + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (asked, answer): (Arc<Mutex<Vec<String>>>, Arc<Answer>) =
            (Arc::default(), Arc::new(answer));
        let log = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (log, answer) = (Arc::clone(&log), Arc::clone(&answer));
                // A client that hangs up is of no interest.
                std::thread::spawn(move || drop(serve(stream, &log, &*answer)));
            }
        });
        Self { url, asked }
    }

    /// A Stripe account: `answer` for the paths that it knows, an empty list for all others.
    pub(crate) fn stripe(
        answer: impl Fn(&str, &str) -> Option<(u16, String)> + Send + Sync + 'static,
    ) -> Self {
        Self::start(move |path, query| {
            answer(path, query).unwrap_or_else(|| match path {
                "/v1/account" => (200, r#"{"id":"acct_1","object":"account"}"#.to_owned()),
                _ => (200, list(&[])),
            })
        })
    }

    /// Its address.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The paths that were asked for, in order.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    /// A folder with this vendor as the Stripe source `payments`, with these members more.
    pub(crate) fn sandbox(&self, members: &str) -> Sandbox {
        self.sandbox_below("", members)
    }

    /// The same with a path after the vendor's address.
    pub(crate) fn sandbox_below(&self, path: &str, members: &str) -> Sandbox {
        let sandbox = Sandbox::new();
        let config = format!(
            "[destination]\n{SQLITE}\n\n[sources.payments]\nconnector = \"stripe\"\napi_key = \
             \"${{STRIPE_API_KEY}}\"\nbase_url = \"{}{path}\"\n{members}\n",
            self.url
        );
        sandbox.write("pipeline.toml", &config);
        sandbox
    }
}

/// A list of Stripe's with these objects and no further page.
pub(crate) fn list(objects: &[String]) -> String {
    format!(
        r#"{{"object":"list","has_more":false,"url":"/v1","data":[{}]}}"#,
        objects.join(",")
    )
}

/// An error of Stripe's.
pub(crate) fn refusal(message: &str) -> String {
    format!(r#"{{"error":{{"type":"invalid_request_error","message":"{message}"}}}}"#)
}

fn serve(mut stream: TcpStream, log: &Mutex<Vec<String>>, answer: &Answer) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let request = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    while !lines
        .next()
        .unwrap_or_else(|| Ok(String::new()))?
        .is_empty()
    {}
    let target = request.split(' ').nth(1).unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    log.lock().unwrap().push(path.to_owned());
    let (status, body) = answer(path, query);
    let head = format!(
        "HTTP/1.1 {status} -\r\ncontent-length: {}\r\ncontent-type: \
         application/json\r\nconnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(&[head.as_bytes(), body.as_bytes()].concat())
}
