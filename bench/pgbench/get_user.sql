-- Written by `storage-bench pg --write-scripts`: the statement of storage-pg, with variables for its parameters.
-- By hand: pgbench -n -M prepared -c 10 -j 2 -D users=100000 -D jobs=1000000 -D payments=250000 -f THIS
\set user random(1, :users)
-- load
SELECT u.id, u.ledger_rows, u.created_at, u.updated_at, u.balance, u.held, u.spent, s.language, coalesce(s.gift_claimed, false) AS gift_claimed, d.date, coalesce(d.used, 0) AS used, coalesce(d.bank, 0) AS bank, l.limit_amount, r.referrer_id, r.created_at AS referred_at, greatest(coalesce(r.bonus, 0), u.referral_bonus) AS bonus FROM "public".users u LEFT JOIN "public".user_settings s ON s.user_id = u.id LEFT JOIN "public".daily_free_generations d ON d.user_id = u.id LEFT JOIN "public".admin_limits l ON l.user_id = u.id LEFT JOIN "public".referrals r ON r.user_id = u.id WHERE u.id = :user;
