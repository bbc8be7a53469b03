-- Until now checks were written like `balance >= 0`. Where somebody had made an operator `>=` that fits these types better than the
-- server's own, that one was bound, and ran with the rights of whoever changed a row. Here each operator has its schema, and each
-- literal the type of its column. Sums get an upper end too: NaN is above every number, so a lower end alone lets it in.

ALTER TABLE users
    DROP CONSTRAINT users_balance_check,
    ADD CONSTRAINT users_balance_check CHECK (balance OPERATOR(pg_catalog.>=) 0.0 AND balance OPERATOR(pg_catalog.<=) 999999999999.999999),
    DROP CONSTRAINT users_held_check,
    ADD CONSTRAINT users_held_check CHECK (held OPERATOR(pg_catalog.>=) 0.0 AND held OPERATOR(pg_catalog.<=) 999999999999.999999),
    DROP CONSTRAINT users_spent_check,
    ADD CONSTRAINT users_spent_check CHECK (spent OPERATOR(pg_catalog.>=) 0.0 AND spent OPERATOR(pg_catalog.<) 'NaN'::pg_catalog.numeric),
    DROP CONSTRAINT users_money_check,
    ADD CONSTRAINT users_money_check CHECK (balance OPERATOR(pg_catalog.+) held OPERATOR(pg_catalog.<=) 999999999999.999999);
ALTER TABLE admin_limits
    DROP CONSTRAINT admin_limits_amount_check,
    ADD CONSTRAINT admin_limits_amount_check CHECK (limit_amount OPERATOR(pg_catalog.>=) 0.0 AND limit_amount OPERATOR(pg_catalog.<=) 999999999999.999999);
ALTER TABLE operations
    DROP CONSTRAINT operations_after_check,
    ADD CONSTRAINT operations_after_check CHECK (balance_after OPERATOR(pg_catalog.>=) 0.0 AND balance_after OPERATOR(pg_catalog.<=) 999999999999.999999
        AND held_after OPERATOR(pg_catalog.>=) 0.0 AND held_after OPERATOR(pg_catalog.<=) 999999999999.999999),
    ADD CONSTRAINT operations_change_check CHECK (balance_change OPERATOR(pg_catalog.>=) -999999999999.999999 AND balance_change OPERATOR(pg_catalog.<=) 999999999999.999999
        AND held_change OPERATOR(pg_catalog.>=) -999999999999.999999 AND held_change OPERATOR(pg_catalog.<=) 999999999999.999999);
ALTER TABLE operation_keys
    ADD CONSTRAINT operation_keys_balance_check CHECK (answer_balance OPERATOR(pg_catalog.>=) 0.0 AND answer_balance OPERATOR(pg_catalog.<=) 999999999999.999999);
ALTER TABLE balance_reserves
    DROP CONSTRAINT balance_reserves_amount_check,
    ADD CONSTRAINT balance_reserves_amount_check CHECK (amount OPERATOR(pg_catalog.>) 0.0 AND amount OPERATOR(pg_catalog.<=) 999999999999.999999),
    DROP CONSTRAINT balance_reserves_committed_check,
    ADD CONSTRAINT balance_reserves_committed_check CHECK (committed OPERATOR(pg_catalog.>=) 0.0 AND committed OPERATOR(pg_catalog.<=) amount),
    ADD CONSTRAINT balance_reserves_balances_check CHECK (opened_balance OPERATOR(pg_catalog.>=) 0.0 AND opened_balance OPERATOR(pg_catalog.<=) 999999999999.999999
        AND ended_balance OPERATOR(pg_catalog.>=) 0.0 AND ended_balance OPERATOR(pg_catalog.<=) 999999999999.999999);
ALTER TABLE generation_jobs
    DROP CONSTRAINT generation_jobs_price_check,
    ADD CONSTRAINT generation_jobs_price_check CHECK (price OPERATOR(pg_catalog.>=) 0.0 AND price OPERATOR(pg_catalog.<=) 999999999999.999999);
ALTER TABLE generation_history
    DROP CONSTRAINT generation_history_price_check,
    ADD CONSTRAINT generation_history_price_check CHECK (price OPERATOR(pg_catalog.>=) 0.0 AND price OPERATOR(pg_catalog.<=) 999999999999.999999);
ALTER TABLE payments
    DROP CONSTRAINT payments_amount_check,
    ADD CONSTRAINT payments_amount_check CHECK (amount OPERATOR(pg_catalog.>) 0.0 AND amount OPERATOR(pg_catalog.<=) 999999999999.999999);

-- For the row type of a table anybody may make an `=`. Rows are compared by what is stored, with the server's own operator.
ALTER FUNCTION storage_fill_updated_at() SET search_path = pg_catalog, pg_temp;
DROP TRIGGER users_fill_updated_at ON users;
CREATE TRIGGER users_fill_updated_at BEFORE UPDATE ON users FOR EACH ROW
    WHEN (NEW.last_operation IS NOT DISTINCT FROM OLD.last_operation AND NEW.* OPERATOR(pg_catalog.*<>) OLD.*)
    EXECUTE FUNCTION storage_fill_updated_at();
DROP TRIGGER user_settings_fill_updated_at ON user_settings;
CREATE TRIGGER user_settings_fill_updated_at BEFORE UPDATE ON user_settings FOR EACH ROW
    WHEN (NEW.last_operation IS NOT DISTINCT FROM OLD.last_operation AND NEW.* OPERATOR(pg_catalog.*<>) OLD.*)
    EXECUTE FUNCTION storage_fill_updated_at();
DROP TRIGGER daily_free_generations_fill_updated_at ON daily_free_generations;
CREATE TRIGGER daily_free_generations_fill_updated_at BEFORE UPDATE ON daily_free_generations FOR EACH ROW
    WHEN (NEW.last_operation IS NOT DISTINCT FROM OLD.last_operation AND NEW.* OPERATOR(pg_catalog.*<>) OLD.*)
    EXECUTE FUNCTION storage_fill_updated_at();
DROP TRIGGER admin_limits_fill_updated_at ON admin_limits;
CREATE TRIGGER admin_limits_fill_updated_at BEFORE UPDATE ON admin_limits FOR EACH ROW
    WHEN (NEW.last_operation IS NOT DISTINCT FROM OLD.last_operation AND NEW.* OPERATOR(pg_catalog.*<>) OLD.*)
    EXECUTE FUNCTION storage_fill_updated_at();
DROP TRIGGER balance_reserves_fill_updated_at ON balance_reserves;
CREATE TRIGGER balance_reserves_fill_updated_at BEFORE UPDATE ON balance_reserves FOR EACH ROW
    WHEN (NEW.last_operation IS NOT DISTINCT FROM OLD.last_operation AND NEW.* OPERATOR(pg_catalog.*<>) OLD.*)
    EXECUTE FUNCTION storage_fill_updated_at();
DROP TRIGGER generation_jobs_fill_updated_at ON generation_jobs;
CREATE TRIGGER generation_jobs_fill_updated_at BEFORE UPDATE ON generation_jobs FOR EACH ROW
    WHEN (NEW.last_operation IS NOT DISTINCT FROM OLD.last_operation AND NEW.* OPERATOR(pg_catalog.*<>) OLD.*)
    EXECUTE FUNCTION storage_fill_updated_at();
DROP TRIGGER payments_fill_updated_at ON payments;
CREATE TRIGGER payments_fill_updated_at BEFORE UPDATE ON payments FOR EACH ROW
    WHEN (NEW.last_operation IS NOT DISTINCT FROM OLD.last_operation AND NEW.* OPERATOR(pg_catalog.*<>) OLD.*)
    EXECUTE FUNCTION storage_fill_updated_at();
