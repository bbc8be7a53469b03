//! The methods of the Bot API.

use std::collections::BTreeMap;
use std::future::pending;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{FromRequest as _, Multipart, Path, Request, State as Extract};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};
use axum::routing::any;
use futures_util::stream;
use serde_json::{Value, json};

use crate::Shared;
use crate::cut::{Armed, When};
use crate::failure::Failure;

/// A request's arguments, whichever way they came.
pub(crate) type Arguments = BTreeMap<String, Value>;

/// What Telegram says to a request that it refuses: a status and a description.
pub(crate) type Refusal = (u16, &'static str);

pub(crate) fn router(shared: Arc<Shared>) -> Router {
    Router::new().route("/{bot}/{method}", any(answer)).with_state(shared)
}

async fn answer(
    Extract(shared): Extract<Arc<Shared>>,
    Path((bot, method)): Path<(String, String)>,
    request: Request,
) -> Response {
    if !bot.starts_with("bot") {
        return respond(Err((404, "Not Found")));
    }
    let Some(arguments) = arguments(request).await else {
        return respond(Err((400, "Bad Request: the arguments are neither JSON nor a form")));
    };
    // The method's name has any case.
    let method = method.to_lowercase();
    let lost = shared.armed().as_mut().and_then(Armed::count);
    if lost == Some(When::Before) {
        return never(&shared).await;
    }
    let failure = shared.failures().next(&method);
    if failure.is_some_and(|failure| !failure.is_done()) {
        return fail(failure);
    }
    let answer = if method == "getupdates" {
        let number = |name| arguments.get(name).and_then(Value::as_i64).unwrap_or(0);
        // 1 to 100, as the real one.
        let limit = usize::try_from(number("limit")).ok().filter(|limit| (1..100).contains(limit)).unwrap_or(100);
        let wait = Duration::from_secs(number("timeout").unsigned_abs().min(50));
        Ok(Value::Array(shared.updates(number("offset"), limit, wait).await))
    } else {
        shared.state().call(&method, &arguments)
    };
    match (lost, failure) {
        (Some(_), _) => never(&shared).await,
        (None, None) => respond(answer),
        (None, failure) => fail(failure),
    }
}

/// Whoever waits for the cut is told, and the bot is left waiting.
async fn never(shared: &Shared) -> Response {
    if let Some(armed) = shared.armed().as_mut() {
        armed.reach();
    }
    pending().await
}

fn fail(failure: Option<Failure>) -> Response {
    match failure {
        Some(Failure::ServerError) => respond(Err((500, "Internal Server Error: request aborted"))),
        Some(Failure::Unreadable) => axum::Json(json!({"ok": true, "result": "of a later version"})).into_response(),
        Some(Failure::Flooded) => {
            let body = json!({
                "ok": false, "error_code": 429, "description": "Too Many Requests: retry after 1",
                "parameters": {"retry_after": 1},
            });
            (StatusCode::TOO_MANY_REQUESTS, axum::Json(body)).into_response()
        }
        // A body that ends in an error closes the connection in the middle of the answer.
        _ => Body::from_stream(stream::once(async { Err::<Bytes, _>(io::Error::other("torn")) })).into_response(),
    }
}

fn respond(answer: Result<Value, Refusal>) -> Response {
    match answer {
        Ok(result) => axum::Json(json!({"ok": true, "result": result})).into_response(),
        Err((code, description)) => {
            let status = StatusCode::from_u16(code).unwrap_or(StatusCode::BAD_REQUEST);
            let body = json!({"ok": false, "error_code": code, "description": description});
            (status, axum::Json(body)).into_response()
        }
    }
}

async fn arguments(request: Request) -> Option<Arguments> {
    let kind = request.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default().to_owned();
    if kind.starts_with("multipart/form-data") {
        let mut form = Multipart::from_request(request, &()).await.ok()?;
        let mut arguments = Arguments::new();
        while let Some(field) = form.next_field().await.ok()? {
            let name = field.name()?.to_owned();
            let text = field.text().await.ok()?;
            // What is no text was written as JSON.
            let value = serde_json::from_str(&text).unwrap_or(Value::String(text));
            arguments.insert(name, value);
        }
        return Some(arguments);
    }
    let body = axum::body::to_bytes(request.into_body(), 1 << 20).await.ok()?;
    if body.is_empty() { Some(Arguments::new()) } else { serde_json::from_slice(&body).ok() }
}
