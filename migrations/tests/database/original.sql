-- The earlier system's tables, as it made them, with a little of everything.
CREATE TABLE users (
    id BIGINT PRIMARY KEY,
    balance NUMERIC(12, 2) DEFAULT 0.00 NOT NULL,
    created_at TIMESTAMPTZ DEFAULT now(),
    updated_at TIMESTAMPTZ DEFAULT now()
);
CREATE TABLE user_settings (
    user_id BIGINT PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
    language TEXT DEFAULT 'ru',
    gift_claimed BOOLEAN DEFAULT FALSE,
    created_at TIMESTAMPTZ DEFAULT now(),
    updated_at TIMESTAMPTZ DEFAULT now()
);
CREATE TABLE daily_free_generations (
    user_id BIGINT REFERENCES users (id) ON DELETE CASCADE,
    date DATE NOT NULL,
    count INTEGER DEFAULT 0,
    bonus INTEGER DEFAULT 0,
    PRIMARY KEY (user_id, date)
);
CREATE TABLE admin_limits (
    user_id BIGINT PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
    limit_amount NUMERIC(12, 2) DEFAULT 100.00,
    created_at TIMESTAMPTZ DEFAULT now(),
    updated_at TIMESTAMPTZ DEFAULT now()
);
CREATE TABLE generation_jobs (
    job_id TEXT PRIMARY KEY,
    user_id BIGINT REFERENCES users (id) ON DELETE CASCADE,
    model_id TEXT NOT NULL,
    model_name TEXT NOT NULL,
    params JSONB NOT NULL,
    price NUMERIC(12, 2) NOT NULL,
    status TEXT DEFAULT 'pending',
    external_task_id TEXT,
    result_urls JSONB,
    error_message TEXT,
    created_at TIMESTAMPTZ DEFAULT now(),
    updated_at TIMESTAMPTZ DEFAULT now()
);
CREATE TABLE operations (
    id BIGSERIAL PRIMARY KEY,
    user_id BIGINT REFERENCES users (id) ON DELETE CASCADE,
    type TEXT NOT NULL CHECK (type IN ('payment', 'generation', 'refund')),
    amount NUMERIC(12, 2) NOT NULL,
    model TEXT,
    result_url TEXT,
    prompt TEXT,
    created_at TIMESTAMPTZ DEFAULT now()
);
CREATE TABLE payments (
    payment_id TEXT PRIMARY KEY,
    user_id BIGINT REFERENCES users (id) ON DELETE CASCADE,
    amount NUMERIC(12, 2) NOT NULL,
    payment_method TEXT NOT NULL,
    screenshot_file_id TEXT,
    status TEXT DEFAULT 'pending',
    admin_id BIGINT,
    notes TEXT,
    created_at TIMESTAMPTZ DEFAULT now(),
    updated_at TIMESTAMPTZ DEFAULT now()
);
CREATE TABLE referrals (
    user_id BIGINT PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
    referrer_id BIGINT REFERENCES users (id) ON DELETE CASCADE,
    created_at TIMESTAMPTZ DEFAULT now()
);
CREATE INDEX idx_generation_jobs_user_id ON generation_jobs (user_id);
CREATE INDEX idx_generation_jobs_status ON generation_jobs (status);
CREATE INDEX idx_operations_user_id ON operations (user_id);
CREATE INDEX idx_operations_created_at ON operations (created_at);
CREATE INDEX idx_payments_user_id ON payments (user_id);
CREATE INDEX idx_payments_status ON payments (status);
CREATE INDEX idx_referrals_referrer_id ON referrals (referrer_id);

CREATE FUNCTION update_updated_at_column() RETURNS TRIGGER AS $$
BEGIN
    NEW.updated_at = now();
    RETURN NEW;
END;
$$ LANGUAGE plpgsql;
CREATE TRIGGER update_users_updated_at BEFORE UPDATE ON users
    FOR EACH ROW EXECUTE FUNCTION update_updated_at_column();
CREATE TRIGGER update_user_settings_updated_at BEFORE UPDATE ON user_settings
    FOR EACH ROW EXECUTE FUNCTION update_updated_at_column();
CREATE TRIGGER update_admin_limits_updated_at BEFORE UPDATE ON admin_limits
    FOR EACH ROW EXECUTE FUNCTION update_updated_at_column();
CREATE TRIGGER update_generation_jobs_updated_at BEFORE UPDATE ON generation_jobs
    FOR EACH ROW EXECUTE FUNCTION update_updated_at_column();
CREATE TRIGGER update_payments_updated_at BEFORE UPDATE ON payments
    FOR EACH ROW EXECUTE FUNCTION update_updated_at_column();

INSERT INTO users (id, balance, updated_at) VALUES (1001, 12.50, '2025-12-22'), (1002, 0, '2025-12-22');
INSERT INTO user_settings (user_id) VALUES (1001);
INSERT INTO daily_free_generations VALUES (1001, '2025-12-20', 2, 5), (1001, '2025-12-21', 1, 0);
INSERT INTO admin_limits (user_id) VALUES (1002);
INSERT INTO generation_jobs (job_id, user_id, model_id, model_name, params, price)
VALUES ('j1', 1001, 'm', 'M', '{"prompt": "x"}', 1.5);
INSERT INTO operations (user_id, type, amount) VALUES (1001, 'payment', 50), (1001, 'generation', 7.5);
INSERT INTO payments (payment_id, user_id, amount, payment_method) VALUES ('p-1', 1001, 100, 'sbp');
INSERT INTO referrals (user_id, referrer_id) VALUES (1002, 1001);
