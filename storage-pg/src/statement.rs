//! Statements: constant text in which only the schema's name is filled in, once, when a store is opened.

use migrations::Schema;
use tokio_postgres::types::Type;

/// One statement: its text and the types of its parameters, so that it needs no preparation on the server.
#[derive(Debug)]
pub(crate) struct Statement {
    /// Unique in the program: what a prepared form is remembered by.
    pub(crate) name: &'static str,
    pub(crate) text: String,
    pub(crate) types: Vec<Type>,
}

impl Statement {
    /// Puts the schema where the text says `{s}`; the first line names the statement in the server's log.
    pub(crate) fn new(name: &'static str, text: &str, types: &[Type], schema: &Schema) -> Self {
        let short = name.rsplit("::").next().unwrap_or(name);
        let text = format!("-- {short}\n{}", text.replace("{s}", &schema.quoted()));
        Self { name, text, types: types.to_vec() }
    }
}

/// The beginning of the first statement of a transaction that cannot rely on its session: what [`migrations::PIN`] sets.
macro_rules! pinned {
    ($rest:literal) => {
        concat!(
            "SELECT pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true),
                 pg_catalog.set_config('row_security', 'off', true), ",
            $rest
        )
    };
}
pub(crate) use pinned;

/// Declares a file's statements: name, types of the parameters, text.
macro_rules! statements {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident($($type:ident),*) = $text:expr;)+ }) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub(crate) struct $name {
            $($(#[$field_doc])* pub(crate) $field: $crate::statement::Statement,)+
        }
        impl $name {
            pub(crate) fn new(schema: &migrations::Schema) -> Self {
                Self {$(
                    $field: $crate::statement::Statement::new(
                        concat!(module_path!(), "::", stringify!($field)),
                        $text,
                        &[$(tokio_postgres::types::Type::$type),*],
                        schema,
                    ),
                )+}
            }
            /// Every statement, for the tests that look at them all.
            #[cfg(test)]
            pub(crate) fn all(&self) -> Vec<&$crate::statement::Statement> {
                vec![$(&self.$field),+]
            }
        }
    };
}
pub(crate) use statements;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Sql;

    #[test]
    fn every_statement_says_who_it_is_and_where() {
        let sql = Sql::new(&Schema::new("shop_7").unwrap());
        let mut names: Vec<_> = sql.all().iter().map(|statement| statement.name).collect();
        for statement in sql.all() {
            let Statement { name, text, types } = statement;
            assert!(text.starts_with("-- ") && !text.contains("{s}"), "{name}: {text}");
            for table in
                ["users", "operations", "payments", "generation_jobs", "referrals", "referral_heights", "id_routes"]
            {
                for word in ["FROM", "INTO", "UPDATE", "JOIN"] {
                    assert!(!text.contains(&format!("{word} {table} ")), "{name} names {table} without its schema");
                }
            }
            for number in 1..=types.len() {
                assert!(text.contains(&format!("${number}")), "{name} has no use for ${number}");
            }
            assert!(!text.contains(&format!("${}", types.len() + 1)), "{name} wants more parameters");
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), sql.all().len(), "a name stands for two statements");
    }

    /// The statements that do what the kernel decides: the fast forms. Each is compared with the kernel, alone (`express/alone.rs`) and in a race
    /// (`conformance-tests/differential/tests/races.rs`). Every other statement writes down what was decided.
    const FORMS: &[&str] = &[
        "balances::add",
        "balances::subtract",
        "free_generations::take",
        "gather::post",
        "jobs::add",
        "jobs::update",
        "payments::add",
        "payments::approve",
        "reserves::commit",
        "reserves::release",
        "reserves::reserve",
    ];

    #[test]
    fn only_the_listed_forms_change_what_they_read() {
        let sql = Sql::new(&Schema::default());
        let changes = |text: &&str| {
            let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
            ["( INSERT INTO", "( UPDATE", "( DELETE FROM"].iter().any(|words| text.contains(words))
        };
        let all = sql.all();
        let forms: Vec<&str> = all.iter().filter(|one| changes(&one.text.as_str())).map(|one| one.name).collect();
        let mut names: Vec<&str> = forms.iter().filter_map(|name| name.split_once("storage_pg::")?.1.into()).collect();
        names.sort_unstable();
        assert_eq!(names, FORMS, "a form decides by itself: list it, and prove it where the others are: {forms:?}");
    }

    /// What is right on one server and wrong on a sharded one, or behind a pooler.
    #[test]
    fn no_statement_uses_what_does_not_scale() {
        let sql = Sql::new(&Schema::default());
        for Statement { name, text, .. } in sql.all() {
            for word in ["MERGE ", "xmax", "ctid", "LISTEN", "CREATE TEMP", "pg_advisory_lock", "now()"] {
                assert!(!text.contains(word), "{name} uses {word}");
            }
            assert!(!text.contains("SET ") || !text.starts_with("SET "), "{name} sets a session's value");
        }
    }

    /// Whether a statement says whose rows it is about: by a parameter, or by the id that leads to the user.
    fn names_its_user(text: &str) -> bool {
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let compared = ["user_id = $", "u.id = $", " id = $", "id = ANY($1)", "id = (SELECT user_id FROM"];
        let written = ["(user_id,", "users (id,"];
        compared.iter().any(|words| text.contains(words))
            || text.contains("VALUES ($1") && written.iter().any(|words| text.contains(words))
    }

    /// Statements that are about many users or about none, and why that does no harm on a sharded store. A name that ends
    /// with `::` is a whole file.
    const OF_MANY_USERS: &[(&str, &str)] = &[
        ("account::claim", "one row of id_routes, named by its id"),
        ("dump::", "the whole store, on demand"),
        ("gather::", "users who ask at the same time; off where a store is sharded"),
        ("import::is_committed", "a transaction"),
        ("import::transaction", "a transaction"),
        ("jobs::list_all", "a list for admins"),
        ("jobs::list_by_status", "a list for admins"),
        ("operations::audited_holds", "an audit of everybody"),
        ("operations::audited_payments", "an audit of everybody"),
        ("operations::audited_rows", "an audit of everybody"),
        ("operations::audited_users", "an audit of everybody"),
        ("payments::list_all", "a list for admins"),
        ("payments::list_by_status", "a list for admins"),
        ("referrals::briefly", "a setting of the transaction"),
        ("referrals::patiently", "a setting of the transaction"),
        ("referrals::list", "whom a referrer brought: they live where they live"),
        ("referrals::lock", "an advisory lock"),
        ("referrals::measure", "the whole store, after a restore, or after others stored many"),
        ("referrals::raise", "the chain above a user: rare"),
        ("referrals::unmeasured", "what others stored a moment ago, as a rule nothing"),
        ("reserves::expired", "a sweep over everybody"),
        ("reserves::list_all", "a list for admins"),
        ("reserves::list_by_status", "a list for admins"),
        ("restore::", "the whole store, when it is empty"),
        ("routes::", "one row of id_routes, named by its id"),
        ("store::", "the store itself"),
        ("users::list", "a list for admins"),
    ];

    /// On a sharded store a statement that names its user visits one node; any other visits them all.
    #[test]
    fn every_hot_statement_names_its_user() {
        let sql = Sql::new(&Schema::default());
        let mut met = std::collections::BTreeSet::new();
        for Statement { name, text, .. } in sql.all() {
            let short = name.trim_start_matches("storage_pg::");
            let exempt = OF_MANY_USERS
                .iter()
                .find(|(listed, _)| short == *listed || listed.ends_with("::") && short.starts_with(listed));
            match exempt {
                Some((listed, _)) => {
                    met.insert(*listed);
                    // A list that says too much is as wrong as one that says too little.
                    assert!(listed.ends_with("::") || !names_its_user(text), "{short} names its user after all");
                }
                None => assert!(names_its_user(text), "{short} does not name its user: {text}"),
            }
        }
        let listed: std::collections::BTreeSet<_> = OF_MANY_USERS.iter().map(|(listed, _)| *listed).collect();
        assert_eq!(met, listed, "the list names statements that are gone");
    }
}
