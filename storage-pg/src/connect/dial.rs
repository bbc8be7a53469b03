//! Dialling: host by host and address by address, each within its time, so that every cause is known.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout, timeout_at};
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, Connection, Socket};

use super::failure::{Cause, Failure, Seen, Stage};
use super::hello::Hello;
use super::target::{Host, Place, Session, Target};
use super::tls::Connector;

/// The least time that an address gets while others of the same host wait for their turn.
const LEAST_SHARE: Duration = Duration::from_secs(2);

/// A connection that stands. `connection` has to be polled (spawned) for `client` to get anywhere.
#[non_exhaustive]
pub(crate) struct Link {
    /// Sends statements.
    pub(crate) client: Client,
    /// Moves the bytes; ends with the connection, with an error if it broke.
    pub(crate) connection: Connection<Socket, <Connector as MakeTlsConnect<Socket>>::Stream>,
    /// Which of the URL's servers it is.
    pub(crate) place: Place,
    /// Whether TLS protects it.
    pub(crate) encrypted: bool,
    /// Whether our startup options were taken; where they were refused, the URL's alone were sent.
    pub(crate) took_ours: bool,
    /// Whether nobody shares the server's session with us, and the session is as it was asked for.
    pub(crate) direct: bool,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("place", &self.place).field("encrypted", &self.encrypted).finish_non_exhaustive()
    }
}

/// Connects to the first of the target's servers that takes writes.
///
/// `session` is what our sessions have as startup options; without it the URL's own go alone, as they do where a server refuses
/// ours. Takes at most `connect_timeout` for each host (and once more for each time that options are refused), name look-up,
/// login and first question included. Dropping the future leaves nothing behind.
///
/// # Errors
/// The true cause for each host.
pub(crate) async fn connect(
    target: &Target,
    connector: &Connector,
    session: Option<&Session>,
) -> Result<Link, Failure> {
    let mut places: Vec<&Place> = target.hosts().iter().collect();
    if target.shuffle {
        shuffle(&mut places);
    }
    let mut failures = Vec::with_capacity(places.len());
    for place in places {
        match (Dial { target, connector, place, session }).host().await {
            Ok(link) => return Ok(link),
            Err(failure) => failures.push(failure),
        }
    }
    // A target has at least one host; were there none, nobody could have been reached.
    Err(Failure::all(failures).unwrap_or_else(|| Failure::one(target, None, Cause::NoRoute)))
}

struct Dial<'a> {
    target: &'a Target,
    connector: &'a Connector,
    place: &'a Place,
    session: Option<&'a Session>,
}

impl Dial<'_> {
    fn failed(&self, cause: Cause) -> Failure {
        Failure::one(self.target, Some(self.place), cause)
    }

    async fn host(&self) -> Result<Link, Failure> {
        let end = Instant::now() + self.target.connect_timeout;
        let addresses = self.addresses(end).await?;
        let mut worst: Option<Failure> = None;
        for (index, address) in addresses.iter().enumerate() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() && worst.is_some() {
                break;
            }
            let limit = share(left, addresses.len() - index);
            let failure = match self.address(*address, limit).await {
                Ok(link) => return Ok(link),
                Err(failure) => failure,
            };
            let is_final = failure.cause().is_final();
            if worst.as_ref().is_none_or(Failure::is_unreachable) {
                worst = Some(failure);
            }
            if is_final {
                break;
            }
        }
        Err(worst.unwrap_or_else(|| self.failed(Cause::NoSuchHost)))
    }

    /// Looked up here and not in tokio-postgres: there a name that does not exist and a broken connection look alike.
    async fn addresses(&self, end: Instant) -> Result<Vec<Option<IpAddr>>, Failure> {
        let name = match &self.place.host {
            Host::Socket(_) => return Ok(vec![None]),
            Host::Tcp { address: Some(address), .. } => return Ok(vec![Some(*address)]),
            Host::Tcp { name, address: None } => name,
        };
        match timeout_at(end, tokio::net::lookup_host((name.as_str(), self.place.port))).await {
            Ok(Ok(found)) => {
                let mut addresses: Vec<_> = found.map(|address| Some(address.ip())).collect();
                if self.target.shuffle {
                    shuffle(&mut addresses);
                }
                Ok(addresses)
            }
            Ok(Err(error)) => Err(self.failed(Cause::NoSuchHost).caused_by(Some(Arc::new(error)))),
            Err(_) => Err(self.failed(Cause::timed_out(Stage::Name, self.target.connect_timeout))),
        }
    }

    async fn address(&self, address: Option<IpAddr>, limit: Duration) -> Result<Link, Failure> {
        let Some(session) = self.session else {
            return self.urls_own(address, limit).await;
        };
        let ours = self.attempt(address, limit, self.target.startup_options(Some(session))).await;
        let Err(failure) = ours else {
            return ours.map(|link| Link { took_ours: true, ..link });
        };
        // Some poolers choose the server by the URL's options, and no longer find it when others stand beside them.
        let may_be_ours =
            *failure.cause() == Cause::OptionsRefused || self.target.has_options() && failure.cause().is_answer();
        if !may_be_ours {
            return Err(failure);
        }
        self.urls_own(address, limit).await
    }

    /// With the URL's own options, or none.
    async fn urls_own(&self, address: Option<IpAddr>, limit: Duration) -> Result<Link, Failure> {
        let failure = match self.attempt(address, limit, self.target.startup_options(None)).await {
            Err(failure) if *failure.cause() == Cause::OptionsRefused => failure,
            other => return other,
        };
        // A pooler says 08P01 to many things. Without the options it shows whether they were the reason.
        match self.attempt(address, limit, None).await {
            Err(without) if matches!(without.cause(), Cause::Server(_)) => Err(without),
            _ => Err(failure),
        }
    }

    async fn attempt(
        &self,
        address: Option<IpAddr>,
        limit: Duration,
        options: Option<String>,
    ) -> Result<Link, Failure> {
        let (target, place) = (self.target, self.place);
        let (tls, trace) = self.connector.traced();
        let seen = Seen { target, place, trace: &trace, options_sent: options.is_some(), limit };
        let config = target.config_for(place, address, options);
        let connecting = async {
            let (client, mut connection) = config.connect(tls).await?;
            let hello = tokio::select! {
                hello = Hello::ask(&client) => hello?,
                // It ended before it answered; the question has the cause too, but may not be polled any more.
                ended = &mut connection => return Err(ended.err()),
            };
            Ok::<_, Option<tokio_postgres::Error>>((client, connection, hello))
        };
        match timeout(limit, connecting).await {
            Ok(Ok((_, _, hello))) if !hello.writes => Err(self.failed(Cause::NotWritable)),
            Ok(Ok((client, connection, hello))) => {
                let direct = hello.pinned && hello.is_direct(&client).await;
                let (place, encrypted) = (place.clone(), trace.done());
                Ok(Link { client, connection, place, encrypted, took_ours: false, direct })
            }
            Ok(Err(Some(error))) => Err(seen.failure(error)),
            Ok(Err(None)) => Err(self.failed(Cause::Lost)),
            Err(_) => Err(self.failed(seen.timed_out())),
        }
    }
}

/// The time for the next address: one dead address must not use up the time of the others, nor a slow one be taken for dead.
fn share(left: Duration, addresses: usize) -> Duration {
    let addresses = u32::try_from(addresses).unwrap_or(u32::MAX).max(1);
    (left / addresses).max(LEAST_SHARE).min(left)
}

/// Spreads the load; nothing depends on how random this is, so the hasher's keys will do.
fn shuffle<T>(list: &mut [T]) {
    let random = RandomState::new();
    for index in (1..list.len()).rev() {
        let other = usize::try_from(random.hash_one(index) >> 1).unwrap_or(0) % (index + 1);
        list.swap(index, other);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_share_the_time() {
        let seconds = Duration::from_secs;
        assert_eq!(share(seconds(5), 1), seconds(5));
        assert_eq!(share(seconds(9), 3), seconds(3));
        // Never so little that a slow answer is taken for none, unless no more is left.
        assert_eq!(share(seconds(5), 8), LEAST_SHARE);
        assert_eq!(share(seconds(1), 8), seconds(1));
        assert_eq!(share(Duration::ZERO, 1), Duration::ZERO);
    }

    #[test]
    fn shuffling_loses_nobody_and_reaches_every_order() {
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..1000 {
            let mut list = [1, 2, 3];
            shuffle(&mut list);
            seen.insert(list);
        }
        assert_eq!(seen.len(), 6);
    }
}
