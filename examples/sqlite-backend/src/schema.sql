-- Each table is in the order of a dump: by user, then by the bytes of the record's key. `record` is the record as JSON; the
-- other columns repeat what an index needs of it. Moments are microseconds since 1970.

-- What concerns the store as a whole: what it was founded with, and where its contents were moved to.
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;

-- Without a rowid: a comparison of several columns searches an index as far as none of them is one.
CREATE TABLE accounts (
    user INTEGER PRIMARY KEY, referrer INTEGER, referred_at INTEGER, record TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX referrals ON accounts (referrer, referred_at, user) WHERE referrer IS NOT NULL;

CREATE TABLE history (
    user INTEGER NOT NULL, id TEXT NOT NULL, at INTEGER NOT NULL, record TEXT NOT NULL, PRIMARY KEY (user, id)
) STRICT;
CREATE INDEX newest_history ON history (user, at, id);

CREATE TABLE holds (
    user INTEGER NOT NULL, name TEXT NOT NULL, status TEXT NOT NULL, created_at INTEGER NOT NULL, expires_at INTEGER,
    record TEXT NOT NULL, PRIMARY KEY (user, name)
) STRICT;
CREATE INDEX newest_holds ON holds (status, created_at, name, user);
CREATE INDEX newest_holds_of ON holds (user, status, created_at, name);
CREATE INDEX due_holds ON holds (expires_at, user, name) WHERE status = 'open' AND expires_at IS NOT NULL;

CREATE TABLE jobs (
    user INTEGER NOT NULL, id TEXT NOT NULL UNIQUE, status TEXT NOT NULL, created_at INTEGER NOT NULL,
    external_task_id TEXT UNIQUE, record TEXT NOT NULL, PRIMARY KEY (user, id)
) STRICT;
CREATE INDEX newest_jobs ON jobs (status, created_at, id, user);
CREATE INDEX newest_jobs_of ON jobs (user, status, created_at, id);

-- `id` is space and key, as in the dump's order: `operation/7`.
CREATE TABLE keys (
    user INTEGER NOT NULL, id TEXT NOT NULL, record TEXT NOT NULL, PRIMARY KEY (user, id)
) STRICT, WITHOUT ROWID;

CREATE TABLE ledger (
    user INTEGER NOT NULL, seq INTEGER NOT NULL, record TEXT NOT NULL, PRIMARY KEY (user, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE payments (
    user INTEGER NOT NULL, id TEXT NOT NULL UNIQUE, status TEXT NOT NULL, created_at INTEGER NOT NULL,
    provider_key TEXT UNIQUE, record TEXT NOT NULL, PRIMARY KEY (user, id)
) STRICT;
CREATE INDEX newest_payments ON payments (status, created_at, id, user);
CREATE INDEX newest_payments_of ON payments (user, status, created_at, id);
