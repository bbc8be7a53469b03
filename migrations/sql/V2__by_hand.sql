-- What a store knows of hand edits of the JSON directory that it came from, so that moving it here forgets nothing.

-- The bonus that was granted for bringing the user. It outlives the referral: of two for one user none is granted twice.
ALTER TABLE users ADD COLUMN referral_bonus BIGINT NOT NULL DEFAULT 0
    CONSTRAINT users_referral_bonus_check CHECK (referral_bonus BETWEEN 0 AND 1000000);

-- An imported payment that was approved by hand: no money came with it, so that none can be taken back.
ALTER TABLE payments ADD COLUMN by_hand BOOLEAN NOT NULL DEFAULT FALSE;
