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
            for table in ["users", "operations", "payments", "generation_jobs", "referrals", "id_routes"] {
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

    /// What is right on one server and wrong on a sharded one, or behind a pooler.
    #[test]
    fn no_statement_uses_what_does_not_scale() {
        let sql = Sql::new(&Schema::default());
        for Statement { name, text, .. } in sql.all() {
            for word in ["MERGE ", "xmax", "ctid", "SKIP LOCKED", "LISTEN", "CREATE TEMP", "pg_advisory_lock", "now()"]
            {
                assert!(!text.contains(word), "{name} uses {word}");
            }
            assert!(!text.contains("SET ") || !text.starts_with("SET "), "{name} sets a session's value");
        }
    }
}
