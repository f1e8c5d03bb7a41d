//! A vendor that speaks TLS: certificates that must be refused, and the moods of HTTP/2.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use h2::Reason;
use h2::server::SendResponse;
use http::{Request, Response};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::between::{Asked, Upstream};
use crate::scenario::Scenario;
use crate::stage::{RUNTIME, Stage, program};

/// A certificate that is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Certificate {
    SelfSigned,
    Expired,
    OtherHost,
    /// Nothing is wrong.
    Right,
}

/// What becomes of a connection of HTTP/2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It ends after every third request, with those that are under way unanswered.
    GoAway,
    /// Every third stream is refused before it is looked at.
    RefusedStream,
    /// One stream is allowed at a time.
    OneAtATime,
}

/// A sync from a vendor with such a certificate ends at once, and sends nothing.
pub(crate) fn refused(certificate: Certificate) {
    let stage = Stage::new(&Scenario::stripe());
    let listener = RUNTIME.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    let tls = acceptor(certificate, stage.path());
    let (connections, requests) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (connected, asked) = (Arc::clone(&connections), Arc::clone(&requests));
    let server = RUNTIME.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            connected.fetch_add(1, Ordering::Relaxed);
            if let Ok(mut stream) = tls.accept(stream).await {
                let read = stream.read(&mut [0; 1]).await;
                asked.fetch_add(read.unwrap_or(0), Ordering::Relaxed);
            }
        }
    });
    let ran = stage.run(trusting(&stage, address));
    server.abort();
    assert_eq!(ran.code, Some(4), "{}", ran.text);
    assert!(ran.text.contains("certificate"), "{}", ran.text);
    assert_eq!(requests.load(Ordering::Relaxed), 0, "something was sent");
    let connections = connections.load(Ordering::Relaxed);
    assert!(
        (1..=4).contains(&connections),
        "{connections} connections, although the refusal lasts\n{}",
        ran.text
    );
    over_plain_http(&stage, address);
    stage.ends_well();
}

/// A sync over HTTP/2 reads everything whatever becomes of its connections.
pub(crate) fn http2(ending: Ending) {
    let stage = Stage::new(&Scenario::stripe());
    let listener = RUNTIME.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    let tls = acceptor(Certificate::Right, stage.path());
    let upstream: SocketAddr = stage
        .simulator
        .url()
        .trim_start_matches("http://")
        .parse()
        .unwrap();
    let answered = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&answered);
    let server = RUNTIME.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(stream) = tls.accept(stream).await {
                // A client that hangs up is of no interest.
                tokio::spawn(serve(stream, ending, upstream, Arc::clone(&count)));
            }
        }
    });
    let ran = stage.run(trusting(&stage, address));
    server.abort();
    assert_eq!(ran.code, Some(0), "{}", ran.text);
    assert!(
        answered.load(Ordering::Relaxed) >= 4,
        "HTTP/2 was not spoken"
    );
    over_plain_http(&stage, address);
    stage.ends_well();
}

/// A sync over TLS that trusts the test's own authority.
fn trusting(stage: &Stage, address: SocketAddr) -> std::process::Command {
    edit_configuration(
        stage.path(),
        &stage.between.url(),
        &format!("https://{address}"),
    );
    let mut command = program(stage.path(), &["sync"]);
    command
        .env("SSL_CERT_FILE", stage.path().join("authority.pem"))
        .env_remove("SSL_CERT_DIR");
    command
}

fn over_plain_http(stage: &Stage, address: SocketAddr) {
    edit_configuration(
        stage.path(),
        &format!("https://{address}"),
        &stage.between.url(),
    );
}

fn edit_configuration(folder: &Path, from: &str, to: &str) {
    let file = folder.join("pipeline.toml");
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains(from));
    fs::write(file, text.replace(from, to)).unwrap();
}

/// Accepts TLS with this certificate; the authority behind the right ones is written to the folder.
fn acceptor(certificate: Certificate, folder: &Path) -> TlsAcceptor {
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key_of_authority = KeyPair::generate().unwrap();
    fs::write(
        folder.join("authority.pem"),
        authority.self_signed(&key_of_authority).unwrap().pem(),
    )
    .unwrap();
    let issuer = Issuer::new(authority, key_of_authority);

    let host = if certificate == Certificate::OtherHost {
        "other.example"
    } else {
        "127.0.0.1"
    };
    let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
    if certificate == Certificate::Expired {
        (params.not_before, params.not_after) =
            (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
    }
    let key = KeyPair::generate().unwrap();
    let signed = match certificate {
        Certificate::SelfSigned => params.self_signed(&key),
        Certificate::Expired | Certificate::OtherHost | Certificate::Right => {
            params.signed_by(&key, &issuer)
        }
    };
    let chain: Vec<CertificateDer<'static>> = vec![signed.unwrap().der().clone()];
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap();
    let mut config = builder
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

async fn serve(
    stream: TlsStream<TcpStream>,
    ending: Ending,
    upstream: SocketAddr,
    served: Arc<AtomicUsize>,
) -> Result<(), h2::Error> {
    let mut builder = h2::server::Builder::new();
    if ending == Ending::OneAtATime {
        builder.max_concurrent_streams(1);
    }
    let mut connection = builder.handshake(stream).await?;
    while let Some(accepted) = connection.accept().await {
        let (request, mut respond) = accepted?;
        let number = served.fetch_add(1, Ordering::Relaxed);
        if number % 3 == 2 && ending == Ending::RefusedStream {
            respond.send_reset(Reason::REFUSED_STREAM);
            continue;
        }
        if number % 3 == 2 && ending == Ending::GoAway {
            connection.abrupt_shutdown(Reason::NO_ERROR);
            continue;
        }
        tokio::spawn(answer(request, respond, upstream));
    }
    Ok(())
}

async fn answer(
    request: Request<h2::RecvStream>,
    mut respond: SendResponse<Bytes>,
    upstream: SocketAddr,
) -> Result<(), h2::Error> {
    let target = request
        .uri()
        .path_and_query()
        .map_or("/", |target| target.as_str())
        .to_owned();
    let headers = request.headers().iter();
    let headers: Vec<(String, String)> = headers
        .map(|(name, value)| {
            (
                name.to_string(),
                String::from_utf8_lossy(value.as_bytes()).into_owned(),
            )
        })
        .collect();
    let fetched = tokio::task::spawn_blocking(move || {
        Upstream::new(upstream).answer(&Asked::get(&target, &headers))
    })
    .await;
    let Ok(answer) = fetched else { return Ok(()) };
    let mut response = Response::builder().status(answer.status);
    for (name, value) in &answer.headers {
        response = response.header(name, value);
    }
    let mut stream = respond.send_response(response.body(()).unwrap(), false)?;
    stream.send_data(answer.body.into(), true)
}
