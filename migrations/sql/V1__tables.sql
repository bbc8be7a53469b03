-- The tables of the store. Every statement names a table without its schema: the runner sets the search path of
-- its transaction, so that several stores live side by side in one database.
--
-- Rules (docs/postgres.md says why): user_id first in every primary key and unique constraint of a per-user table;
-- foreign keys only to users, never cascading; ids that arrive without a user are unique by id_routes; text in byte
-- order; money NUMERIC(18,6); constraints and indexes with names.

-- The store's own facts: time zone and history retention that it was founded with, its id.
CREATE TABLE storage_meta (
    name  TEXT COLLATE "C" NOT NULL,
    value TEXT COLLATE "C" NOT NULL,
    CONSTRAINT storage_meta_pk PRIMARY KEY (name)
);

-- A row here is also the lock that orders all changes of its user.
CREATE TABLE users (
    id             BIGINT NOT NULL,
    balance        NUMERIC(18, 6) NOT NULL DEFAULT 0,
    held           NUMERIC(18, 6) NOT NULL DEFAULT 0,
    ledger_rows    BIGINT NOT NULL DEFAULT 0,
    spent          NUMERIC(38, 6) NOT NULL DEFAULT 0,
    created_at     TIMESTAMPTZ NOT NULL DEFAULT now(),
    updated_at     TIMESTAMPTZ NOT NULL DEFAULT now(),
    -- The operation that last changed the row. A statement that leaves it alone did not come from the store.
    last_operation UUID,
    CONSTRAINT users_pk PRIMARY KEY (id),
    CONSTRAINT users_id_check CHECK (id <> 0),
    CONSTRAINT users_balance_check CHECK (balance >= 0),
    CONSTRAINT users_held_check CHECK (held >= 0),
    CONSTRAINT users_money_check CHECK (balance + held <= 999999999999.999999),
    CONSTRAINT users_spent_check CHECK (spent >= 0),
    CONSTRAINT users_ledger_rows_check CHECK (ledger_rows >= 0)
) WITH (fillfactor = 80);

CREATE TABLE user_settings (
    user_id        BIGINT NOT NULL,
    language       TEXT COLLATE "C",
    gift_claimed   BOOLEAN NOT NULL DEFAULT FALSE,
    created_at     TIMESTAMPTZ NOT NULL DEFAULT now(),
    updated_at     TIMESTAMPTZ NOT NULL DEFAULT now(),
    last_operation UUID,
    CONSTRAINT user_settings_pk PRIMARY KEY (user_id),
    CONSTRAINT user_settings_user_fk FOREIGN KEY (user_id) REFERENCES users (id),
    CONSTRAINT user_settings_language_check CHECK (language ~ '^[A-Za-z0-9-]{2,35}$')
);

-- One row for each user: the day that `used` counts, and the bank that never resets.
CREATE TABLE daily_free_generations (
    user_id        BIGINT NOT NULL,
    date           DATE,
    used           BIGINT NOT NULL DEFAULT 0,
    bank           BIGINT NOT NULL DEFAULT 0,
    created_at     TIMESTAMPTZ NOT NULL DEFAULT now(),
    updated_at     TIMESTAMPTZ NOT NULL DEFAULT now(),
    last_operation UUID,
    CONSTRAINT daily_free_generations_pk PRIMARY KEY (user_id),
    CONSTRAINT daily_free_generations_user_fk FOREIGN KEY (user_id) REFERENCES users (id),
    CONSTRAINT daily_free_generations_used_check CHECK (used BETWEEN 0 AND 4294967295),
    CONSTRAINT daily_free_generations_bank_check CHECK (bank BETWEEN 0 AND 1000000000000)
) WITH (fillfactor = 80);

CREATE TABLE admin_limits (
    user_id        BIGINT NOT NULL,
    limit_amount   NUMERIC(18, 6) NOT NULL,
    created_at     TIMESTAMPTZ NOT NULL DEFAULT now(),
    updated_at     TIMESTAMPTZ NOT NULL DEFAULT now(),
    last_operation UUID,
    CONSTRAINT admin_limits_pk PRIMARY KEY (user_id),
    CONSTRAINT admin_limits_user_fk FOREIGN KEY (user_id) REFERENCES users (id),
    CONSTRAINT admin_limits_amount_check CHECK (limit_amount >= 0)
);

-- The ledger: append-only, dense per user.
CREATE TABLE operations (
    user_id        BIGINT NOT NULL,
    seq            BIGINT NOT NULL,
    operation_id   UUID NOT NULL,
    kind           TEXT COLLATE "C" NOT NULL,
    balance_change NUMERIC(18, 6) NOT NULL,
    held_change    NUMERIC(18, 6) NOT NULL,
    balance_after  NUMERIC(18, 6) NOT NULL,
    held_after     NUMERIC(18, 6) NOT NULL,
    key            TEXT COLLATE "C" NOT NULL,
    reference      TEXT COLLATE "C",
    reason         TEXT COLLATE "C",
    actor          TEXT COLLATE "C",
    created_at     TIMESTAMPTZ NOT NULL,
    CONSTRAINT operations_pk PRIMARY KEY (user_id, seq),
    CONSTRAINT operations_user_fk FOREIGN KEY (user_id) REFERENCES users (id),
    CONSTRAINT operations_seq_check CHECK (seq >= 1),
    CONSTRAINT operations_kind_check CHECK (kind IN ('credit', 'debit', 'adjustment', 'payment', 'refund', 'hold',
        'commit', 'release', 'opening', 'external_edit')),
    CONSTRAINT operations_after_check CHECK (balance_after >= 0 AND held_after >= 0)
);

-- Keys that were used up, with the first answer. `operation` keys, ids of `generation`s, and `return`ed takes.
CREATE TABLE operation_keys (
    user_id          BIGINT NOT NULL,
    space            TEXT COLLATE "C" NOT NULL,
    key              TEXT COLLATE "C" NOT NULL,
    arguments        UUID NOT NULL,
    operation_id     UUID NOT NULL,
    answer           TEXT COLLATE "C" NOT NULL,
    answer_operation UUID,
    answer_balance   NUMERIC(18, 6),
    -- The day that a free generation came from or went to; none is the bank.
    answer_day       DATE,
    answer_remaining BIGINT,
    answer_first     BOOLEAN,
    CONSTRAINT operation_keys_pk PRIMARY KEY (user_id, space, key),
    CONSTRAINT operation_keys_user_fk FOREIGN KEY (user_id) REFERENCES users (id),
    CONSTRAINT operation_keys_space_check CHECK (space IN ('generation', 'operation', 'return')),
    CONSTRAINT operation_keys_answer_check CHECK (CASE answer
        WHEN 'money' THEN answer_operation IS NOT NULL AND answer_balance IS NOT NULL
        WHEN 'quota' THEN answer_operation IS NOT NULL AND answer_remaining IS NOT NULL
        WHEN 'gift' THEN answer_first IS NOT NULL
        WHEN 'record' THEN TRUE
        ELSE FALSE END)
);

-- Holds.
CREATE TABLE balance_reserves (
    user_id          BIGINT NOT NULL,
    name             TEXT COLLATE "C" NOT NULL,
    amount           NUMERIC(18, 6) NOT NULL,
    status           TEXT COLLATE "C" NOT NULL,
    committed        NUMERIC(18, 6) NOT NULL DEFAULT 0,
    expires_at       TIMESTAMPTZ,
    created_at       TIMESTAMPTZ NOT NULL,
    updated_at       TIMESTAMPTZ NOT NULL DEFAULT now(),
    opened_operation UUID NOT NULL,
    opened_balance   NUMERIC(18, 6) NOT NULL,
    ended_operation  UUID,
    ended_balance    NUMERIC(18, 6),
    last_operation   UUID,
    CONSTRAINT balance_reserves_pk PRIMARY KEY (user_id, name),
    CONSTRAINT balance_reserves_user_fk FOREIGN KEY (user_id) REFERENCES users (id),
    CONSTRAINT balance_reserves_amount_check CHECK (amount > 0),
    CONSTRAINT balance_reserves_status_check CHECK (status IN ('open', 'committed', 'released')),
    CONSTRAINT balance_reserves_committed_check CHECK (committed BETWEEN 0 AND amount),
    CONSTRAINT balance_reserves_ended_check CHECK ((ended_operation IS NULL) = (ended_balance IS NULL))
);
CREATE INDEX balance_reserves_by_user ON balance_reserves (user_id ASC, created_at DESC, name DESC);
CREATE INDEX balance_reserves_by_time ON balance_reserves (created_at DESC, name DESC, user_id DESC);
CREATE INDEX balance_reserves_by_status ON balance_reserves (status ASC, created_at DESC, name DESC, user_id DESC);
CREATE INDEX balance_reserves_by_expiry ON balance_reserves (expires_at ASC, user_id ASC, name ASC)
    WHERE status = 'open' AND expires_at IS NOT NULL;

CREATE TABLE generation_jobs (
    user_id          BIGINT NOT NULL,
    job_id           TEXT COLLATE "C" NOT NULL,
    model_id         TEXT COLLATE "C" NOT NULL,
    model_name       TEXT COLLATE "C" NOT NULL,
    -- json, not jsonb: what was written is what is read back.
    params           JSON NOT NULL,
    price            NUMERIC(18, 6) NOT NULL,
    status           TEXT COLLATE "C" NOT NULL,
    external_task_id TEXT COLLATE "C",
    result_urls      TEXT[] NOT NULL DEFAULT '{}',
    error_message    TEXT COLLATE "C",
    created_at       TIMESTAMPTZ NOT NULL,
    updated_at       TIMESTAMPTZ NOT NULL DEFAULT now(),
    -- A digest of the creation's arguments: tells a repeated creation from another one.
    created_with     UUID NOT NULL,
    last_operation   UUID,
    CONSTRAINT generation_jobs_pk PRIMARY KEY (user_id, job_id),
    CONSTRAINT generation_jobs_task_unique UNIQUE (user_id, external_task_id),
    CONSTRAINT generation_jobs_user_fk FOREIGN KEY (user_id) REFERENCES users (id),
    CONSTRAINT generation_jobs_price_check CHECK (price >= 0),
    CONSTRAINT generation_jobs_status_check CHECK (status IN ('pending', 'running', 'completed', 'failed', 'cancelled'))
);
CREATE INDEX generation_jobs_by_user ON generation_jobs (user_id ASC, created_at DESC, job_id DESC);
CREATE INDEX generation_jobs_by_time ON generation_jobs (created_at DESC, job_id DESC);
CREATE INDEX generation_jobs_by_status ON generation_jobs (status ASC, created_at DESC, job_id DESC);

CREATE TABLE generation_history (
    user_id       BIGINT NOT NULL,
    generation_id TEXT COLLATE "C" NOT NULL,
    model_id      TEXT COLLATE "C" NOT NULL,
    model_name    TEXT COLLATE "C" NOT NULL,
    params        JSON NOT NULL,
    result_urls   TEXT[] NOT NULL DEFAULT '{}',
    price         NUMERIC(18, 6) NOT NULL,
    created_at    TIMESTAMPTZ NOT NULL,
    CONSTRAINT generation_history_pk PRIMARY KEY (user_id, generation_id),
    CONSTRAINT generation_history_user_fk FOREIGN KEY (user_id) REFERENCES users (id),
    CONSTRAINT generation_history_price_check CHECK (price >= 0)
);
CREATE INDEX generation_history_by_user ON generation_history (user_id ASC, created_at DESC, generation_id DESC);

CREATE TABLE payments (
    user_id            BIGINT NOT NULL,
    payment_id         TEXT COLLATE "C" NOT NULL,
    amount             NUMERIC(18, 6) NOT NULL,
    payment_method     TEXT COLLATE "C" NOT NULL,
    screenshot_file_id TEXT COLLATE "C",
    provider_key       TEXT COLLATE "C",
    status             TEXT COLLATE "C" NOT NULL,
    admin_id           BIGINT,
    notes              TEXT COLLATE "C",
    -- `here`: an approval credits in this store; `imported`: it was decided elsewhere and never credits here.
    origin             TEXT COLLATE "C" NOT NULL DEFAULT 'here',
    created_at         TIMESTAMPTZ NOT NULL,
    updated_at         TIMESTAMPTZ NOT NULL DEFAULT now(),
    last_operation     UUID,
    CONSTRAINT payments_pk PRIMARY KEY (user_id, payment_id),
    CONSTRAINT payments_provider_unique UNIQUE (user_id, provider_key),
    CONSTRAINT payments_user_fk FOREIGN KEY (user_id) REFERENCES users (id),
    CONSTRAINT payments_amount_check CHECK (amount > 0),
    CONSTRAINT payments_status_check CHECK (status IN ('pending', 'approved', 'rejected', 'cancelled', 'refunded')),
    CONSTRAINT payments_origin_check CHECK (origin IN ('here', 'imported')),
    CONSTRAINT payments_admin_check CHECK (admin_id <> 0)
);
CREATE INDEX payments_by_user ON payments (user_id ASC, created_at DESC, payment_id DESC);
CREATE INDEX payments_by_time ON payments (created_at DESC, payment_id DESC);
CREATE INDEX payments_by_status ON payments (status ASC, created_at DESC, payment_id DESC);

-- No foreign key on the referrer: it may live on another shard.
CREATE TABLE referrals (
    user_id     BIGINT NOT NULL,
    referrer_id BIGINT NOT NULL,
    bonus       BIGINT NOT NULL DEFAULT 0,
    created_at  TIMESTAMPTZ NOT NULL,
    CONSTRAINT referrals_pk PRIMARY KEY (user_id),
    CONSTRAINT referrals_user_fk FOREIGN KEY (user_id) REFERENCES users (id),
    CONSTRAINT referrals_referrer_check CHECK (referrer_id <> 0 AND referrer_id <> user_id),
    CONSTRAINT referrals_bonus_check CHECK (bonus BETWEEN 0 AND 1000000)
);
CREATE INDEX referrals_by_referrer ON referrals (referrer_id ASC, created_at ASC, user_id ASC);

-- Ids that arrive without their user: `job`, `task` (a job's external id), `payment`, `provider` (a payment's key).
CREATE TABLE id_routes (
    kind    TEXT COLLATE "C" NOT NULL,
    id      TEXT COLLATE "C" NOT NULL,
    user_id BIGINT NOT NULL,
    CONSTRAINT id_routes_pk PRIMARY KEY (kind, id),
    CONSTRAINT id_routes_kind_check CHECK (kind IN ('job', 'task', 'payment', 'provider'))
);

-- updated_at comes from the store's clock. This fills it for whoever changes a row by hand: the store's statements
-- always write last_operation, other people's do not.
CREATE FUNCTION storage_fill_updated_at() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.updated_at := now();
    RETURN NEW;
END
$$;
CREATE TRIGGER users_fill_updated_at BEFORE UPDATE ON users FOR EACH ROW
    WHEN (NEW.last_operation IS NOT DISTINCT FROM OLD.last_operation AND NEW.* IS DISTINCT FROM OLD.*)
    EXECUTE FUNCTION storage_fill_updated_at();
CREATE TRIGGER user_settings_fill_updated_at BEFORE UPDATE ON user_settings FOR EACH ROW
    WHEN (NEW.last_operation IS NOT DISTINCT FROM OLD.last_operation AND NEW.* IS DISTINCT FROM OLD.*)
    EXECUTE FUNCTION storage_fill_updated_at();
CREATE TRIGGER daily_free_generations_fill_updated_at BEFORE UPDATE ON daily_free_generations FOR EACH ROW
    WHEN (NEW.last_operation IS NOT DISTINCT FROM OLD.last_operation AND NEW.* IS DISTINCT FROM OLD.*)
    EXECUTE FUNCTION storage_fill_updated_at();
CREATE TRIGGER admin_limits_fill_updated_at BEFORE UPDATE ON admin_limits FOR EACH ROW
    WHEN (NEW.last_operation IS NOT DISTINCT FROM OLD.last_operation AND NEW.* IS DISTINCT FROM OLD.*)
    EXECUTE FUNCTION storage_fill_updated_at();
CREATE TRIGGER balance_reserves_fill_updated_at BEFORE UPDATE ON balance_reserves FOR EACH ROW
    WHEN (NEW.last_operation IS NOT DISTINCT FROM OLD.last_operation AND NEW.* IS DISTINCT FROM OLD.*)
    EXECUTE FUNCTION storage_fill_updated_at();
-- json has no equality: this operator compares what is stored.
CREATE TRIGGER generation_jobs_fill_updated_at BEFORE UPDATE ON generation_jobs FOR EACH ROW
    WHEN (NEW.last_operation IS NOT DISTINCT FROM OLD.last_operation AND NEW.* *<> OLD.*)
    EXECUTE FUNCTION storage_fill_updated_at();
CREATE TRIGGER payments_fill_updated_at BEFORE UPDATE ON payments FOR EACH ROW
    WHEN (NEW.last_operation IS NOT DISTINCT FROM OLD.last_operation AND NEW.* IS DISTINCT FROM OLD.*)
    EXECUTE FUNCTION storage_fill_updated_at();
