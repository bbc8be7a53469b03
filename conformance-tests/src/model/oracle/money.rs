//! Balances, holds, and the ledger rows that every change of money leaves.

use storage_core::{
    AddBalance, Amount, CommitReserve, Entity, ErrorKind, Hold, HoldName, HoldStatus, LedgerRow, Memo, Money,
    OperationKey, OperationKind, Receipt, Reference, ReleaseReserve, ReserveBalance, SetBalance, SignedMoney,
    SubtractBalance, UserId,
};

use super::{First, Judged, Moment, Oracle, conflict, invalid, money, no_way, not_found};

/// What a ledger row says besides its figures.
pub(super) struct About {
    pub(super) kind: OperationKind,
    pub(super) key: Option<OperationKey>,
    pub(super) memo: Memo,
}

fn signed(micros: i64) -> SignedMoney {
    money(micros.max(0)).change_since(money((-micros).max(0)))
}

fn about_hold(kind: OperationKind, key: Option<&OperationKey>, name: &HoldName, memo: Memo) -> About {
    About { kind, key: key.cloned(), memo: Memo { reference: Reference::new(name.as_str()).ok(), ..memo } }
}

fn short<T>(available: i64, required: Amount) -> Judged<T> {
    Err(ErrorKind::InsufficientFunds { available: money(available), required: required.money() })
}

impl Oracle {
    pub(super) fn balance(&self, user: UserId) -> i64 {
        self.accounts.get(&user).map_or(0, |account| account.balance)
    }

    /// Changes a user's money, and writes the row that says so. The `part`th row of one operation has its own id.
    pub(super) fn post(
        &mut self,
        user: UserId,
        (balance, held): (i64, i64),
        about: About,
        (at, part): (&Moment, usize),
    ) -> Judged<Receipt> {
        let operation = at.nth(part);
        let account = self.account(user, at);
        account.balance += balance;
        account.held += held;
        if account.balance + account.held > Money::MAX.micros() {
            return invalid("money");
        }
        if balance != 0 {
            account.updated_at = at.now;
        }
        let About { kind, key, memo: Memo { reference, reason, actor } } = about;
        account.rows.push(LedgerRow {
            user,
            seq: account.rows.len() as u64 + 1,
            operation,
            kind,
            balance_change: signed(balance),
            held_change: signed(held),
            balance_after: money(account.balance),
            held_after: money(account.held),
            key: key.unwrap_or_else(|| operation.to_key()),
            reference,
            reason,
            actor,
            at: at.now,
        });
        Ok(Receipt { operation, balance_after: money(account.balance), replayed: false })
    }

    /// The first receipt, marked as a replay.
    fn replayed(&self, user: UserId, key: Option<&OperationKey>, call: &str) -> Judged<Option<Receipt>> {
        Ok(match self.replay(user, key, call)? {
            Some(First::Money(first)) => Some(Receipt { replayed: true, ..first }),
            _ => None,
        })
    }

    pub(super) fn set_balance(&mut self, set: &SetBalance, at: &Moment) -> Judged<Receipt> {
        let SetBalance { user, balance, memo, key } = set;
        let call = format!("{:?}", SetBalance { key: None, ..set.clone() });
        if let Some(first) = self.replayed(*user, key.as_ref(), &call)? {
            return Ok(first);
        }
        let change = balance.micros() - self.account(*user, at).balance;
        let receipt = if change == 0 {
            Receipt { operation: at.id(), balance_after: *balance, replayed: false }
        } else {
            let about = About { kind: OperationKind::Adjustment, key: key.clone(), memo: memo.clone() };
            self.post(*user, (change, 0), about, (at, 0))?
        };
        self.settle(*user, key.as_ref(), change != 0, (call, First::Money(receipt)), at.id());
        Ok(receipt)
    }

    pub(super) fn credit(&mut self, add: &AddBalance, at: &Moment) -> Judged<Receipt> {
        let AddBalance { user, amount, memo, key } = add;
        let call = format!("{:?}", AddBalance { key: None, ..add.clone() });
        if let Some(first) = self.replayed(*user, key.as_ref(), &call)? {
            return Ok(first);
        }
        let about = About { kind: OperationKind::Credit, key: key.clone(), memo: memo.clone() };
        let receipt = self.post(*user, (amount.money().micros(), 0), about, (at, 0))?;
        self.settle(*user, key.as_ref(), true, (call, First::Money(receipt)), at.id());
        Ok(receipt)
    }

    pub(super) fn debit(&mut self, subtract: &SubtractBalance, at: &Moment) -> Judged<Receipt> {
        let SubtractBalance { user, amount, memo, key } = subtract;
        let call = format!("{:?}", SubtractBalance { key: None, ..subtract.clone() });
        if let Some(first) = self.replayed(*user, key.as_ref(), &call)? {
            return Ok(first);
        }
        if self.balance(*user) < amount.money().micros() {
            return short(self.balance(*user), *amount);
        }
        let about = About { kind: OperationKind::Debit, key: key.clone(), memo: memo.clone() };
        let receipt = self.post(*user, (-amount.money().micros(), 0), about, (at, 0))?;
        self.settle(*user, key.as_ref(), true, (call, First::Money(receipt)), at.id());
        Ok(receipt)
    }

    pub(super) fn reserve(&mut self, reserve: &ReserveBalance, at: &Moment) -> Judged<Receipt> {
        let ReserveBalance { user, name, amount, expires_at, memo, key } = reserve;
        let call = format!("{:?}", ReserveBalance { key: None, ..reserve.clone() });
        if let Some(first) = self.replayed(*user, key.as_ref(), &call)? {
            return Ok(first);
        }
        if let Some(hold) = self.holds.get(&(*user, name.to_string())) {
            if hold.status != HoldStatus::Open || hold.amount != *amount || hold.expires_at != *expires_at {
                return no_way("hold", name, word(hold.status), "open");
            }
            let opened = hold.opened;
            self.settle(*user, key.as_ref(), false, (call, First::Money(opened)), at.id());
            return Ok(Receipt { replayed: true, ..opened });
        }
        let micros = amount.money().micros();
        if self.balance(*user) < micros {
            return short(self.balance(*user), *amount);
        }
        let about = about_hold(OperationKind::Hold, key.as_ref(), name, memo.clone());
        let receipt = self.post(*user, (-micros, micros), about, (at, 0))?;
        let hold = Hold {
            user: *user,
            name: name.clone(),
            amount: *amount,
            status: HoldStatus::Open,
            committed: Money::ZERO,
            expires_at: *expires_at,
            created_at: at.now,
            updated_at: at.now,
            opened: receipt,
            ended: None,
        };
        self.holds.insert((*user, name.to_string()), hold);
        self.settle(*user, key.as_ref(), true, (call, First::Money(receipt)), at.id());
        Ok(receipt)
    }

    /// Ends an open hold: spends a part of it and gives the rest back.
    fn end(
        &mut self,
        hold: &Hold,
        status: HoldStatus,
        spent: i64,
        key: Option<&OperationKey>,
        (at, part): (&Moment, usize),
    ) -> Judged<Receipt> {
        let rest = hold.amount.money().micros() - spent;
        let mut ended = None;
        if spent > 0 {
            let about = about_hold(OperationKind::Commit, key, &hold.name, Memo::default());
            ended = Some(self.post(hold.user, (0, -spent), about, (at, part))?);
        }
        if rest > 0 {
            let about = about_hold(OperationKind::Release, key, &hold.name, Memo::default());
            ended = Some(self.post(hold.user, (rest, -rest), about, (at, part))?);
        }
        let after = Hold { status, committed: money(spent), updated_at: at.now, ended, ..hold.clone() };
        self.holds.insert((hold.user, hold.name.to_string()), after);
        match ended {
            Some(receipt) => Ok(receipt),
            None => conflict("hold", &hold.name),
        }
    }

    fn open_or_ended(&self, user: UserId, name: &HoldName) -> Judged<Hold> {
        match self.holds.get(&(user, name.to_string())) {
            Some(hold) => Ok(hold.clone()),
            None => not_found("hold", name),
        }
    }

    pub(super) fn commit(&mut self, commit: &CommitReserve, at: &Moment) -> Judged<Receipt> {
        let CommitReserve { user, name, amount, key } = commit;
        let call = format!("{:?}", CommitReserve { key: None, ..commit.clone() });
        if let Some(first) = self.replayed(*user, key.as_ref(), &call)? {
            return Ok(first);
        }
        let hold = self.open_or_ended(*user, name)?;
        let wanted = amount.unwrap_or(hold.amount);
        match (hold.status, hold.ended) {
            (HoldStatus::Open, _) if wanted > hold.amount => short(hold.amount.money().micros(), wanted),
            (HoldStatus::Open, _) => {
                let spent = wanted.money().micros();
                let receipt = self.end(&hold, HoldStatus::Committed, spent, key.as_ref(), (at, 0))?;
                self.settle(*user, key.as_ref(), true, (call, First::Money(receipt)), at.id());
                Ok(receipt)
            }
            (HoldStatus::Committed, Some(ended)) if hold.committed == wanted.money() => {
                self.settle(*user, key.as_ref(), false, (call, First::Money(ended)), at.id());
                Ok(Receipt { replayed: true, ..ended })
            }
            (status, _) => no_way("hold", name, word(status), "committed"),
        }
    }

    pub(super) fn release(&mut self, release: &ReleaseReserve, at: &Moment) -> Judged<Receipt> {
        let ReleaseReserve { user, name, key } = release;
        let call = released(release);
        if let Some(first) = self.replayed(*user, key.as_ref(), &call)? {
            return Ok(first);
        }
        let hold = self.open_or_ended(*user, name)?;
        match (hold.status, hold.ended) {
            (HoldStatus::Open, _) => {
                let receipt = self.end(&hold, HoldStatus::Released, 0, key.as_ref(), (at, 0))?;
                self.settle(*user, key.as_ref(), true, (call, First::Money(receipt)), at.id());
                Ok(receipt)
            }
            (HoldStatus::Released, Some(ended)) => {
                self.settle(*user, key.as_ref(), false, (call, First::Money(ended)), at.id());
                Ok(Receipt { replayed: true, ..ended })
            }
            (status, _) => no_way("hold", name, word(status), "released"),
        }
    }

    /// Gives back what has expired, the longest expired first; each with an id of its own.
    pub(super) fn sweep(&mut self, limit: usize, at: &Moment) -> Vec<Hold> {
        let is_due = |hold: &&Hold| hold.status == HoldStatus::Open && hold.expires_at.is_some_and(|end| end <= at.now);
        let mut due: Vec<Hold> = self.holds.values().filter(is_due).cloned().collect();
        due.sort_by_key(|hold| (hold.expires_at, hold.user, hold.name.to_string()));
        due.truncate(limit);
        let mut swept = Vec::new();
        for (part, hold) in due.iter().enumerate() {
            if let Ok(receipt) = self.end(hold, HoldStatus::Released, 0, None, (at, part)) {
                let call = released(&ReleaseReserve::new(hold.user, hold.name.clone()));
                self.settle(hold.user, None, true, (call, First::Money(receipt)), at.nth(part));
            }
            swept.extend(self.holds.get(&(hold.user, hold.name.to_string())).cloned());
        }
        swept
    }
}

fn released(release: &ReleaseReserve) -> String {
    format!("{:?}", ReleaseReserve { key: None, ..release.clone() })
}

fn word(status: HoldStatus) -> &'static str {
    match status {
        HoldStatus::Open => "open",
        HoldStatus::Committed => "committed",
        HoldStatus::Released => "released",
    }
}

impl Oracle {
    /// `InsufficientFunds` with both figures.
    pub(super) fn too_little<T>(&self, user: UserId, required: Amount) -> Judged<T> {
        short(self.balance(user), required)
    }
    /// What a record that was asked for under its name and is missing is answered with.
    pub(super) fn missing<T>(kind: &'static str, id: &str) -> Judged<T> {
        Err(ErrorKind::NotFound(Entity::new(kind, id)))
    }
}
