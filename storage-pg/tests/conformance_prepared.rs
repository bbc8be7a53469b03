//! The suite that every backend must pass, with prepared statements.

mod support;

use std::process::ExitCode;

use pg_test_server::Server;

fn main() -> ExitCode {
    support::run(support::Way::Prepared, Server::shared())
}
