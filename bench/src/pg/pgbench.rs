//! `pgbench`, which comes with PostgreSQL: its clients are about as fast as clients get.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::Host;

use super::work::Stock;

/// The second before a slice in which new connections read the server's catalogue. The others' connections have done so
/// long before.
const WARMING: u64 = 1;

/// How it runs.
pub(super) struct Run<'a> {
    pub(super) program: &'a Path,
    pub(super) clients: u32,
    /// Whether its statements may be prepared.
    pub(super) prepared: bool,
    pub(super) stock: &'a Stock,
}

impl Run<'_> {
    /// Runs scripts, each with its weight, for a slice of time; answers the rate in it, and how often they ran in all.
    pub(super) fn slice(&self, url: &str, scripts: &[(String, u32)], slice: Duration) -> Result<(f64, f64), String> {
        let told = |error: std::io::Error| format!("the script of pgbench: {error}");
        let mut command = Command::new(self.program);
        let Stock { users, jobs, payments, .. } = self.stock;
        command
            .args(["-n", "-M", if self.prepared { "prepared" } else { "extended" }, "-P", "1"])
            .args(["-j", &self.clients.min(2).to_string()])
            .args(["-c", &self.clients.to_string(), "-T", &(slice.as_secs() + WARMING).to_string()])
            .args(["-D", &format!("users={users}"), "-D", &format!("jobs={jobs}")])
            .args(["-D", &format!("payments={payments}")])
            .stdin(Stdio::null());
        let mut files = Vec::new();
        for (script, weight) in scripts {
            let mut file = tempfile::Builder::new().suffix(".sql").tempfile().map_err(told)?;
            file.write_all(script.as_bytes()).map_err(told)?;
            command.arg("-f").arg(format!("{}@{weight}", file.path().display()));
            files.push(file);
        }
        address(&mut command, url)?;
        let output = command.output().map_err(|error| format!("{} cannot run: {error}", self.program.display()))?;
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        if !output.status.success() {
            return Err(format!("pgbench failed: {err}"));
        }
        rate(&out, &err).ok_or_else(|| format!("pgbench says what is not understood: {out}{err}"))
    }
}

/// Where to connect, as variables: a password has no place in a list of processes.
fn address(command: &mut Command, url: &str) -> Result<(), String> {
    let config: Config = url.parse().map_err(|error| format!("the URL: {error}"))?;
    match config.get_hosts().first() {
        Some(Host::Tcp(host)) => command.env("PGHOST", host),
        Some(Host::Unix(directory)) => command.env("PGHOST", directory),
        None => command,
    };
    if let Some(port) = config.get_ports().first() {
        command.env("PGPORT", port.to_string());
    }
    for (name, value) in [("PGUSER", config.get_user()), ("PGDATABASE", config.get_dbname())] {
        if let Some(value) = value {
            command.env(name, value);
        }
    }
    if let Some(password) = config.get_password() {
        command.env("PGPASSWORD", String::from_utf8_lossy(password).as_ref());
    }
    Ok(())
}

/// The rate without the first second, and the count with it.
fn rate(out: &str, err: &str) -> Option<(f64, f64)> {
    let number = |text: &str| text.split([' ', '/']).next()?.parse::<f64>().ok();
    let after = |word: &str| out.lines().find_map(|line| number(line.strip_prefix(word)?));
    let (count, average) = (after("number of transactions actually processed: ")?, after("tps = ")?);
    let first = err.lines().find_map(|line| line.strip_prefix("progress: "))?;
    let (seconds, rest) = first.split_once(" s, ")?;
    let (seconds, warming) = (number(seconds)?, number(rest)?);
    let rate = (count - warming * seconds) / (count / average - seconds);
    (rate.is_finite() && rate > 0.0).then_some((rate, count))
}

#[cfg(test)]
mod tests {
    use super::rate;

    #[test]
    fn the_first_second_does_not_count() {
        let out = "number of clients: 10\nnumber of transactions actually processed: 5000\n\
                   latency average = 0.6 ms\ntps = 1666.666667 (without initial connection time)\n";
        let err = "pgbench (15.18)\nprogress: 1.0 s, 1000.0 tps, lat 0.9 ms stddev 0.1, 0 failed\n\
                   progress: 2.0 s, 2000.0 tps, lat 0.5 ms stddev 0.1, 0 failed\n";
        let (rate, count) = rate(out, err).unwrap();
        assert!((rate - 2000.0).abs() < 0.1 && (count - 5000.0).abs() < 0.1, "{rate} {count}");
        assert!(super::rate("", err).is_none() && super::rate(out, "").is_none());
    }
}
