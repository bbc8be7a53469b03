//! Parts that the express statements share.
//!
//! Every express statement begins by asking whether the operation's key is still unused, so that a plain repetition
//! changes nothing and is judged without an error in the server's log. Two repetitions that race both see it unused:
//! then the key's unique constraint stops the second, and it is judged too.

#[cfg(test)]
mod alone;

use storage_core::kernel::{Atom, Call, Reply};

use crate::options::FastForms;
use crate::store::PgStorage;
use crate::tx::Express;

impl PgStorage {
    /// The one statement that does everything when the case is plain, for the calls that have such a form.
    pub(crate) fn express(&self, atom: &Atom) -> Option<Express<'_, Reply>> {
        if self.fast_forms == FastForms::Never {
            return None;
        }
        match atom.call() {
            Call::AddBalance(add) => Some(self.express_credit(atom, add)),
            Call::SubtractBalance(subtract) => Some(self.express_debit(atom, subtract)),
            Call::ReserveBalance(reserve) => Some(self.express_reserve(atom, reserve)),
            Call::CommitReserve(commit) => Some(self.express_commit(atom, commit)),
            Call::ReleaseReserve(release) => Some(self.express_release(atom, release)),
            Call::IncrementFreeGenerations(take) => Some(self.express_take(atom, take.user)),
            Call::AddGenerationJob(add) => Some(self.express_job(atom, add)),
            Call::UpdateJobStatus(update) => self.express_step(atom, update),
            Call::AddPayment(add) => Some(self.express_payment(atom, add)),
            Call::MarkPaymentStatus(mark) => self.express_approval(atom, mark),
            _ => None,
        }
    }
}

/// Whether the key `$k` of the user `$u` is unused.
macro_rules! key_is_unused {
    ($user:literal, $key:literal) => {
        concat!(
            "NOT EXISTS (SELECT FROM {s}.operation_keys k WHERE k.user_id = ",
            $user,
            " AND k.space = 'operation' AND k.key = ",
            $key,
            ")"
        )
    };
}
pub(crate) use key_is_unused;
