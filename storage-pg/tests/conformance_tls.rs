//! The suite that every backend must pass, over TLS with a private authority and everything verified, and with prepared
//! statements.

mod support;

use std::process::ExitCode;
use std::sync::OnceLock;

use pg_test_server::{Certificate, Options, Server};

fn main() -> ExitCode {
    static SERVER: OnceLock<Result<Server, String>> = OnceLock::new();
    let server = SERVER
        .get_or_init(|| Server::start(Options { tls: Some(Certificate::Localhost), ..Options::default() }))
        .as_ref()
        .map_err(Clone::clone);
    support::run(support::Way::Tls, server)
}
