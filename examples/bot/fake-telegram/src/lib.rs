//! As much of Telegram's Bot API as the example bot uses, on this machine.
//!
//! A bot is pointed at it with `TELOXIDE_API_URL=http://127.0.0.1:PORT` and any token. People are played through
//! [`Telegram`] in tests, or by the command `fake-telegram` from a shell. What matters to a bot that must not lose
//! anything is as in the real one: updates come again until the bot confirms them by asking for later ones; a message
//! that is edited into what it says already is refused as "not modified"; a blocked bot gets no message through; texts and
//! buttons have their limits. Other than there, an update waits for ever: the real one keeps a message for a day and a press
//! of a button for minutes.
//!
//! ```
//! use fake_telegram::Telegram;
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
//! let telegram = Telegram::start("127.0.0.1:0").await?;
//! println!("TELOXIDE_API_URL={}", telegram.url());
//! telegram.say(1001, "/start");
//! assert_eq!(telegram.chat(1001)[0].text, "/start");
//! # Ok(()) }
//! ```

mod api;
mod control;
mod cut;
mod failure;
mod state;
mod wire;

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};

pub use control::{Action, Client};
pub use cut::{Cut, When};
pub use failure::Failure;
pub use state::{Button, Posted};

use cut::Armed;
use failure::Failures;
use state::State;

/// A server that answers a bot, and the people who write to it.
#[derive(Clone, Debug)]
pub struct Telegram {
    shared: Arc<Shared>,
    url: String,
}

#[derive(Debug, Default)]
pub(crate) struct Shared {
    state: Mutex<State>,
    armed: Mutex<Option<Armed>>,
    failures: Mutex<Failures>,
    arrived: watch::Sender<()>,
}

impl Shared {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
    pub(crate) fn armed(&self) -> MutexGuard<'_, Option<Armed>> {
        self.armed.lock().unwrap_or_else(PoisonError::into_inner)
    }
    pub(crate) fn failures(&self) -> MutexGuard<'_, Failures> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
    /// Updates from `offset` on; the older ones are confirmed by that and gone. Waits for one for so long.
    pub(crate) async fn updates(&self, offset: i64, limit: usize, wait: Duration) -> Vec<Value> {
        let deadline = tokio::time::Instant::now() + wait;
        let mut arrived = self.arrived.subscribe();
        loop {
            let updates = self.state().updates(offset, limit);
            if !updates.is_empty() || tokio::time::timeout_at(deadline, arrived.changed()).await.is_err() {
                return updates;
            }
        }
    }
    pub(crate) fn act(&self, action: &Action) -> Result<(), String> {
        let done = self.state().act(action);
        self.arrived.send_replace(());
        done
    }
}

impl Telegram {
    /// Listens; port 0 is any. It goes on until the runtime ends.
    pub async fn start(address: &str) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let url = format!("http://{}", listener.local_addr()?);
        let shared = Arc::new(Shared::default());
        let router = api::router(Arc::clone(&shared)).merge(control::router(Arc::clone(&shared)));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(Self { shared, url })
    }
    /// What `TELOXIDE_API_URL` must be.
    pub fn url(&self) -> &str {
        &self.url
    }
    /// Somebody writes to the bot. Answers the message's id.
    pub fn say(&self, user: i64, text: &str) -> i32 {
        self.hear(user, text, None)
    }
    /// Somebody sends the bot a photo. The same `file` twice is the same photo. Answers the message's id.
    pub fn photo(&self, user: i64, file: &str, caption: &str) -> i32 {
        self.hear(user, caption, Some(file.to_owned()))
    }
    /// Somebody presses a button below a message of the bot, as often as they like.
    pub fn press(&self, user: i64, message: i32, data: &str) {
        self.shared.state().press(user, message, data);
        self.shared.arrived.send_replace(());
    }
    /// Somebody blocks the bot.
    pub fn block(&self, user: i64) {
        self.shared.state().block(user);
    }
    /// Somebody changes what they wrote. The bot is not told.
    pub fn rewrite(&self, user: i64, message: i32, text: &str) {
        self.shared.state().rewrite(user, message, text);
    }
    /// A message goes, as when somebody deletes it.
    pub fn delete(&self, user: i64, message: i32) {
        self.shared.state().delete(user, message);
    }
    /// What was said between somebody and the bot, oldest first.
    pub fn chat(&self, user: i64) -> Vec<Posted> {
        self.shared.state().chat(user)
    }
    /// What the bot answered to presses of buttons, oldest first.
    pub fn answers(&self) -> Vec<String> {
        self.shared.state().answers()
    }
    /// One of so many requests goes wrong from now on, each time in another way.
    pub fn fail_every(&self, every: u64) {
        self.shared.failures().every(every);
    }
    /// The next request of this method goes wrong.
    pub fn fail_once(&self, method: &str, failure: Failure) {
        self.shared.failures().once(method, failure);
    }
    /// How many updates the bot has not confirmed yet.
    pub fn unconfirmed(&self) -> usize {
        self.shared.state().unconfirmed()
    }
    /// Holds one of the following requests for ever, and says when it came. One cut at a time: a new one replaces the
    /// old.
    pub fn cut(&self, cut: Cut) -> oneshot::Receiver<()> {
        let (armed, reached) = Armed::new(cut);
        *self.shared.armed() = Some(armed);
        reached
    }
    /// Takes a cut back that was not reached.
    pub fn uncut(&self) {
        *self.shared.armed() = None;
    }
    fn hear(&self, user: i64, text: &str, photo: Option<String>) -> i32 {
        let id = self.shared.state().hear(user, text, photo);
        self.shared.arrived.send_replace(());
        id
    }
}
