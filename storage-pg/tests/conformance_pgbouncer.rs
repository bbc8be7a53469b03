//! The suite that every backend must pass, through PgBouncer in transaction mode.

mod support;

use std::process::ExitCode;

use pg_test_server::Server;

fn main() -> ExitCode {
    support::run(support::Way::Pooled, Server::shared())
}
