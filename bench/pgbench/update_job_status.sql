-- Written by `storage-bench pg --write-scripts`: the statement of storage-pg, with variables for its parameters.
-- By hand: pgbench -n -M prepared -c 10 -j 2 -D users=100000 -D jobs=1000000 -D payments=250000 -f THIS
\set number random(:jobs / 2 + 1, :jobs)
\set key random(1, 9223372036854775807)
\set operation random(1, 9223372036854775807)
-- update
WITH step AS (
                 SELECT t.user_id, t.job_id FROM "public".generation_jobs t
                 WHERE t.user_id = (
                         SELECT u.id FROM "public".users u
                         WHERE u.id = (SELECT user_id FROM "public".id_routes WHERE kind = 'job' AND id = ('job-' || :number::text))
                         FOR KEY SHARE SKIP LOCKED)
                     AND t.job_id = ('job-' || :number::text) AND t.status || '' = ANY('{pending}'::text[])
                 FOR NO KEY UPDATE SKIP LOCKED
             ), changed AS (
                 UPDATE "public".generation_jobs AS j SET status = 'running', result_urls = coalesce(NULL::text[], j.result_urls),
                     error_message = CASE WHEN 'running' = 'completed' THEN NULL ELSE coalesce(NULL::text, j.error_message) END,
                     updated_at = now(), last_operation = lpad(:operation, 32, '0')::uuid
                 FROM step
                 WHERE j.user_id = step.user_id AND j.job_id = step.job_id AND NOT EXISTS (
                         SELECT FROM "public".operation_keys k WHERE k.user_id = j.user_id AND k.space = 'operation'
                             AND k.key = :key::text)
                 RETURNING j.*
             ), key AS (
                 INSERT INTO "public".operation_keys (user_id, space, key, arguments, operation_id, answer)
                 SELECT c.user_id, 'operation', :key::text, '9f8b6f2a-51d2-4c0e-8d53-7a3c1e0b4d96'::uuid, lpad(:operation, 32, '0')::uuid, 'record' FROM changed c
             )
             SELECT user_id, job_id, model_id, model_name, params::text AS params, price, status, external_task_id, result_urls, error_message, created_at, updated_at, created_with FROM changed;
