//! Each command on a small store: text and JSON, plans, confirmations, exit codes.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that fails must stop, and it writes what it tests with")]

mod common;

use common::{Place, Ran, files};
use serde_json::{Value, json};
use storage_core::{
    AddGenerationJob, AddGenerationToHistory, AddPayment, Params, ReserveBalance, ResultUrls, SetReferrer, UserId,
};

fn user(id: i64) -> UserId {
    UserId::new(id).unwrap()
}

/// A store with two users, two payments, a job, a generation, a hold.
fn filled() -> Place {
    let place = Place::new();
    place.with_store(async |storage| {
        for (payment, amount) in [("p-1", "100"), ("p-2", "0.5")] {
            let mut add = AddPayment::new(user(1001), amount.parse().unwrap(), "card".parse().unwrap());
            add.payment = Some(payment.parse().unwrap());
            storage.add_payment(add).await.unwrap();
        }
        storage.add_balance(storage_core::AddBalance::new(user(1001), "20".parse().unwrap())).await.unwrap();
        let hold = ReserveBalance::new(user(1001), "hold-1".parse().unwrap(), "7.5".parse().unwrap());
        storage.reserve_balance(hold).await.unwrap();
        storage.set_referrer(SetReferrer::new(user(1001), user(-7))).await.unwrap();
        let add = AddGenerationJob {
            user: user(1001),
            job: Some("job-1".parse().unwrap()),
            external_task_id: Some("task-1".parse().unwrap()),
            model_id: "z".parse().unwrap(),
            model_name: "Z".parse().unwrap(),
            params: Params::new(&json!({ "prompt": "a\u{1b}[2Jcat" })).unwrap(),
            price: "7.5".parse().unwrap(),
            key: None,
        };
        storage.add_generation_job(add).await.unwrap();
        let add = AddGenerationToHistory {
            user: user(1001),
            id: Some("op-1".parse().unwrap()),
            model_id: "z".parse().unwrap(),
            model_name: "Z\u{1b}[2J".parse().unwrap(),
            params: Params::new(&json!({})).unwrap(),
            result_urls: ResultUrls::new(["https://example.org/1.png"]).unwrap(),
            price: "1.25".parse().unwrap(),
        };
        storage.add_generation_to_history(add).await.unwrap();
    });
    place
}

#[test]
fn status_of_no_store_creates_nothing() {
    let place = Place::new();
    let ran = place.run(&["status"]).exits(0);
    assert!(ran.stdout.contains("no store yet at") && ran.stdout.contains("storage import"), "{ran:#?}");
    let status = place.run(&["status", "--json"]).exits(0).json();
    assert_eq!((&status["exists"], &status["backend"]["name"]), (&json!(false), &json!("json")));
    assert!(!place.data().exists());
}

#[test]
fn reading_commands_without_a_store_fail_and_create_nothing() {
    let place = Place::new();
    for arguments in [
        &["user", "list"][..],
        &["user", "show", "1"],
        &["payments", "list"],
        &["payments", "approve", "p-1", "--yes"],
        &["jobs", "list"],
        &["history", "1"],
        &["referrals", "1"],
        &["audit"],
        &["dump"],
        &["dump", "file"],
    ] {
        let ran = place.run(arguments).exits(1);
        assert!(ran.stderr.contains("does not exist") && ran.stderr.contains("try: "), "{ran:#?}");
        let error = place.run(&[arguments, &["--json"]].concat()).exits(1).json();
        assert_eq!(error["error"]["kind"], "NotFound");
    }
    assert_eq!(files(place.dir.path()), []);
    assert!(!place.data().exists());
}

#[test]
fn status_of_a_store_adds_up() {
    let place = filled();
    let status = place.run(&["status", "--json"]).exits(0).json();
    for (field, value) in [
        ("exists", json!(true)),
        ("users", json!(2)),
        ("balance_sum", json!("12.50")),
        ("held", json!("7.50")),
        ("open_holds", json!(1)),
        ("pending_payments", json!(2)),
    ] {
        assert_eq!(status[field], value, "{field}");
    }
    let ran = place.run(&["status"]).exits(0);
    assert!(ran.stdout.starts_with("json at ") && ran.stdout.contains("12.50"), "{ran:#?}");
}

#[test]
fn user_list_is_paged() {
    let place = filled();
    let first = place.run(&["user", "list", "--limit", "1", "--json"]).exits(0).json();
    assert_eq!((&first["items"][0]["id"], &first["items"][0]["balance"]), (&json!(-7), &json!("0.00")));
    let next = first["next"].as_str().unwrap();
    let second = place.run(&["user", "list", "--limit", "1", "--after", next, "--json"]).exits(0).json();
    assert_eq!((&second["items"][0]["id"], &second["next"]), (&json!(1001), &Value::Null));
    let ran = place.run(&["user", "list", "--limit", "1"]).exits(0);
    assert!(ran.stdout.contains("-7") && ran.stderr.contains(&format!("--after {next}")), "{ran:#?}");
    place.run(&["user", "list", "--limit", "0"]).exits(2);
    place.run(&["jobs", "list", "--after", next]).exits(2);
}

#[test]
fn user_show_reads_like_a_statement() {
    let place = filled();
    let ran = place.run(&["user", "show", "1001"]).exits(0);
    for part in ["User 1001", "balance   12.50", "held       7.50", "hold-1", "5 left", "+20.00", "-7.50"] {
        assert!(ran.stdout.contains(part), "{part}: {}", ran.stdout);
    }
    let rows: Vec<&str> = ran.stdout.lines().skip_while(|line| !line.starts_with("Ledger")).collect();
    assert!(rows[2].contains("credit") && rows[3].contains("hold"), "oldest first: {}", ran.stdout);
    assert_eq!(rows[2].find(".00"), rows[3].find(".50"), "aligned: {}", ran.stdout);
    let user = place.run(&["user", "show", "1001", "--json"]).exits(0).json();
    assert_eq!((&user["balance"], &user["held"], &user["referrer"]), (&json!("12.50"), &json!("7.50"), &json!(-7)));
    assert_eq!(user["ledger"]["items"].as_array().unwrap().len(), 2);
    assert_eq!(user["admin"]["spent"], "1.25");
    place.run(&["user", "show", "-7"]).exits(0);
    let ran = place.run(&["user", "show", "5"]).exits(1);
    assert_eq!(ran.stderr, "error: user 5 does not exist\ntry: storage user list\n");
    place.run(&["user", "show", "0"]).exits(2);
}

#[test]
fn credit_and_debit_with_keys() {
    let place = filled();
    let credit =
        ["user", "credit", "1001", "5", "--key", "k-1", "--reason", "gift", "--actor", "anna", "--yes", "--json"];
    let first = place.run(&credit).exits(0).json();
    assert_eq!((&first["balance_after"], &first["replayed"]), (&json!("17.50"), &json!(false)));
    let again = place.run(&credit).exits(0).json();
    assert_eq!((&again["operation"], &again["replayed"]), (&first["operation"], &json!(true)));
    let other = place.run(&["user", "credit", "1001", "6", "--key", "k-1", "--yes", "--json"]).exits(1).json();
    assert_eq!((&other["error"]["kind"], &other["error"]["applied"]), (&json!("Conflict"), &json!("no")));
    let ran = place.run(&["user", "debit", "1001", "0.25", "--yes"]).exits(0);
    assert!(ran.stdout.contains("balance after: 17.25"), "{ran:#?}");
    assert!(ran.stderr.contains("0.25 will be debited from user 1001"), "{ran:#?}");
    let ran = place.run(&["user", "debit", "1001", "100", "--yes"]).exits(1);
    assert!(ran.stderr.contains("100.00 required, 17.25 available"), "{ran:#?}");
    assert!(ran.stderr.ends_with("try: storage user show 1001\n"), "{ran:#?}");
    let ledger = place.run(&["user", "show", "1001", "--json"]).json();
    let row = &ledger["ledger"]["items"][1];
    assert_eq!((&row["reason"], &row["actor"], &row["key"]), (&json!("gift"), &json!("anna"), &json!("k-1")));
    for wrong in ["0", "-1", "NaN", "1e3", "0.0000001"] {
        place.run(&["user", "credit", "1001", wrong, "--yes"]).exits(2);
    }
}

#[test]
fn a_credit_creates_the_store_only_when_confirmed() {
    let place = Place::new();
    let ran = place.run(&["user", "credit", "-100", "5"]).exits(7);
    assert!(ran.stderr.contains("which will be created") && ran.stderr.contains("--yes"), "{ran:#?}");
    place.run(&["user", "credit", "-100", "5", "--dry-run"]).exits(0);
    place.run(&["user", "set-language", "-100", "en", "--dry-run"]).exits(0);
    assert!(!place.data().exists());
    place.run_with(&["user", "credit", "-100", "5"], &[("STORAGE_YES", "true")]).exits(0);
    assert_eq!(place.run(&["user", "show", "-100", "--json"]).json()["balance"], "5.00");
}

#[test]
fn languages_are_set() {
    let place = filled();
    let set = place.run(&["user", "set-language", "1001", "pt-br", "--yes", "--json"]).exits(0).json();
    assert_eq!(set, json!({ "user": 1001, "language": "pt-br", "replayed": false }));
    assert_eq!(place.run(&["user", "show", "1001", "--json"]).json()["language"], "pt-br");
    place.run(&["user", "set-language", "1001", "?", "--yes"]).exits(2);
}

#[test]
fn without_a_terminal_only_yes_goes_on() {
    let place = filled();
    let before = place.run(&["dump"]).stdout;
    for arguments in [
        &["user", "credit", "1001", "5"][..],
        &["user", "debit", "1001", "5"],
        &["user", "set-language", "1001", "en"],
        &["payments", "approve", "p-1"],
        &["payments", "reject", "p-1"],
    ] {
        let ran = place.run(arguments).exits(7);
        assert!(ran.stderr.contains("stdin is not a terminal") && ran.stderr.contains("--yes"), "{ran:#?}");
        assert_eq!(ran.stdout, "");
        let error = place.run(&[arguments, &["--json"]].concat()).exits(7).json();
        assert_eq!(error["error"]["kind"], "Refused");
        let ran = place.run(&[arguments, &["--dry-run", "--yes"]].concat()).exits(0);
        assert!(ran.stdout.contains("dry run: nothing was changed"), "{ran:#?}");
        let plan = place.run(&[arguments, &["--dry-run", "--json"]].concat()).exits(0).json();
        assert_eq!(plan["dry_run"], true);
        let plan = place.run_with(arguments, &[("STORAGE_DRY_RUN", "1"), ("STORAGE_JSON", "yes")]).exits(0).json();
        assert_eq!(plan["dry_run"], true);
    }
    assert_eq!(place.run(&["dump"]).stdout, before);
}

#[cfg(unix)]
#[test]
fn on_a_terminal_the_answer_decides() {
    const TERMINAL: &str = "
import os, pty, sys
pid, fd = pty.fork()
if pid == 0:
    os.execv(sys.argv[2], sys.argv[2:])
seen = b''
while True:
    try:
        part = os.read(fd, 4096)
    except OSError:
        break
    if not part:
        break
    asked = b'[y/N]' in seen
    seen += part
    if b'[y/N]' in seen and not asked:
        os.write(fd, sys.argv[1].encode() + b'\\n')
sys.stdout.buffer.write(seen)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
";
    let place = filled();
    let answer = |answer: &str| -> Ran {
        let inner = place.command::<&str>(&[]);
        let mut command = std::process::Command::new("python3");
        command.args(["-c", TERMINAL, answer]).arg(inner.get_program());
        command.args(["user", "credit", "1001", "5"]).env("DATA_DIR", place.data()).env("NO_COLOR", "1");
        command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::piped());
        common::finish(command, &[])
    };
    let ran = answer("n").exits(7);
    assert!(ran.stdout.contains("5.00 will be credited") && ran.stdout.contains("not confirmed"), "{ran:#?}");
    answer("").exits(7);
    assert_eq!(place.run(&["user", "show", "1001", "--json"]).json()["balance"], "12.50");
    let ran = answer("y").exits(0);
    assert!(ran.stdout.contains("balance after: 17.50") && !ran.stdout.contains('\u{1b}'), "{ran:#?}");
}

#[test]
fn payments_are_decided_once() {
    let place = filled();
    let list = place.run(&["payments", "list", "--user", "1001", "--status", "pending", "--json"]).exits(0).json();
    assert_eq!(list["items"].as_array().unwrap().len(), 2);
    let approve = ["payments", "approve", "p-1", "--reason", "seen", "--admin", "9", "--yes", "--json"];
    let first = place.run(&approve).exits(0).json();
    assert_eq!((&first["balance"], &first["replayed"]), (&json!("112.50"), &json!(false)));
    assert_eq!((&first["payment"]["notes"], &first["payment"]["admin"]), (&json!("seen"), &json!(9)));
    let again = place.run(&approve).exits(0).json();
    assert_eq!((&again["balance"], &again["replayed"]), (&json!("112.50"), &json!(true)));
    place.run(&["payments", "reject", "p-2", "--yes"]).exits(0);
    let ran = place.run(&["payments", "approve", "p-2", "--yes"]).exits(1);
    assert!(ran.stderr.contains("cannot go from rejected to approved"), "{ran:#?}");
    assert!(ran.stderr.ends_with("try: storage payments show p-2\n"), "{ran:#?}");
    place.run(&["payments", "approve", "p-9", "--yes"]).exits(1);
    let ran = place.run(&["payments", "refund", "p-1", "--yes"]).exits(0);
    assert!(ran.stdout.contains("p-1 is refunded") && ran.stdout.contains("balance: 12.50"), "{ran:#?}");
    let ran = place.run(&["payments", "show", "p-1"]).exits(0);
    assert!(ran.stdout.contains("refunded") && ran.stdout.contains("100.00"), "{ran:#?}");
    assert_eq!(place.run(&["payments", "show", "p-1", "--json"]).json()["status"], "refunded");
    assert!(place.run(&["payments", "list"]).stdout.contains("rejected"));
    place.run(&["payments", "list", "--status", "paid"]).exits(2);
    place.run(&["audit"]).exits(0);
}

#[test]
fn jobs_history_and_referrals_are_shown() {
    let place = filled();
    let jobs = place.run(&["jobs", "list", "--status", "pending,running", "--json"]).exits(0).json();
    assert_eq!((&jobs["items"][0]["id"], &jobs["next"]), (&json!("job-1"), &Value::Null));
    assert!(place.run(&["jobs", "list", "--status", "failed"]).exits(0).stdout.contains("no jobs"));
    let ran = place.run(&["jobs", "show", "job-1"]).exits(0);
    assert!(ran.stdout.contains("task-1") && !ran.stdout.contains('\u{1b}'), "{ran:#?}");
    assert_eq!(place.run(&["jobs", "show", "job-1", "--json"]).json()["params"]["prompt"], "a\u{1b}[2Jcat");
    place.run(&["jobs", "show", "job-9"]).exits(1);

    let history = place.run(&["history", "1001", "--json"]).exits(0).json();
    assert_eq!(history["items"][0]["price"], "1.25");
    let ran = place.run(&["history", "1001"]).exits(0);
    assert!(ran.stdout.contains("op-1") && !ran.stdout.contains('\u{1b}'), "{ran:#?}");
    assert!(place.run(&["history", "5"]).exits(0).stdout.contains("no generations"));

    let referrals = place.run(&["referrals", "-7", "--json"]).exits(0).json();
    assert_eq!((&referrals["items"][0]["user"], &referrals["referrer"]), (&json!(1001), &Value::Null));
    assert!(place.run(&["referrals", "1001"]).exits(0).stdout.contains("brought by user -7"));
}

#[test]
fn the_audit_is_clean() {
    let place = filled();
    let audit = place.run(&["audit", "--json"]).exits(0).json();
    assert_eq!((&audit["clean"], &audit["users"], &audit["balances"]), (&json!(true), &json!(2), &json!("12.50")));
    let audit = place.run(&["audit", "--user", "-7", "--json"]).exits(0).json();
    assert_eq!((&audit["users"], &audit["rows"]), (&json!(1), &json!(0)));
    assert!(place.run(&["audit"]).stdout.contains("audit: clean"));
}

#[test]
fn verify_proves_the_backend_and_audits_the_store() {
    let place = Place::new();
    let ran = place.run(&["verify"]).exits(0);
    assert!(ran.stdout.trim_end().ends_with("checks passed"), "{ran:#?}");
    assert!(!ran.stdout.contains("FAILED") && !ran.stdout.contains('\u{1b}'), "{ran:#?}");
    assert!(!place.data().exists());

    let place = filled();
    let before = place.run(&["dump"]).stdout;
    let verify = place.run(&["verify", "--json"]).exits(0).json();
    assert_eq!(verify["ok"], true, "{verify:#}");
    assert_eq!(verify["passed"], verify["total"]);
    assert!(verify["total"].as_u64().unwrap() > 17);
    assert_eq!(verify["store"]["users"], 2);
    assert_eq!(place.run(&["dump"]).stdout, before);
}

#[cfg(unix)]
#[test]
fn a_reader_that_stops_is_no_error() {
    let place = filled();
    let mut command = std::process::Command::new("sh");
    command.args(["-c", "\"$0\" user list --json | true; \"$0\" user list | head -1"]);
    command.arg(env!("CARGO_BIN_EXE_storage")).env("DATA_DIR", place.data());
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let ran = common::finish(command, &[]).exits(0);
    assert_eq!(ran.stderr, "");
}

#[test]
fn a_debit_creates_no_store_and_its_plan_tells_the_end() {
    let place = Place::new();
    for arguments in [&["user", "debit", "1001", "1", "--yes"][..], &["user", "debit", "1001", "1", "--dry-run"]] {
        let ran = place.run(arguments).exits(1);
        assert!(ran.stderr.contains("insufficient funds: 1.00 required, 0.00 available"), "{ran:#?}");
    }
    assert!(!place.data().exists());
    place.run(&["user", "credit", "1001", "2", "--yes"]).exits(0);
    let plan = place.run(&["user", "debit", "1001", "0.5", "--dry-run", "--json"]).exits(0).json();
    assert_eq!(plan["plan"]["balance_after"], "1.50");
    let plan = place.run(&["user", "debit", "1001", "3", "--dry-run", "--json"]).exits(0).json();
    assert_eq!(plan["plan"]["balance_after"], "refused: insufficient funds, 2.00 available");
}

#[test]
fn a_policy_keeps_what_is_not_given() {
    let place = Place::new();
    place.run(&["user", "credit", "1001", "2", "--yes"]).exits(0);
    place.run(&["policy", "--yes"]).exits(2);
    let policy = place.run(&["policy", "--time-zone", "Europe/Kyiv", "--yes", "--json"]).exits(0).json();
    assert_eq!(policy["time_zone"], "Europe/Kyiv");
    // Here the program is set up for another zone than the store has: nothing is guessed.
    place.run(&["policy", "--history", "7", "--yes"]).exits(3);
    let kyiv = [("STORAGE_TIME_ZONE", "Europe/Kyiv")];
    let policy = place.run_with(&["policy", "--history", "7", "--yes", "--json"], &kyiv).exits(0).json();
    assert_eq!((&policy["time_zone"], &policy["history"]), (&json!("Europe/Kyiv"), &json!("7")));
}
