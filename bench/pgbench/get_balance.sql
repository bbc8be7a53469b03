-- Written by `storage-bench pg --write-scripts`: the statement of storage-pg, with variables for its parameters.
-- By hand: pgbench -n -M prepared -c 10 -j 2 -D users=100000 -D jobs=1000000 -D payments=250000 -f THIS
\set user random(1, :users)
-- get
SELECT balance FROM "public".users WHERE id = :user;
