//! A server on loopback that sends whatever it is told to, however large, compressed.

use std::collections::HashMap;
use std::io::{self, BufRead as _, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::output::Outcome;

/// A request, as far as answers depend on it.
pub(super) struct Asked {
    pub(super) path: String,
    pub(super) query: HashMap<String, String>,
}

/// Writes a part.
type Make = Box<dyn Fn(&mut dyn Write) -> io::Result<()>>;

/// What is sent, one part after the other.
pub(super) enum Part {
    /// This, compressed when it is sent.
    Text(String),
    /// What a function makes: compressed once, and sent again whenever it is asked for by the same
    /// name.
    Made(String, Make),
    /// The same bytes until the client has had enough.
    Endless(Vec<u8>),
}

/// What a row answers.
pub(super) type Answer = fn(&Asked) -> Vec<Part>;

/// Serves until the process ends.
pub(super) struct Server {
    address: SocketAddr,
}

type Cache = Arc<Mutex<HashMap<String, Arc<Vec<u8>>>>>;

impl Server {
    pub(super) fn start(answer: Answer) -> Outcome<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let cache = Cache::default();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let cache = Arc::clone(&cache);
                // A client that has had enough ends its connection.
                thread::spawn(move || drop(serve(&stream, answer, &cache)));
            }
        });
        Ok(Self { address })
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

/// Answers one request after the other.
fn serve(stream: &TcpStream, answer: Answer, cache: &Cache) -> io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut stream = stream;
    loop {
        let Some(asked) = read(&mut reader)? else {
            return Ok(());
        };
        let mut body = Vec::new();
        let mut endless = None;
        for part in answer(&asked) {
            match part {
                Part::Text(text) => {
                    body.push(Arc::new(compressed(&|out| out.write_all(text.as_bytes()))?));
                }
                Part::Made(name, make) => body.push(made(cache, name, &*make)?),
                Part::Endless(bytes) => endless = Some(bytes),
            }
        }
        let length: usize = body.iter().map(|part| part.len()).sum();
        let length = if endless.is_some() {
            "Connection: close".to_owned()
        } else {
            format!("Content-Length: {length}")
        };
        write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Encoding: \
             gzip\r\n{length}\r\n\r\n"
        )?;
        for part in body {
            stream.write_all(&part)?;
        }
        while let Some(bytes) = &endless {
            stream.write_all(bytes)?;
        }
    }
}

fn made(
    cache: &Cache,
    name: String,
    make: &dyn Fn(&mut dyn Write) -> io::Result<()>,
) -> io::Result<Arc<Vec<u8>>> {
    let mut cache = cache.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = cache.get(&name) {
        return Ok(Arc::clone(known));
    }
    let body = Arc::new(compressed(make)?);
    cache.insert(name, Arc::clone(&body));
    Ok(body)
}

/// A gzip member; several make one text.
fn compressed(make: &dyn Fn(&mut dyn Write) -> io::Result<()>) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    make(&mut encoder)?;
    encoder.finish()
}

/// The next request; none when the connection is at its end.
fn read(reader: &mut BufReader<&TcpStream>) -> io::Result<Option<Asked>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let target = line.split(' ').nth(1).unwrap_or("/").to_owned();
    while reader.read_line(&mut line)? > 2 {
        line.clear();
    }
    let url = url::Url::parse("http://localhost")
        .and_then(|base| base.join(&target))
        .map_err(io::Error::other)?;
    let query = url
        .query_pairs()
        .map(|(name, value)| (name.into_owned(), value.into_owned()))
        .collect();
    Ok(Some(Asked {
        path: url.path().to_owned(),
        query,
    }))
}
