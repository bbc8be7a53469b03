-- How high the tree below a user is: whom the user brought, and whom those brought, the longest chain of them. Setting a
-- referrer asks for it and must not count: below a user who brought a million stand a million rows.
--
-- A table of its own and no column of users: a new referral may raise everybody above it, and none of their rows is to be
-- locked for that or marked as changed. The lock of all chains orders those who write here. No foreign key: what stands
-- here follows from the referrals and is owned by nobody.
CREATE TABLE referral_heights (
    user_id BIGINT NOT NULL,
    -- No row is 0. 1001 stands for whatever is higher than a chain may be; negative only while all are measured.
    height  BIGINT NOT NULL,
    CONSTRAINT referral_heights_pk PRIMARY KEY (user_id),
    CONSTRAINT referral_heights_height_check CHECK (height <= 1001)
) WITH (fillfactor = 80);

-- Measures all trees anew, from the leaves up: each referral is looked at once. Nobody may set a referrer meanwhile. Functions of any type
-- have their schema: one of the schema's own for this type would fit better.
CREATE FUNCTION storage_measure_referrals() RETURNS void LANGUAGE plpgsql
    SET search_path FROM CURRENT
    -- How many were measured in the last round decides how the next one is done.
    SET plan_cache_mode = force_custom_plan
AS $$
DECLARE
    lately BIGINT[];
    high   BIGINT := 1;
BEGIN
    UPDATE referral_heights SET height = 0 WHERE height <> 0;
    -- Whom a user brought, and who brought somebody too, counts downwards until they are measured. Of the others
    -- each is the end of a chain.
    INSERT INTO referral_heights AS t (user_id, height)
        SELECT r.referrer_id, CASE WHEN pg_catalog.count(b.user_id) = 0 THEN 1 ELSE -pg_catalog.count(b.user_id) END
        FROM referrals AS r LEFT JOIN (SELECT DISTINCT referrer_id AS user_id FROM referrals) AS b ON b.user_id = r.user_id
        GROUP BY r.referrer_id
        ON CONFLICT (user_id) DO UPDATE SET height = excluded.height;
    SELECT pg_catalog.array_agg(t.user_id) INTO lately FROM referral_heights AS t WHERE t.height = 1;
    WHILE lately IS NOT NULL AND high <= 1000 LOOP
        WITH above AS (
            SELECT r.referrer_id AS user_id, pg_catalog.count(*) AS brought
            FROM pg_catalog.unnest(lately) AS l (user_id) JOIN referrals AS r ON r.user_id = l.user_id
            GROUP BY r.referrer_id
        ), counted AS (
            UPDATE referral_heights AS t
            SET height = CASE WHEN t.height + a.brought = 0 THEN high + 1 ELSE t.height + a.brought END
            FROM above AS a WHERE t.user_id = a.user_id
            RETURNING t.user_id, t.height
        )
        SELECT pg_catalog.array_agg(c.user_id) INTO lately FROM counted AS c WHERE c.height > 0;
        high := high + 1;
    END LOOP;
    -- Too high, or in a circle: a hand made them.
    UPDATE referral_heights SET height = 1001 WHERE height < 0;
    -- All referrals are in the heights now. The first time this runs, below, the column is still to come.
    IF EXISTS (SELECT FROM pg_attribute AS c WHERE c.attrelid = 'referrals'::regclass::oid AND c.attname = 'measured') THEN
        UPDATE referrals SET measured = TRUE WHERE NOT measured;
    END IF;
END
$$;

-- The lock of all chains: programs go on, and whoever sets a referrer waits until the heights are there.
SELECT pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended(
    'generation-storage referrals in '::text OPERATOR(pg_catalog.||) pg_catalog.current_schema()::text, 0::bigint));
SELECT storage_measure_referrals();

-- Whether the height of the tree above knows of a referral. Programs of the version before still run and do not say, nor
-- does a person: whoever sets the next referrer takes theirs up.
ALTER TABLE referrals ADD COLUMN measured BOOLEAN NOT NULL DEFAULT TRUE;
ALTER TABLE referrals ALTER COLUMN measured SET DEFAULT FALSE;
CREATE INDEX referrals_by_measured ON referrals (user_id ASC) WHERE NOT measured;

-- Roles that work with the tables and do not own them: who may use referrals may use what follows from them.
DO $$
DECLARE
    allowed RECORD;
BEGIN
    FOR allowed IN
        SELECT a.privilege_type AS privilege,
            CASE WHEN a.grantee = 0::oid THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)::text) END AS role
        FROM pg_class AS c CROSS JOIN LATERAL pg_catalog.aclexplode(c.relacl) AS a
        WHERE c.oid = 'referrals'::regclass::oid AND a.grantee <> c.relowner
            AND a.privilege_type IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE')
    LOOP
        EXECUTE 'GRANT ' || allowed.privilege || ' ON referral_heights TO ' || allowed.role;
    END LOOP;
END
$$;
