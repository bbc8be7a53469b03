//! The command `fake-telegram`: a server for a bot, and the people who write to it.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use fake_telegram::{Action, Client, Posted, Telegram};

/// As much of Telegram as the example bot uses, on this machine.
#[derive(Debug, Parser)]
#[command(version, after_help = "Start the bot with TELOXIDE_API_URL=http://127.0.0.1:8443 and any TELOXIDE_TOKEN.")]
struct Arguments {
    /// Where the server is, or listens.
    #[arg(long, default_value = "127.0.0.1:8443", env = "FAKE_TELEGRAM", global = true, value_name = "HOST:PORT")]
    at: String,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Answers bots until it is stopped.
    Serve,
    /// Somebody writes to the bot.
    Say {
        /// The user's id.
        user: i64,
        /// What is said.
        text: String,
    },
    /// Somebody sends the bot a photo.
    Photo {
        /// The user's id.
        user: i64,
        /// What is said with it.
        caption: String,
        /// Which photo: the same name twice is the same photo.
        #[arg(long, default_value = "photo")]
        file: String,
    },
    /// Somebody presses a button of the newest message that has it.
    Press {
        /// The user's id.
        user: i64,
        /// A part of what stands on the button.
        button: String,
    },
    /// Shows what was said between somebody and the bot.
    Chat {
        /// The user's id.
        user: i64,
        /// Waits first until the bot has said this, and fails after 30 s.
        #[arg(long, value_name = "TEXT")]
        wait: Option<String>,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            // Nobody is left to tell when this cannot be written.
            let _ = writeln!(std::io::stderr(), "fake-telegram: {why}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<(), String> {
    let client = Client::new(format!("http://{}", arguments.at));
    match arguments.command {
        Command::Serve => serve(&arguments.at).await,
        Command::Say { user, text } => client.act(&Action::Say { user, text }).await,
        Command::Photo { user, caption, file } => client.act(&Action::Photo { user, file, caption }).await,
        Command::Press { user, button } => client.act(&Action::Press { user, button }).await,
        Command::Chat { user, wait } => {
            if let Some(text) = wait {
                client.wait(user, &text, Duration::from_secs(30)).await?;
            }
            show(&client.chat(user).await?)
        }
    }
}

async fn serve(at: &str) -> Result<(), String> {
    let telegram = Telegram::start(at).await.map_err(|error| format!("cannot listen at {at}: {error}"))?;
    say(&format!("listening; start the bot with TELOXIDE_API_URL={}\n", telegram.url()))?;
    std::future::pending().await
}

fn show(chat: &[Posted]) -> Result<(), String> {
    let mut shown = String::new();
    for posted in chat {
        shown.push_str(if posted.by_bot { "bot: " } else { "you: " });
        if posted.photo.is_some() {
            shown.push_str("(a photo) ");
        }
        shown.push_str(&posted.text.replace('\n', "\n     "));
        for button in &posted.buttons {
            shown.push_str("\n     [");
            shown.push_str(&button.text);
            shown.push(']');
        }
        shown.push('\n');
    }
    say(&shown)
}

fn say(text: &str) -> Result<(), String> {
    std::io::stdout().write_all(text.as_bytes()).map_err(|error| error.to_string())
}
