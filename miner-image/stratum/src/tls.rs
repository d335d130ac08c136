//! TLS, with the system's roots or pinned certificates.

use std::io;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring, verify_tls13_signature_with_raw_key};
use tokio_rustls::rustls::pki_types::{
    CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime,
};
use tokio_rustls::rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};
use webpki::RawPublicKeyEntity;
use x509_cert::Certificate;
use x509_cert::der::{Decode as _, Encode as _};

/// Secures a connection to a host, by the certificates or public keys with these SHA-256 or else by the
/// system's roots. The error is a sentence with the remedy.
pub(crate) async fn secure(
    stream: TcpStream,
    host: &str,
    pins: Option<Vec<[u8; 32]>>,
) -> io::Result<TlsStream<TcpStream>> {
    let provider = Arc::new(ring::default_provider());
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?;
    let config = match pins {
        Some(pins) => (config.dangerous())
            .with_custom_certificate_verifier(Arc::new(Pinned { pins, provider }))
            .with_no_client_auth(),
        None => config.with_root_certificates(roots()?).with_no_client_auth(),
    };
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    let connected = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
    connected.map_err(|error| explained(&error))
}

/// Returns what a failed handshake means for the configuration.
fn explained(error: &io::Error) -> io::Error {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<Error>());
    let sentence = match cause {
        Some(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure)) => {
            "neither its certificate nor its public key is one that pool.pins names: if the pool has a new one that you trust, pin that".into()
        }
        Some(Error::InvalidCertificate(why)) => format!(
            "no root of this system vouches for its certificate ({why}): if you trust it, name its SHA-256 in pool.pins"
        ),
        Some(Error::InvalidMessage(_)) => {
            "it does not speak TLS at this port: name its port for TLS, or write the address without tls://".into()
        }
        Some(other) => format!("the TLS handshake failed: {other}"),
        None => format!("it ended the TLS handshake ({error}): check that this port is for TLS"),
    };
    io::Error::new(error.kind(), sentence)
}

fn roots() -> io::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(io::Error::other(
            "this system has no root certificates: install them, set SSL_CERT_FILE, or pin the pool's certificate",
        ));
    }
    Ok(roots)
}

/// Accepts the certificates that are pinned themselves or by their public key, for every name, time and
/// signer: pools rarely have certificates that a public authority signed.
#[derive(Debug)]
struct Pinned {
    pins: Vec<[u8; 32]>,
    provider: Arc<CryptoProvider>,
}

impl Pinned {
    fn accepts(&self, der: &[u8]) -> bool {
        let digest: [u8; 32] = Sha256::digest(der).into();
        self.pins.contains(&digest)
    }
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.accepts(certificate) || self.accepts(&public_key(certificate)?) {
            true => Ok(ServerCertVerified::assertion()),
            false => Err(CertificateError::ApplicationVerificationFailure.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let key = public_key(certificate)?;
        let key = RawPublicKeyEntity::try_from(&key).map_err(|_| CertificateError::BadEncoding)?;
        let schemes = self.provider.signature_verification_algorithms.mapping.iter();
        let mut algorithms = schemes.filter(|(scheme, _)| *scheme == signed.scheme);
        let is_valid = algorithms.any(|(_, algorithms)| {
            let mut algorithms = algorithms.iter();
            algorithms.any(|by| key.verify_signature(*by, message, signed.signature()).is_ok())
        });
        match is_valid {
            true => Ok(HandshakeSignatureValid::assertion()),
            false => Err(CertificateError::BadSignature.into()),
        }
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature_with_raw_key(message, &public_key(certificate)?, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Returns the public key of a certificate of any version; rustls itself reads the third one only, and
/// pools that signed their own have the first.
fn public_key(certificate: &CertificateDer<'_>) -> Result<SubjectPublicKeyInfoDer<'static>, Error> {
    let key = Certificate::from_der(certificate)
        .and_then(|read| read.tbs_certificate.subject_public_key_info.to_der());
    match key {
        Ok(key) => Ok(key.into()),
        Err(_) => Err(CertificateError::BadEncoding.into()),
    }
}
