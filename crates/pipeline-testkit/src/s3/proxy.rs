//! A server in front of the object store that does what networks and stores do: answers are lost,
//! replaced or late, and conditions ignored.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{ask, path_of};

/// A request that came.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Its method.
    pub method: String,
    /// Its path, without the query.
    pub path: String,
    /// Its query.
    pub query: String,
    /// True when the object must not exist.
    pub is_conditional: bool,
    /// How many came before it.
    pub nth: u64,
}

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reaction {
    /// The store answers it.
    Pass,
    /// The store never sees it, and this is answered.
    Refuse(u16),
    /// The store does it, and this is answered.
    DoAndAnswer(u16),
    /// The store does it, and the connection ends without an answer.
    DoAndCut,
    /// The connection ends before the store has seen the whole request.
    Cut,
    /// The store does it as if it had no condition.
    IgnoreCondition,
    /// The store answers it, with a header more.
    AddHeader(&'static str),
}

/// A server that is between a client and the object store while it lives.
#[derive(Debug)]
pub struct FaultProxy {
    /// Its address.
    pub endpoint: String,
}

impl FaultProxy {
    pub(super) fn start(
        server: u16,
        filer: u16,
        react: impl Fn(&Seen) -> Reaction + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let (react, count) = (Arc::new(react), Arc::new(AtomicU64::new(0)));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (react, count) = (Arc::clone(&react), Arc::clone(&count));
                let Ok(stream) = stream else { return };
                std::thread::spawn(move || serve(stream, server, filer, &*react, &count));
            }
        });
        Self { endpoint }
    }
}

/// Serves the only request of a connection. A client that goes away is not waited for.
fn serve(
    mut client: TcpStream,
    server: u16,
    filer: u16,
    react: &(dyn Fn(&Seen) -> Reaction + Send + Sync),
    count: &AtomicU64,
) -> Option<()> {
    let mut reader = BufReader::new(client.try_clone().ok()?);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if line == "\r\n" {
            break;
        }
        head.push(line);
    }
    let header = |name: &str| {
        let is_it = |line: &&String| line.to_ascii_lowercase().starts_with(name);
        Some(head.iter().find(is_it)?.split_once(':')?.1.trim())
    };
    let mut first = head.first()?.split(' ');
    let (method, target) = (first.next()?.to_owned(), first.next()?);
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let seen = Seen {
        method,
        path: path.to_owned(),
        query: query.to_owned(),
        is_conditional: header("if-none-match:").is_some(),
        nth: count.fetch_add(1, Ordering::Relaxed),
    };
    let len: usize = header("content-length:").map_or(Some(0), |len| len.parse().ok())?;
    let reaction = react(&seen);
    if reaction == Reaction::Cut {
        // A part of the body has arrived, and the rest never will.
        let mut some = vec![0; len / 2];
        let _ = reader.read_exact(&mut some);
        return None;
    }
    let mut body = vec![0; len];
    reader.read_exact(&mut body).ok()?;
    if let Reaction::Refuse(status) = reaction {
        return answer(&mut client, status);
    }
    if reaction == Reaction::IgnoreCondition {
        let key = percent_decoded(seen.path.trim_start_matches('/'));
        ask(filer, "DELETE", &path_of(&key), b"");
    }
    let mut upstream = TcpStream::connect(("127.0.0.1", server)).ok()?;
    let mut request = head.concat();
    request.push_str("Connection: close\r\n\r\n");
    upstream.write_all(request.as_bytes()).ok()?;
    upstream.write_all(&body).ok()?;
    let mut answered = Vec::new();
    upstream.read_to_end(&mut answered).ok()?;
    match reaction {
        Reaction::DoAndAnswer(status) => answer(&mut client, status),
        Reaction::DoAndCut => None,
        Reaction::AddHeader(more) => {
            let end = answered.windows(2).position(|two| two == b"\r\n")?;
            client.write_all(&answered[..end + 2]).ok()?;
            client.write_all(format!("{more}\r\n").as_bytes()).ok()?;
            client.write_all(&answered[end + 2..]).ok()
        }
        _ => client.write_all(&answered).ok(),
    }
}

fn answer(client: &mut TcpStream, status: u16) -> Option<()> {
    let code = match status {
        409 => "ConditionalRequestConflict",
        403 => "AccessDenied",
        _ => "InternalError",
    };
    let body = format!("<Error><Code>{code}</Code></Error>");
    let text = format!(
        "HTTP/1.1 {status} Injected\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    client.write_all(text.as_bytes()).ok()
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, more)) = rest.split_first() {
        let hex = (*first == b'%').then(|| more.get(..2)).flatten();
        let hex = hex.and_then(|hex| std::str::from_utf8(hex).ok());
        if let Some(byte) = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            bytes.push(byte);
            rest = &more[2..];
        } else {
            bytes.push(*first);
            rest = more;
        }
    }
    String::from_utf8(bytes).unwrap()
}
