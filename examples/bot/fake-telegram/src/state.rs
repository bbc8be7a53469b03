//! Who said what to whom, and what the bot has not confirmed yet.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::api::{Arguments, Refusal};
use crate::control::Action;
use crate::wire;

/// A button below a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Button {
    /// What stands on it.
    pub text: String,
    /// What the bot is told when it is pressed.
    pub data: String,
}

/// A message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Posted {
    /// Its id, unique in its chat.
    pub id: i32,
    /// Whether the bot wrote it.
    pub by_bot: bool,
    /// Its text, or the caption of its photo.
    pub text: String,
    /// The photo, when it is one.
    pub photo: Option<String>,
    /// The buttons below it.
    pub buttons: Vec<Button>,
    /// The message that it answers.
    pub reply_to: Option<i32>,
    /// What it said before, oldest first.
    pub earlier: Vec<String>,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    chats: BTreeMap<i64, BTreeMap<i32, Posted>>,
    blocked: BTreeSet<i64>,
    updates: BTreeMap<i64, Value>,
    last_message: i32,
    last_update: i64,
}

const NOT_MODIFIED: Refusal = (
    400,
    "Bad Request: message is not modified: specified new message content and reply markup are exactly the same as a \
     current content and reply markup of the message",
);
const NOT_FOUND: Refusal = (400, "Bad Request: message to edit not found");

impl State {
    /// Does what a person does.
    pub(crate) fn act(&mut self, action: &Action) -> Result<(), String> {
        match action {
            Action::Say { user, text } => drop(self.hear(*user, text, None)),
            Action::Photo { user, file, caption } => drop(self.hear(*user, caption, Some(file.clone()))),
            Action::Press { user, button } => {
                let found = self.chat(*user).into_iter().rev().find_map(|posted| {
                    let found = posted.buttons.into_iter().find(|other| other.text.contains(button.as_str()))?;
                    Some((posted.id, found.data))
                });
                let (message, data) = found.ok_or_else(|| format!("{user} sees no button {button:?}"))?;
                self.press(*user, message, &data);
            }
        }
        Ok(())
    }
    /// Answers the message's id.
    pub(crate) fn hear(&mut self, user: i64, text: &str, photo: Option<String>) -> i32 {
        let posted = self.post(user, |posted| {
            text.clone_into(&mut posted.text);
            posted.photo = photo;
        });
        let message = wire::message(user, &posted, None);
        self.update("message", &message);
        posted.id
    }
    pub(crate) fn press(&mut self, user: i64, message: i32, data: &str) {
        let chat = self.chats.entry(user).or_default();
        let Some(posted) = chat.get(&message) else { return };
        let answered = posted.reply_to.and_then(|id| chat.get(&id));
        let message = wire::message(user, posted, answered);
        let id = format!("{}", self.last_update + 1);
        let query = json!({
            "id": id, "from": wire::person(user), "message": message, "chat_instance": "1", "data": data,
        });
        self.update("callback_query", &query);
    }
    pub(crate) fn block(&mut self, user: i64) {
        self.blocked.insert(user);
    }
    pub(crate) fn delete(&mut self, user: i64, message: i32) {
        self.chats.entry(user).or_default().remove(&message);
    }
    pub(crate) fn chat(&self, user: i64) -> Vec<Posted> {
        self.chats.get(&user).map(|chat| chat.values().cloned().collect()).unwrap_or_default()
    }
    pub(crate) fn unconfirmed(&self) -> usize {
        self.updates.len()
    }
    pub(crate) fn updates(&mut self, offset: i64, limit: usize) -> Vec<Value> {
        self.updates = self.updates.split_off(&offset);
        self.updates.values().take(limit).cloned().collect()
    }
    fn update(&mut self, kind: &str, what: &Value) {
        self.last_update += 1;
        self.updates.insert(self.last_update, json!({"update_id": self.last_update, kind: what}));
    }
    fn post(&mut self, chat: i64, fill: impl FnOnce(&mut Posted)) -> Posted {
        self.last_message += 1;
        let mut posted = Posted {
            id: self.last_message,
            by_bot: false,
            text: String::new(),
            photo: None,
            buttons: Vec::new(),
            reply_to: None,
            earlier: Vec::new(),
        };
        fill(&mut posted);
        self.chats.entry(chat).or_default().insert(posted.id, posted.clone());
        posted
    }

    /// What the bot asks for.
    pub(crate) fn call(&mut self, method: &str, arguments: &Arguments) -> Result<Value, Refusal> {
        match method {
            "getme" => Ok(wire::bot()),
            "sendmessage" | "sendphoto" => self.send(arguments),
            "editmessagetext" | "editmessagecaption" => self.edit(arguments),
            "answercallbackquery" | "sendchataction" | "deletewebhook" | "setmycommands" => Ok(json!(true)),
            _ => Err((404, "Not Found: method not found")),
        }
    }
    fn send(&mut self, arguments: &Arguments) -> Result<Value, Refusal> {
        let chat = self.reachable(arguments)?;
        let text = text(arguments).ok_or((400, "Bad Request: message text is empty"))?;
        let photo = arguments.get("photo").and_then(Value::as_str).map(str::to_owned);
        let reply_to = arguments.get("reply_parameters").and_then(|reply| reply["message_id"].as_i64());
        let posted = self.post(chat, |posted| {
            posted.by_bot = true;
            posted.text = text;
            posted.photo = photo;
            posted.buttons = buttons(arguments);
            posted.reply_to = reply_to.and_then(|id| i32::try_from(id).ok());
        });
        Ok(wire::message(chat, &posted, None))
    }
    fn edit(&mut self, arguments: &Arguments) -> Result<Value, Refusal> {
        let chat = self.reachable(arguments)?;
        let id = arguments.get("message_id").and_then(Value::as_i64).and_then(|id| i32::try_from(id).ok());
        let posted = id.and_then(|id| self.chats.get_mut(&chat)?.get_mut(&id)).ok_or(NOT_FOUND)?;
        if !posted.by_bot {
            return Err((400, "Bad Request: message can't be edited"));
        }
        let text = text(arguments).ok_or((400, "Bad Request: message text is empty"))?;
        let buttons = buttons(arguments);
        if posted.text == text && posted.buttons == buttons {
            return Err(NOT_MODIFIED);
        }
        posted.earlier.push(std::mem::replace(&mut posted.text, text));
        posted.buttons = buttons;
        Ok(wire::message(chat, posted, None))
    }
    fn reachable(&self, arguments: &Arguments) -> Result<i64, Refusal> {
        let chat = arguments.get("chat_id").and_then(Value::as_i64).ok_or((400, "Bad Request: chat_id is empty"))?;
        if self.blocked.contains(&chat) {
            return Err((403, "Forbidden: bot was blocked by the user"));
        }
        // Nobody is written to who never wrote.
        if self.chats.contains_key(&chat) { Ok(chat) } else { Err((400, "Bad Request: chat not found")) }
    }
}

fn text(arguments: &Arguments) -> Option<String> {
    let text = match arguments.get("text").or_else(|| arguments.get("caption"))? {
        Value::String(text) => text.clone(),
        // A form does not tell a text from a number.
        other => other.to_string(),
    };
    (!text.is_empty()).then_some(text)
}

fn buttons(arguments: &Arguments) -> Vec<Button> {
    let rows = arguments.get("reply_markup").and_then(|markup| markup["inline_keyboard"].as_array());
    let word = |button: &Value, name: &str| button[name].as_str().unwrap_or_default().to_owned();
    rows.into_iter()
        .flatten()
        .filter_map(Value::as_array)
        .flatten()
        .map(|button| Button { text: word(button, "text"), data: word(button, "callback_data") })
        .collect()
}
