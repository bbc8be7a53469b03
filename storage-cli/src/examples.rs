//! What the help of each command shows: lines that work as they stand.

/// The examples of a command, by the words that name it.
const EXAMPLES: &[(&str, &str)] = &[
    (
        "",
        "storage status                                   which store is this?
storage import ./old-data --dry-run              what would an import bring?
storage user show 1001                           one user's statement
storage payments approve pay-17 --yes            credit a payment, once",
    ),
    ("status", "storage status\nstorage status --mode json --data-dir /srv/bot/data --json"),
    ("doctor", "storage doctor\nstorage doctor --json"),
    ("verify", "storage verify\nstorage verify --data-dir /srv/bot/data"),
    (
        "import",
        "storage import ./old-data --dry-run              read everything, show the report, change nothing
storage import ./old-data --yes --strict         exit with 4 when a record is refused
storage import ./old-data --time-zone Europe/Kyiv",
    ),
    (
        "migrate",
        "storage migrate --check                          3 when something is pending
storage migrate --dry-run                        the SQL of it
storage migrate --adopt --dry-run                take over the earlier system's tables",
    ),
    ("shard", "storage shard --check\nstorage shard --apply --yes"),
    ("policy", "storage policy --time-zone Europe/Kyiv\nstorage policy --history everything --yes"),
    (
        "dump",
        "storage dump store.jsonl.zst                     compressed, by the ending
storage dump - | gzip > store.jsonl.gz",
    ),
    (
        "restore",
        "storage restore store.jsonl.zst --data-dir NEW --yes
storage restore - --yes < store.jsonl            into the store of the configuration",
    ),
    ("backup", "storage backup /var/backups/bot --keep 14 --yes\nstorage backup /var/backups/bot --compress gz"),
    (
        "copy",
        "storage copy --from json:data --to DATABASE_URL --dry-run
storage copy --from json:data --to DATABASE_URL --yes --receipt receipt.json
storage copy --from DATABASE_URL --to json:copy --keep-source",
    ),
    (
        "merge",
        "storage merge --from json:data --to DATABASE_URL --dry-run\nstorage merge --from json:data --to DATABASE_URL --yes",
    ),
    ("compare", "storage compare json:data DATABASE_URL\nstorage compare json:data json:copy --json"),
    ("lift", "storage lift json:/srv/bot/copy --dry-run"),
    (
        "completions",
        "storage completions bash > /usr/share/bash-completion/completions/storage
storage completions zsh > ~/.zfunc/_storage",
    ),
    ("man", "storage man | man -l -\nstorage man /usr/local/share/man/man1"),
    (
        "user",
        "storage user list\nstorage user show 1001\nstorage user credit 1001 12.50 --reason 'goodwill' --actor olga",
    ),
    ("user list", "storage user list --limit 20\nstorage user list --json"),
    ("user show", "storage user show 1001\nstorage user show -1001234 --limit 50"),
    (
        "user credit",
        "storage user credit 1001 12.50 --reason 'goodwill' --actor olga
storage user credit 1001 12.50 --key ticket-17 --yes     repeated, it changes nothing twice",
    ),
    (
        "user debit",
        "storage user debit 1001 3 --reason 'charged twice' --actor olga\nstorage user debit 1001 3 --dry-run",
    ),
    ("user set-language", "storage user set-language 1001 en --yes"),
    ("payments", "storage payments list --status pending\nstorage payments approve pay-17 --admin 77"),
    ("payments list", "storage payments list --status pending --limit 20\nstorage payments list --user 1001 --json"),
    ("payments show", "storage payments show pay-17"),
    ("payments approve", "storage payments approve pay-17 --admin 77 --reason 'seen on the account' --yes"),
    ("payments reject", "storage payments reject pay-17 --admin 77 --reason 'no such transfer'"),
    ("payments refund", "storage payments refund pay-17 --admin 77 --dry-run"),
    ("jobs", "storage jobs list --status pending,running\nstorage jobs show job-7"),
    ("jobs list", "storage jobs list --status pending,running\nstorage jobs list --user 1001 --limit 5"),
    ("jobs show", "storage jobs show job-7 --json"),
    ("history", "storage history 1001\nstorage history 1001 --limit 100 --json"),
    ("referrals", "storage referrals 1001"),
    ("audit", "storage audit\nstorage audit --user 1001 --json"),
];

/// The examples of a command.
fn of(path: &str) -> Option<&'static str> {
    EXAMPLES.iter().find(|(words, _)| *words == path).map(|(_, lines)| *lines)
}

/// Adds the examples to a command and to all below it.
pub(crate) fn add(command: clap::Command) -> clap::Command {
    below(command, "")
}

fn below(mut command: clap::Command, path: &str) -> clap::Command {
    let names: Vec<String> = command.get_subcommands().map(|command| command.get_name().to_owned()).collect();
    for name in names {
        let deeper = format!("{path} {name}").trim().to_owned();
        command = command.mut_subcommand(name, |command| below(command, &deeper));
    }
    let Some(lines) = of(path) else { return command };
    let shown = lines.lines().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n");
    let after = command.get_after_help().map(|after| format!("\n\n{after}")).unwrap_or_default();
    command.after_help(format!("Examples:\n{shown}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::command;

    fn paths(command: &clap::Command, path: &str, found: &mut Vec<String>) {
        found.push(path.to_owned());
        for below in command.get_subcommands() {
            paths(below, format!("{path} {}", below.get_name()).trim(), found);
        }
    }

    /// The words of a line as a shell reads them, up to a pipe, a redirection or the remark behind two blanks.
    fn words(line: &str) -> Vec<String> {
        let (mut words, mut word, mut quoted) = (Vec::new(), String::new(), false);
        let line = line.split("  ").next().unwrap_or(line);
        for c in line.chars() {
            match c {
                '\'' => quoted = !quoted,
                ' ' if !quoted => words.push(std::mem::take(&mut word)),
                _ => word.push(c),
            }
        }
        words.push(word);
        let end = words.iter().position(|word| ["|", ">", "<"].contains(&word.as_str())).unwrap_or(words.len());
        words.truncate(end);
        words
    }

    #[test]
    fn every_command_has_examples_and_every_example_is_a_command_line() {
        let mut all = Vec::new();
        paths(&command(), "", &mut all);
        for path in &all {
            let lines = of(path).unwrap_or_else(|| panic!("{path} has no example"));
            for line in lines.lines() {
                let words = words(line);
                assert!(path.split_whitespace().all(|word| words.iter().any(|given| given == word)), "{path}: {line}");
                let parsed = command().try_get_matches_from(&words);
                assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
            }
        }
        for (path, _) in EXAMPLES {
            assert!(all.iter().any(|known| known == path), "{path} is no command");
        }
    }
}
