//! What the migrations create, as a list that needs no server to read.
//!
//! An opening store compares it with the catalog: a history alone would call a schema current that lost a table since.
//! A test proves that the list and the SQL agree.

/// What a version adds to a table, or the table itself.
#[derive(Clone, Copy, Debug)]
pub struct Addition {
    /// The version that adds it.
    pub version: i32,
    /// The table.
    pub table: &'static str,
    /// Its new columns.
    pub columns: &'static [&'static str],
    /// Its new unique indexes, those of constraints included: every "exactly once" of the store rests on one.
    pub unique: &'static [&'static str],
}

/// The list. A migration that adds something appends here, in the same change.
pub(crate) const ADDITIONS: &[Addition] = &[
    Addition { version: 1, table: "storage_meta", columns: &["name", "value"], unique: &["storage_meta_pk"] },
    Addition {
        version: 1,
        table: "users",
        columns: &["id", "balance", "held", "ledger_rows", "spent", "created_at", "updated_at", "last_operation"],
        unique: &["users_pk"],
    },
    Addition {
        version: 1,
        table: "user_settings",
        columns: &["user_id", "language", "gift_claimed", "created_at", "updated_at", "last_operation"],
        unique: &["user_settings_pk"],
    },
    Addition {
        version: 1,
        table: "daily_free_generations",
        columns: &["user_id", "date", "used", "bank", "created_at", "updated_at", "last_operation"],
        unique: &["daily_free_generations_pk"],
    },
    Addition {
        version: 1,
        table: "admin_limits",
        columns: &["user_id", "limit_amount", "created_at", "updated_at", "last_operation"],
        unique: &["admin_limits_pk"],
    },
    Addition {
        version: 1,
        table: "operations",
        columns: &[
            "user_id",
            "seq",
            "operation_id",
            "kind",
            "balance_change",
            "held_change",
            "balance_after",
            "held_after",
            "key",
            "reference",
            "reason",
            "actor",
            "created_at",
        ],
        unique: &["operations_pk"],
    },
    Addition {
        version: 1,
        table: "operation_keys",
        columns: &[
            "user_id",
            "space",
            "key",
            "arguments",
            "operation_id",
            "answer",
            "answer_operation",
            "answer_balance",
            "answer_day",
            "answer_remaining",
            "answer_first",
        ],
        unique: &["operation_keys_pk"],
    },
    Addition {
        version: 1,
        table: "balance_reserves",
        columns: &[
            "user_id",
            "name",
            "amount",
            "status",
            "committed",
            "expires_at",
            "created_at",
            "updated_at",
            "opened_operation",
            "opened_balance",
            "ended_operation",
            "ended_balance",
            "last_operation",
        ],
        unique: &["balance_reserves_pk"],
    },
    Addition {
        version: 1,
        table: "generation_jobs",
        columns: &[
            "user_id",
            "job_id",
            "model_id",
            "model_name",
            "params",
            "price",
            "status",
            "external_task_id",
            "result_urls",
            "error_message",
            "created_at",
            "updated_at",
            "created_with",
            "last_operation",
        ],
        unique: &["generation_jobs_pk", "generation_jobs_task_unique"],
    },
    Addition {
        version: 1,
        table: "generation_history",
        columns: &[
            "user_id",
            "generation_id",
            "model_id",
            "model_name",
            "params",
            "result_urls",
            "price",
            "created_at",
        ],
        unique: &["generation_history_pk"],
    },
    Addition {
        version: 1,
        table: "payments",
        columns: &[
            "user_id",
            "payment_id",
            "amount",
            "payment_method",
            "screenshot_file_id",
            "provider_key",
            "status",
            "admin_id",
            "notes",
            "origin",
            "created_at",
            "updated_at",
            "last_operation",
        ],
        unique: &["payments_pk", "payments_provider_unique"],
    },
    Addition {
        version: 1,
        table: "referrals",
        columns: &["user_id", "referrer_id", "bonus", "created_at"],
        unique: &["referrals_pk"],
    },
    Addition { version: 1, table: "id_routes", columns: &["kind", "id", "user_id"], unique: &["id_routes_pk"] },
    Addition { version: 2, table: "users", columns: &["referral_bonus"], unique: &[] },
    Addition { version: 2, table: "payments", columns: &["by_hand"], unique: &[] },
    Addition {
        version: 4,
        table: "referral_heights",
        columns: &["user_id", "height"],
        unique: &["referral_heights_pk"],
    },
    Addition { version: 4, table: "referrals", columns: &["measured"], unique: &[] },
];

/// How a table of the earlier system is told from ours and from a stranger's.
#[derive(Debug)]
pub(crate) struct OriginalTable {
    pub(crate) name: &'static str,
    /// It has all of these. Forks of the earlier system added columns, so others may be there too.
    has: &'static [&'static str],
    /// It has none of these: ours has them all.
    lacks: &'static [&'static str],
}

impl OriginalTable {
    pub(crate) fn matches(&self, columns: &[String]) -> bool {
        let has = |name: &&str| columns.iter().any(|column| column == name);
        self.has.iter().all(has) && !self.lacks.iter().any(has)
    }
}

/// The earlier system's tables, in the order in which its own statements lock them: users first.
pub(crate) const ORIGINAL: &[OriginalTable] = &[
    OriginalTable { name: "users", has: &["id", "balance"], lacks: &["held", "ledger_rows"] },
    OriginalTable { name: "user_settings", has: &["user_id", "language", "gift_claimed"], lacks: &["last_operation"] },
    OriginalTable { name: "daily_free_generations", has: &["user_id", "date", "count", "bonus"], lacks: &["bank"] },
    OriginalTable { name: "admin_limits", has: &["user_id", "limit_amount"], lacks: &["last_operation"] },
    OriginalTable {
        name: "generation_jobs",
        has: &["job_id", "user_id", "model_id", "params", "price", "status"],
        lacks: &["created_with", "last_operation"],
    },
    OriginalTable {
        name: "operations",
        has: &["id", "user_id", "type", "amount", "created_at"],
        lacks: &["seq", "balance_after"],
    },
    OriginalTable {
        name: "payments",
        has: &["payment_id", "user_id", "amount", "payment_method", "status"],
        lacks: &["provider_key", "last_operation"],
    },
    OriginalTable { name: "referrals", has: &["user_id", "referrer_id"], lacks: &["bonus"] },
];

/// Both variants of the earlier system have these. Tables of that shape without them are somebody else's.
pub(crate) const ORIGINAL_CORE: [&str; 2] = ["users", "operations"];
