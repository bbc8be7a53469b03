//! Causes that need no PostgreSQL server: ports where nobody listens, somebody is silent, or somebody says one thing.

use std::error::Error as _;
use std::time::{Duration, Instant};

use crate::connect::{Cause, Connector, Failure, Link, Session, Stage, Target, connect};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// What our sessions have besides.
const OURS: Session = Session { lock_timeout: 1 };

async fn dial(url: &str, session: Option<&Session>) -> Result<Link, Failure> {
    let target = Target::parse(url, None).unwrap();
    let connector = Connector::load(&target).await?;
    let result = connect(&target, &connector, session).await;
    if let Err(failure) = &result {
        println!("{failure}\n    source: {:?}", failure.source().map(ToString::to_string));
        assert!(!format!("{failure} {failure:?}").contains("S3cr3t"));
    }
    result
}

/// What a stand-in for a server does after it read the first packet.
#[derive(Clone, Copy)]
enum Act {
    Silent,
    HangUp,
    Say(&'static [u8]),
    SayAndHangUp(&'static [u8]),
    /// An `ErrorResponse` with this SQLSTATE.
    Fail(&'static str),
    /// The same, only where the packet names `options`.
    FailOptions(&'static str),
}

async fn stand_in(act: Act) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let mut kept = Vec::new();
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut packet = [0; 1024];
            let length = socket.read(&mut packet).await.unwrap();
            let has_options = packet[..length].windows(8).any(|w| w == b"options\0");
            let error = |code: &str| {
                let fields = format!("SFATAL\0VFATAL\0C{code}\0Mwords of the server\0\0");
                let mut message = vec![b'E'];
                message.extend(u32::try_from(fields.len() + 4).unwrap().to_be_bytes());
                message.extend(fields.bytes());
                message
            };
            match act {
                Act::Silent => {}
                Act::HangUp => continue,
                Act::Say(words) => socket.write_all(words).await.unwrap(),
                Act::SayAndHangUp(words) => {
                    socket.write_all(words).await.unwrap();
                    continue;
                }
                Act::Fail(code) => socket.write_all(&error(code)).await.unwrap(),
                Act::FailOptions(code) if has_options => socket.write_all(&error(code)).await.unwrap(),
                Act::FailOptions(_) => socket.write_all(&error("28P01")).await.unwrap(),
            }
            kept.push(socket);
        }
    });
    port
}

fn closed_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

async fn fails(url: &str) -> Failure {
    dial(url, None).await.unwrap_err()
}

#[tokio::test]
async fn refused_port() {
    let port = closed_port();
    let start = Instant::now();
    let failure = fails(&format!("postgresql://u:S3cr3t@127.0.0.1:{port}/d")).await;
    assert_eq!(failure.cause(), &Cause::Refused);
    assert!(failure.is_unreachable());
    assert!(start.elapsed() < Duration::from_secs(1));
    assert_eq!(
        failure.to_string(),
        format!(
            "cannot connect to PostgreSQL database \"d\" at 127.0.0.1:{port}: the connection was refused, no server \
             listens there; start the server, or correct host and port"
        )
    );
}

#[tokio::test]
async fn silent_listener_is_bounded() {
    let port = stand_in(Act::Silent).await;
    for words in ["", "&sslmode=disable", "&sslmode=require"] {
        let start = Instant::now();
        let failure = fails(&format!("postgresql://u:S3cr3t@127.0.0.1:{port}/d?connect_timeout=1{words}")).await;
        assert_eq!(failure.cause(), &Cause::TimedOut { stage: Stage::Answer, after: Duration::from_secs(1) });
        assert!(failure.is_unreachable());
        assert!((Duration::from_secs(1)..Duration::from_millis(1500)).contains(&start.elapsed()));
    }
}

#[tokio::test]
async fn unknown_host() {
    let start = Instant::now();
    let failure = fails("postgresql://u:S3cr3t@no-such-host.invalid/d").await;
    assert_eq!(failure.cause(), &Cause::NoSuchHost);
    assert!(!failure.is_unreachable());
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn no_route() {
    // A network of documentation: unreachable here, or silent behind a router.
    let failure = fails("postgresql://u:S3cr3t@[2001:db8::1]/d?connect_timeout=1").await;
    assert!(matches!(failure.cause(), Cause::NoRoute | Cause::TimedOut { stage: Stage::Socket, .. }), "{failure}");
    assert!(failure.is_unreachable());
}

#[cfg(unix)]
#[tokio::test]
async fn unix_sockets() {
    let failure = fails("postgresql:///d?host=/no/such/dir&user=u").await;
    assert_eq!(failure.cause(), &Cause::SocketMissing);
    assert!(!failure.is_unreachable());
    let long = format!("postgresql:///d?host=/{}&user=u", "x".repeat(200));
    assert_eq!(fails(&long).await.cause(), &Cause::SocketMissing);
    // The directory is there, the server is not: as good as a closed port.
    let directory = std::env::temp_dir();
    let failure = fails(&format!("postgresql:///d?host={}&user=u&port=9", directory.display())).await;
    assert_eq!(failure.cause(), &Cause::Refused);
}

#[tokio::test]
async fn what_the_server_says_is_told_by_its_code() {
    for (code, cause, unreachable) in [
        ("57P01", Cause::Starting, true),
        ("57P02", Cause::Starting, true),
        ("57P03", Cause::Starting, true),
        ("53300", Cause::NoSlots, true),
        ("08006", Cause::Lost, true),
        ("28P01", Cause::Password, false),
        ("28000", Cause::Login, false),
        ("3D000", Cause::NoDatabase, false),
        ("42501", Cause::NoRight, false),
        ("08P01", Cause::Server("08P01".into()), false),
        ("XX000", Cause::Server("XX000".into()), false),
    ] {
        let port = stand_in(Act::Fail(code)).await;
        let failure = fails(&format!("postgresql://u:S3cr3t@127.0.0.1:{port}/d?sslmode=disable")).await;
        assert_eq!((failure.cause(), failure.is_unreachable()), (&cause, unreachable));
        assert!(!failure.to_string().contains("words of the server"), "the source is not repeated");
        assert!(format!("{failure:?}").contains("words of the server"));
    }
}

#[tokio::test]
async fn options_are_blamed_only_when_they_are_the_reason() {
    let port = stand_in(Act::FailOptions("08P01")).await;
    let url = format!("postgresql://u:S3cr3t@127.0.0.1:{port}/d?sslmode=disable");
    // Ours are left out then, and what is wrong besides is told.
    assert_eq!(dial(&url, Some(&OURS)).await.unwrap_err().cause(), &Cause::Password);
    assert_eq!(fails(&format!("{url}&options=-c%20a=1")).await.cause(), &Cause::OptionsRefused);
    assert_eq!(fails(&url).await.cause(), &Cause::Password);
    let port = stand_in(Act::Fail("08P01")).await;
    let url = format!("postgresql://u:S3cr3t@127.0.0.1:{port}/d?sslmode=disable");
    assert_eq!(dial(&url, Some(&OURS)).await.unwrap_err().cause(), &Cause::Server("08P01".into()));
}

#[tokio::test]
async fn hanging_up_is_a_loss() {
    let port = stand_in(Act::HangUp).await;
    for words in ["disable", "prefer", "require"] {
        let failure = fails(&format!("postgresql://u:S3cr3t@127.0.0.1:{port}/d?sslmode={words}")).await;
        assert_eq!(failure.cause(), &Cause::Lost);
        assert!(failure.is_unreachable());
    }
    // An old server hangs up when TLS comes unannounced: that does not pass by waiting.
    let failure =
        fails(&format!("postgresql://u:S3cr3t@127.0.0.1:{port}/d?sslmode=require&sslnegotiation=direct")).await;
    assert_eq!(failure.cause(), &Cause::TlsHandshake);
    assert!(!failure.is_unreachable());
}

#[tokio::test]
async fn others_on_the_port() {
    let http = stand_in(Act::Say(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")).await;
    let failure = fails(&format!("postgresql://u:S3cr3t@127.0.0.1:{http}/d?sslmode=require")).await;
    assert_eq!(failure.cause(), &Cause::NoTls);
    for mode in ["disable", "prefer"] {
        let failure =
            fails(&format!("postgresql://u:S3cr3t@127.0.0.1:{http}/d?sslmode={mode}&connect_timeout=1")).await;
        // The length in its first words announces far more than it says.
        assert_eq!(failure.cause(), &Cause::TimedOut { stage: Stage::Answer, after: Duration::from_secs(1) });
    }
    let http = stand_in(Act::SayAndHangUp(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")).await;
    let failure = fails(&format!("postgresql://u:S3cr3t@127.0.0.1:{http}/d?sslmode=disable")).await;
    assert_eq!(failure.cause(), &Cause::NotPostgres);
    let yes_but_no_tls = stand_in(Act::Say(b"Sthis is not TLS at all")).await;
    let failure = fails(&format!("postgresql://u:S3cr3t@127.0.0.1:{yes_but_no_tls}/d?sslmode=require")).await;
    assert_eq!(failure.cause(), &Cause::TlsHandshake);
    let no = stand_in(Act::Say(b"N")).await;
    let failure = fails(&format!("postgresql://u:S3cr3t@127.0.0.1:{no}/d?sslmode=require")).await;
    assert_eq!(failure.cause(), &Cause::NoTls);
    let kerberos = stand_in(Act::Say(b"R\0\0\0\x08\0\0\0\x07")).await;
    let failure = fails(&format!("postgresql://u:S3cr3t@127.0.0.1:{kerberos}/d?sslmode=disable")).await;
    assert_eq!(failure.cause(), &Cause::LoginKind);
    let clear = stand_in(Act::Say(b"R\0\0\0\x08\0\0\0\x03")).await;
    let failure = fails(&format!("postgresql://u@127.0.0.1:{clear}/d?sslmode=disable")).await;
    assert_eq!(failure.cause(), &Cause::NoPassword);
}

#[tokio::test]
async fn each_of_several_hosts_is_named() {
    let (closed, starting) = (closed_port(), stand_in(Act::Fail("57P03")).await);
    let url = format!("postgresql://u:S3cr3t@127.0.0.1:{closed},127.0.0.1:{starting}/d?sslmode=disable");
    let failure = fails(&url).await;
    assert_eq!(failure.cause(), &Cause::Refused);
    assert!(failure.is_unreachable());
    let causes: Vec<_> = failure.causes().map(|(place, cause)| (place.to_owned(), cause.clone())).collect();
    assert_eq!(
        causes,
        [(format!("127.0.0.1:{closed}"), Cause::Refused), (format!("127.0.0.1:{starting}"), Cause::Starting)]
    );
    // One wrong answer outweighs any number of hosts that cannot be reached.
    let wrong = stand_in(Act::Fail("3D000")).await;
    let failure = fails(&format!("postgresql://u:S3cr3t@127.0.0.1:{closed},127.0.0.1:{wrong}/d?sslmode=disable")).await;
    assert_eq!(failure.cause(), &Cause::NoDatabase);
    assert!(!failure.is_unreachable());
    assert!(failure.source().is_some());
}

#[tokio::test]
async fn trusted_certificates_that_cannot_be_used() {
    let empty = std::env::temp_dir().join(format!("connect-empty-{}.pem", std::process::id()));
    std::fs::File::create(&empty).unwrap();
    for (file, what) in [
        ("/no/such/ca.pem".to_owned(), "cannot be read"),
        ("/tmp".to_owned(), "cannot be read"),
        (empty.display().to_string(), "holds no certificate in PEM form"),
    ] {
        let failure = fails(&format!("postgresql://u:S3cr3t@h/d?sslmode=verify-full&sslrootcert={file}")).await;
        assert_eq!(failure.cause(), &Cause::Roots(format!("sslrootcert {file:?} {what}")));
        assert!(!failure.is_unreachable());
    }
}

#[tokio::test]
async fn futures_can_be_spawned() {
    let port = closed_port();
    let task = tokio::spawn(async move { fails(&format!("postgresql://u:S3cr3t@127.0.0.1:{port}/d")).await });
    assert_eq!(task.await.unwrap().cause(), &Cause::Refused);
}
