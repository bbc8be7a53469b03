//! `storage merge`: what was done while JSON stood in for a database is done there too, once.
#![cfg(feature = "postgres")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that fails must stop")]

mod common;

use common::pg::migrated;
use common::{Place, Ran};
use pg_test_server::Server;
use serde_json::json;
use storage_core::{
    AddBalance, AddGenerationJob, AddGenerationToHistory, AddPayment, AddReferralBonus, BonusCount, CommitReserve,
    IncrementFreeGenerations, JobStatus, MarkPaymentStatus, Params, PaymentStatus, ReleaseReserve, ReserveBalance,
    Result, SetReferrer, SetUserLanguage, SharedStorage, UpdateJobStatus, UserId,
};
use storage_factory::Config;

const MERGE: [&str; 5] = ["merge", "--from", "json:data", "--to", "DATABASE_URL"];

fn run(place: &Place, url: &str, arguments: &[&str]) -> Ran {
    place.run_with(arguments, &[("DATABASE_URL", url), ("STORAGE_MODE", "json")])
}

/// On the database, whatever the directory remembers.
fn there(place: &Place, url: &str, arguments: &[&str]) -> Ran {
    place.run_with(arguments, &[("DATABASE_URL", url), ("STORAGE_MODE", "postgres"), ("DATA_DIR", "elsewhere")])
}

/// Some of everything that a bot does.
async fn a_day(storage: &SharedStorage) -> Result<()> {
    let (alice, bob) = (UserId::new(1001)?, UserId::new(1002)?);
    storage.add_balance(AddBalance::new(alice, "100".parse()?).with_key("topup".parse()?)).await?;
    for (name, amount) in [("whole", "10"), ("part", "8"), ("back", "5"), ("open", "3")] {
        storage.reserve_balance(ReserveBalance::new(alice, name.parse()?, amount.parse()?)).await?;
    }
    storage.commit_reserve(CommitReserve::new(alice, "whole".parse()?)).await?;
    let part = CommitReserve { amount: Some("6".parse()?), ..CommitReserve::new(alice, "part".parse()?) };
    storage.commit_reserve(CommitReserve { key: Some("commit".parse()?), ..part }).await?;
    storage.release_reserve(ReleaseReserve::new(alice, "back".parse()?)).await?;
    for (id, status) in [("p-1", PaymentStatus::Approved), ("p-2", PaymentStatus::Rejected)] {
        let add = AddPayment::new(bob, "50".parse()?, "card".parse()?);
        storage.add_payment(AddPayment { payment: Some(id.parse()?), ..add }).await?;
        let mark = MarkPaymentStatus { admin: Some(alice), ..MarkPaymentStatus::new(id.parse()?, status) };
        storage.mark_payment_status(mark).await?;
    }
    let add = AddPayment::new(bob, "1".parse()?, "card".parse()?);
    storage.add_payment(AddPayment { payment: Some("p-3".parse()?), notes: Some("why".parse()?), ..add }).await?;
    storage
        .add_generation_job(AddGenerationJob {
            user: alice,
            job: Some("j-1".parse()?),
            external_task_id: None,
            model_id: "m".parse()?,
            model_name: "M".parse()?,
            params: Params::from_json("{}")?,
            price: "10".parse()?,
            key: None,
        })
        .await?;
    let mut update = UpdateJobStatus::new("j-1".parse()?, JobStatus::Failed);
    update.error_message = Some("no luck".parse()?);
    storage.update_job_status(update).await?;
    storage
        .add_generation_to_history(AddGenerationToHistory {
            user: alice,
            id: Some("g-1".parse()?),
            model_id: "m".parse()?,
            model_name: "M".parse()?,
            params: Params::from_json("{}")?,
            result_urls: storage_core::ResultUrls::default(),
            price: "10".parse()?,
        })
        .await?;
    storage.increment_free_generations(IncrementFreeGenerations { user: alice, key: Some("take".parse()?) }).await?;
    let bonus = AddReferralBonus { referrer: alice, count: BonusCount::new(7)?, key: Some("bonus".parse()?) };
    storage.add_referral_bonus(bonus).await?;
    let referred = SetReferrer { bonus: Some(BonusCount::new(5)?), ..SetReferrer::new(bob, alice) };
    storage.set_referrer(referred).await?;
    Ok(())
}

#[test]
fn what_was_done_meanwhile_is_done_there_once() {
    let server = Server::shared().unwrap();
    let (database, place) = (migrated(server), Place::new());
    let url = database.url();
    there(&place, &url, &["user", "credit", "1001", "1", "--key", "before", "--yes"]).exits(0);
    // The server cannot be reached, and JSON stands in for it: for the program, and for no command that changes something.
    let away = "postgresql://bot@127.0.0.1:1/away";
    let config = Config { data_dir: place.data(), database_url: Some(away.parse().unwrap()), ..Config::default() };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let storage = storage_factory::connect(config).await.unwrap();
        let alice = UserId::new(1001).unwrap();
        let key = Some("meanwhile".parse().unwrap());
        storage.add_balance(AddBalance { key, ..AddBalance::new(alice, "2.5".parse().unwrap()) }).await.unwrap();
        storage.set_user_language(SetUserLanguage::new(alice, "en".parse().unwrap())).await.unwrap();
        storage.close().await.unwrap();
    });
    place.run_with(&["user", "credit", "1001", "7", "--yes"], &[("DATABASE_URL", away)]).exits(6);
    // It is back: nobody switches unasked, and the way out is named and works.
    let refused = place.run_with(&["user", "show", "1001"], &[("DATABASE_URL", &url)]).exits(7);
    assert!(refused.stderr.contains("storage merge --from json:"), "{refused:#?}");
    place.with_store(async |storage| a_day(storage).await.unwrap());
    there(&place, &url, &["user", "credit", "1002", "4", "--yes"]).exits(0);

    let plan = run(&place, &url, &[&MERGE[..], &["--dry-run", "--json"]].concat()).exits(0).json();
    assert_eq!(
        (&plan["steps"]["credits"], &plan["steps"]["holds"], &plan["steps"]["payments"]),
        (&json!(2), &json!(4), &json!(3))
    );
    assert_eq!((&plan["dry_run"], &plan["balance_change"]), (&json!(true), &json!("76.50")));
    run(&place, &url, &MERGE).exits(7);
    let done = run(&place, &url, &[&MERGE[..], &["--yes", "--json"]].concat()).exits(0).json();
    assert_eq!(done["steps"], plan["steps"]);
    assert_eq!((&done["open"], &done["source_marked"]), (&json!([]), &json!(true)));

    // Once more does nothing.
    let again = run(&place, &url, &[&MERGE[..], &["--yes", "--json"]].concat()).exits(0).json();
    assert_eq!((&again["steps"], &again["balance_change"]), (&json!({}), &json!("0.00")));
    let shown = there(&place, &url, &["user", "show", "1001", "--json"]).exits(0).json();
    // 1 + 2.5 + 100 - 10 - 6 - 3
    assert_eq!(
        (&shown["balance"], &shown["held"], &shown["language"]),
        (&json!("84.50"), &json!("3.00"), &json!("en"))
    );
    assert_eq!(there(&place, &url, &["user", "show", "1002", "--json"]).exits(0).json()["balance"], "54.00");
    there(&place, &url, &["audit"]).exits(0);
    // A program that repeats what it did on JSON is answered.
    let credit = ["user", "credit", "1001", "2.5", "--key", "meanwhile", "--yes", "--json"];
    assert_eq!(there(&place, &url, &credit).exits(0).json()["replayed"], true);
    let job = there(&place, &url, &["jobs", "show", "j-1", "--json"]).exits(0).json();
    assert_eq!((&job["status"], &job["error_message"]), (&json!("failed"), &json!("no luck")));
    for (id, status) in [("p-1", "approved"), ("p-2", "rejected"), ("p-3", "pending")] {
        assert_eq!(there(&place, &url, &["payments", "show", id, "--json"]).exits(0).json()["status"], status);
    }
    // The database is the store from now on, in mode auto too.
    place.run_with(&["user", "show", "1001"], &[("DATABASE_URL", &url)]).exits(0);
    let refused = place.run(&["user", "credit", "1001", "1", "--yes"]).exits(7);
    assert!(refused.stderr.contains("DATABASE_URL"), "{refused:#?}");
}

#[test]
fn what_both_sides_decided_is_left_to_a_person() {
    let server = Server::shared().unwrap();
    let (database, place) = (migrated(server), Place::new());
    let url = database.url();
    there(&place, &url, &["user", "set-language", "7", "ru", "--yes"]).exits(0);
    there(&place, &url, &["user", "credit", "7", "1", "--key", "k", "--yes"]).exits(0);
    for arguments in [
        &["user", "set-language", "7", "en", "--yes"][..],
        &["user", "credit", "7", "2", "--key", "k", "--yes"],
        &["user", "credit", "7", "30", "--key", "good", "--yes"],
    ] {
        place.run(arguments).exits(0);
    }
    let told = run(&place, &url, &[&MERGE[..], &["--yes", "--json"]].concat()).exits(4).json();
    assert_eq!(told["steps"], json!({ "credits": 1 }));
    let open: Vec<_> = told["open"].as_array().unwrap().iter().map(|open| open["reason"].as_str().unwrap()).collect();
    assert!(open.iter().any(|reason| reason.contains("used the key k for something else")), "{open:?}");
    assert!(open.iter().any(|reason| reason.contains("en here and ru on the target")), "{open:?}");
    let shown = there(&place, &url, &["user", "show", "7", "--json"]).exits(0).json();
    assert_eq!((&shown["balance"], &shown["language"]), (&json!("31.00"), &json!("ru")));
}

#[test]
fn a_debit_that_the_other_side_cannot_pay_is_named_and_the_rest_is_done() {
    let server = Server::shared().unwrap();
    let (database, place) = (migrated(server), Place::new());
    let url = database.url();
    // The same money on both sides, as after a copy; then both spend it.
    place.run(&["user", "credit", "7", "10", "--key", "k", "--yes"]).exits(0);
    run(&place, &url, &["copy", "--from", "json:data", "--to", "DATABASE_URL", "--keep-source", "--yes"]).exits(0);
    there(&place, &url, &["user", "debit", "7", "8", "--yes"]).exits(0);
    place.run(&["user", "debit", "7", "9", "--yes"]).exits(0);
    place.run(&["user", "credit", "8", "5", "--yes"]).exits(0);
    let told = run(&place, &url, &[&MERGE[..], &["--yes"]].concat()).exits(4);
    assert!(told.stdout.contains("insufficient funds: 9.00 required, 2.00 available"), "{told:#?}");
    assert_eq!(there(&place, &url, &["user", "show", "7", "--json"]).exits(0).json()["balance"], "2.00");
    assert_eq!(there(&place, &url, &["user", "show", "8", "--json"]).exits(0).json()["balance"], "5.00");
    there(&place, &url, &["audit"]).exits(0);
}

#[test]
fn what_came_by_no_operation_is_named() {
    let server = Server::shared().unwrap();
    let (database, place) = (migrated(server), Place::new());
    let url = database.url();
    std::fs::create_dir(place.path("legacy")).unwrap();
    for (name, text) in [
        ("user_balances.json", r#"{"7": 5}"#),
        ("daily_free_generations.json", r#"{"7": {"date": "2025-12-20", "count": 1, "bonus": 4}}"#),
        ("admin_limits.json", r#"{"7": {"limit": 10, "spent": 3}}"#),
    ] {
        std::fs::File::create(place.path("legacy").join(name))
            .and_then(|mut file| std::io::Write::write_all(&mut file, text.as_bytes()))
            .unwrap();
    }
    place.run(&["import", "legacy", "--yes"]).exits(0);
    let told = run(&place, &url, &[&MERGE[..], &["--yes"]].concat()).exits(4);
    assert!(told.stdout.contains("4 in the bank came by no operation"), "{told:#?}");
    assert!(told.stdout.contains("3.00 of what was spent is in no generation that is kept"), "{told:#?}");
    // The balance is an opening one there too, and its user is not credited twice.
    run(&place, &url, &MERGE[..]).exits(7);
    run(&place, &url, &[&MERGE[..], &["--yes"]].concat()).exits(4);
    assert_eq!(there(&place, &url, &["user", "show", "7", "--json"]).exits(0).json()["balance"], "5.00");
}
