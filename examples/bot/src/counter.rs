//! What people say, and what they are answered.

use std::fmt::Write as _;
use std::sync::Arc;

use storage_core::{Amount, ErrorKind, Money, Payment, PaymentId, PaymentStatus, UserId};
use teloxide::prelude::*;
use teloxide::types::{
    ChatKind, FileId, FileMeta, InlineKeyboardButton, InlineKeyboardMarkup, InputFile, MaybeInaccessibleMessage,
    MessageId, ReplyParameters, Update, UpdateKind,
};
use teloxide::utils::command::BotCommands;

use crate::saying::{LONGEST_MESSAGE, said};
use crate::shop::{Claim, Order, Shop};
use crate::trouble::Trouble;
use crate::worker::Worker;

/// So many characters are enough for a prompt, and leave room for a URL beside it.
const LONGEST_PROMPT: usize = 900;

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
    #[command(hide)]
    Waiting,
}

/// Answers people.
pub(crate) struct Counter {
    bot: Bot,
    name: String,
    shop: Shop,
    worker: Arc<Worker>,
    admins: Vec<UserId>,
}

impl Counter {
    /// `name` is that of the bot, which may stand behind a command.
    pub(crate) fn new(bot: Bot, name: String, shop: Shop, worker: Arc<Worker>, admins: Vec<UserId>) -> Self {
        Self { bot, name, shop, worker, admins }
    }

    /// Deals with an update. The same again changes nothing, and is perhaps answered again. Whatever changes the store comes
    /// first, so that only what is said can get lost after it.
    pub(crate) async fn serve(&self, update: &Update) -> Result<(), Trouble> {
        match &update.kind {
            UpdateKind::Message(message) if message.chat.is_private() => {
                let user = UserId::try_from(message.chat.id)?;
                if let Some(photo) = message.photo().and_then(|sizes| sizes.last()) {
                    return self.paid(user, message, &photo.file).await;
                }
                let command = message.text().and_then(|text| Command::parse(text, &self.name).ok());
                self.obey(user, message.id, command.unwrap_or(Command::Help)).await
            }
            UpdateKind::CallbackQuery(query) => self.pressed(query).await,
            _ => Ok(()),
        }
    }

    async fn obey(&self, user: UserId, asked: MessageId, command: Command) -> Result<(), Trouble> {
        let answer = match command {
            Command::Start(word) => {
                let referrer = word.trim().strip_prefix("ref_").and_then(|id| id.parse().ok());
                self.shop.welcome(user, referrer).await?;
                format!(
                    "Hello! I draw what you describe. {}\n\n{}",
                    self.standing(user).await?,
                    Command::descriptions()
                )
            }
            Command::Generate(prompt) => return self.offer(user, asked, &prompt).await,
            Command::Help => Command::descriptions().to_string(),
            Command::Balance => self.standing(user).await?,
            Command::History => self.history(user).await?,
            Command::Pay => {
                "Transfer what you like, then send me a picture of the receipt with the words: /paid AMOUNT".to_owned()
            }
            Command::Invite => format!("Whoever starts with /start ref_{user} brings you 5 free generations."),
            Command::Waiting if self.admins.contains(&user) => {
                let waiting = self.shop.waiting(20).await?;
                for payment in &waiting {
                    self.ask(user, payment).await;
                }
                format!("{} payments wait for you.", waiting.len())
            }
            Command::Waiting => "This is for admins.".to_owned(),
        };
        self.say(user, answer).await;
        Ok(())
    }

    async fn standing(&self, user: UserId) -> Result<String, Trouble> {
        let (balance, free) = self.shop.standing(user).await?;
        Ok(format!("You have {balance} credits and {free} free generations."))
    }

    /// Says what it would cost. An offer costs nothing: the button below it makes the order.
    async fn offer(&self, user: UserId, asked: MessageId, text: &str) -> Result<(), Trouble> {
        let Some(prompt) = prompt(text) else {
            let how = format!("Describe the picture in 1 to {LONGEST_PROMPT} characters: /generate a cat");
            self.say(user, how).await;
            return Ok(());
        };
        let (standing, price) = (self.standing(user).await?, self.shop.price());
        let text = format!("{prompt}\n\nFree while free ones are left, else {price} credits. {standing}");
        let button = InlineKeyboardButton::callback("Generate", format!("generate:{price}"));
        let reply = ReplyParameters::new(asked).allow_sending_without_reply();
        let send = self.bot.send_message(ChatId::from(user), text).reply_parameters(reply);
        said(send.reply_markup(InlineKeyboardMarkup::new([[button]]))).await;
        Ok(())
    }

    async fn history(&self, user: UserId) -> Result<String, Trouble> {
        let newest = self.shop.newest(user, 5).await?;
        let mut text = String::from(if newest.is_empty() { "Nothing yet." } else { "The newest first:" });
        for (price, urls) in newest {
            let url = urls.as_slice().first().map_or("", |url| url);
            if text.encode_utf16().count() + url.encode_utf16().count() + 40 > LONGEST_MESSAGE {
                break;
            }
            // Writing to a string does not fail.
            let _ = write!(text, "\n{price} credits: {url}");
        }
        Ok(text)
    }

    /// Somebody says that they paid, with a picture that proves it.
    async fn paid(&self, user: UserId, message: &Message, photo: &FileMeta) -> Result<(), Trouble> {
        let amount = message.caption().and_then(|caption| caption.strip_prefix("/paid "));
        let Some(amount) = amount.and_then(|amount| amount.trim().parse::<Amount>().ok()) else {
            self.say(user, "Say with the picture what you paid: /paid 100".to_owned()).await;
            return Ok(());
        };
        let claim = Claim {
            user,
            amount,
            message: message.id.0,
            picture: format!("telegram-{}", photo.unique_id).parse()?,
            file: photo.id.0.parse()?,
        };
        let payment = match self.shop.claim(claim).await {
            Ok(payment) => payment,
            Err(error) if matches!(error.kind(), ErrorKind::Conflict { .. }) => {
                let answer = "This picture told of a payment already, perhaps of another amount: an admin decides about \
                              that one. For another payment send its own picture.";
                self.say(user, answer.to_owned()).await;
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        // Told again after a crash: an admin who has decided is not asked again.
        if payment.status == PaymentStatus::Pending {
            for &admin in &self.admins {
                self.ask(admin, &payment).await;
            }
        }
        self.say(user, format!("{amount} noted as {}. It counts as soon as an admin has looked at it.", payment.id))
            .await;
        Ok(())
    }

    /// Asks an admin. One who was not reached finds it with /waiting.
    async fn ask(&self, admin: UserId, payment: &Payment) -> bool {
        let buttons =
            ["approve", "reject"].map(|word| InlineKeyboardButton::callback(word, format!("{word}:{}", payment.id)));
        let buttons = InlineKeyboardMarkup::new([buttons]);
        let text = format!("{} says: {} paid", payment.user, payment.amount);
        match &payment.screenshot_file_id {
            Some(file) => {
                let photo = InputFile::file_id(FileId(file.to_string()));
                said(self.bot.send_photo(ChatId::from(admin), photo).caption(text).reply_markup(buttons)).await
            }
            None => said(self.bot.send_message(ChatId::from(admin), text).reply_markup(buttons)).await,
        }
    }

    async fn pressed(&self, query: &CallbackQuery) -> Result<(), Trouble> {
        let user = UserId::try_from(query.from.id)?;
        let (word, rest) = query.data.as_deref().and_then(|data| data.split_once(':')).unwrap_or_default();
        let answer = match (&query.message, word) {
            (Some(MaybeInaccessibleMessage::Regular(offer)), "generate") => self.ordered(user, offer, rest).await?,
            (Some(asked), "approve") => self.judged(user, asked, rest, PaymentStatus::Approved).await?,
            (Some(asked), "reject") => self.judged(user, asked, rest, PaymentStatus::Rejected).await?,
            _ => "This button is too old.".to_owned(),
        };
        // A decoration: a query that is told again after a crash is often too old to be answered.
        let _ = self.bot.answer_callback_query(query.id.clone()).text(answer).await;
        Ok(())
    }

    /// The button below an offer. What a button says is the word of whoever sends it, so that nothing but the order to
    /// look is taken from it: the price must be today's, the prompt is that of the message which the offer answers, as that
    /// reads now.
    async fn ordered(&self, user: UserId, offer: &Message, price: &str) -> Result<String, Trouble> {
        let asked = offer.reply_to_message().and_then(|asked| asked.text());
        let command = asked.and_then(|text| Command::parse(text, &self.name).ok());
        let prompt = match &command {
            Some(Command::Generate(text)) if matches!(offer.chat.kind, ChatKind::Private(_)) => prompt(text),
            _ => None,
        };
        let Some(prompt) = prompt else { return Ok("What you asked for is gone: ask again.".to_owned()) };
        let order = Order { prompt: prompt.to_owned(), chat: offer.chat.id.0, message: offer.id.0 };
        let Some(job) = self.shop.order(user, &order, price.parse::<Money>().ok()).await? else {
            return Ok("The price is another one since: ask again.".to_owned());
        };
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
        asked: &MaybeInaccessibleMessage,
        payment: &str,
        status: PaymentStatus,
    ) -> Result<String, Trouble> {
        if !self.admins.contains(&admin) {
            return Ok("This is for admins.".to_owned());
        }
        let payment = match self.shop.judge(payment.parse::<PaymentId>()?, admin, status).await {
            Ok(payment) => payment,
            // No such payment, or its credit would be more than a balance may be.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound(_) | ErrorKind::InvalidInput { .. }) => {
                return Ok(error.kind().to_string());
            }
            Err(error) => return Err(error.into()),
        };
        let Payment { user, amount, status: stands, .. } = &*payment;
        if *stands == status {
            let standing = self.standing(*user).await?;
            self.say(*user, format!("Your payment of {amount} was {status}. {standing}")).await;
        }
        let by = payment.admin.map_or_else(String::new, |admin| format!(" by {admin}"));
        let (chat, text) = (asked.chat().id, format!("{user}: {amount} {stands}{by}"));
        match &payment.screenshot_file_id {
            Some(_) => said(self.bot.edit_message_caption(chat, asked.id()).caption(text)).await,
            None => said(self.bot.edit_message_text(chat, asked.id(), text)).await,
        };
        Ok(format!("It is {stands}."))
    }

    async fn say(&self, to: UserId, text: String) -> bool {
        said(self.bot.send_message(ChatId::from(to), text)).await
    }
}

/// What may be asked for: a message can be edited between the offer and the order, so that both look.
fn prompt(text: &str) -> Option<&str> {
    let prompt = text.trim();
    (1..=LONGEST_PROMPT).contains(&prompt.chars().count()).then_some(prompt)
}
