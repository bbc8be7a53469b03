//! Plots of figures that were measured and kept: what `storage-bench json --json` and `storage-bench pg --json` printed
//! comes in, SVG comes out. The same data gives the same bytes, so that a test can tell that a plot shows its data.

mod bars;
mod data;
mod lines;
mod svg;

use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use self::bars::{Bars, Group};
use self::data::Run;
use self::lines::{Lines, Panel};
use crate::result::Report;

#[derive(Debug, Args)]
pub(crate) struct PlotArgs {
    /// Where the figures are: `json.json` and `pg.json`, as `json --json` and `pg --json` print them
    #[arg(default_value = "docs/performance")]
    from: PathBuf,
    /// Where the plots go; without it beside their figures
    #[arg(long, value_name = "DIR")]
    to: Option<PathBuf>,
}

/// Whose figures, under which name in the data, and how they are drawn.
#[derive(Clone, Copy, Debug)]
struct Series {
    key: &'static str,
    label: &'static str,
    colour: &'static str,
    mark: Mark,
}

/// The shape of a point, so that lines are told apart without colours too.
#[derive(Clone, Copy, Debug)]
enum Mark {
    Circle,
    Square,
    Diamond,
    Triangle,
    Cross,
    Ring,
}

const fn series(key: &'static str, label: &'static str, colour: &'static str, mark: Mark) -> Series {
    Series { key, label, colour, mark }
}

// The colours of Okabe and Ito, which people who see colours differently can tell apart; ours are the blue ones.
const PREPARED: Series = series("storage_pg_prepared", "storage-pg, prepared", "#0072b2", Mark::Circle);
const UNNAMED: Series = series("storage_pg", "storage-pg, unnamed", "#56b4e9", Mark::Ring);
const PGBENCH: Series = series("pgbench", "pgbench", "#4d4d4d", Mark::Cross);
const QUEUE: Series = series("tokio_postgres", "tokio-postgres", "#d55e00", Mark::Square);
const SQLX: Series = series("sqlx", "sqlx", "#e69f00", Mark::Diamond);
const DEADPOOL: Series = series("deadpool_postgres", "deadpool-postgres", "#cc79a7", Mark::Triangle);
const JSON: Series = series("storage_json", "storage-json", "#0072b2", Mark::Circle);
const FLOOR: Series = series("floor", "floor", "#4d4d4d", Mark::Cross);
const SQLITE: Series = series("SQLite_batched", "SQLite, batched", "#d55e00", Mark::Square);
const REDB: Series = series("redb_batched", "redb, batched", "#e69f00", Mark::Diamond);
const FJALL: Series = series("fjall_batched", "fjall, batched", "#cc79a7", Mark::Triangle);

/// A line of figures: its name in the data, what the plot calls it.
type Work = (&'static str, &'static str);

const BALANCE: Work = ("get_balance", "get_balance");
const CREDIT: Work = ("credit", "credit");
const DEBIT: Work = ("debit", "debit with ledger row");
const DEBIT_PG: Work = ("debit with ledger row", "debit with ledger row");
const HOT: Work = ("credit to one hot user", "credit to one hot user");
const LIST: Work = ("newest 20 jobs of a user", "newest 20 jobs of a user");
const BOT: Work = ("bot mix", "bot mix");

const TASKS: [u64; 3] = [1, 8, 64];

/// Draws.
pub(crate) fn draw(arguments: PlotArgs) -> Result<Drawn, String> {
    let PlotArgs { from, to } = arguments;
    let json = Run::read(&from.join("json.json"), None)?;
    let pg = Run::read(&from.join("pg.json"), Some("TCP"))?;
    let to = to.unwrap_or(from);
    let mut drawn = Vec::new();
    for (name, text) in [
        ("pg-few", of_few(&pg)?),
        ("pg-many", of_many(&pg)?),
        ("pg-tasks", pg_by_tasks(&pg)?),
        ("json-ratios", of_json(&json)?),
        ("json-tasks", json_by_tasks(&json)?),
    ] {
        let path = to.join(format!("{name}.svg"));
        File::create(&path)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .map_err(|error| format!("{}: {error}", path.display()))?;
        drawn.push(path);
    }
    Ok(Drawn(drawn))
}

/// Files that were written.
#[derive(Debug)]
pub(crate) struct Drawn(Vec<PathBuf>);

impl Report for Drawn {
    fn to_text(&self) -> String {
        self.0.iter().flat_map(|path| [path.display().to_string(), "\n".to_owned()]).collect()
    }
    fn to_json(&self) -> Value {
        json!({ "drawn": self.0.iter().map(|path| path.display().to_string()).collect::<Vec<_>>() })
    }
}

const PG_SERIES: &[Series] = &[PREPARED, UNNAMED, QUEUE, SQLX, DEADPOOL];

fn groups(run: &Run, works: &[(Work, u64)], series: &[Series], ratio: &str) -> Result<Vec<Group>, String> {
    let group = |((name, label), tasks): &(Work, u64)| {
        let table = run.table(name, *tasks)?;
        let of = if *tasks == 1 { "1 task".to_owned() } else { format!("{tasks} tasks") };
        Ok(Group { label: [(*label).to_owned(), of], bars: table.ratios(series, ratio) })
    };
    works.iter().map(group).collect()
}

fn of_few(pg: &Run) -> Result<String, String> {
    let works: Vec<_> =
        TASKS[..2].iter().flat_map(|tasks| [BALANCE, CREDIT, DEBIT_PG].map(|work| (work, *tasks))).collect();
    Ok(Bars {
        title: "PostgreSQL, few tasks: rate beside pgbench",
        notes: &pg.circumstances("credit", 8)?,
        axis: "times the rate of pgbench: to the right is faster. Thin line: least and most of the rounds",
        series: PG_SERIES,
        groups: &groups(pg, &works, PG_SERIES, "to_pgbench")?,
    }
    .draw())
}

fn of_many(pg: &Run) -> Result<String, String> {
    let works = [BALANCE, CREDIT, DEBIT_PG, HOT, BOT, LIST].map(|work| (work, 64));
    Ok(Bars {
        title: "PostgreSQL, 64 tasks: rate beside pgbench",
        notes: &pg.circumstances("credit", 64)?,
        axis: "times the rate of pgbench: to the right is faster. Thin line: least and most of the rounds",
        series: PG_SERIES,
        groups: &groups(pg, &works, PG_SERIES, "to_pgbench")?,
    }
    .draw())
}

fn of_json(json: &Run) -> Result<String, String> {
    let series = &[FLOOR, SQLITE, REDB, FJALL];
    let mut works: Vec<_> = [CREDIT, DEBIT].iter().flat_map(|work| TASKS.map(|tasks| (*work, tasks))).collect();
    works.push((BOT, 64));
    Ok(Bars {
        title: "JSON directory: our rate beside each peer's",
        notes: &json.circumstances("credit", 64)?,
        axis: "storage-json's rate in times that of each: to the right we are faster. Thin line: least and most",
        series,
        groups: &groups(json, &works, series, "ours_to_it")?,
    }
    .draw())
}

fn panels(run: &Run, works: &[Work], series: &[Series]) -> Result<Vec<Panel>, String> {
    let panel = |(name, label): &Work| {
        let tables = TASKS.iter().map(|tasks| run.table(name, *tasks)).collect::<Result<Vec<_>, _>>()?;
        let rates = series.iter().map(|one| tables.iter().map(|table| table.rate(*one)).collect()).collect();
        Ok(Panel { label, rates })
    };
    works.iter().map(panel).collect()
}

fn pg_by_tasks(pg: &Run) -> Result<String, String> {
    let series = &[PREPARED, UNNAMED, PGBENCH, QUEUE, SQLX, DEADPOOL];
    Ok(Lines {
        title: "PostgreSQL: rate by number of tasks",
        notes: &pg.circumstances("credit", 64)?,
        series,
        tasks: &TASKS,
        panels: &panels(pg, &[BALANCE, CREDIT, DEBIT_PG], series)?,
    }
    .draw())
}

fn json_by_tasks(json: &Run) -> Result<String, String> {
    let series = &[JSON, FLOOR, SQLITE, REDB, FJALL];
    Ok(Lines {
        title: "JSON directory: rate by number of tasks",
        notes: &json.circumstances("credit", 64)?,
        series,
        tasks: &TASKS,
        panels: &panels(json, &[CREDIT, DEBIT], series)?,
    }
    .draw())
}
