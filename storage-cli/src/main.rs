//! The command `storage`. Everything it does is in the library beside it.

fn main() -> std::process::ExitCode {
    storage_cli::main()
}
