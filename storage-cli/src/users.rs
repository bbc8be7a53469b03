//! `storage user`: who there is, and their money.

use serde::Serialize;
use serde_json::json;
use std::sync::Arc;
use storage_core::{
    AddBalance, AdminLimit, Applied, Error, ErrorKind, Hold, HoldStatus, Language, LedgerRow, ListOperations,
    ListReserves, Memo, Money, OperationKey, Page, PageRequest, PageSize, SetUserLanguage, Storage, SubtractBalance,
    Total, User, UserId,
};

use crate::args::{MoneyArgs, UserCommand};
use crate::confirm::Plan;
use crate::context::Context;
use crate::exit::{Exit, Failure, Outcome};
use crate::output::{Table, facts, or_dash, short, when};

pub(crate) async fn run(context: &Context, command: UserCommand) -> Outcome {
    match command {
        UserCommand::List { page } => list(context, page.request()?).await,
        UserCommand::Show { user, limit } => show(context, user, PageSize::new(limit)?).await,
        UserCommand::Credit(arguments) => credit(context, arguments).await,
        UserCommand::Debit(arguments) => debit(context, arguments).await,
        UserCommand::SetLanguage { user, language, key } => set_language(context, user, language, key).await,
    }
}

async fn list(context: &Context, page: PageRequest) -> Outcome {
    let users = context.looking_at_store(async |storage| Ok(storage.list_users(page).await?)).await?;
    context.out.page(&users, "users", || {
        let mut table = Table::new(&["user", "balance>", "language", "gift", "brought by", "since (UTC)"]);
        for user in &users.items {
            table.row([
                user.id.to_string(),
                user.balance.to_string(),
                user.language.to_string(),
                if user.gift_claimed { "claimed" } else { "-" }.to_owned(),
                or_dash(user.referrer.as_ref()),
                when(user.created_at),
            ]);
        }
        table
    })?;
    Ok(Exit::Done)
}

/// Everything that a statement shows.
#[derive(Debug, Serialize)]
struct Statement {
    #[serde(flatten)]
    user: Arc<User>,
    held: Total,
    free_generations: FreeGenerations,
    admin: Admin,
    holds: Vec<Arc<Hold>>,
    ledger: Page<LedgerRow>,
}

#[derive(Debug, Serialize)]
struct FreeGenerations {
    today: u32,
    remaining: u64,
}

#[derive(Debug, Serialize)]
struct Admin {
    limit: AdminLimit,
    spent: Total,
    remaining: AdminLimit,
}

async fn show(context: &Context, id: UserId, size: PageSize) -> Outcome {
    let statement = context
        .looking_at_store(async |storage| {
            let user = storage.find_user(id).await?.ok_or_else(|| Error::not_found("user", id))?;
            let holds = open_holds(storage, id).await?;
            let ledger = ListOperations { user: id, page: PageRequest::first(size) };
            Ok(Statement {
                user,
                held: holds.iter().map(|hold| hold.amount.money()).sum(),
                free_generations: FreeGenerations {
                    today: storage.get_user_free_generations_today(id).await?,
                    remaining: storage.get_user_free_generations_remaining(id).await?,
                },
                admin: Admin {
                    limit: storage.get_admin_limit(id).await?,
                    spent: storage.get_admin_spent(id).await?,
                    remaining: storage.get_admin_remaining(id).await?,
                },
                holds,
                ledger: storage.list_operations(ledger).await?,
            })
        })
        .await?;
    context.out.answer(&statement, || statement.to_text())?;
    Ok(Exit::Done)
}

async fn open_holds(storage: &dyn Storage, user: UserId) -> Result<Vec<Arc<Hold>>, Error> {
    let mut holds = Vec::new();
    let mut list = ListReserves { user: Some(user), status: Some(HoldStatus::Open), ..ListReserves::default() };
    list.page.size = PageSize::MAX;
    loop {
        let page = storage.list_reserves(list.clone()).await?;
        holds.extend(page.items);
        list.page.after = page.next;
        if list.page.after.is_none() {
            return Ok(holds);
        }
    }
}

impl Statement {
    fn to_text(&self) -> String {
        let user = &self.user;
        let mut money = Table::new(&["money", "amount>"]);
        money.row(["balance".to_owned(), user.balance.to_string()]);
        money.row(["held".to_owned(), self.held.to_string()]);
        let FreeGenerations { today, remaining } = self.free_generations;
        let mut about = vec![
            ("language", user.language.to_string()),
            ("gift", if user.gift_claimed { "claimed" } else { "not claimed" }.to_owned()),
            ("brought by", or_dash(user.referrer.as_ref())),
            ("free generations", format!("{remaining} left, {today} taken today")),
            ("since", format!("{} UTC", when(user.created_at))),
        ];
        if self.admin.spent != Total::ZERO {
            let Admin { limit, spent, remaining } = &self.admin;
            about.push(("spent", format!("{spent}; as an admin: limit {limit}, left {remaining}")));
        }
        let mut parts = vec![format!("User {}\n{}", user.id, facts("  ", &about)), money.to_text("  ")];
        if !self.holds.is_empty() {
            let mut table = Table::new(&["held>", "for", "since (UTC)", "expires (UTC)"]);
            for hold in &self.holds {
                let expires = hold.expires_at.map_or_else(|| "never".to_owned(), when);
                table.row([hold.amount.to_string(), short(hold.name.as_str(), 40), when(hold.created_at), expires]);
            }
            parts.push(format!("Holds\n{}", table.to_text("  ")));
        }
        parts.push(self.ledger_text());
        parts.join("\n\n")
    }

    /// The last lines in the order they happened, as a bank prints them.
    fn ledger_text(&self) -> String {
        if self.ledger.items.is_empty() {
            return "Ledger: no lines yet".to_owned();
        }
        let mut table = Table::new(&["time (UTC)", "kind", "change>", "held>", "balance>", "note"]);
        for row in self.ledger.items.iter().rev() {
            let note = [
                row.reference.as_ref().map(ToString::to_string),
                row.reason.as_ref().map(ToString::to_string),
                row.actor.as_ref().map(|actor| format!("by {actor}")),
            ];
            let note = note.into_iter().flatten().collect::<Vec<_>>().join(", ");
            let moved = |change: storage_core::SignedMoney| {
                if change.micros() == 0 { String::new() } else { change.to_string() }
            };
            table.row([
                when(row.at),
                row.kind.to_string(),
                moved(row.balance_change),
                moved(row.held_change),
                row.balance_after.to_string(),
                short(&note, 48),
            ]);
        }
        let earlier = if self.ledger.next.is_some() { ", the last lines; more with --limit" } else { "" };
        format!("Ledger{earlier}\n{}", table.to_text("  "))
    }
}

/// A change of a balance as it is answered.
#[derive(Debug, Serialize)]
struct Changed {
    user: UserId,
    amount: Money,
    balance_after: Money,
    operation: storage_core::OperationId,
    replayed: bool,
}

async fn credit(context: &Context, arguments: MoneyArgs) -> Outcome {
    change(context, arguments, Direction::Credit, async |storage, user, amount, memo, key| {
        storage.add_balance(AddBalance { user, amount, memo, key }).await
    })
    .await
}

async fn debit(context: &Context, arguments: MoneyArgs) -> Outcome {
    // Nobody has money where there is no store, and none is created to say so.
    if !context.choice.exists() {
        let short = Error::insufficient_funds(Money::ZERO, arguments.amount.money());
        return Err(Failure::from(short).with_hint("storage status"));
    }
    change(context, arguments, Direction::Debit, async |storage, user, amount, memo, key| {
        storage.subtract_balance(SubtractBalance { user, amount, memo, key }).await
    })
    .await
}

/// Which way the money goes.
#[derive(Clone, Copy, Debug)]
enum Direction {
    Credit,
    Debit,
}

impl Direction {
    fn word(self) -> &'static str {
        match self {
            Self::Credit => "credited to",
            Self::Debit => "debited from",
        }
    }
    /// What a plan says of the balance that will be.
    fn after(self, balance: Money, amount: Money) -> String {
        match self {
            Self::Credit => balance.checked_add(amount).map_or_else(
                |_| format!("refused: {} is the most that a balance holds", Money::MAX),
                |after| after.to_string(),
            ),
            Self::Debit => balance
                .checked_sub(amount)
                .map_or_else(|| format!("refused: insufficient funds, {balance} available"), |after| after.to_string()),
        }
    }
}

async fn change(
    context: &Context,
    arguments: MoneyArgs,
    direction: Direction,
    apply: impl AsyncFnOnce(
        &dyn Storage,
        UserId,
        storage_core::Amount,
        Memo,
        Option<OperationKey>,
    ) -> Result<storage_core::Receipt, Error>,
) -> Outcome {
    let MoneyArgs { user, amount, key, reason, actor } = arguments;
    let word = direction.word();
    let known = context.planning(async |storage| Ok(storage.find_user(user).await?));
    let (store, known) = known.await?;
    let balance = known.flatten().map(|user| user.balance);
    let mut plan = Plan::new(&store, format!("{amount} will be {word} user {user}"));
    plan.add("balance now", balance.map_or_else(|| format!("{} (new user)", Money::ZERO), |money| money.to_string()));
    let after = direction.after(balance.unwrap_or(Money::ZERO), amount.money());
    let unless = if key.is_some() { "; as it is when the key was used before" } else { "" };
    plan.add("balance after", format!("{after}{unless}"));
    if let Some(reason) = &reason {
        plan.add("reason", reason.as_str());
    }
    if let Some(actor) = &actor {
        plan.add("actor", actor.as_str());
    }
    if let Some(key) = &key {
        plan.add("key", key.as_str());
    }
    if !plan.approve(context)? {
        return Ok(Exit::Done);
    }
    // A key of our own, so that an outcome that nobody knows can be settled by the same command with that key.
    let key = key.unwrap_or_else(|| context.config.environment.ids.next_id().to_key());
    let memo = Memo { reference: None, reason, actor };
    let receipt = context
        .with_new_store(async |storage| Ok(apply(storage, user, amount, memo, Some(key.clone())).await?))
        .await
        .map_err(|failure| with_statement(with_key(failure, &key), user))?;
    let changed = Changed {
        user,
        amount: amount.money(),
        balance_after: receipt.balance_after,
        operation: receipt.operation,
        replayed: receipt.replayed,
    };
    let printed = context.out.answer(&changed, || {
        let again = if receipt.replayed { " before, under this key; nothing changed now" } else { "" };
        format!("{amount} {word} user {user}{again}\nbalance after: {}", receipt.balance_after)
    });
    printed.map_err(|failure| failure.after_change(format!("storage user show {user}")))?;
    Ok(Exit::Done)
}

/// An unknown outcome names the key that settles it.
fn with_key(failure: Failure, key: &OperationKey) -> Failure {
    match failure {
        Failure::Store { error, hint } if error.applied() == Applied::Unknown && error.key().is_none() => {
            Failure::Store { error: error.unknown(Some(key.clone())), hint }
        }
        other => other,
    }
}

/// Where money is short, or too much, the statement helps.
fn with_statement(failure: Failure, user: UserId) -> Failure {
    match &failure {
        Failure::Store { error, .. }
            if matches!(error.kind(), ErrorKind::InsufficientFunds { .. } | ErrorKind::InvalidInput { .. }) =>
        {
            failure.with_hint(format!("storage user show {user}"))
        }
        _ => failure,
    }
}

async fn set_language(context: &Context, user: UserId, language: Language, key: Option<OperationKey>) -> Outcome {
    let (store, now) = context.planning(async |storage| Ok(storage.get_user_language(user).await?)).await?;
    let mut plan = Plan::new(&store, format!("the language of user {user} will be {language}"));
    if let Some(now) = now {
        plan.add("language now", now.as_str());
    }
    if !plan.approve(context)? {
        return Ok(Exit::Done);
    }
    let set = SetUserLanguage { user, language: language.clone(), key };
    let answer = context.with_new_store(async |storage| Ok(storage.set_user_language(set).await?)).await?;
    let object = json!({ "user": user, "language": language, "replayed": answer.replayed });
    let printed = context.out.answer(&object, || format!("the language of user {user} is {language}"));
    printed.map_err(|failure| failure.after_change(format!("storage user show {user}")))?;
    Ok(Exit::Done)
}
