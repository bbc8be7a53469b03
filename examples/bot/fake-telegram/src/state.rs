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
    answers: Vec<String>,
    last_message: i32,
    last_update: i64,
}

const NOT_MODIFIED: Refusal = (
    400,
    "Bad Request: message is not modified: specified new message content and reply markup are exactly the same as a \
     current content and reply markup of the message",
);
/// The most that a message, a caption and a button hold, in units of UTF-16 and bytes.
const LONGEST: [usize; 3] = [4096, 1024, 64];
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
    pub(crate) fn rewrite(&mut self, user: i64, message: i32, text: &str) {
        if let Some(posted) = self.chats.entry(user).or_default().get_mut(&message) {
            posted.earlier.push(std::mem::replace(&mut posted.text, text.to_owned()));
        }
    }
    pub(crate) fn answers(&self) -> Vec<String> {
        self.answers.clone()
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
            "answercallbackquery" => {
                self.answers.extend(arguments.get("text").and_then(Value::as_str).map(str::to_owned));
                Ok(json!(true))
            }
            "sendchataction" | "deletewebhook" | "setmycommands" => Ok(json!(true)),
            _ => Err((404, "Not Found: method not found")),
        }
    }
    fn send(&mut self, arguments: &Arguments) -> Result<Value, Refusal> {
        let chat = self.reachable(arguments)?;
        let text = text(arguments)?;
        let photo = arguments.get("photo").and_then(Value::as_str).map(str::to_owned);
        let reply = arguments.get("reply_parameters");
        let mut reply_to = reply.and_then(|reply| reply["message_id"].as_i64()).and_then(|id| i32::try_from(id).ok());
        if reply_to.is_some_and(|id| !self.chats[&chat].contains_key(&id)) {
            if reply.and_then(|reply| reply["allow_sending_without_reply"].as_bool()) != Some(true) {
                return Err((400, "Bad Request: message to be replied not found"));
            }
            reply_to = None;
        }
        let buttons = buttons(arguments)?;
        let posted = self.post(chat, |posted| {
            posted.by_bot = true;
            posted.text = text;
            posted.photo = photo;
            posted.buttons = buttons;
            posted.reply_to = reply_to;
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
        if posted.photo.is_some() != arguments.contains_key("caption") {
            return Err((400, "Bad Request: there is no text or caption in the message to edit"));
        }
        let (text, buttons) = (text(arguments)?, buttons(arguments)?);
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

fn text(arguments: &Arguments) -> Result<String, Refusal> {
    let (value, longest) = match (arguments.get("text"), arguments.get("caption")) {
        (Some(text), _) => (text, LONGEST[0]),
        (None, Some(caption)) => (caption, LONGEST[1]),
        (None, None) => return Err((400, "Bad Request: message text is empty")),
    };
    let text = match value {
        Value::String(text) => text.clone(),
        // A form does not tell a text from a number.
        other => other.to_string(),
    };
    match text.encode_utf16().count() {
        0 => Err((400, "Bad Request: message text is empty")),
        units if units > longest => Err((400, "Bad Request: MESSAGE_TOO_LONG")),
        _ => Ok(text),
    }
}

fn buttons(arguments: &Arguments) -> Result<Vec<Button>, Refusal> {
    let rows = arguments.get("reply_markup").and_then(|markup| markup["inline_keyboard"].as_array());
    let word = |button: &Value, name: &str| button[name].as_str().unwrap_or_default().to_owned();
    let buttons = rows.into_iter().flatten().filter_map(Value::as_array).flatten();
    let buttons: Vec<Button> =
        buttons.map(|button| Button { text: word(button, "text"), data: word(button, "callback_data") }).collect();
    if buttons.iter().any(|button| !(1..=LONGEST[2]).contains(&button.data.len())) {
        return Err((400, "Bad Request: BUTTON_DATA_INVALID"));
    }
    Ok(buttons)
}
