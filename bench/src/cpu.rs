//! Processor time, as Linux tells it.

use std::fs;

/// The ticks of /proc are hundredths of a second on every Linux.
const MICROS_OF_A_TICK: f64 = 10_000.0;

/// Processor time used up so far, in ticks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cpu {
    /// This process and the children that it waited for.
    client: u64,
    /// The server's main process, its children, and those that it waited for.
    server: Option<u64>,
}

impl Cpu {
    pub(crate) fn now(server: Option<u32>) -> Self {
        let client = Stat::read("self").map_or(0, |stat| stat.own + stat.waited_for);
        Self { client, server: server.and_then(of_server) }
    }

    /// Microseconds since then: the client's and the server's.
    pub(crate) fn since(self, before: Self) -> (f64, Option<f64>) {
        let micros = |now: u64, before: u64| {
            f64::from(u32::try_from(now.saturating_sub(before)).unwrap_or(u32::MAX)) * MICROS_OF_A_TICK
        };
        let server = self.server.zip(before.server).map(|(now, before)| micros(now, before));
        (micros(self.client, before.client), server)
    }
}

fn of_server(main: u32) -> Option<u64> {
    let stat = Stat::read(&main.to_string())?;
    let mut ticks = stat.own + stat.waited_for;
    for entry in fs::read_dir("/proc").ok()?.flatten() {
        let name = entry.file_name();
        let process = name.to_str().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
        if let Some(stat) = process.and_then(Stat::read).filter(|stat| stat.parent == main) {
            ticks += stat.own;
        }
    }
    Some(ticks)
}

struct Stat {
    parent: u32,
    own: u64,
    waited_for: u64,
}

impl Stat {
    fn read(process: &str) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{process}/stat")).ok()?)
    }
    /// The name, in parentheses, may hold anything.
    fn parse(text: &str) -> Option<Self> {
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
        Some(Self {
            parent: fields.get(1)?.parse().ok()?,
            own: number(11)? + number(12)?,
            waited_for: number(13)? + number(14)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Stat;

    #[test]
    fn a_line_of_proc() {
        let line = "42 (a) b) S 7 42 42 0 -1 4194304 1 2 3 4 50 6 70 8 20 0 1 0 100 0 0";
        let stat = Stat::parse(line).unwrap();
        assert_eq!((stat.parent, stat.own, stat.waited_for), (7, 56, 78));
    }
}
