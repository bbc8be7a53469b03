//! Parts that the express statements share.
//!
//! Every express statement begins by asking whether the operation's key is still unused, so that a plain repetition
//! changes nothing and is judged without an error in the server's log. Two repetitions that race both see it unused:
//! then the key's unique constraint stops the second, and it is judged too.

/// Whether the key `$k` of the user `$u` is unused.
macro_rules! key_is_unused {
    ($user:literal, $key:literal) => {
        concat!(
            "NOT EXISTS (SELECT FROM {s}.operation_keys k WHERE k.user_id = ",
            $user,
            " AND k.space = 'operation' AND k.key = ",
            $key,
            ")"
        )
    };
}
pub(crate) use key_is_unused;
