//! Why no response came, and what it means for the caller.

use crate::error::{Error, ErrorKind};
use crate::http::transport::causes::cannot_connect;

/// Why no response, or no whole response, came.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransportError {
    /// The host's name has no address, or no server listens there, or TLS failed for a passing
    /// reason.
    #[error("{}", cannot_connect("", host, source.as_ref()))]
    Connect {
        /// The host.
        host: String,
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No connection in time.
    #[error("no connection to {host} within the connect timeout")]
    ConnectTimeout {
        /// The host, and the proxy on the way.
        host: String,
    },
    /// TLS with the host cannot be had. Trying again does not help, and there is no insecure mode.
    #[error("{}", fault.message(host))]
    Tls {
        /// The host.
        host: String,
        /// What is wrong.
        fault: TlsFault,
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The proxy cannot be reached.
    #[error("{}", cannot_connect("the proxy ", proxy, source.as_ref()))]
    ProxyConnect {
        /// Host and port of the proxy.
        proxy: String,
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The proxy asks for credentials before it connects to the host.
    #[error("the proxy {proxy} asks for credentials")]
    ProxyAuthentication {
        /// Host and port of the proxy.
        proxy: String,
    },
    /// The proxy did not connect to the host.
    #[error("the proxy {proxy} did not connect to {host}")]
    ProxyRefused {
        /// Host and port of the proxy.
        proxy: String,
        /// The host.
        host: String,
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// More or larger headers than any answer has.
    #[error("the headers of the response are too many or too large")]
    HeadTooLarge,
    /// Nothing came for too long.
    #[error("no answer within the {0} timeout")]
    Timeout(&'static str),
    /// The connection broke before or within the response.
    #[error("the connection broke before the response was complete")]
    Interrupted(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The body is larger, or expands further, than the configured limit.
    #[error("the response exceeds {limit}")]
    TooLarge {
        /// The limit in words.
        limit: String,
    },
    /// The body does not decompress.
    #[error("the response cannot be decompressed")]
    Encoding(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The request cannot be sent at all, such as plain http to a distant host.
    #[error("{0}")]
    Refused(String),
}

impl TransportError {
    fn into_source(self) -> Option<Box<dyn std::error::Error + Send + Sync>> {
        match self {
            Self::Connect { source, .. }
            | Self::Tls { source, .. }
            | Self::ProxyConnect { source, .. }
            | Self::ProxyRefused { source, .. }
            | Self::Interrupted(source)
            | Self::Encoding(source) => Some(source),
            Self::ConnectTimeout { .. }
            | Self::ProxyAuthentication { .. }
            | Self::HeadTooLarge
            | Self::Timeout(_)
            | Self::TooLarge { .. }
            | Self::Refused(_) => None,
        }
    }
}

/// What is wrong with the TLS of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TlsFault {
    /// The certificate has expired.
    Expired,
    /// The certificate is not valid yet.
    NotYetValid,
    /// The certificate is another host's.
    OtherHost,
    /// The certificate is signed by an authority that this machine does not trust, or by itself.
    UnknownAuthority,
    /// The certificate is not acceptable for another reason.
    Certificate,
    /// The server asks for a certificate of the client's.
    ClientCertificate,
    /// The server offers no version of TLS that is safe.
    Version,
    /// The server does not speak TLS.
    NotTls,
}

impl TlsFault {
    fn message(self, host: &str) -> String {
        let reason = match self {
            Self::Expired => "it has expired",
            Self::NotYetValid => "it is not valid yet",
            Self::OtherHost => "it is for another host",
            Self::UnknownAuthority => "it is signed by an unknown authority, or by itself",
            Self::Certificate => "it is not acceptable",
            Self::ClientCertificate => return format!("{host} asks for a client certificate"),
            Self::Version => {
                return format!("{host} offers neither TLS 1.2 nor TLS 1.3 with a safe cipher");
            }
            Self::NotTls => return format!("{host} does not answer in TLS"),
        };
        format!("the TLS certificate of {host} was refused: {reason}")
    }

    fn help(self) -> &'static str {
        match self {
            Self::Expired | Self::NotYetValid => {
                "check this machine's clock; if it is right, the operator of the server has to \
                 renew its certificate"
            }
            Self::OtherHost => "check the host in the base URL: another server answers there",
            Self::UnknownAuthority => {
                "a proxy that opens TLS, or a server with an authority of its own, needs the \
                 certificate of that authority installed on this machine, or named by SSL_CERT_FILE"
            }
            Self::Certificate => {
                "check the base URL, and this machine's certificates (package ca-certificates)"
            }
            Self::ClientCertificate => {
                "client certificates are not supported: use an address of the API that does not \
                 ask for one, or a proxy that presents it"
            }
            Self::Version => {
                "the server, or a proxy on the way, only offers what is no longer safe, and has to \
                 be updated"
            }
            Self::NotTls => "check the scheme and the port of the base URL, and the proxy settings",
        }
    }
}

/// What a failure of the transport means for the caller, and whether trying again can help.
pub(crate) fn transport_error(error: TransportError) -> Error {
    let unsupported = |source: &(dyn std::error::Error + Send + Sync + 'static)| {
        source
            .downcast_ref::<std::io::Error>()
            .is_some_and(|error| error.kind() == std::io::ErrorKind::Unsupported)
    };
    let (kind, passes) = match &error {
        TransportError::Connect { .. }
        | TransportError::ConnectTimeout { .. }
        | TransportError::ProxyConnect { .. }
        | TransportError::ProxyRefused { .. }
        | TransportError::Timeout(_)
        | TransportError::Interrupted(_) => (ErrorKind::Unavailable, true),
        TransportError::Tls { .. } => (ErrorKind::Untrusted, false),
        TransportError::Encoding(source) => (ErrorKind::Decode, !unsupported(source.as_ref())),
        TransportError::HeadTooLarge => (ErrorKind::Decode, false),
        TransportError::TooLarge { .. } => (ErrorKind::TooLarge, false),
        TransportError::ProxyAuthentication { .. } | TransportError::Refused(_) => {
            (ErrorKind::ConfigInvalid, false)
        }
    };
    let help = match &error {
        TransportError::Connect { .. } | TransportError::ConnectTimeout { .. } => {
            Some("check the host's name and that this machine can reach it")
        }
        TransportError::Tls { fault, .. } => Some(fault.help()),
        TransportError::ProxyAuthentication { .. } => Some(PROXY_CREDENTIALS),
        TransportError::ProxyConnect { .. } => Some(
            "check the proxy settings of the environment (HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, \
             NO_PROXY), and that the proxy runs",
        ),
        TransportError::ProxyRefused { .. } => {
            Some("check that the proxy may connect to this host, or name the host in NO_PROXY")
        }
        TransportError::HeadTooLarge => Some(
            "a proxy, or another server that answers at this address, adds them: check the base \
             URL",
        ),
        _ => None,
    };
    let converted = Error::new(kind, error.to_string());
    let converted = if passes {
        converted.temporary()
    } else {
        converted
    };
    let converted = match help {
        Some(help) => converted.with_help(help),
        None => converted,
    };
    // Its own words are the message.
    match error.into_source() {
        Some(source) => converted.with_source(source),
        None => converted,
    }
}

/// What to do when a proxy asks for credentials.
pub(crate) const PROXY_CREDENTIALS: &str =
    "set them in the proxy's URL, as in HTTPS_PROXY=http://user:password@proxy:port";
