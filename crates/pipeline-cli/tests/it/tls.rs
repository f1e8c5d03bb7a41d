//! TLS with a server on loopback: what is wrong with it for good ends a run at once, with words and
//! help of its own.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};

use crate::support::{Ran, SQLITE, Sandbox, ran};

const CHARGES: &str = r#"{"object":"list","has_more":false,"url":"/v1","data":[]}"#;
const ACCOUNT: &str = r#"{"id":"acct_1","object":"account"}"#;

/// The authority that this machine trusts in these tests.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pem: String,
}

impl Authority {
    fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.self_signed(&key).unwrap();
        Self {
            pem: certificate.pem(),
            certificate: certificate.der().clone(),
            issuer: Issuer::new(params, key),
        }
    }

    /// The one that the commands trust.
    fn trusted() -> &'static Self {
        static TRUSTED: OnceLock<Authority> = OnceLock::new();
        TRUSTED.get_or_init(|| Self::new("trusted authority"))
    }

    fn sign(&self, params: &CertificateParams) -> Identity {
        let key = KeyPair::generate().unwrap();
        Identity {
            certificate: params.signed_by(&key, &self.issuer).unwrap().der().clone(),
            key: key.serialize_der(),
        }
    }
}

/// A certificate and its key.
struct Identity {
    certificate: CertificateDer<'static>,
    key: Vec<u8>,
}

fn self_signed(params: &CertificateParams) -> Identity {
    let key = KeyPair::generate().unwrap();
    Identity {
        certificate: params.self_signed(&key).unwrap().der().clone(),
        key: key.serialize_der(),
    }
}

/// What is asked for: a certificate of 127.0.0.1 that holds.
fn here() -> CertificateParams {
    CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap()
}

/// How a server treats a connection.
enum Server {
    Tls(Arc<ServerConfig>),
    /// Reads the greeting and answers with these bytes.
    Bytes(Vec<u8>),
}

impl Server {
    fn with(identity: Identity) -> Self {
        Self::Tls(Arc::new(
            config()
                .with_no_client_auth()
                .with_single_cert(vec![identity.certificate], key(identity.key))
                .unwrap(),
        ))
    }

    fn asking_for_a_certificate(versions: &[&'static rustls::SupportedProtocolVersion]) -> Self {
        let identity = Authority::trusted().sign(&here());
        let mut roots = RootCertStore::empty();
        roots.add(Authority::trusted().certificate.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                .build()
                .unwrap();
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap();
        let config = config
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![identity.certificate], key(identity.key));
        Self::Tls(Arc::new(config.unwrap()))
    }

    /// Gives the port and the number of requests that were read.
    fn start(self) -> (u16, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests = Arc::new(AtomicUsize::new(0));
        let (count, server) = (Arc::clone(&requests), Arc::new(self));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (count, server) = (Arc::clone(&count), Arc::clone(&server));
                // That a client hangs up is what is expected.
                std::thread::spawn(move || drop(server.serve(stream, &count)));
            }
        });
        (port, requests)
    }

    fn serve(&self, mut stream: TcpStream, requests: &AtomicUsize) -> std::io::Result<()> {
        let config = match self {
            Self::Tls(config) => config,
            Self::Bytes(bytes) => {
                let greeting = stream.read(&mut [0; 4096])?;
                assert!(greeting > 0, "somebody hung up");
                stream.write_all(bytes)?;
                return Ok(());
            }
        };
        let connection =
            ServerConnection::new(Arc::clone(config)).map_err(std::io::Error::other)?;
        let mut stream = StreamOwned::new(connection, stream);
        let served = answer(&mut stream, requests);
        // What the client has sent is read, so that closing does not take back the alert.
        stream.sock.shutdown(std::net::Shutdown::Write)?;
        std::io::copy(&mut stream.sock, &mut std::io::sink())?;
        served
    }
}

fn answer(
    stream: &mut StreamOwned<ServerConnection, TcpStream>,
    requests: &AtomicUsize,
) -> std::io::Result<()> {
    let mut path = String::new();
    {
        let mut lines = BufReader::new(&mut *stream);
        lines.read_line(&mut path)?;
        let mut line = String::new();
        while lines.read_line(&mut line)? > 2 {
            line.clear();
        }
    }
    requests.fetch_add(1, Ordering::Relaxed);
    let body = if path.contains("/v1/account ") {
        ACCOUNT
    } else {
        CHARGES
    };
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: \
         close\r\n\r\n",
        body.len()
    );
    stream.write_all(&[head.as_bytes(), body.as_bytes()].concat())?;
    stream.conn.send_close_notify();
    stream.flush()
}

fn config() -> rustls::ConfigBuilder<ServerConfig, rustls::WantsVerifier> {
    ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
}

fn key(der: Vec<u8>) -> PrivateKeyDer<'static> {
    PrivateKeyDer::try_from(der).unwrap()
}

/// A folder with the server as its only source, and the file of the authority that is trusted.
fn sandbox(port: u16) -> (Sandbox, PathBuf) {
    let sandbox = Sandbox::new();
    let authority = sandbox.write("authority.pem", &Authority::trusted().pem);
    sandbox.write(
        "pipeline.toml",
        &format!(
            "[destination]\n{SQLITE}\n\n[sources.payments]\nconnector = \"stripe\"\napi_key = \
             \"${{STRIPE_API_KEY}}\"\nbase_url = \"https://127.0.0.1:{port}\"\nstreams = \
             [\"charges\"]\n"
        ),
    );
    (sandbox, authority)
}

fn run(port: u16, command: &str) -> Ran {
    let (sandbox, authority) = sandbox(port);
    let mut command = sandbox.command(&[command]);
    command
        .env("SSL_CERT_FILE", authority)
        .env_remove("SSL_CERT_DIR");
    ran(command)
}

/// A record with an alert, and one with the greeting of a server that picks TLS 1.0.
fn old(version: u8) -> [Vec<u8>; 2] {
    let alert = vec![0x15, 3, version, 0, 2, 2, 70];
    let mut hello = vec![0x16, 3, version, 0, 42, 2, 0, 0, 38, 3, version];
    hello.extend([7; 32]);
    hello.extend([0, 0x00, 0x2f, 0]);
    [alert, hello]
}

fn cases() -> Vec<(&'static str, Server, &'static str, &'static str)> {
    let authority = Authority::trusted();
    let dated = |from, until| {
        let mut params = here();
        (params.not_before, params.not_after) =
            (date_time_ymd(from, 1, 1), date_time_ymd(until, 1, 1));
        Server::with(authority.sign(&params))
    };
    let other = |name: &str| {
        Server::with(authority.sign(&CertificateParams::new(vec![name.to_owned()]).unwrap()))
    };
    let mut ca = here();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let by_another = Authority::new("another authority").sign(&here());
    let by_namesake = Authority::new("trusted authority").sign(&here());
    let [alert_10, hello_10] = old(1);
    let [alert_11, hello_11] = old(2);
    let unknown = "it is signed by an unknown authority, or by itself";
    let version = "127.0.0.1 offers neither TLS 1.2 nor TLS 1.3 with a safe cipher";
    let client = "127.0.0.1 asks for a client certificate";
    vec![
        (
            "self-signed",
            Server::with(self_signed(&here())),
            unknown,
            "SSL_CERT_FILE",
        ),
        (
            "self-signed authority",
            Server::with(self_signed(&ca)),
            unknown,
            "SSL_CERT_FILE",
        ),
        (
            "unknown authority",
            Server::with(by_another),
            unknown,
            "SSL_CERT_FILE",
        ),
        (
            "unknown authority of the same name",
            Server::with(by_namesake),
            unknown,
            "SSL_CERT_FILE",
        ),
        ("expired", dated(2019, 2020), "it has expired", "clock"),
        (
            "not yet valid",
            dated(2890, 2900),
            "it is not valid yet",
            "clock",
        ),
        (
            "another name",
            other("other.test"),
            "it is for another host",
            "base URL",
        ),
        (
            "another address",
            other("127.0.0.2"),
            "it is for another host",
            "base URL",
        ),
        (
            "client certificate, 1.3",
            Server::asking_for_a_certificate(&[&rustls::version::TLS13]),
            client,
            "not supported",
        ),
        (
            "client certificate, 1.2",
            Server::asking_for_a_certificate(&[&rustls::version::TLS12]),
            client,
            "not supported",
        ),
        (
            "TLS 1.0, alert",
            Server::Bytes(alert_10),
            version,
            "updated",
        ),
        (
            "TLS 1.0, greeting",
            Server::Bytes(hello_10),
            version,
            "updated",
        ),
        (
            "TLS 1.1, alert",
            Server::Bytes(alert_11),
            version,
            "updated",
        ),
        (
            "TLS 1.1, greeting",
            Server::Bytes(hello_11),
            version,
            "updated",
        ),
        (
            "plain HTTP",
            Server::Bytes(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()),
            "127.0.0.1 does not answer in TLS",
            "port",
        ),
    ]
}

#[test]
fn a8_what_is_wrong_with_tls_is_final_at_once_and_has_words_of_its_own() {
    for (case, server, words, help) in cases() {
        let (port, requests) = server.start();
        for command in ["sync", "check"] {
            let started = started();
            let ran = run(port, command);
            let (took, text) = (started.elapsed(), ran.text());
            assert_eq!(ran.code, 4, "{case}, {command}: {text}");
            assert!(took < Duration::from_secs(5), "{case}, {command}: {took:?}");
            assert!(
                text.contains(words) && text.contains(help),
                "{case}, {command}: {text}"
            );
            assert!(
                !text.contains("Run the same command again"),
                "{case}, {command}: {text}"
            );
        }
        assert_eq!(
            requests.load(Ordering::Relaxed),
            0,
            "{case}: no request arrived"
        );
    }
}

#[test]
fn a_certificate_that_holds_is_taken() {
    let (port, requests) = Server::with(Authority::trusted().sign(&here())).start();
    let ran = run(port, "sync").ended_with(0);
    assert!(requests.load(Ordering::Relaxed) > 0, "{}", ran.text());
}

#[expect(clippy::disallowed_methods, reason = "how long another process takes")]
fn started() -> Instant {
    Instant::now()
}
