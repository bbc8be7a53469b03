//! The first question on a new connection: whether the server takes writes, whether the session is as it was asked for, and
//! whether a pooler stands in between.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};
use tokio_postgres::{Client, Error};

use super::target::SEARCH_PATH;

/// Asked before anything is known of the session, so that every name says where it lives.
const QUESTION: &str = "SELECT pg_catalog.current_setting('transaction_read_only'), \
                        pg_catalog.current_setting('search_path'), pg_catalog.pg_backend_pid()";

/// What a connection leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hello {
    /// Whether the server takes writes: it is no standby, and the session is not read-only.
    pub(crate) writes: bool,
    /// Whether names are looked up where our startup options say.
    pub(crate) pinned: bool,
    /// The process that answered.
    process: i32,
}

impl Hello {
    /// Asks; one round trip.
    pub(crate) async fn ask(client: &Client) -> Result<Self, Error> {
        let rows = client.query_typed(QUESTION, &[]).await?;
        let Some(row) = rows.first() else { return Ok(Self { writes: false, pinned: false, process: 0 }) };
        let (read_only, path): (&str, &str) = (row.try_get(0)?, row.try_get(1)?);
        let pinned = path.split(',').map(str::trim).eq(SEARCH_PATH.split(','));
        Ok(Self { writes: read_only == "off", pinned, process: row.try_get(2)? })
    }

    /// Whether nobody shares the server's session with us. At login a server names its process, for those who want to cancel.
    /// A pooler that gives a connection now to one client and now to another invents that number, because it cannot know which
    /// process it will be. So equal numbers prove that there is none; a number that cannot be had proves nothing.
    pub(crate) async fn is_direct(&self, client: &Client) -> bool {
        process_named_at_login(client).await == Some(self.process)
    }
}

/// The number as the client keeps it for a request to cancel: that request is written, to nobody, and read here. tokio-postgres
/// shows it in no other way.
async fn process_named_at_login(client: &Client) -> Option<i32> {
    /// 16 bytes: their number, the code of the request, the process, its key.
    const CODE: i32 = 80_877_102;
    let nobody = Nobody::default();
    client.cancel_token().cancel_query_raw(nobody.clone(), Silent).await.ok()?;
    let written = nobody.written.lock().unwrap_or_else(PoisonError::into_inner);
    let [length, code, process, _] = written.last_chunk::<16>()?.as_chunks::<4>().0 else { return None };
    let is_request = (i32::from_be_bytes(*length), i32::from_be_bytes(*code)) == (16, CODE);
    is_request.then(|| i32::from_be_bytes(*process))
}

/// A stream to nobody: keeps what is written, and says yes to the question for TLS.
#[derive(Clone, Debug, Default)]
struct Nobody {
    written: Arc<Mutex<Vec<u8>>>,
}

impl AsyncRead for Nobody {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if buffer.remaining() > 0 {
            buffer.put_slice(b"S");
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Nobody {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl TlsStream for Nobody {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

/// TLS with nobody.
struct Silent;

impl TlsConnect<Nobody> for Silent {
    type Stream = Nobody;
    type Error = io::Error;
    type Future = std::future::Ready<io::Result<Nobody>>;

    fn connect(self, stream: Nobody) -> Self::Future {
        std::future::ready(Ok(stream))
    }
}
