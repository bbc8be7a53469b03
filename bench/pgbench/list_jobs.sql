-- Written by `storage-bench pg --write-scripts`: the statement of storage-pg, with variables for its parameters.
-- By hand: pgbench -n -M prepared -c 10 -j 2 -D users=100000 -D jobs=1000000 -D payments=250000 -f THIS
\set user random(1, :users)
-- list_of_user
SELECT user_id, job_id, model_id, model_name, params::text AS params, price, status, external_task_id, result_urls, error_message, created_at, updated_at, created_with FROM "public".generation_jobs WHERE user_id = :user AND (cardinality('{}'::text[]) = 0 OR status = ANY('{}')) AND (created_at, job_id) < ('infinity'::timestamptz, '') ORDER BY created_at DESC, job_id DESC LIMIT 21;
