//! `storage completions` and `storage man`: what is known of the command line itself, for shells and for `man`.

use std::io::Write as _;
use std::path::Path;

use crate::args::{Command, command};
use crate::exit::{Exit, Failure, Outcome, quoted};
use crate::output::stdout_failed;

pub(crate) fn run(asked: Command) -> Outcome {
    match asked {
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut command(), "storage", &mut script);
            print(&script)
        }
        Command::Man { dir: Some(dir) } => write_pages(&dir),
        _ => print(&page(command())?),
    }
}

fn print(bytes: &[u8]) -> Outcome {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(stdout_failed)?;
    Ok(Exit::Done)
}

fn page(command: clap::Command) -> Result<Vec<u8>, Failure> {
    let mut page = Vec::new();
    let man = clap_mangen::Man::new(command).manual("generation storage");
    man.render(&mut page).map_err(|error| Failure::io("a page could not be made", error))?;
    Ok(page)
}

/// One page for each command, named as `man` looks them up: `storage-user-credit.1`.
fn write_pages(dir: &Path) -> Outcome {
    clap_mangen::generate_to(command(), dir).map_err(|error| {
        let hint = format!("mkdir -p {}, and the same command", quoted(&dir.display().to_string()));
        Failure::io(format!("the pages could not be written into {}", dir.display()), error).with_hint(hint)
    })?;
    print(format!("the manual is in {}; man -l {}\n", dir.display(), dir.join("storage.1").display()).as_bytes())
}
