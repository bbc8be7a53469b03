//! Why there is no connection.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::CertificateError;
use tokio_postgres::config::ChannelBinding;
use tokio_postgres::error::SqlState;

use super::target::{Place, Target};
use super::tls::Trace;

/// What stood in the way. Told apart by SQLSTATE, `io::ErrorKind` and error type, never by text.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub(crate) enum Cause {
    /// Nothing listens there.
    Refused,
    /// The name has no address, or the resolver could not say.
    NoSuchHost,
    /// No way to the host, or a firewall that says so.
    NoRoute,
    /// No answer in time.
    TimedOut {
        /// What was waited for.
        stage: Stage,
        /// How long.
        after: Duration,
    },
    /// The server is starting, stopping or recovering.
    Starting,
    /// All of the server's, role's or database's connections are taken.
    NoSlots,
    /// The connection ended before it was ready.
    Lost,
    /// The server asks for a password, and the URL has none.
    NoPassword,
    /// Wrong password or unknown role; the server does not say which.
    Password,
    /// The server's access rules (`pg_hba.conf`) do not let this user in from here, or the role may not log in.
    Login,
    /// The database does not exist.
    NoDatabase,
    /// The role has no right to connect to the database.
    NoRight,
    /// The URL demands TLS, and the server offers none.
    NoTls,
    /// The server's certificate was not accepted.
    Certificate(CertificateFault),
    /// TLS failed for another reason.
    TlsHandshake,
    /// The trusted certificates cannot be used; says which and why.
    Roots(String),
    /// `channel_binding=require` could not be had.
    ChannelBinding,
    /// The server wants a kind of login that is not supported.
    LoginKind,
    /// The server, in truth a pooler, refuses startup `options`.
    OptionsRefused,
    /// The server takes no writes.
    NotWritable,
    /// The directory of the Unix socket is missing, or the socket may not be used.
    SocketMissing,
    /// What answered does not speak the PostgreSQL protocol, or broke it.
    NotPostgres,
    /// The server refused for another reason; this is the SQLSTATE.
    Server(String),
}

/// What a connection was waiting for when time ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The address of the host's name.
    Name,
    /// The connection itself.
    Socket,
    /// The first words of a server that had accepted the connection.
    Answer,
}

/// What is wrong with the server's certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub(crate) enum CertificateFault {
    /// None of the trusted authorities signed it.
    UnknownIssuer,
    /// It was made for another host.
    WrongHost,
    /// Its time is over, or has not come.
    Expired,
    /// Anything else, such as an old or damaged form.
    Other,
}

impl Cause {
    /// Whether the server could not be reached, as against answered wrongly: only then may a caller fall back.
    pub(crate) fn is_unreachable(&self) -> bool {
        match self {
            Self::Refused | Self::NoRoute | Self::TimedOut { .. } | Self::Starting | Self::NoSlots | Self::Lost => true,
            Self::NoSuchHost
            | Self::NoPassword
            | Self::Password
            | Self::Login
            | Self::NoDatabase
            | Self::NoRight
            | Self::NoTls
            | Self::Certificate(_)
            | Self::TlsHandshake
            | Self::Roots(_)
            | Self::ChannelBinding
            | Self::LoginKind
            | Self::OptionsRefused
            | Self::NotWritable
            | Self::SocketMissing
            | Self::NotPostgres
            | Self::Server(_) => false,
        }
    }

    /// The time as it was meant: measured from a deadline, five seconds are a little less.
    pub(super) fn timed_out(stage: Stage, limit: Duration) -> Self {
        let tenths = u64::try_from(limit.as_millis().div_ceil(100)).unwrap_or(u64::MAX);
        Self::TimedOut { stage, after: Duration::from_millis(tenths.saturating_mul(100)) }
    }

    /// Whether another address of the same host would give the same answer.
    pub(super) fn is_final(&self) -> bool {
        matches!(self, Self::NoPassword | Self::Password | Self::NoDatabase | Self::NoRight | Self::OptionsRefused)
    }

    /// Whether whoever answered speaks the protocol, and refused by a word of its own.
    pub(super) fn is_answer(&self) -> bool {
        matches!(self, Self::Password | Self::Login | Self::NoDatabase | Self::NoRight | Self::Server(_))
    }

    fn remedy(&self) -> &'static str {
        match self {
            Self::Refused => "start the server, or correct host and port",
            Self::NoSuchHost => "correct the host's name, or the resolver's settings",
            Self::NoRoute => "check network and firewall, or correct the host",
            Self::TimedOut { stage: Stage::Name, .. } => "check the resolver's settings, or raise connect_timeout",
            Self::TimedOut { stage: Stage::Socket, .. } => {
                "check network and firewall, correct host and port, or raise connect_timeout"
            }
            Self::TimedOut { stage: Stage::Answer, .. } => {
                "check that a PostgreSQL server in good health listens there, or raise connect_timeout"
            }
            Self::Starting => "try again in a moment",
            Self::NoSlots => "close other connections, make the pools smaller, or raise max_connections",
            Self::Lost => "look into the server's log, and check any proxy in between",
            Self::NoPassword => "add the password to the URL",
            Self::Password => {
                "correct user and password in the URL, with @ : / ? # % in them written as %40 and the like"
            }
            Self::Login => "correct the user, or let it in by pg_hba.conf and ALTER ROLE ... LOGIN",
            Self::NoDatabase => "create it with CREATE DATABASE, or correct the name",
            Self::NoRight => "GRANT CONNECT ON DATABASE to the user",
            Self::NoTls => "switch ssl on at the server, or write sslmode=prefer if the network is safe",
            Self::Certificate(CertificateFault::UnknownIssuer) => {
                "name the certificate of the authority that signed it with sslrootcert"
            }
            Self::Certificate(CertificateFault::WrongHost) => {
                "connect by a name that stands in its subjectAltName (the common name does not count), or write sslmode=verify-ca"
            }
            Self::Certificate(CertificateFault::Expired) => "renew it, and check the clocks",
            Self::Certificate(CertificateFault::Other) => {
                "make a new one (X.509 version 3, with the host in subjectAltName), or name it in sslrootcert if it is self-signed"
            }
            Self::TlsHandshake => {
                "look into the server's log; TLS 1.2 or 1.3 is needed, and sslnegotiation=direct only works from PostgreSQL 17 on"
            }
            Self::Roots(_) => "let sslrootcert name a readable PEM file",
            Self::ChannelBinding => {
                "it takes TLS, a password in the URL and scram-sha-256 in pg_hba.conf; otherwise write channel_binding=prefer"
            }
            Self::LoginKind => "use scram-sha-256 in pg_hba.conf",
            Self::OptionsRefused => {
                "take options out of the URL and set such values with ALTER ROLE ... SET, or let the pooler pass them (ignore_startup_parameters)"
            }
            Self::NotWritable => "connect to the primary, or switch default_transaction_read_only off",
            Self::SocketMissing => "correct the directory, or connect by TCP",
            Self::NotPostgres => "correct host and port",
            Self::Server(_) => "see the server's own words and its log",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Refused => "the connection was refused, no server listens there",
            Self::NoSuchHost => "the host's name cannot be resolved",
            Self::NoRoute => "there is no way to the host",
            Self::TimedOut { stage, after } => {
                let what = match stage {
                    Stage::Name => "the host's name was not resolved",
                    Stage::Socket => "nothing answered",
                    Stage::Answer => "the connection was accepted but not answered",
                };
                return write!(f, "{what} within {}", Seconds(*after));
            }
            Self::Starting => "the server is starting, stopping or recovering",
            Self::NoSlots => "all connections that the server allows are taken",
            Self::Lost => "the connection was lost before it was ready",
            Self::NoPassword => "the server asks for a password and the URL has none",
            Self::Password => "the server did not accept user and password",
            Self::Login => "the server does not let this user in",
            Self::NoDatabase => "the database does not exist",
            Self::NoRight => "the user has no right to connect to this database",
            Self::NoTls => "the URL demands TLS and the server offers none",
            Self::Certificate(CertificateFault::UnknownIssuer) => {
                "the server's certificate is signed by nobody who is trusted"
            }
            Self::Certificate(CertificateFault::WrongHost) => "the server's certificate is for another host",
            Self::Certificate(CertificateFault::Expired) => "the server's certificate has expired or is not valid yet",
            Self::Certificate(CertificateFault::Other) => "the server's certificate cannot be accepted",
            Self::TlsHandshake => "the TLS handshake failed",
            Self::Roots(what) => what,
            Self::ChannelBinding => "the server did not bind the login to TLS, which channel_binding=require demands",
            Self::LoginKind => "the server asks for a kind of login that is not supported",
            Self::OptionsRefused => "startup options are refused, as a pooler such as PgBouncer does",
            Self::NotWritable => "the server takes no writes, it is a standby or read-only",
            Self::SocketMissing => "the Unix socket's directory does not exist or may not be entered",
            Self::NotPostgres => "what answered does not speak PostgreSQL's protocol",
            Self::Server(code) => return write!(f, "the server refused (SQLSTATE {code})"),
        })
    }
}

/// A duration in seconds, to a tenth.
struct Seconds(Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0.as_secs(), self.0.subsec_millis() / 100) {
            (seconds, 0) => write!(f, "{seconds} s"),
            (seconds, tenths) => write!(f, "{seconds}.{tenths} s"),
        }
    }
}

#[derive(Clone)]
struct Attempt {
    place: String,
    cause: Cause,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

/// There is no connection: where it was tried, why it failed, and what to do.
///
/// `Display` is one line without user or password; the server's or system's own words are behind
/// [`source`](StdError::source).
#[derive(Clone)]
pub(crate) struct Failure {
    database: String,
    /// One for each host that was tried; never empty.
    attempts: Vec<Attempt>,
    /// The attempt that counts.
    leading: usize,
}

impl Failure {
    /// One host failed. Without a place, the URL as it may be shown stands for it.
    pub(super) fn one(target: &Target, place: Option<&Place>, cause: Cause) -> Self {
        let place = place.map_or_else(|| target.shown(), Place::to_string);
        let attempt = Attempt { place, cause, source: None };
        Self { database: target.database().to_owned(), attempts: vec![attempt], leading: 0 }
    }

    #[must_use]
    pub(super) fn caused_by(mut self, source: Option<Arc<dyn StdError + Send + Sync>>) -> Self {
        if let Some(attempt) = self.attempts.first_mut() {
            attempt.source = source;
        }
        self
    }

    /// Every host failed. A wrong answer counts more than none: somebody has to put it right.
    pub(super) fn all(failures: Vec<Self>) -> Option<Self> {
        let mut failures = failures.into_iter();
        let mut whole = failures.next()?;
        for failure in failures {
            whole.attempts.extend(failure.attempts);
        }
        whole.leading = whole.attempts.iter().position(|attempt| !attempt.cause.is_unreachable()).unwrap_or(0);
        Some(whole)
    }

    fn attempt(&self) -> Option<&Attempt> {
        self.attempts.get(self.leading)
    }

    /// The cause; of several hosts, that of the first one that answered wrongly, else of the first one.
    pub(crate) fn cause(&self) -> &Cause {
        self.attempt().map_or(&Cause::Lost, |attempt| &attempt.cause)
    }

    /// Every host that was tried and its cause, in the order of the attempts.
    #[cfg(test)]
    pub(crate) fn causes(&self) -> impl Iterator<Item = (&str, &Cause)> {
        self.attempts.iter().map(|attempt| (attempt.place.as_str(), &attempt.cause))
    }

    /// Whether no host could be reached. One that answered wrongly makes this false: the data may be there.
    pub(crate) fn is_unreachable(&self) -> bool {
        self.attempts.iter().all(|attempt| attempt.cause.is_unreachable())
    }

    /// What to do about it.
    pub(crate) fn remedy(&self) -> &'static str {
        self.cause().remedy()
    }
}

impl Failure {
    /// The error for whoever wants to work: the whole message, with the system's or server's own words as its cause.
    pub(crate) fn to_error(&self) -> storage_core::Error {
        let kind = match self.cause() {
            Cause::NotWritable => storage_core::ErrorKind::ReadOnly,
            _ => storage_core::ErrorKind::Unavailable,
        };
        let error = storage_core::Error::new(kind).message(self.to_string());
        match self.attempt().and_then(|attempt| attempt.source.clone()) {
            Some(source) => error.caused_by(source),
            None => error,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot connect to PostgreSQL database {:?}", self.database)?;
        for (index, attempt) in self.attempts.iter().enumerate() {
            write!(f, "{} {}: {}", if index == 0 { " at" } else { "; at" }, attempt.place, attempt.cause)?;
        }
        write!(f, "; {}", self.remedy())
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Failure({self}")?;
        let mut source = self.source();
        while let Some(cause) = source {
            write!(f, ": {cause}")?;
            source = cause.source();
        }
        f.write_str(")")
    }
}

impl StdError for Failure {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.attempt().and_then(|attempt| attempt.source.as_deref()).map(|source| source as &(dyn StdError + 'static))
    }
}

/// All that is known of an attempt beside its error.
pub(super) struct Seen<'a> {
    pub(super) target: &'a Target,
    pub(super) place: &'a Place,
    pub(super) trace: &'a Trace,
    pub(super) options_sent: bool,
    pub(super) limit: Duration,
}

impl Seen<'_> {
    /// What was waited for when time ran out.
    pub(super) fn timed_out(&self) -> Cause {
        let stage = if self.trace.reached() { Stage::Answer } else { Stage::Socket };
        Cause::timed_out(stage, self.limit)
    }

    /// Finds the cause behind an error of tokio-postgres, from what it carries and how far the attempt came.
    pub(super) fn failure(&self, error: tokio_postgres::Error) -> Failure {
        let cause = self.cause(&error);
        let source = match cause {
            // Here the source is a text of tokio-postgres that says what the cause says already.
            Cause::NoTls | Cause::ChannelBinding | Cause::NoPassword | Cause::LoginKind => None,
            // The outermost error says only "db error" or "error connecting to server".
            _ if error.source().is_some() => error.into_source().map(Arc::from),
            _ => Some(Arc::new(error) as Arc<dyn StdError + Send + Sync>),
        };
        Failure::one(self.target, Some(self.place), cause).caused_by(source)
    }

    fn cause(&self, error: &tokio_postgres::Error) -> Cause {
        if let Some(code) = error.code() {
            return by_code(code, self.options_sent);
        }
        if error.is_closed() {
            return Cause::Lost;
        }
        if let Some(error) = find_tls(error) {
            return by_tls(error);
        }
        if let Some(error) = find_io(error) {
            return match (self.trace.reached(), self.place.socket()) {
                (false, _) if error.kind() == io::ErrorKind::TimedOut => self.timed_out(),
                (false, Some(socket)) => before_socket(error.kind(), &socket),
                (false, None) => before_connection(error.kind()),
                (true, _) => self.after_connection(error),
            };
        }
        // What is left are refusals of tokio-postgres itself, which carry only text: the stage tells them apart.
        if error.source().is_none() {
            Cause::NotPostgres
        } else if self.place.socket().is_none() && self.target.protection.is_required() && !self.trace.asked() {
            Cause::NoTls
        } else if self.target.channel_binding == ChannelBinding::Require {
            Cause::ChannelBinding
        } else if !self.target.has_password() {
            Cause::NoPassword
        } else {
            Cause::LoginKind
        }
    }

    fn after_connection(&self, error: &io::Error) -> Cause {
        let in_handshake = self.trace.asked() && !self.trace.done();
        match error.kind() {
            io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable | io::ErrorKind::NetworkDown => {
                Cause::NoRoute
            }
            // An older server hangs up when TLS begins without being announced. That is no accident that passes.
            _ if self.target.direct_tls && in_handshake => Cause::TlsHandshake,
            _ if error.raw_os_error().is_some() => Cause::Lost,
            io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput | io::ErrorKind::Other => {
                if in_handshake {
                    Cause::TlsHandshake
                } else {
                    Cause::NotPostgres
                }
            }
            _ => Cause::Lost,
        }
    }
}

fn by_code(code: &SqlState, options_sent: bool) -> Cause {
    match code.code() {
        "57P01" | "57P02" | "57P03" => Cause::Starting,
        "53300" => Cause::NoSlots,
        "28P01" => Cause::Password,
        "28000" => Cause::Login,
        "3D000" => Cause::NoDatabase,
        "42501" => Cause::NoRight,
        // The pooler in front is there, the server behind it is not.
        "08000" | "08001" | "08003" | "08006" => Cause::Lost,
        "08P01" if options_sent => Cause::OptionsRefused,
        other => Cause::Server(other.to_owned()),
    }
}

fn by_tls(error: &rustls::Error) -> Cause {
    let rustls::Error::InvalidCertificate(fault) = error else { return Cause::TlsHandshake };
    Cause::Certificate(match fault {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => CertificateFault::UnknownIssuer,
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            CertificateFault::WrongHost
        }
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => CertificateFault::Expired,
        _ => CertificateFault::Other,
    })
}

fn before_connection(kind: io::ErrorKind) -> Cause {
    match kind {
        io::ErrorKind::ConnectionRefused => Cause::Refused,
        io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted => Cause::Lost,
        // Whatever else hinders a socket (a firewall's EPERM, no IPv6 on this machine), the server was not reached.
        _ => Cause::NoRoute,
    }
}

fn before_socket(kind: io::ErrorKind, socket: &Path) -> Cause {
    match kind {
        io::ErrorKind::ConnectionRefused => Cause::Refused,
        // A stopped server takes its socket away but leaves the directory: that is the same as a closed port.
        io::ErrorKind::NotFound if socket.parent().is_some_and(Path::is_dir) => Cause::Refused,
        // The queue of the socket is full.
        io::ErrorKind::WouldBlock => Cause::NoSlots,
        _ => Cause::SocketMissing,
    }
}

fn chain(error: &tokio_postgres::Error) -> impl Iterator<Item = &(dyn StdError + 'static)> {
    std::iter::successors(error.source(), |error| (*error).source())
}

fn find_io(error: &tokio_postgres::Error) -> Option<&io::Error> {
    chain(error).find_map(|error| error.downcast_ref::<io::Error>())
}

/// tokio-rustls wraps its errors in `io::Error`, whose `source` skips the wrapped error itself.
fn find_tls(error: &tokio_postgres::Error) -> Option<&rustls::Error> {
    chain(error).find_map(|error| match error.downcast_ref::<rustls::Error>() {
        Some(error) => Some(error),
        None => error.downcast_ref::<io::Error>()?.get_ref()?.downcast_ref::<rustls::Error>(),
    })
}
