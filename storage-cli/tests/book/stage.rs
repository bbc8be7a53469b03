//! Where the commands of a page are run: an empty directory, `storage` on the PATH, a server of this test's own, and nobody
//! there to say yes. What a block exports, the next one has: a reader types them into one shell.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use pg_test_server::{Certificate, Options, PgBouncer, Server};

use super::blocks::root;
use super::common::{Place, Ran, finish};
use super::kinds::write;

/// A server like a hosted one: encrypted, durable by its settings, with a pooler before it.
pub(crate) struct Hosted {
    pub(crate) server: Server,
    pooler: PgBouncer,
}

impl Hosted {
    pub(crate) fn start() -> Self {
        // The settings that `storage doctor` wants to see; the files are in memory all the same.
        let settings =
            ["fsync", "full_page_writes", "synchronous_commit"].map(|name| (name.to_owned(), "on".to_owned()));
        let options = Options { tls: Some(Certificate::Localhost), settings: settings.to_vec(), ..Options::default() };
        let server = Server::start(options).unwrap();
        let role = format!("CREATE ROLE bot LOGIN CREATEDB PASSWORD 'secret'; GRANT bot TO {}", server.user());
        server.execute("postgres", &role).unwrap();
        let pooler = PgBouncer::start(&server).unwrap();
        Self { server, pooler }
    }
}

/// One page at work.
pub(crate) struct Stage<'a> {
    hosted: &'a Hosted,
    pub(crate) place: Place,
    replaced: Vec<(String, String)>,
}

impl<'a> Stage<'a> {
    pub(crate) fn new(hosted: &'a Hosted) -> Self {
        let server = &hosted.server;
        let ca = server.tls().unwrap().ca_file().display().to_string();
        let port = server.port();
        let replaced = vec![
            ("ssh backup.example.org".to_owned(), "ssh elsewhere".to_owned()),
            ("bot:secret@localhost/".to_owned(), format!("bot:secret@127.0.0.1:{port}/")),
            // A test certificate, for a name that leads here; the pooler of the tests has none.
            (
                "bot:secret@db.example.org/bot?sslmode=verify-full".to_owned(),
                format!("bot:secret@localhost:{port}/bot?sslmode=verify-full&sslrootcert={ca}"),
            ),
            (
                "postgresql://bot:secret@pooler.example.org:6432/bot?sslmode=verify-full".to_owned(),
                hosted.pooler.url("bot"),
            ),
        ];
        let stage = Self { hosted, place: Place::new(), replaced };
        stage.set_up();
        stage
    }

    /// An empty directory and an empty database again; nothing is exported.
    pub(crate) fn begin_anew(&mut self) {
        self.place = Place::new();
        self.set_up();
    }

    fn set_up(&self) {
        for dir in ["work", "bin", "elsewhere"] {
            std::fs::create_dir(self.place.path(dir)).unwrap();
        }
        write(&self.place.path("exports"), "");
        // The other machine: a directory.
        self.program("ssh", "#!/bin/sh\nshift\ncd \"$(dirname \"$0\")/../elsewhere\" && exec sh -c \"$*\"\n");
        self.sql("postgres", "DROP DATABASE IF EXISTS bot WITH (FORCE)");
        self.sql("postgres", "CREATE DATABASE bot OWNER bot");
    }

    fn program(&self, name: &str, text: &str) {
        let file = self.place.path("bin").join(name);
        write(&file, text);
        std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Where the commands are run.
    pub(crate) fn dir(&self) -> PathBuf {
        self.place.path("work")
    }

    /// What stands on the page is another thing here.
    pub(crate) fn replace(&mut self, from: &str, to: &str) {
        let to = to.replace("DIR", &self.dir().display().to_string());
        self.replaced.push((from.to_owned(), to));
    }

    pub(crate) fn sql(&self, database: &str, sql: &str) {
        self.hosted.server.execute(database, sql).unwrap();
    }

    /// The example of what an earlier system left, as a directory of this name.
    pub(crate) fn legacy(&self, name: &str) {
        self.must(&format!("cp -r '{}' {name}", root().join("examples/legacy-data").display()));
    }

    /// The example, imported into ./data.
    pub(crate) fn imported(&self) {
        self.must(&format!("storage import '{}' --mode json", root().join("examples/legacy-data").display()));
    }

    /// What earlier blocks of a page, or its reader, have exported.
    pub(crate) fn export(&self, name: &str, value: &str) {
        let file = self.place.path("exports");
        let text = std::fs::read_to_string(&file).unwrap();
        write(&file, &format!("{text}export {name}='{}'\n", self.filled(value)));
    }

    /// A file of the page, as a reader would have saved it.
    pub(crate) fn file(&self, name: &str, text: &str) {
        write(&self.dir().join(name), &self.filled(text));
    }

    /// The scripts of the workspace, where its pages expect them.
    pub(crate) fn in_the_workspace(&self) {
        symlink(root().join("scripts"), self.dir().join("scripts")).unwrap();
    }

    fn filled(&self, text: &str) -> String {
        self.replaced.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
    }

    /// Runs something that has to succeed before a block can.
    pub(crate) fn must(&self, script: &str) -> Ran {
        self.shell(script).exits(0)
    }

    /// Runs lines of a page. A place that is not of this test must have been replaced.
    pub(crate) fn run(&self, script: &str) -> Ran {
        let bare = self.replaced.iter().fold(script.to_owned(), |text, (from, _)| text.replace(from, ""));
        let elsewhere = ["example.org", "@localhost", "/var/", "/etc/"].iter().find(|word| bare.contains(**word));
        assert!(
            elsewhere.is_none(),
            "{elsewhere:?} is not of this test, `Stage::replace` says what stands for it: {script}"
        );
        self.shell(script)
    }

    /// Stops at the first failure.
    fn shell(&self, script: &str) -> Ran {
        let script = self.filled(script);
        let mut command = Command::new("bash");
        // The surroundings of the command's own tests, with a shell in its place.
        for (name, value) in self.place.command::<&str>(&[]).get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let exports = self.place.path("exports").display().to_string();
        let script =
            format!("source '{exports}'\n{script}\nexport -p | grep -v ' SHLVL=\\| PWD=\\| OLDPWD=' >'{exports}'\n");
        let server = &self.hosted.server;
        command
            .args(["-e", "-o", "pipefail", "-c", &script])
            .current_dir(self.dir())
            .env_remove("DATA_DIR")
            .env("PATH", self.path())
            .env("STORAGE_YES", "1")
            .envs([("PGHOST", "127.0.0.1"), ("PGUSER", "bot"), ("PGPASSWORD", "secret")])
            .env("PGPORT", server.port().to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        finish(command, &[])
    }

    fn path(&self) -> String {
        let program = Path::new(env!("CARGO_BIN_EXE_storage")).parent().unwrap();
        let postgres = std::env::var("PG_BIN_DIR").map(|dir| format!("{dir}:")).unwrap_or_default();
        let rest = std::env::var("PATH").unwrap();
        format!("{}:{}:{postgres}{rest}", self.place.path("bin").display(), program.display())
    }
}
