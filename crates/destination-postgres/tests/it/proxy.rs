//! A server between the destination and Postgres, which breaks connections at an exact message.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// What happens at the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Break {
    /// The client's connection is closed once the message was forwarded; the server may answer, but
    /// nobody hears it.
    AfterForwarding,
    /// Both connections are closed, and the message goes nowhere.
    Before,
    /// The server's process of the connection is terminated, and the message is forwarded to
    /// nobody.
    Terminate,
}

/// A proxy that breaks one connection once.
pub struct Proxy {
    pub port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    upstream: u16,
    /// Messages until the break; below zero: it was, or there will be none.
    left: AtomicI64,
    /// Break at a `COMMIT`, instead of after a number of messages.
    at_commit: AtomicBool,
    mode: Break,
    has_broken: AtomicBool,
}

impl Proxy {
    /// Breaks at the message of that number, counted from 1 over all connections.
    pub async fn at_message(upstream: u16, number: i64, mode: Break) -> Self {
        Self::start(upstream, number, false, mode).await
    }

    /// Breaks at the first `COMMIT` after it is armed.
    pub async fn at_commit(upstream: u16, mode: Break) -> Self {
        Self::start(upstream, -1, false, mode).await
    }

    /// Breaks at the next `COMMIT`.
    pub fn arm(&self) {
        self.shared.at_commit.store(true, Ordering::SeqCst);
    }

    /// True when a connection was broken.
    pub fn has_broken(&self) -> bool {
        self.shared.has_broken.load(Ordering::SeqCst)
    }

    /// The URL of a database behind it.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    async fn start(upstream: u16, left: i64, at_commit: bool, mode: Break) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let shared = Arc::new(Shared {
            upstream,
            left: AtomicI64::new(left),
            at_commit: AtomicBool::new(at_commit),
            mode,
            has_broken: AtomicBool::new(false),
        });
        let port = listener.local_addr().unwrap().port();
        let accepting = Arc::clone(&shared);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(serve(client, Arc::clone(&accepting)));
            }
        });
        Self { port, shared }
    }
}

impl Shared {
    fn breaks(&self, message: &[u8]) -> bool {
        let is_commit = message.starts_with(b"Q") && message[5..].starts_with(b"COMMIT");
        // What is sent together with its end is one message.
        let is_whole = !matches!(message.first(), Some(b'P' | b'B' | b'D' | b'E' | b'C'));
        let is_number = is_whole && self.left.fetch_sub(1, Ordering::SeqCst) == 1;
        let breaks = is_number || (is_commit && self.at_commit.swap(false, Ordering::SeqCst));
        if breaks {
            self.has_broken.store(true, Ordering::SeqCst);
        }
        breaks
    }
}

async fn serve(client: TcpStream, shared: Arc<Shared>) {
    let Ok(server) = TcpStream::connect(("127.0.0.1", shared.upstream)).await else {
        return;
    };
    // Messages go on one by one, and none is to wait for another.
    client.set_nodelay(true).unwrap();
    server.set_nodelay(true).unwrap();
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let answers = tokio::spawn(async move {
        let _ = tokio::io::copy(&mut from_server, &mut to_client).await;
        let _ = to_client.shutdown().await;
    });
    let mut is_first = true;
    while let Some(message) = message(&mut from_client, is_first).await {
        is_first = false;
        if shared.breaks(&message) {
            match shared.mode {
                Break::Before => answers.abort(),
                Break::AfterForwarding => {
                    answers.abort();
                    let _ = to_server.write_all(&message).await;
                    drop(from_client);
                    // The server is given the time to do what it was asked for.
                    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
                }
                Break::Terminate => {
                    // All but whoever asks: there is one destination behind the proxy.
                    terminate(shared.upstream).await;
                    let _ = to_server.write_all(&message).await;
                    let _ = answers.await;
                }
            }
            return;
        }
        if to_server.write_all(&message).await.is_err() {
            break;
        }
    }
    drop(to_server);
    let _ = answers.await;
}

/// Terminates the processes of every connection to the databases that have `_cut` in their names.
async fn terminate(port: u16) {
    let url = format!("postgres://postgres@127.0.0.1:{port}/postgres");
    let client = crate::connect(&url).await;
    let sql = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
        WHERE application_name = 'cut' AND pid <> pg_backend_pid()";
    client.batch_execute(sql).await.unwrap();
}

/// The next message of a client; none: there is no more.
async fn message(from: &mut tokio::net::tcp::OwnedReadHalf, is_first: bool) -> Option<Vec<u8>> {
    // All but the first one begin with a letter.
    let mut head = vec![0; if is_first { 4 } else { 5 }];
    from.read_exact(&mut head).await.ok()?;
    let length = u32::from_be_bytes(head[head.len() - 4..].try_into().unwrap());
    let mut rest = vec![0; usize::try_from(length).unwrap().checked_sub(4)?];
    from.read_exact(&mut rest).await.ok()?;
    head.extend(rest);
    Some(head)
}
