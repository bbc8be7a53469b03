//! Which tables there are, and how their rows are read.

use storage_core::ImportRecord;

use super::entry::{Entry, Read};
use super::gather::Gather;
use super::records::{
    read_admin_limit, read_balance, read_gift, read_job, read_language, read_operation, read_payment, read_quota,
    read_referral, read_spent,
};

/// Turns a row into a record, nothing, or a refusal.
pub(super) type ReadRecord = fn(&mut Gather<'_>, &mut Entry<'_>) -> Read<Option<ImportRecord>>;

/// A table, and how its rows are read.
pub(super) struct Table {
    pub(super) name: &'static str,
    /// The columns of its key.
    pub(super) key: &'static [&'static str],
    /// Without these, too, it is not the earlier system's.
    pub(super) needed: &'static [&'static str],
    /// These may be missing.
    pub(super) others: &'static [&'static str],
    /// These have no counterpart here, and nobody misses them.
    pub(super) unused: &'static [&'static str],
    /// What a row may hold, each judged for itself.
    pub(super) reads: &'static [ReadRecord],
}

impl Table {
    pub(super) fn columns(&self) -> impl Iterator<Item = &'static str> {
        self.key.iter().chain(self.needed).chain(self.others).copied()
    }
}

/// The tables in the order in which they are read.
pub(super) const TABLES: &[Table] = &[
    Table {
        name: "legacy_users",
        key: &["id"],
        needed: &["balance"],
        others: &["created_at"],
        unused: &["updated_at"],
        reads: &[read_balance],
    },
    Table {
        name: "legacy_user_settings",
        key: &["user_id"],
        needed: &[],
        others: &["language", "gift_claimed"],
        unused: &["created_at", "updated_at"],
        reads: &[read_language, read_gift],
    },
    Table {
        name: "legacy_daily_free_generations",
        key: &["user_id", "date"],
        needed: &[],
        others: &["count", "bonus"],
        unused: &["created_at", "updated_at"],
        reads: &[read_quota],
    },
    Table {
        name: "legacy_admin_limits",
        key: &["user_id"],
        needed: &["limit_amount"],
        others: &["spent"],
        unused: &["created_at", "updated_at"],
        reads: &[read_spent, read_admin_limit],
    },
    Table {
        name: "legacy_operations",
        key: &["id"],
        needed: &["user_id", "type", "amount"],
        others: &["model", "result_url", "prompt", "created_at"],
        unused: &["updated_at"],
        reads: &[read_operation],
    },
    Table {
        name: "legacy_referrals",
        key: &["user_id"],
        needed: &["referrer_id"],
        others: &["created_at"],
        unused: &["updated_at"],
        reads: &[read_referral],
    },
    Table {
        name: "legacy_payments",
        key: &["payment_id"],
        needed: &["user_id", "amount", "status"],
        others: &[
            "payment_method",
            "screenshot_file_id",
            "admin_id",
            "notes",
            "balance_charged",
            "created_at",
            "updated_at",
        ],
        unused: &[],
        reads: &[read_payment],
    },
    Table {
        name: "legacy_generation_jobs",
        key: &["job_id"],
        needed: &["user_id", "status"],
        others: &[
            "model_id",
            "model_name",
            "params",
            "price",
            "external_task_id",
            "result_urls",
            "error_message",
            "created_at",
            "updated_at",
        ],
        unused: &[],
        reads: &[read_job],
    },
];
