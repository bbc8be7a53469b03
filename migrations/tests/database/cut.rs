//! A way to the server that is cut at a question of the client.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

/// Where it is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// The server never hears the question of this number.
    Before(usize),
    /// The server hears it, and the client no answer.
    After(usize),
}

/// The way of one connection.
pub(crate) struct Way {
    pub(crate) url: String,
    asked: Arc<AtomicUsize>,
}

impl Way {
    /// From here to the server of `url`.
    pub(crate) async fn new(url: &str, cut: Cut) -> Self {
        let (user, place) = url.rsplit_once('@').unwrap();
        let (address, database) = place.split_once('/').unwrap();
        let server = TcpStream::connect(address).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("{user}@{}/{database}", listener.local_addr().unwrap());
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&asked);
        tokio::spawn(async move {
            let (client, _) = listener.accept().await.unwrap();
            let (from_client, mut to_client) = client.into_split();
            let (mut from_server, to_server) = server.into_split();
            let answers = tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
            pass_on(from_client, to_server, cut, &counted).await;
            answers.abort();
        });
        Self { url, asked }
    }

    /// How many questions there were, the one at which it was cut among them.
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

/// Passes messages on until the cut, or until one side has ended. A question is a simple query, or what ends with a Sync.
async fn pass_on(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, cut: Cut, asked: &AtomicUsize) {
    let mut first = true;
    while let Some(message) = message(&mut from, first).await {
        let mut is_cut = false;
        if !first && matches!(message[0], b'Q' | b'S') {
            let number = asked.fetch_add(1, Ordering::SeqCst);
            if cut == Cut::Before(number) {
                return;
            }
            is_cut = cut == Cut::After(number);
        }
        first = false;
        if to.write_all(&message).await.is_err() || is_cut {
            return;
        }
    }
}

/// One message with its head; the first of a connection has no kind.
async fn message(from: &mut OwnedReadHalf, first: bool) -> Option<Vec<u8>> {
    let mut message = vec![0; if first { 4 } else { 5 }];
    from.read_exact(&mut message).await.ok()?;
    let at = message.len() - 4;
    let length = u32::from_be_bytes(message[at..].try_into().unwrap());
    let body = message.len();
    message.resize(at + usize::try_from(length).unwrap(), 0);
    from.read_exact(&mut message[body..]).await.ok()?;
    Some(message)
}
