//! People, played from another process.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State as Extract};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use reqwest::{RequestBuilder, Response};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use crate::{Posted, Shared};

/// How long a server may take to listen.
const STARTING: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(50);

/// What a person does.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Writes to the bot.
    Say {
        /// Who.
        user: i64,
        /// What.
        text: String,
    },
    /// Sends a photo.
    Photo {
        /// Who.
        user: i64,
        /// Which: the same twice is the same photo.
        file: String,
        /// What is said with it.
        caption: String,
    },
    /// Presses a button of the newest message that has it.
    Press {
        /// Who.
        user: i64,
        /// A part of what stands on it.
        button: String,
    },
}

pub(crate) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/act", post(act))
        .route("/unconfirmed", get(unconfirmed))
        .route("/chats/of/{user}", get(chat))
        .with_state(shared)
}

async fn act(
    Extract(shared): Extract<Arc<Shared>>,
    Json(action): Json<Action>,
) -> Result<Json<()>, (StatusCode, String)> {
    shared.act(&action).map(Json).map_err(|why| (StatusCode::NOT_FOUND, why))
}

async fn unconfirmed(Extract(shared): Extract<Arc<Shared>>) -> Json<usize> {
    Json(shared.state().unconfirmed())
}

async fn chat(Extract(shared): Extract<Arc<Shared>>, Path(user): Path<i64>) -> Json<Vec<Posted>> {
    Json(shared.state().chat(user))
}

/// Plays people on a server that another process runs.
#[derive(Clone, Debug)]
pub struct Client {
    url: String,
    http: reqwest::Client,
}

impl Client {
    /// For the server at this URL.
    pub fn new(url: impl Into<String>) -> Self {
        Self { url: url.into(), http: reqwest::Client::new() }
    }
    /// Does what a person does.
    ///
    /// # Errors
    /// What the server says, such as that there is no such button.
    pub async fn act(&self, action: &Action) -> Result<(), String> {
        let answer = self.send(self.http.post(format!("{}/act", self.url)).json(action)).await?;
        if answer.status().is_success() {
            return Ok(());
        }
        Err(answer.text().await.unwrap_or_else(|error| error.to_string()))
    }
    /// What was said between somebody and the bot, oldest first.
    ///
    /// # Errors
    /// The server cannot be reached.
    pub async fn chat(&self, user: i64) -> Result<Vec<Posted>, String> {
        let answer = self.send(self.http.get(format!("{}/chats/of/{user}", self.url))).await?;
        answer.json().await.map_err(|error| error.to_string())
    }
    /// Waits until the bot has said something to somebody.
    ///
    /// # Errors
    /// It did not within `most`; the text says what it said instead.
    pub async fn wait(&self, user: i64, text: &str, most: Duration) -> Result<(), String> {
        let end = Instant::now() + most;
        loop {
            let chat = self.chat(user).await?;
            if chat.iter().any(|posted| posted.by_bot && posted.text.contains(text)) {
                return Ok(());
            }
            if Instant::now() >= end {
                let said: Vec<&str> = chat.iter().map(|posted| posted.text.as_str()).collect();
                return Err(format!("{user} was not told {text:?} within {} s, but: {said:#?}", most.as_secs()));
            }
            sleep(PAUSE).await;
        }
    }
    /// A server that was started a moment ago does not listen yet.
    async fn send(&self, request: RequestBuilder) -> Result<Response, String> {
        let end = Instant::now() + STARTING;
        loop {
            let again = request.try_clone().ok_or("the request cannot be repeated")?;
            match again.send().await {
                Ok(answer) => return Ok(answer),
                Err(error) if error.is_connect() && Instant::now() < end => sleep(PAUSE).await,
                Err(error) => {
                    let url = &self.url;
                    return Err(format!("no fake Telegram answers at {url}: {error}; start one: fake-telegram serve"));
                }
            }
        }
    }
}
