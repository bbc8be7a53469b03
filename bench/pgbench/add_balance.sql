-- Written by `storage-bench pg --write-scripts`: the statement of storage-pg, with variables for its parameters.
-- By hand: pgbench -n -M prepared -c 10 -j 2 -D users=100000 -D jobs=1000000 -D payments=250000 -f THIS
\set user random(1, :users)
\set amount 0.01
\set key random(1, 9223372036854775807)
\set operation random(1, 9223372036854775807)
-- add
WITH posted AS (
                 INSERT INTO "public".users AS u
                     (id, created_at, updated_at, balance, held, ledger_rows, spent, last_operation)
                 SELECT :user, now(), now(), :amount::numeric, 0, 1, 0, lpad(:operation, 32, '0')::uuid WHERE NOT EXISTS (SELECT FROM "public".operation_keys k WHERE k.user_id = :user AND k.space = 'operation' AND k.key = :key)
                 ON CONFLICT (id) DO UPDATE SET balance = u.balance + excluded.balance,
                     ledger_rows = u.ledger_rows + 1, updated_at = excluded.updated_at,
                     last_operation = excluded.last_operation
                 RETURNING u.id, u.ledger_rows, u.balance, u.held
             ), row AS (
                 INSERT INTO "public".operations (user_id, seq, operation_id, kind, balance_change, held_change,
                     balance_after, held_after, key, reference, reason, actor, created_at)
                 SELECT p.id, p.ledger_rows, lpad(:operation, 32, '0')::uuid, 'credit', :amount::numeric, 0, p.balance, p.held, :key, NULL, NULL, NULL, now() FROM posted p
             ), key AS (
                 INSERT INTO "public".operation_keys (user_id, space, key, arguments, operation_id, answer,
                     answer_operation, answer_balance)
                 SELECT p.id, 'operation', :key, '9f8b6f2a-51d2-4c0e-8d53-7a3c1e0b4d96'::uuid, lpad(:operation, 32, '0')::uuid, 'money', lpad(:operation, 32, '0')::uuid, p.balance FROM posted p
             )
             SELECT p.balance FROM posted p;
