//! The suite that every backend must pass, straight to the server.

mod support;

use std::process::ExitCode;

use pg_test_server::Server;

fn main() -> ExitCode {
    support::run(support::Way::Direct, Server::shared())
}
