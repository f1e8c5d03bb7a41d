//! Where the database is, and how a connection to it is protected.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pipeline_core::{Error, ErrorKind, Result};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_platform_verifier::BuilderVerifierExt as _;
use secrecy::ExposeSecret as _;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};

use crate::config::{PostgresConfig, Tls};

/// How long it may take to be connected, where the URL does not say.
const CONNECTING: Duration = Duration::from_secs(10);
/// How long a connection may be silent before the server's host is asked whether it is there.
const SILENCE: Duration = Duration::from_secs(30);
/// How long what was sent may stay unacknowledged before the connection is taken for lost.
const UNACKNOWLEDGED: Duration = Duration::from_mins(1);

/// A server, ready to be connected to.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) config: Config,
    /// None: no TLS.
    pub(crate) tls: Option<Arc<ClientConfig>>,
    /// Host, port and database: what may be shown.
    pub(crate) name: String,
    pub(crate) pooled: bool,
}

impl Server {
    /// Reads the settings.
    ///
    /// # Errors
    /// [`ErrorKind::ConfigInvalid`] when the URL or the file of authorities cannot be read.
    pub(crate) fn of(settings: &PostgresConfig) -> Result<Self> {
        let url = settings.url.expose_secret();
        let (url, mode) = without_ssl_options(url);
        // The cause may repeat parts of the URL, which holds the password.
        let mut config: Config = url.parse().map_err(|_| {
            Error::new(ErrorKind::ConfigInvalid, "the URL of the database cannot be read")
                .with_context("field", "url")
                .with_help("write it as `postgres://role:password@host:5432/database`, with special characters of the password percent-encoded")
        })?;
        let tls = settings.tls.unwrap_or_else(|| match mode.as_deref() {
            Some("disable") => Tls::Off,
            Some("verify-ca" | "verify-full") => Tls::Verify,
            _ if config.get_hosts().iter().all(is_this_machine) => Tls::Off,
            _ => Tls::Verify,
        });
        config.ssl_mode(if tls == Tls::Off {
            SslMode::Disable
        } else {
            SslMode::Require
        });
        if config.get_application_name().is_none() {
            config.application_name("pipeline");
        }
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECTING);
        }
        config.keepalives_idle(SILENCE);
        config.tcp_user_timeout(UNACKNOWLEDGED);
        Ok(Self {
            name: name(&config),
            config,
            tls: client(tls, settings.ca.as_deref())?.map(Arc::new),
            pooled: settings.pooled,
        })
    }
}

/// Host, port and database of a URL, without the role and the password.
pub(crate) fn name_of(url: &str) -> String {
    without_ssl_options(url)
        .0
        .parse()
        .map_or_else(|_| "postgres".to_owned(), |config| name(&config))
}

fn name(config: &Config) -> String {
    let host = match config.get_hosts().first() {
        Some(Host::Tcp(host)) => host.clone(),
        #[cfg(unix)]
        Some(Host::Unix(path)) => path.display().to_string(),
        None => "localhost".to_owned(),
    };
    let port = config.get_ports().first().copied().unwrap_or(5432);
    let database = config.get_dbname().or(config.get_user()).unwrap_or("");
    format!("postgres://{host}:{port}/{database}")
}

/// The URL without its options of TLS, some of which the client does not know, and the mode that
/// they ask for.
fn without_ssl_options(url: &str) -> (String, Option<String>) {
    let Some((address, options)) = url.split_once('?') else {
        return (url.to_owned(), None);
    };
    let is_ssl = |option: &&str| option.starts_with("ssl") || option.starts_with("channel_binding");
    let (ssl, kept): (Vec<&str>, Vec<&str>) = options.split('&').partition(is_ssl);
    let mode = ssl
        .iter()
        .find_map(|option| option.strip_prefix("sslmode="))
        .map(ToOwned::to_owned);
    let url = if kept.is_empty() {
        address.to_owned()
    } else {
        format!("{address}?{}", kept.join("&"))
    };
    (url, mode)
}

/// True when nobody is between this process and the server.
fn is_this_machine(host: &Host) -> bool {
    match host {
        Host::Tcp(host) => {
            host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
        }
        #[cfg(unix)]
        Host::Unix(_) => true,
    }
}

fn client(tls: Tls, ca: Option<&Path>) -> Result<Option<ClientConfig>> {
    let provider = Arc::new(ring::default_provider());
    let broken = |error: rustls::Error| {
        Error::new(ErrorKind::Unexpected, "TLS cannot be set up").with_source(error)
    };
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(broken)?;
    Ok(Some(match (tls, ca) {
        (Tls::Off, _) => return Ok(None),
        (Tls::Encrypt, _) => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
            .with_no_client_auth(),
        (Tls::Verify, Some(ca)) => builder
            .with_root_certificates(authorities(ca)?)
            .with_no_client_auth(),
        (Tls::Verify, None) => builder
            .with_platform_verifier()
            .map_err(broken)?
            .with_no_client_auth(),
    }))
}

/// The certificates of a file.
fn authorities(path: &Path) -> Result<RootCertStore> {
    let broken = |message: &str| {
        Error::new(ErrorKind::ConfigInvalid, message)
            .with_context("field", "ca")
            .with_context("path", path.display().to_string())
            .with_help("name a file of certificates that begin with `-----BEGIN CERTIFICATE-----`")
    };
    let certificates = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<std::result::Result<Vec<_>, _>>)
        .map_err(|error| broken("the file of authorities cannot be read").with_source(error))?;
    let mut roots = RootCertStore::empty();
    if roots.add_parsable_certificates(certificates).0 == 0 {
        return Err(broken("the file of authorities has no certificate"));
    }
    Ok(roots)
}

/// Trusts every certificate, but not a handshake that its key has not signed.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn mode(url: &str, tls: Option<Tls>) -> SslMode {
        let settings = PostgresConfig {
            tls,
            ..PostgresConfig::new(url)
        };
        Server::of(&settings).unwrap().config.get_ssl_mode()
    }

    #[test]
    fn only_this_machine_itself_is_spoken_to_without_tls() {
        for url in [
            "postgres://me@localhost/x",
            "postgres://me@127.0.0.1/x",
            "postgres://me@[::1]:5433/x",
            "postgres:///x?host=/run/postgresql",
            "postgres://me@db.example/x?sslmode=disable",
        ] {
            assert_eq!(mode(url, None), SslMode::Disable, "{url}");
        }
        for url in [
            "postgres://me@db.example/x",
            "postgres://me@10.0.0.1/x?sslmode=prefer",
            "postgres://me@localhost/x?sslmode=verify-full&sslrootcert=system",
        ] {
            assert_eq!(mode(url, None), SslMode::Require, "{url}");
        }
        assert_eq!(
            mode("postgres://me@localhost/x", Some(Tls::Encrypt)),
            SslMode::Require
        );
        assert_eq!(
            mode("postgres://me@db.example/x?sslmode=require", Some(Tls::Off)),
            SslMode::Disable
        );
    }

    #[test]
    fn a_wrong_url_is_explained_without_its_password() {
        let error = Server::of(&PostgresConfig::new("postgres://me:s3cret@host:port/x"))
            .err()
            .unwrap();
        assert_eq!(error.kind(), ErrorKind::ConfigInvalid);
        assert!(error.help().is_some() && !format!("{error:?}").contains("s3cret"));
    }
}
