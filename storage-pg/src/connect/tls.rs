//! TLS for tokio-postgres: libpq's modes on rustls, with the crypto provider named instead of taken from the process.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{self, CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error as TlsError, RootCertStore, SignatureScheme,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::failure::{Cause, Failure};
use super::target::{Protection, Roots, Target};

/// What ALPN calls the protocol; a server that is spoken to in TLS from the first byte insists on it.
const ALPN: &[u8] = b"postgresql";

/// Makes the TLS side of connections as one URL asks for it. Cheap to clone; also what a `CancelToken` wants.
#[derive(Clone)]
pub(crate) struct Connector {
    rustls: MakeRustlsConnect,
    trace: Arc<Trace>,
}

/// How far an attempt came: tokio-postgres has no error code for "the server offers no TLS".
#[derive(Default)]
pub(super) struct Trace {
    reached: AtomicBool,
    asked: AtomicBool,
    done: AtomicBool,
}

impl Trace {
    /// The socket was connected.
    pub(super) fn reached(&self) -> bool {
        self.reached.load(Ordering::Relaxed)
    }
    /// The server was willing to speak TLS.
    pub(super) fn asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }
    /// The handshake succeeded: what follows is encrypted.
    pub(super) fn done(&self) -> bool {
        self.done.load(Ordering::Relaxed)
    }
}

impl Connector {
    /// Reads the trusted certificates that the URL names, once; a changed file is seen by the next `load`.
    ///
    /// # Errors
    /// [`Cause::Roots`] when there are none or they cannot be read.
    pub(crate) async fn load(target: &Target) -> Result<Self, Failure> {
        let unusable = |(what, source): Unusable| {
            Failure::one(target, target.hosts().first(), Cause::Roots(what)).caused_by(source)
        };
        let roots = match &target.protection {
            Protection::Off | Protection::Opportunistic | Protection::Encrypted => None,
            Protection::Chain(roots) | Protection::Full(roots) => {
                let roots = roots.clone();
                // Files, and on some systems a large database: not for the threads that run the tasks.
                let loaded = tokio::task::spawn_blocking(move || read_roots(&roots)).await;
                let stopped = |error| {
                    unusable(("reading the trusted certificates was stopped".to_owned(), Some(Arc::new(error))))
                };
                Some(loaded.map_err(stopped)?.map_err(unusable)?)
            }
        };
        let provider = Arc::new(crypto::ring::default_provider());
        let check = Check {
            roots,
            name: matches!(target.protection, Protection::Full(_)),
            algorithms: provider.signature_verification_algorithms,
        };
        let config = client_config(provider, check, target.direct_tls)
            .map_err(|error| unusable(("TLS cannot be set up".to_owned(), Some(Arc::new(error)))))?;
        Ok(Self { rustls: MakeRustlsConnect::new(config), trace: Arc::default() })
    }

    /// A connector for one attempt, and what it will have seen.
    pub(super) fn traced(&self) -> (Self, Arc<Trace>) {
        let trace = Arc::<Trace>::default();
        (Self { rustls: self.rustls.clone(), trace: Arc::clone(&trace) }, trace)
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").finish_non_exhaustive()
    }
}

impl<S> MakeTlsConnect<S> for Connector
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Stream = <MakeRustlsConnect as MakeTlsConnect<S>>::Stream;
    type TlsConnect = Handshake<<MakeRustlsConnect as MakeTlsConnect<S>>::TlsConnect>;
    type Error = Infallible;

    fn make_tls_connect(&mut self, domain: &str) -> Result<Self::TlsConnect, Infallible> {
        self.trace.reached.store(true, Ordering::Relaxed);
        let inner = <MakeRustlsConnect as MakeTlsConnect<S>>::make_tls_connect(&mut self.rustls, domain)?;
        Ok(Handshake { inner, trace: Arc::clone(&self.trace) })
    }
}

/// One TLS handshake, which notes how far it came.
pub(crate) struct Handshake<C> {
    inner: C,
    trace: Arc<Trace>,
}

impl<C> fmt::Debug for Handshake<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handshake").finish_non_exhaustive()
    }
}

impl<S, C> TlsConnect<S> for Handshake<C>
where
    C: TlsConnect<S, Error = io::Error>,
    C::Future: Send + 'static,
{
    type Stream = C::Stream;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<C::Stream>> + Send>>;

    fn connect(self, stream: S) -> Self::Future {
        let Self { inner, trace } = self;
        trace.asked.store(true, Ordering::Relaxed);
        let handshake = inner.connect(stream);
        Box::pin(async move {
            let stream = handshake.await?;
            trace.done.store(true, Ordering::Relaxed);
            Ok(stream)
        })
    }
}

fn client_config(provider: Arc<CryptoProvider>, check: Check, direct: bool) -> Result<ClientConfig, TlsError> {
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(check))
        .with_no_client_auth();
    if direct {
        config.alpn_protocols = vec![ALPN.to_vec()];
    }
    Ok(config)
}

/// Trusted certificates, also as they stand in the file.
#[derive(Debug)]
struct Trusted {
    store: RootCertStore,
    pinned: Vec<CertificateDer<'static>>,
}

type Source = Arc<dyn std::error::Error + Send + Sync>;
/// What is wrong, and the cause.
type Unusable = (String, Option<Source>);

fn read_roots(roots: &Roots) -> Result<Trusted, Unusable> {
    let mut store = RootCertStore::empty();
    match roots {
        Roots::System => {
            let found = rustls_native_certs::load_native_certs();
            // The system's own list may hold relics that no longer parse; the rest is as good as ever.
            store.add_parsable_certificates(found.certs);
            if store.is_empty() {
                let source = found.errors.into_iter().next().map(|error| Arc::new(error) as Source);
                return Err(("the system has no trusted certificates".to_owned(), source));
            }
            Ok(Trusted { store, pinned: Vec::new() })
        }
        Roots::File(path) => {
            let text = std::fs::read(path)
                .map_err(|error| (format!("sslrootcert {path:?} cannot be read"), Some(Arc::new(error) as Source)))?;
            let damaged = |source: Source| (format!("sslrootcert {path:?} holds a damaged certificate"), Some(source));
            let mut pinned = Vec::new();
            for certificate in CertificateDer::pem_slice_iter(&text) {
                let certificate = certificate.map_err(|error| damaged(Arc::new(error)))?;
                store.add(certificate.clone()).map_err(|error| damaged(Arc::new(error)))?;
                pinned.push(certificate);
            }
            if pinned.is_empty() {
                return Err((format!("sslrootcert {path:?} holds no certificate in PEM form"), None));
            }
            Ok(Trusted { store, pinned })
        }
    }
}

/// Checks as much of the server's certificate as the mode asks for.
///
/// The signature of the handshake is checked in every mode. Without that, anybody could show the true server's certificate, and
/// channel binding, which is computed from the certificate, would prove nothing.
#[derive(Debug)]
struct Check {
    roots: Option<Trusted>,
    name: bool,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Check {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        let Some(roots) = &self.roots else { return Ok(ServerCertVerified::assertion()) };
        let certificate = ParsedCertificate::try_from(end_entity)?;
        let chain = verify_server_cert_signed_by_trust_anchor(
            &certificate,
            &roots.store,
            intermediates,
            now,
            self.algorithms.all,
        );
        match chain {
            // The server's own self-signed certificate as sslrootcert: OpenSSL takes it, webpki does not, because `openssl req -x509`
            // marks it as an authority. It is the very certificate that was named. Dates were checked before this verdict.
            Err(TlsError::InvalidCertificate(CertificateError::Other(_) | CertificateError::UnknownIssuer))
                if roots.pinned.iter().any(|pinned| pinned == end_entity) => {}
            verdict => verdict?,
        }
        if self.name {
            verify_server_name(&certificate, server_name)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        crypto::verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        if self.roots.is_none() {
            // Certificates of the first version, which `openssl x509 -req` made by default for decades, do not parse in webpki. Where
            // any certificate will do, the key in them is all that counts.
            if let Some(key) = public_key(cert) {
                return crypto::verify_tls13_signature_with_raw_key(message, &key, dss, &self.algorithms);
            }
        }
        crypto::verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Cuts the subject's public key out of a certificate.
fn public_key<'a>(certificate: &'a CertificateDer<'_>) -> Option<SubjectPublicKeyInfoDer<'a>> {
    const SEQUENCE: u8 = 0x30;
    const VERSION: u8 = 0xa0;
    let (_, signed, _) = element(certificate).filter(|(tag, ..)| *tag == SEQUENCE)?;
    let (_, body, _) = element(signed).filter(|(tag, ..)| *tag == SEQUENCE)?;
    let mut rest = match element(body)? {
        (VERSION, _, rest) => rest,
        _ => body,
    };
    // Serial number, algorithm, issuer, dates, subject.
    for _ in 0..5 {
        rest = element(rest)?.2;
    }
    let (tag, _, after) = element(rest)?;
    let key = rest.get(..rest.len() - after.len())?;
    (tag == SEQUENCE).then(|| SubjectPublicKeyInfoDer::from(key))
}

/// The first DER element: its tag, what is in it, what follows it.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
        // More than three bytes of length is no certificate.
        let fits = (1..=3).contains(&digits.len());
        (fits.then(|| digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)))?, rest)
    };
    let (inside, after) = rest.split_at_checked(length)?;
    Some((tag, inside, after))
}
