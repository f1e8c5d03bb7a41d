//! A server between the command and the simulated vendors, which spoils the answers that a scenario
//! names.
//!
//! It speaks plain HTTP/1.1 over sockets of its own, so that it can do what no well-behaved server
//! library does: reset connections, break bodies off, lie in headers, and send nothing at all.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The longest time that a connection without an answer is held open: longer than any scenario.
const SILENCE: Duration = Duration::from_secs(30);
/// Room for the head of a request.
const HEAD: usize = 16 << 10;

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// Path and query.
    pub(crate) target: String,
    /// The whole request.
    bytes: Vec<u8>,
}

/// An answer that can still be changed.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

/// What is sent.
pub(crate) enum Reply {
    /// An answer with its right length.
    Answer(Answer),
    /// These bytes, whatever they are, and then this.
    Bytes(Vec<u8>, Then),
}

/// What happens to the connection after the bytes of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// It closes in order.
    Close,
    /// It is reset.
    Reset,
    /// Nothing is sent any more.
    Silence,
    /// The same byte again and again, with this pause in between.
    Trickle(Duration),
}

/// Turns a request and the vendor's right answer, which is fetched only when it is needed, into a
/// reply.
pub(crate) type Act = Arc<dyn Fn(&Asked, &Upstream) -> Reply + Send + Sync>;

/// Requests that are spoiled, and how.
#[derive(Clone)]
pub(crate) struct Trouble {
    /// The beginning of the target.
    path: &'static str,
    /// A text that the target must contain.
    containing: &'static str,
    /// How many matching requests are answered rightly first.
    after: usize,
    /// How many are spoiled then.
    times: usize,
    act: Act,
}

impl Trouble {
    /// Spoils all requests whose target begins so.
    pub(crate) fn new(path: &'static str, act: Act) -> Self {
        Self {
            path,
            containing: "",
            after: 0,
            times: usize::MAX,
            act,
        }
    }

    /// Spoils only targets with this text.
    pub(crate) fn containing(self, text: &'static str) -> Self {
        Self {
            containing: text,
            ..self
        }
    }

    /// Answers this number of requests rightly first.
    pub(crate) fn after(self, requests: usize) -> Self {
        Self {
            after: requests,
            ..self
        }
    }

    /// Spoils this number of requests and no more.
    pub(crate) fn times(self, requests: usize) -> Self {
        Self {
            times: requests,
            ..self
        }
    }
}

/// Where the right answers come from.
pub(crate) struct Upstream(SocketAddr);

impl Upstream {
    /// The server at this address.
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self(address)
    }

    /// The vendor's answer, uncompressed.
    pub(crate) fn answer(&self, asked: &Asked) -> Answer {
        self.fetch(asked).unwrap_or_else(|error| {
            panic!("the simulator did not answer {}: {error}", asked.target)
        })
    }

    fn fetch(&self, asked: &Asked) -> std::io::Result<Answer> {
        let mut stream = TcpStream::connect(self.0)?;
        stream.write_all(&as_http_1_0(&asked.bytes))?;
        let mut received = Vec::new();
        stream.read_to_end(&mut received)?;
        let end =
            head_end(&received).ok_or_else(|| std::io::Error::other("an answer without a head"))?;
        let head = String::from_utf8_lossy(&received[..end]).into_owned();
        let mut lines = head.lines();
        let status = lines
            .next()
            .and_then(|line| line.split(' ').nth(1)?.parse().ok())
            .unwrap_or(500);
        let headers = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_owned(), value.to_owned()));
        let framing = ["content-length", "connection", "transfer-encoding"];
        Ok(Answer {
            status,
            headers: headers
                .filter(|(name, _)| !framing.contains(&&**name))
                .collect(),
            body: received.split_off(end),
        })
    }
}

/// The server. It lives as long as the test.
pub(crate) struct Between {
    address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
}

struct Shared {
    troubles: Vec<Trouble>,
    /// How many requests each of them spoiled.
    hits: Vec<usize>,
    /// What went wrong in the server itself: an act that did not find what it was to change.
    defects: Vec<String>,
    upstream: SocketAddr,
    asked: Vec<String>,
}

impl Between {
    /// Starts to serve what the simulator at this address answers.
    pub(crate) fn start(simulator: &str) -> Self {
        let upstream = simulator.trim_start_matches("http://").parse().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Mutex::new(Shared {
            troubles: Vec::new(),
            hits: Vec::new(),
            defects: Vec::new(),
            upstream,
            asked: Vec::new(),
        }));
        let of_connections = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let shared = Arc::clone(&of_connections);
                // A client that hangs up is of no interest.
                std::thread::spawn(move || drop(serve(stream, &shared)));
            }
        });
        Self { address, shared }
    }

    /// Its address as a base URL.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Replaces what goes wrong. None lifts the fault.
    pub(crate) fn set(&self, troubles: Vec<Trouble>) {
        let mut shared = self.shared.lock().unwrap();
        shared.hits = vec![0; troubles.len()];
        shared.troubles = troubles;
    }

    /// Fails when a trouble met no request, or could not be made: then the scenario proves nothing.
    pub(crate) fn has_troubled(&self) {
        let shared = self.shared.lock().unwrap();
        assert!(
            shared.defects.is_empty(),
            "the scenario could not do its damage: {:?}",
            shared.defects
        );
        assert!(
            shared.hits.iter().all(|hits| *hits > 0),
            "a trouble met no request: {:?}",
            shared.hits
        );
    }

    /// How many requests came so far.
    pub(crate) fn requests(&self) -> usize {
        self.shared.lock().unwrap().asked.len()
    }

    /// The targets that were asked for so far.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.shared.lock().unwrap().asked.clone()
    }
}

impl Shared {
    /// What spoils this request, which is counted.
    fn trouble(&mut self, target: &str) -> Option<Act> {
        for (trouble, hits) in self.troubles.iter_mut().zip(&mut self.hits) {
            if !target.starts_with(trouble.path) || !target.contains(trouble.containing) {
                continue;
            }
            if trouble.after > 0 {
                trouble.after -= 1;
            } else if trouble.times > 0 {
                if trouble.times != usize::MAX {
                    trouble.times -= 1;
                }
                *hits += 1;
                return Some(Arc::clone(&trouble.act));
            }
        }
        None
    }
}

/// Answers the requests of a connection until one of them ends it.
fn serve(mut stream: TcpStream, shared: &Mutex<Shared>) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    while let Some(asked) = next_request(&stream)? {
        let (act, upstream) = {
            let mut shared = shared.lock().unwrap();
            shared.asked.push(asked.target.clone());
            (
                shared.trouble(&asked.target),
                Upstream::new(shared.upstream),
            )
        };
        let reply = || {
            act.map_or_else(
                || Reply::Answer(upstream.answer(&asked)),
                |act| act(&asked, &upstream),
            )
        };
        let Ok(reply) = catch_unwind(AssertUnwindSafe(reply)) else {
            shared.lock().unwrap().defects.push(asked.target);
            return Ok(());
        };
        let (bytes, then) = match reply {
            Reply::Answer(answer) => {
                stream.read_exact(&mut vec![0; asked.bytes.len()])?;
                stream.write_all(&answer.to_bytes())?;
                continue;
            }
            Reply::Bytes(bytes, then) => (bytes, then),
        };
        // A connection that closes with something unread is reset by the system.
        if then != Then::Reset {
            stream.read_exact(&mut vec![0; asked.bytes.len()])?;
        }
        stream.write_all(&bytes)?;
        match then {
            Then::Silence => std::thread::park_timeout(SILENCE),
            Then::Trickle(pause) => loop {
                std::thread::park_timeout(pause);
                stream.write_all(b" ")?;
            },
            // The bytes arrive before the reset does.
            Then::Reset => std::thread::park_timeout(Duration::from_millis(20)),
            Then::Close => {}
        }
        break;
    }
    Ok(())
}

/// The next request, which stays in the socket's buffer; none when the client has closed the
/// connection.
fn next_request(stream: &TcpStream) -> std::io::Result<Option<Asked>> {
    let mut buffer = vec![0; HEAD];
    loop {
        let length = stream.peek(&mut buffer)?;
        if length == 0 {
            return Ok(None);
        }
        if let Some(end) = head_end(&buffer[..length]) {
            let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
            let body = header(&head, "content-length")
                .and_then(|value| value.parse::<usize>().ok())
                .unwrap_or(0);
            if length >= end + body {
                let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
                return Ok(Some(Asked {
                    target,
                    bytes: buffer[..end + body].to_vec(),
                }));
            }
        }
        // `peek` returns at once while a part of the request is there.
        std::thread::park_timeout(Duration::from_millis(1));
    }
}

/// The request as one that is answered without chunks, without compression, and by closing the
/// connection.
fn as_http_1_0(request: &[u8]) -> Vec<u8> {
    let end = head_end(request).unwrap_or(request.len());
    let head = String::from_utf8_lossy(&request[..end]);
    let kept = |line: &&str| {
        !line.to_ascii_lowercase().starts_with("accept-encoding:") && !line.is_empty()
    };
    let mut text: String = head
        .lines()
        .filter(kept)
        .flat_map(|line| [line, "\r\n"])
        .collect();
    text = text.replacen("HTTP/1.1", "HTTP/1.0", 1);
    [text.as_bytes(), b"\r\n", &request[end..]].concat()
}

/// Headers as they are sent.
fn lines(headers: &[(String, String)]) -> String {
    headers
        .iter()
        .flat_map(|(name, value)| [name, ": ", value, "\r\n"])
        .collect()
}

fn head_end(bytes: &[u8]) -> Option<usize> {
    bytes
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .map(|at| at + 4)
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut pairs = head.lines().filter_map(|line| line.split_once(':'));
    pairs
        .find(|(known, _)| known.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim())
}

impl Asked {
    /// A request without a body, which closes its connection.
    pub(crate) fn get(target: &str, headers: &[(String, String)]) -> Self {
        let headers = lines(headers);
        let text =
            format!("GET {target} HTTP/1.1\r\nhost: vendor\r\nconnection: close\r\n{headers}\r\n");
        Self {
            target: target.to_owned(),
            bytes: text.into_bytes(),
        }
    }

    /// The same request for something else.
    pub(crate) fn to(&self, target: &str) -> Self {
        let text = String::from_utf8_lossy(&self.bytes).replacen(&self.target, target, 1);
        Self {
            target: target.to_owned(),
            bytes: text.into_bytes(),
        }
    }

    /// The value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        header(&String::from_utf8_lossy(&self.bytes), name).map(ToOwned::to_owned)
    }
}

impl Answer {
    /// JSON with this status.
    pub(crate) fn json(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self {
            status,
            headers: vec![("content-type".to_owned(), "application/json".to_owned())],
            body: body.into(),
        }
    }

    /// Replaces a header, or adds it.
    #[must_use]
    pub(crate) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers
            .retain(|(known, _)| !known.eq_ignore_ascii_case(name));
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// The head, with this line for the length of the body.
    pub(crate) fn head(&self, framing: &str) -> Vec<u8> {
        let headers = lines(&self.headers);
        format!("HTTP/1.1 {} -\r\n{headers}{framing}\r\n\r\n", self.status).into_bytes()
    }

    /// The answer on the wire.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        [
            &self.head(&format!("content-length: {}", self.body.len()))[..],
            &self.body,
        ]
        .concat()
    }
}
