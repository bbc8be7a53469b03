-- Written by `storage-bench pg --write-scripts`: the statement of storage-pg, with variables for its parameters.
-- By hand: pgbench -n -M prepared -c 10 -j 2 -D users=100000 -D jobs=1000000 -D payments=250000 -f THIS
\set user random(1, :users)
\set job random(1, 9223372036854775807)
\set key random(1, 9223372036854775807)
\set operation random(1, 9223372036854775807)
-- add
WITH fresh AS (
                 SELECT WHERE NOT EXISTS (SELECT FROM "public".operation_keys k WHERE k.user_id = :user::bigint AND k.space = 'operation' AND k.key = :key::text)
                     AND NOT EXISTS (SELECT FROM "public".id_routes r WHERE r.kind = 'job' AND r.id = :job::text)
                     AND NOT EXISTS (SELECT FROM "public".id_routes r WHERE r.kind = 'task' AND r.id = NULL::text)
             ), owner AS (
                 INSERT INTO "public".users (id, created_at, updated_at, last_operation)
                 SELECT :user::bigint, now(), now(), lpad(:operation, 32, '0')::uuid FROM fresh ON CONFLICT (id) DO NOTHING
             ), route AS (
                 INSERT INTO "public".id_routes (kind, id, user_id)
                 SELECT 'job', :job::text, :user::bigint FROM fresh UNION ALL SELECT 'task', NULL::text, :user::bigint FROM fresh WHERE NULL::text::text IS NOT NULL
             ), job AS (
                 INSERT INTO "public".generation_jobs (user_id, job_id, model_id, model_name, params, price, status,
                     external_task_id, created_at, updated_at, created_with, last_operation)
                 SELECT :user::bigint, :job::text, 'model-7', 'Model Seven', '{"prompt": "a cat on a roof at night", "steps": 30}'::text::json, 0.5, 'pending', NULL::text, now(), now(), '9f8b6f2a-51d2-4c0e-8d53-7a3c1e0b4d96'::uuid, lpad(:operation, 32, '0')::uuid FROM fresh
             ), key AS (
                 INSERT INTO "public".operation_keys (user_id, space, key, arguments, operation_id, answer)
                 SELECT :user::bigint, 'operation', :key::text, '9f8b6f2a-51d2-4c0e-8d53-7a3c1e0b4d96'::uuid, lpad(:operation, 32, '0')::uuid, 'record' FROM fresh
             )
             SELECT TRUE AS added FROM fresh;
