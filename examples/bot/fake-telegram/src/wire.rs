//! Messages and people in Telegram's JSON.

use serde_json::{Value, json};

use crate::state::Posted;

/// 2026-01-15T10:00:00Z: what a message says of time means nothing here.
const DATE: i64 = 1_768_471_200;

pub(crate) fn bot() -> Value {
    json!({
        "id": 1, "is_bot": true, "first_name": "Fake", "username": "fake_bot", "can_join_groups": false,
        "can_read_all_group_messages": false, "supports_inline_queries": false, "can_connect_to_business": false,
        "has_main_web_app": false,
    })
}

pub(crate) fn person(user: i64) -> Value {
    json!({"id": user, "is_bot": false, "first_name": format!("User {user}")})
}

/// A message of the private chat with a user, and the one that it answers.
pub(crate) fn message(user: i64, posted: &Posted, answered: Option<&Posted>) -> Value {
    let mut message = json!({
        "message_id": posted.id,
        "date": DATE,
        "chat": {"id": user, "type": "private", "first_name": format!("User {user}")},
        "from": if posted.by_bot { bot() } else { person(user) },
    });
    match &posted.photo {
        Some(file) => {
            message["photo"] =
                json!([{"file_id": format!("file-{file}"), "file_unique_id": file, "width": 640, "height": 480}]);
            message["caption"] = json!(posted.text);
        }
        None => message["text"] = json!(posted.text),
    }
    if !posted.buttons.is_empty() {
        let row: Vec<Value> =
            posted.buttons.iter().map(|button| json!({"text": button.text, "callback_data": button.data})).collect();
        message["reply_markup"] = json!({"inline_keyboard": [row]});
    }
    if let Some(answered) = answered {
        message["reply_to_message"] = self::message(user, answered, None);
    }
    message
}
