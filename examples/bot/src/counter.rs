//! What people say, and what they are answered.

use std::fmt::Write as _;
use std::sync::Arc;

use storage_core::{
    Amount, Error, ErrorKind, GetUserGenerationsHistory, Money, PageRequest, PageSize, PaymentId, PaymentStatus, UserId,
};
use teloxide::prelude::*;
use teloxide::types::{
    ChatKind, FileMeta, InlineKeyboardButton, InlineKeyboardMarkup, InputFile, MaybeInaccessibleMessage, MessageId,
    ReplyParameters, Update, UpdateKind,
};
use teloxide::utils::command::BotCommands;
use teloxide::{ApiError, RequestError};
use tracing::warn;

use crate::shop::{Claim, Order, Shop};
use crate::trouble::Trouble;
use crate::worker::Worker;

/// So many characters are enough for a prompt.
const LONGEST_PROMPT: usize = 1000;

#[derive(BotCommands, Clone, Debug)]
#[command(rename_rule = "lowercase", description = "What I understand:")]
enum Command {
    #[command(description = "say hello")]
    Start(String),
    #[command(description = "this list")]
    Help,
    #[command(description = "PROMPT: ask for a picture")]
    Generate(String),
    #[command(description = "your credits and free generations")]
    Balance,
    #[command(description = "your last pictures")]
    History,
    #[command(description = "how to get credits")]
    Pay,
    #[command(description = "free generations for bringing a friend")]
    Invite,
}

/// Answers people.
pub(crate) struct Counter {
    bot: Bot,
    shop: Shop,
    worker: Arc<Worker>,
    admins: Vec<UserId>,
}

impl Counter {
    pub(crate) fn new(bot: Bot, shop: Shop, worker: Arc<Worker>, admins: Vec<UserId>) -> Self {
        Self { bot, shop, worker, admins }
    }

    /// Deals with an update. The same again changes nothing, and is perhaps answered again.
    pub(crate) async fn serve(&self, update: &Update) -> Result<(), Trouble> {
        match &update.kind {
            UpdateKind::Message(message) if message.chat.is_private() => {
                let user = UserId::try_from(message.chat.id)?;
                if let Some(photo) = message.photo().and_then(|sizes| sizes.last()) {
                    return self.paid(user, message, &photo.file).await;
                }
                match Command::parse(message.text().unwrap_or_default(), "") {
                    Ok(command) => self.obey(user, message, command).await,
                    Err(_) => self.say(user, Command::descriptions().to_string()).await,
                }
            }
            UpdateKind::CallbackQuery(query) => self.pressed(query).await,
            _ => Ok(()),
        }
    }

    async fn obey(&self, user: UserId, message: &Message, command: Command) -> Result<(), Trouble> {
        match command {
            Command::Start(word) => {
                let referrer = word.trim().strip_prefix("ref_").and_then(|id| id.parse().ok());
                self.shop.welcome(user, referrer).await?;
                let standing = self.standing(user).await?;
                self.say(user, format!("Hello! I draw what you describe. {standing}\n\n{}", Command::descriptions()))
                    .await
            }
            Command::Help => self.say(user, Command::descriptions().to_string()).await,
            Command::Balance => {
                let standing = self.standing(user).await?;
                self.say(user, standing).await
            }
            Command::Generate(prompt) => self.offer(user, message.id, prompt.trim()).await,
            Command::History => self.history(user).await,
            Command::Pay => {
                let how = "Transfer what you like, then send me a picture of the receipt with the words: /paid AMOUNT";
                self.say(user, how.to_owned()).await
            }
            Command::Invite => {
                let text = format!("Whoever starts with /start ref_{user} brings you 5 free generations.");
                self.say(user, text).await
            }
        }
    }

    async fn standing(&self, user: UserId) -> Result<String, Trouble> {
        let balance = self.shop.storage.get_balance(user).await?;
        let free = self.shop.storage.get_user_free_generations_remaining(user).await?;
        Ok(format!("You have {balance} credits and {free} free generations."))
    }

    /// Says what it would cost. An offer costs nothing: the button below it makes the order.
    async fn offer(&self, user: UserId, asked: MessageId, prompt: &str) -> Result<(), Trouble> {
        if prompt.is_empty() || prompt.chars().count() > LONGEST_PROMPT {
            return self
                .say(user, format!("Describe the picture in 1 to {LONGEST_PROMPT} characters: /generate a cat"))
                .await;
        }
        let standing = self.standing(user).await?;
        let price = self.shop.price();
        let text = format!("{prompt}\n\nFree while free ones are left, else {price} credits. {standing}");
        let button = InlineKeyboardButton::callback("Generate", format!("generate:{price}"));
        let send = self.bot.send_message(ChatId::from(user), text).reply_parameters(ReplyParameters::new(asked));
        said(send.reply_markup(InlineKeyboardMarkup::new([[button]])).await.map(drop))
    }

    async fn history(&self, user: UserId) -> Result<(), Trouble> {
        let page = PageRequest::first(PageSize::new(5)?);
        let newest = self.shop.storage.get_user_generations_history(GetUserGenerationsHistory { user, page }).await?;
        let mut text = String::from(if newest.items.is_empty() { "Nothing yet." } else { "The newest first:" });
        for generation in newest.items {
            let url = generation.result_urls.as_slice().first().map_or("", |url| url);
            // Writing to a string does not fail.
            let _ = write!(text, "\n{} credits: {url}", generation.price);
        }
        self.say(user, text).await
    }

    /// Somebody says that they paid, with a picture that proves it.
    async fn paid(&self, user: UserId, message: &Message, photo: &FileMeta) -> Result<(), Trouble> {
        let amount = message.caption().and_then(|caption| caption.strip_prefix("/paid "));
        let Some(amount) = amount.and_then(|amount| amount.trim().parse::<Amount>().ok()) else {
            return self.say(user, "Say with the picture what you paid: /paid 100".to_owned()).await;
        };
        let claim = Claim {
            user,
            amount,
            payment: format!("tg-{user}-{}", message.id).parse()?,
            picture: format!("telegram-{}", photo.unique_id).parse()?,
            file: photo.id.0.parse()?,
        };
        let payment = match self.shop.claim(claim).await {
            Ok(payment) => payment,
            Err(error) if matches!(error.kind(), ErrorKind::Conflict { .. }) => {
                return self.say(user, "This picture told of another payment already.".to_owned()).await;
            }
            Err(error) => return Err(error.into()),
        };
        // Told again after a crash: an admin who has decided is not asked again.
        if payment.status == PaymentStatus::Pending {
            for &admin in &self.admins {
                let buttons = ["approve", "reject"]
                    .map(|word| InlineKeyboardButton::callback(word, format!("{word}:{}", payment.id)));
                let photo = InputFile::file_id(photo.id.clone());
                let send =
                    self.bot.send_photo(ChatId::from(admin), photo).caption(format!("{user} says: {amount} paid"));
                said(send.reply_markup(InlineKeyboardMarkup::new([buttons])).await.map(drop))?;
            }
        }
        self.say(user, format!("{amount} noted as {}. An admin looks at it.", payment.id)).await
    }

    async fn pressed(&self, query: &CallbackQuery) -> Result<(), Trouble> {
        let user = UserId::try_from(query.from.id)?;
        let (word, rest) = query.data.as_deref().and_then(|data| data.split_once(':')).unwrap_or_default();
        let answer = match (&query.message, word) {
            (Some(MaybeInaccessibleMessage::Regular(offer)), "generate") => self.ordered(user, offer, rest).await?,
            (Some(MaybeInaccessibleMessage::Regular(asked)), "approve") => {
                self.judged(user, asked, rest, PaymentStatus::Approved).await?
            }
            (Some(MaybeInaccessibleMessage::Regular(asked)), "reject") => {
                self.judged(user, asked, rest, PaymentStatus::Rejected).await?
            }
            _ => "This button is too old.".to_owned(),
        };
        // A decoration: a query that is told again after a crash is often too old to be answered.
        match self.bot.answer_callback_query(query.id.clone()).text(answer).await {
            Err(RequestError::Api(_)) => Ok(()),
            answer => said(answer.map(drop)),
        }
    }

    /// The button below an offer. What a button says is the word of whoever sends it, so that nothing but the order to
    /// look is taken from it: the price must be today's, the prompt is that of the message which the offer answers.
    async fn ordered(&self, user: UserId, offer: &Message, price: &str) -> Result<String, Trouble> {
        let asked = offer.reply_to_message().and_then(|asked| asked.text());
        let (true, Some(Ok(Command::Generate(prompt)))) =
            (matches!(offer.chat.kind, ChatKind::Private(_)), asked.map(|text| Command::parse(text, "")))
        else {
            return Ok("What you asked for is gone: ask again.".to_owned());
        };
        let order = Order { prompt: prompt.trim().to_owned(), chat: offer.chat.id.0, message: offer.id.0 };
        let known = self.shop.storage.get_job(&order.job()?).await?.is_some();
        if !known && price.parse::<Money>().ok() != Some(self.shop.price()) {
            return Ok("The price is another one since: ask again.".to_owned());
        }
        let job = self.shop.order(user, &order).await?;
        if job.status.is_final() {
            return Ok("That is done already.".to_owned());
        }
        self.worker.take(job.id.clone());
        Ok("Working on it.".to_owned())
    }

    /// A button below a payment.
    async fn judged(
        &self,
        admin: UserId,
        asked: &Message,
        payment: &str,
        status: PaymentStatus,
    ) -> Result<String, Trouble> {
        if !self.admins.contains(&admin) {
            return Ok("This is for admins.".to_owned());
        }
        let payment = match self.shop.judge(payment.parse::<PaymentId>()?, admin, status).await {
            Ok(payment) => payment,
            Err(error) => match decided_otherwise(&error) {
                Some(answer) => return Ok(answer),
                None => return Err(error.into()),
            },
        };
        let standing = self.standing(payment.user).await?;
        self.say(payment.user, format!("Your payment of {} was {status}. {standing}", payment.amount)).await?;
        // The last step: as long as there are buttons, nobody has been told.
        let text = format!("{}: {} {status} by {admin}", payment.user, payment.amount);
        match self.bot.edit_message_caption(asked.chat.id, asked.id).caption(text).await {
            Err(RequestError::Api(ApiError::MessageNotModified)) => {}
            answer => said(answer.map(drop))?,
        }
        Ok(format!("{status}."))
    }

    async fn say(&self, to: UserId, text: String) -> Result<(), Trouble> {
        said(self.bot.send_message(ChatId::from(to), text).await.map(drop))
    }
}

/// What a person is told when a payment cannot be decided so.
fn decided_otherwise(error: &Error) -> Option<String> {
    match error.kind() {
        ErrorKind::InvalidTransition { from, .. } => Some(format!("It is {from} already.")),
        ErrorKind::NotFound(_) | ErrorKind::InvalidInput { .. } => Some(error.kind().to_string()),
        _ => None,
    }
}

/// Somebody who blocked the bot is told nothing, and nothing hangs on it.
fn said(sent: Result<(), RequestError>) -> Result<(), Trouble> {
    match sent {
        Err(RequestError::Api(refusal)) => {
            warn!("not said: {refusal}");
            Ok(())
        }
        answer => Ok(answer?),
    }
}
