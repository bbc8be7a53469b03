-- Written by `storage-bench pg --write-scripts`: the statement of storage-pg, with variables for its parameters.
-- By hand: pgbench -n -M prepared -c 10 -j 2 -D users=100000 -D jobs=1000000 -D payments=250000 -f THIS
\set number random(:payments / 2 + 1, :payments)
\set key random(1, 9223372036854775807)
\set operation random(1, 9223372036854775807)
-- approve
WITH owner AS (
                 SELECT id FROM "public".users
                 WHERE id = (SELECT user_id FROM "public".id_routes WHERE kind = 'payment' AND id = ('payment-' || :number::text))
                 FOR NO KEY UPDATE SKIP LOCKED
             ), step AS (
                 SELECT t.user_id, t.payment_id FROM "public".payments t, owner o
                 WHERE t.user_id = o.id AND t.payment_id = ('payment-' || :number::text) AND t.status || '' = ANY('{pending}'::text[])
                 FOR NO KEY UPDATE OF t SKIP LOCKED
             ), decided AS (
                 UPDATE "public".payments AS p SET status = 'approved', origin = 'here', by_hand = FALSE,
                     admin_id = coalesce(NULL::bigint, p.admin_id), notes = coalesce(NULL::text, p.notes), updated_at = now(),
                     last_operation = lpad(:operation, 32, '0')::uuid
                 FROM step
                 WHERE p.user_id = step.user_id AND p.payment_id = step.payment_id AND NOT EXISTS (
                     SELECT FROM "public".operation_keys k WHERE k.user_id = step.user_id AND k.space = 'operation'
                         AND k.key = :key::text)
                 RETURNING p.*
             ), posted AS (
                 UPDATE "public".users AS u SET balance = u.balance + d.amount, ledger_rows = u.ledger_rows + 1,
                     updated_at = now(), last_operation = lpad(:operation, 32, '0')::uuid
                 FROM decided d WHERE u.id = d.user_id
                 RETURNING u.id, u.ledger_rows, u.balance, u.held, d.amount
             ), row AS (
                 INSERT INTO "public".operations (user_id, seq, operation_id, kind, balance_change, held_change,
                     balance_after, held_after, key, reference, created_at)
                 SELECT p.id, p.ledger_rows, lpad(:operation, 32, '0')::uuid, 'payment', p.amount, 0, p.balance, p.held, :key::text, ('payment-' || :number::text), now() FROM posted p
             ), key AS (
                 INSERT INTO "public".operation_keys (user_id, space, key, arguments, operation_id, answer)
                 SELECT p.id, 'operation', :key::text, '9f8b6f2a-51d2-4c0e-8d53-7a3c1e0b4d96'::uuid, lpad(:operation, 32, '0')::uuid, 'record' FROM posted p
             )
             SELECT user_id, payment_id, amount, payment_method, screenshot_file_id, provider_key, status, admin_id, notes, origin, by_hand, created_at, updated_at FROM decided;
