//! A database of a throw-away server.

use std::time::Duration;

use crate::sql::{Login, Session, SqlError};

/// How to reach a server's databases, from outside and as its superuser.
#[derive(Debug, Clone)]
pub(crate) struct Access {
    pub(crate) superuser: Login,
    pub(crate) user: Login,
}

impl Access {
    pub(crate) fn url(login: &Login, port: u16, database: &str) -> String {
        let Login { user, password, .. } = login;
        format!("postgresql://{user}:{password}@127.0.0.1:{port}/{}", percent_encoded(database))
    }

    pub(crate) fn socket_url(login: &Login, database: &str) -> String {
        let Login { user, password, port, socket_directory } = login;
        let directory = percent_encoded(&socket_directory.to_string_lossy());
        format!("postgresql://{user}:{password}@/{}?host={directory}&port={port}", percent_encoded(database))
    }
}

/// A database of one test, owned by the test user. Dropped, with whoever is still connected, when the value is.
#[derive(Debug)]
pub struct Database {
    name: String,
    access: Access,
    kept: bool,
}

impl Database {
    pub(crate) fn new(name: String, access: Access) -> Self {
        Self { name, access, kept: false }
    }

    /// The database's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The test user's URL of the database through TCP.
    pub fn url(&self) -> String {
        Access::url(&self.access.user, self.access.user.port, &self.name)
    }

    /// The test user's URL of the database through the Unix socket.
    pub fn socket_url(&self) -> String {
        Access::socket_url(&self.access.user, &self.name)
    }

    /// Leaves the database in the server and answers its name.
    pub fn keep(mut self) -> String {
        self.kept = true;
        self.name.clone()
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        // A server that is stopped, paused or gone takes the database with it in the end: nothing to report.
        let limit = Some(Duration::from_secs(10));
        if let Ok(session) = Session::open(&self.access.superuser, "postgres", limit) {
            let _ = session.query(&format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", quoted(&self.name)));
        }
    }
}

/// Tries again while somebody is still connected to a database that must be left alone for the statement.
pub(crate) fn when_unused(session: &Session, sql: &str) -> Result<(), SqlError> {
    // The server itself has waited five seconds each time.
    let mut tries = 4;
    loop {
        match session.query(sql) {
            Err(error) if error.code.as_deref() == Some("55006") && tries > 0 => tries -= 1,
            other => return other.map(|_| ()),
        }
    }
}

pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

pub(crate) fn percent_encoded(text: &str) -> String {
    use std::fmt::Write as _;

    text.bytes().fold(String::new(), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
        encoded
    })
}

#[cfg(test)]
mod tests {
    use super::{percent_encoded, quoted};

    #[test]
    fn names_are_escaped() {
        assert_eq!(quoted("a\"b"), "\"a\"\"b\"");
        assert_eq!(percent_encoded("/tmp/a b%"), "%2Ftmp%2Fa%20b%25");
    }
}
