//! Why TLS with a host cannot be had, by what the transport reports.

use std::error::Error as StdError;

use rustls::{AlertDescription, CertificateError, Error};

use crate::http::transport::TlsFault;
use crate::http::transport::causes::causes;

/// What is wrong for good, if anything in the chain of causes says so. Trouble on the way, such as
/// a record that was damaged, is not: asking again helps there.
pub(crate) fn fault(error: &(dyn StdError + 'static)) -> Option<TlsFault> {
    causes(error).find_map(|cause| of(cause.downcast_ref()?))
}

fn of(error: &Error) -> Option<TlsFault> {
    Some(match error {
        Error::InvalidCertificate(error) => certificate(error),
        Error::NoCertificatesPresented | Error::UnsupportedNameType => TlsFault::Certificate,
        Error::PeerIncompatible(_) | Error::NoApplicationProtocol => TlsFault::Version,
        Error::InvalidMessage(_) => TlsFault::NotTls,
        Error::AlertReceived(alert) => match alert {
            AlertDescription::CertificateRequired
            | AlertDescription::NoCertificate
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied => TlsFault::ClientCertificate,
            AlertDescription::ProtocolVersion
            | AlertDescription::InsufficientSecurity
            | AlertDescription::HandshakeFailure
            | AlertDescription::NoApplicationProtocol => TlsFault::Version,
            AlertDescription::UnrecognisedName => TlsFault::OtherHost,
            _ => return None,
        },
        _ => return None,
    })
}

fn certificate(error: &CertificateError) -> TlsFault {
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => TlsFault::Expired,
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            TlsFault::NotYetValid
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            TlsFault::OtherHost
        }
        // A signature that is not right is another authority's of the same name.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            TlsFault::UnknownAuthority
        }
        // What the verifier of the platform found, and webpki's own words for a certificate that
        // signed itself.
        CertificateError::Other(other) if other.to_string().contains("CaUsedAsEndEntity") => {
            TlsFault::UnknownAuthority
        }
        _ => TlsFault::Certificate,
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use rustls::{AlertDescription, CertificateError, Error, InvalidMessage};

    use super::{TlsFault, fault};

    /// However deep the cause is, and in whatever it is wrapped.
    #[test]
    fn a8_the_verdict_is_found_through_every_layer() {
        let verdict = || Error::InvalidCertificate(CertificateError::Expired);
        let wrapped =
            |error: Box<dyn std::error::Error + Send + Sync>| Box::new(io::Error::other(error));
        assert_eq!(fault(&verdict()), Some(TlsFault::Expired));
        assert_eq!(fault(&*wrapped(verdict().into())), Some(TlsFault::Expired));
        assert_eq!(
            fault(&*wrapped(wrapped(verdict().into()))),
            Some(TlsFault::Expired)
        );
        let inner = crate::Error::new(crate::ErrorKind::Unavailable, "handshake")
            .with_source(*wrapped(wrapped(verdict().into())));
        assert_eq!(fault(&*wrapped(Box::new(inner))), Some(TlsFault::Expired));
    }

    #[test]
    fn what_the_way_damaged_is_not_final() {
        for passing in [
            Error::DecryptError,
            Error::PeerSentOversizedRecord,
            Error::AlertReceived(AlertDescription::InternalError),
            Error::AlertReceived(AlertDescription::CloseNotify),
            Error::AlertReceived(AlertDescription::BadRecordMac),
        ] {
            assert_eq!(fault(&passing), None, "{passing}");
        }
        assert_eq!(
            fault(&io::Error::from(io::ErrorKind::ConnectionReset)),
            None
        );
        assert_eq!(
            fault(&Error::InvalidMessage(InvalidMessage::InvalidContentType)),
            Some(TlsFault::NotTls)
        );
    }
}
