//! What a connection URL asks for, checked: where to connect, as whom, and how carefully.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::{ChannelBinding, LoadBalanceHosts, SslMode, SslNegotiation};

use super::url::{Parts, UrlError};

const DEFAULT_PORT: u16 = 5432;
const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const DEFAULT_KEEPALIVES_IDLE: Duration = Duration::from_secs(30);
const DEFAULT_TCP_USER_TIMEOUT: Duration = Duration::from_secs(15);
const DEFAULT_APPLICATION_NAME: &str = "generation-storage";

/// Where unqualified names of our statements are looked up: in the server's own catalog and nowhere else. `pg_temp` is named because
/// it would come first otherwise.
pub(super) const SEARCH_PATH: &str = "pg_catalog,pg_temp";

/// What our sessions have as startup options, besides those of the URL.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    /// The limit of a lock, in milliseconds; the URL's own word wins.
    pub(crate) lock_timeout: u128,
}

impl Session {
    /// Ours around the URL's: the server reads them in order, and the last word on a setting counts.
    fn around(&self, own: Option<&str>) -> String {
        let own = own.map(|own| format!(" {own}")).unwrap_or_default();
        format!("-c lock_timeout={}{own} -c search_path={SEARCH_PATH} -c row_security=off", self.lock_timeout)
    }
}

/// One server of a URL, as messages name it: `db.example.org:5432`, `[::1]:5432`, `/run/postgresql/.s.PGSQL.5432`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(super) host: Host,
    pub(super) port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Host {
    /// The directory of a Unix socket.
    Socket(String),
    /// A name or address, which TLS checks, and the address to dial instead of asking the resolver (`hostaddr`).
    Tcp { name: String, address: Option<IpAddr> },
}

impl Place {
    /// Whether the connection cannot leave this machine.
    pub(crate) fn is_local(&self) -> bool {
        match &self.host {
            Host::Socket(_) => true,
            Host::Tcp { address: Some(address), .. } => address.to_canonical().is_loopback(),
            Host::Tcp { name, address: None } => {
                name.eq_ignore_ascii_case("localhost")
                    || name.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
            }
        }
    }

    /// The socket file, for a Unix socket.
    pub(super) fn socket(&self) -> Option<PathBuf> {
        match &self.host {
            Host::Socket(directory) => Some(PathBuf::from(directory).join(format!(".s.PGSQL.{}", self.port))),
            Host::Tcp { .. } => None,
        }
    }

    /// What stands for this server in a URL.
    fn in_url(&self) -> String {
        match &self.host {
            Host::Socket(directory) => format!("{}:{}", encode(directory), self.port),
            Host::Tcp { .. } => self.to_string(),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Socket(directory) => write!(f, "{}/.s.PGSQL.{}", directory.trim_end_matches('/'), self.port),
            Host::Tcp { name, .. } if name.contains(':') => write!(f, "[{name}]:{}", self.port),
            Host::Tcp { name, .. } => write!(f, "{name}:{}", self.port),
        }
    }
}

/// How the connection is protected: libpq's `sslmode` together with its `sslrootcert`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Protection {
    /// Never TLS.
    Off,
    /// TLS when the server offers it, with any certificate.
    Opportunistic,
    /// TLS or nothing, with any certificate.
    Encrypted,
    /// TLS, and the certificate's chain must end in the roots.
    Chain(Roots),
    /// TLS, chain and name.
    Full(Roots),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Roots {
    System,
    File(String),
}

impl Protection {
    pub(super) fn is_required(&self) -> bool {
        !matches!(self, Self::Off | Self::Opportunistic)
    }
}

/// A connection URL, read and checked. `Display` and `Debug` show scheme, hosts, ports and database only.
///
/// Takes `postgres://` and `postgresql://` as libpq does: percent-encoded parts, several hosts, IPv6 in brackets, a Unix
/// socket as `?host=/run/postgresql` or `%2Frun%2Fpostgresql` in place of the host. Nothing is read from the environment, and
/// no word is passed over in silence: what is not honoured is refused by name.
///
/// Where this differs from libpq: the defaults bound every wait (5 s to connect, keepalives after 30 s, 15 s until unacknowledged data
/// ends a connection); `connect_timeout` cannot be switched off; a missing host is `localhost`; a server that takes no writes is never used;
/// `verify-full` without `sslrootcert` trusts the system's certificates.
#[derive(Clone)]
pub(crate) struct Target {
    scheme: &'static str,
    places: Vec<Place>,
    user: String,
    password: Option<Vec<u8>>,
    database: String,
    options: Option<String>,
    application_name: String,
    pub(super) connect_timeout: Duration,
    keepalives: Option<Keepalives>,
    tcp_user_timeout: Option<Duration>,
    pub(super) shuffle: bool,
    pub(super) protection: Protection,
    pub(super) direct_tls: bool,
    pub(super) channel_binding: ChannelBinding,
}

#[derive(Clone)]
struct Keepalives {
    idle: Duration,
    interval: Option<Duration>,
    retries: Option<u32>,
}

impl Target {
    /// Reads a URL. `default_user` stands in when it names no user (libpq would take the name from the operating system).
    ///
    /// # Errors
    /// Names the parameter and the rule it breaks; repeats nothing that could be a password.
    pub(crate) fn parse(url: &str, default_user: Option<&str>) -> Result<Self, UrlError> {
        let parts = Parts::read(url)?;
        let user = match parts.text("user")? {
            Some(user) => user,
            None => default_user.filter(|user| !user.is_empty()).map(str::to_owned).ok_or_else(|| {
                UrlError::word("user", "must stand before the host, as in postgresql://user@host/database")
            })?,
        };
        let places = places(&parts)?;
        let (protection, direct_tls) = protection(&parts)?;
        let channel_binding = channel_binding(&parts, &protection)?;
        refuse_the_meaningless(&parts)?;
        // Whatever it says, only a server that takes writes will do.
        let _ = parts.choice(
            "target_session_attrs",
            &[
                ("any", Ok(())),
                ("read-write", Ok(())),
                ("primary", Ok(())),
                ("read-only", Err(MUST_WRITE)),
                ("standby", Err(MUST_WRITE)),
                ("prefer-standby", Err(MUST_WRITE)),
            ],
        )?;
        Ok(Self {
            scheme: parts.scheme,
            database: parts.text("dbname")?.unwrap_or_else(|| user.clone()),
            user,
            password: parts.bytes("password").map(<[u8]>::to_vec),
            options: parts.text("options")?,
            application_name: parts.text("application_name")?.unwrap_or_else(|| DEFAULT_APPLICATION_NAME.to_owned()),
            // Zero would wait without end, as with libpq, and every wait has to have one.
            connect_timeout: parts
                .number("connect_timeout", 1..=3600, " of seconds")?
                .map_or(DEFAULT_CONNECT_TIMEOUT, Duration::from_secs),
            keepalives: keepalives(&parts)?,
            // libpq counts in milliseconds here, and takes zero for the system's default.
            tcp_user_timeout: match parts.number("tcp_user_timeout", 0..=2_147_483_647, " of milliseconds")? {
                None => Some(DEFAULT_TCP_USER_TIMEOUT),
                Some(0) => None,
                Some(limit) => Some(Duration::from_millis(limit)),
            },
            shuffle: parts
                .choice("load_balance_hosts", &[("disable", Ok(false)), ("random", Ok(true))])?
                .unwrap_or(false),
            places,
            protection,
            direct_tls,
            channel_binding,
        })
    }

    /// Scheme, hosts, ports and database: what may be printed.
    pub(crate) fn shown(&self) -> String {
        format!("{}://{}/{}", self.scheme, self.hosts_in_url(), encode(&self.database))
    }

    fn hosts_in_url(&self) -> String {
        self.places.iter().map(Place::in_url).collect::<Vec<_>>().join(",")
    }

    /// The servers, in the order of the URL.
    pub(crate) fn hosts(&self) -> &[Place] {
        &self.places
    }

    /// The database's name.
    pub(crate) fn database(&self) -> &str {
        &self.database
    }

    /// Whether every server is on this machine: a loopback address, `localhost` or a Unix socket.
    pub(crate) fn is_local(&self) -> bool {
        self.places.iter().all(Place::is_local)
    }

    /// Whether the URL itself sets startup `options`, which some poolers refuse.
    pub(crate) fn has_options(&self) -> bool {
        self.options.is_some()
    }

    /// Whether the URL has a password.
    pub(crate) fn has_password(&self) -> bool {
        self.password.is_some()
    }

    /// Whether a connection without TLS would be accepted on the way to another machine: `sslmode` is `disable` or `prefer`.
    pub(crate) fn may_go_unencrypted(&self) -> bool {
        !self.protection.is_required() && !self.is_local()
    }

    /// Everything as tokio-postgres wants it, for tools that connect by themselves; [`connect`](super::connect) does more.
    ///
    /// tokio-postgres knows one TLS mode for all hosts: where Unix sockets, which never have TLS, stand beside others, only
    /// [`connect`](super::connect) gets it right.
    pub(crate) fn config(&self, session: Option<&Session>) -> Config {
        let mut config = self.base(self.startup_options(session));
        for place in &self.places {
            place_into(&mut config, place, None);
        }
        if self.places.iter().all(|place| place.socket().is_some()) {
            config.ssl_mode(SslMode::Disable);
        }
        if self.shuffle {
            config.load_balance_hosts(LoadBalanceHosts::Random);
        }
        config
    }

    /// What goes to the server as `options`: ours and the URL's own, or the URL's alone.
    pub(super) fn startup_options(&self, session: Option<&Session>) -> Option<String> {
        match session {
            Some(session) => Some(session.around(self.options.as_deref())),
            None => self.options.clone(),
        }
    }

    /// As tokio-postgres wants it, for one server at an address that was already looked up.
    pub(super) fn config_for(&self, place: &Place, address: Option<IpAddr>, options: Option<String>) -> Config {
        let mut config = self.base(options);
        place_into(&mut config, place, address);
        if place.socket().is_some() {
            // libpq's rule: there is no TLS on a Unix socket, whatever the mode says.
            config.ssl_mode(SslMode::Disable);
        }
        config
    }

    fn base(&self, options: Option<String>) -> Config {
        let mut config = Config::new();
        config.user(&self.user).dbname(&self.database).application_name(&self.application_name);
        if let Some(password) = &self.password {
            config.password(password);
        }
        if let Some(options) = options {
            config.options(options);
        }
        config.connect_timeout(self.connect_timeout);
        match &self.keepalives {
            None => {
                config.keepalives(false);
            }
            Some(keepalives) => {
                config.keepalives(true).keepalives_idle(keepalives.idle);
                keepalives.interval.map(|interval| config.keepalives_interval(interval));
                keepalives.retries.map(|retries| config.keepalives_retries(retries));
            }
        }
        self.tcp_user_timeout.map(|limit| config.tcp_user_timeout(limit));
        config.channel_binding(self.channel_binding);
        config.ssl_mode(match self.protection {
            Protection::Off => SslMode::Disable,
            Protection::Opportunistic => SslMode::Prefer,
            Protection::Encrypted | Protection::Chain(_) | Protection::Full(_) => SslMode::Require,
        });
        if self.direct_tls {
            config.ssl_negotiation(SslNegotiation::Direct);
        }
        config
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.shown())
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown())
    }
}

const MUST_WRITE: &str = "a store must be able to write";

fn place_into(config: &mut Config, place: &Place, address: Option<IpAddr>) {
    match &place.host {
        // A text that begins with a slash is a socket directory to tokio-postgres, too.
        Host::Socket(directory) => config.host(directory),
        Host::Tcp { name, address: fixed } => {
            // The name goes along with every address: TLS checks it, and without one tokio-postgres refuses TLS.
            config.host(name);
            match address.or(*fixed) {
                Some(address) => config.hostaddr(address),
                None => config,
            }
        }
    };
    config.port(place.port);
}

fn places(parts: &Parts) -> Result<Vec<Place>, UrlError> {
    let addresses = match parts.text("hostaddr")? {
        None => None,
        Some(list) => Some(
            list.split(',')
                .map(str::parse::<IpAddr>)
                .collect::<Result<Vec<_>, _>>()
                .map_err(|_| UrlError::word("hostaddr", "must be an IP address for each host, joined by commas"))?,
        ),
    };
    let hosts: Vec<Host> = match (&parts.hosts, addresses) {
        (None, None) => vec![Host::Tcp { name: "localhost".to_owned(), address: None }],
        // Without a name, TLS checks the address, which a certificate can name as well.
        (None, Some(addresses)) => addresses
            .into_iter()
            .map(|address| Host::Tcp { name: address.to_string(), address: Some(address) })
            .collect(),
        (Some(names), addresses) => {
            if addresses.as_ref().is_some_and(|addresses| addresses.len() != names.len()) {
                return Err(UrlError::word("hostaddr", "must have as many addresses as there are hosts"));
            }
            let mut addresses = addresses.into_iter().flatten();
            names.iter().map(|name| host(name, addresses.next())).collect::<Result<_, _>>()?
        }
    };
    let ports = match &parts.ports {
        None => vec![None; hosts.len()],
        Some(ports) if ports.len() == hosts.len() => ports.clone(),
        Some(ports) if ports.len() == 1 => vec![ports.first().copied().flatten(); hosts.len()],
        Some(_) => return Err(UrlError::word("port", "must be one for all hosts or one for each")),
    };
    let place = |(host, port): (Host, Option<u16>)| Place { host, port: port.unwrap_or(DEFAULT_PORT) };
    Ok(hosts.into_iter().zip(ports).map(place).collect())
}

fn host(name: &str, address: Option<IpAddr>) -> Result<Host, UrlError> {
    if name.starts_with('/') {
        if !cfg!(unix) {
            return Err(UrlError::word("host", "cannot be a Unix socket on this system"));
        }
        return match address {
            None => Ok(Host::Socket(name.to_owned())),
            Some(_) => Err(UrlError::word("hostaddr", "cannot stand beside a Unix socket")),
        };
    }
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_');
    if name.is_empty() {
        return Err(UrlError::word("host", "must name each host of a list"));
    }
    if !name.chars().all(plain) && name.parse::<IpAddr>().is_err() {
        return Err(UrlError::word("host", "must be a name, an IP address or a directory that begins with /"));
    }
    Ok(Host::Tcp { name: name.to_owned(), address })
}

/// Which roots a URL names is known only together with the mode.
fn protection(parts: &Parts) -> Result<(Protection, bool), UrlError> {
    #[derive(Clone, Copy, PartialEq)]
    enum Mode {
        Disable,
        Prefer,
        Require,
        VerifyCa,
        VerifyFull,
    }
    let mode = parts.choice(
        "sslmode",
        &[
            ("disable", Ok(Mode::Disable)),
            ("allow", Err("it tries without TLS first; write prefer, which tries TLS first")),
            ("prefer", Ok(Mode::Prefer)),
            ("require", Ok(Mode::Require)),
            ("verify-ca", Ok(Mode::VerifyCa)),
            ("verify-full", Ok(Mode::VerifyFull)),
        ],
    )?;
    let file = parts.text("sslrootcert")?;
    let protection = match (mode, file) {
        (None | Some(Mode::VerifyFull), Some(file)) if file == "system" => Protection::Full(Roots::System),
        (_, Some(file)) if file == "system" => {
            return Err(UrlError::word(
                "sslrootcert",
                "cannot be system unless sslmode=verify-full: anybody can get a certificate that the system trusts",
            ));
        }
        (None | Some(Mode::Disable | Mode::Prefer), Some(_)) => {
            return Err(UrlError::word(
                "sslrootcert",
                "needs sslmode=verify-full or verify-ca; otherwise nothing is checked",
            ));
        }
        // libpq's rule: `require` checks the chain once there is something to check it against.
        (Some(Mode::Require | Mode::VerifyCa), Some(file)) => Protection::Chain(Roots::File(file)),
        (Some(Mode::VerifyFull), Some(file)) => Protection::Full(Roots::File(file)),
        (Some(Mode::VerifyCa), None) => {
            return Err(UrlError::word(
                "sslmode",
                "cannot be verify-ca without sslrootcert: anybody can get a certificate that the system trusts; write verify-full",
            ));
        }
        (Some(Mode::VerifyFull), None) => Protection::Full(Roots::System),
        (Some(Mode::Disable), None) => Protection::Off,
        (None | Some(Mode::Prefer), None) => Protection::Opportunistic,
        (Some(Mode::Require), None) => Protection::Encrypted,
    };
    let direct = parts.choice("sslnegotiation", &[("postgres", Ok(false)), ("direct", Ok(true))])?.unwrap_or(false);
    if direct && !protection.is_required() {
        return Err(UrlError::word("sslnegotiation", "cannot be direct unless sslmode is require or stronger"));
    }
    Ok((protection, direct))
}

fn channel_binding(parts: &Parts, protection: &Protection) -> Result<ChannelBinding, UrlError> {
    let binding = parts
        .choice(
            "channel_binding",
            &[
                ("disable", Ok(ChannelBinding::Disable)),
                ("prefer", Ok(ChannelBinding::Prefer)),
                ("require", Ok(ChannelBinding::Require)),
            ],
        )?
        .unwrap_or(ChannelBinding::Prefer);
    if binding == ChannelBinding::Require && *protection == Protection::Off {
        return Err(UrlError::word(
            "channel_binding",
            "cannot be require with sslmode=disable: it binds the login to TLS",
        ));
    }
    Ok(binding)
}

/// Words that people copy along and that have one possible value here.
fn refuse_the_meaningless(parts: &Parts) -> Result<(), UrlError> {
    const NO_GSS: &str = "encryption by GSSAPI is not supported";
    parts.choice("gssencmode", &[("disable", Ok(())), ("prefer", Err(NO_GSS)), ("require", Err(NO_GSS))])?;
    parts.choice("sslcompression", &[("0", Ok(())), ("1", Err("it is unsafe and gone from TLS"))])?;
    parts.choice("sslsni", &[("1", Ok(())), ("0", Err("the host's name is always sent"))])?;
    if let Some(encoding) = parts.text("client_encoding")?
        && !["utf8", "utf-8", "auto"].contains(&encoding.to_ascii_lowercase().as_str())
    {
        return Err(UrlError::word("client_encoding", "must be UTF8"));
    }
    Ok(())
}

fn keepalives(parts: &Parts) -> Result<Option<Keepalives>, UrlError> {
    let on = parts.choice("keepalives", &[("0", Ok(false)), ("1", Ok(true))])?.unwrap_or(true);
    // Linux takes no more for each of the three; zero leaves it to the system, except for the idle time, which is always set.
    let idle = parts.number("keepalives_idle", 1..=32_767, " of seconds")?;
    let interval = parts.number("keepalives_interval", 0..=32_767, " of seconds")?;
    let count = parts.number("keepalives_count", 0..=127, "")?;
    let retries = parts.number("keepalives_retries", 0..=127, "")?;
    if count.is_some() && retries.is_some() {
        return Err(UrlError::word("keepalives_retries", "is given twice: keepalives_count is the same"));
    }
    Ok(on.then(|| Keepalives {
        idle: idle.map_or(DEFAULT_KEEPALIVES_IDLE, Duration::from_secs),
        interval: interval.filter(|seconds| *seconds > 0).map(Duration::from_secs),
        retries: count.or(retries).filter(|n| *n > 0).and_then(|n| u32::try_from(n).ok()),
    }))
}

/// A name as it stands in a URL.
fn encode(text: &str) -> String {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let digit = |number: u8| DIGITS.get(usize::from(number)).copied().map_or('0', char::from);
    let mut encoded = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | '~') {
            encoded.push(c);
        } else {
            for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                encoded.extend(['%', digit(byte >> 4), digit(byte & 15)]);
            }
        }
    }
    encoded
}

#[cfg(test)]
mod tests;
