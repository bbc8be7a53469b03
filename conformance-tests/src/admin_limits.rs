//! Admin limits: how much an admin may spend on generations.

use storage_core::{AdminLimit, Policy, SetAdminLimit, Storage, Total, UserId};

use crate::check::{Check, ensure_eq};
use crate::context::{Context, keeping};
use crate::scenario::list_scenarios;
use crate::steps::record;

list_scenarios! {
    "admin_limits":
    an_unknown_admin_has_the_default_limit ["get_admin_limit", "get_admin_spent", "get_admin_remaining", "R1", "V12"];
    a_limit_is_kept ["set_admin_limit", "get_admin_limit"];
    setting_a_limit_creates_the_user ["set_admin_limit", "R2", "W18"];
    spent_is_the_sum_of_all_prices ["W36", "get_admin_spent", "add_generation_to_history"];
    spent_outlives_the_trimming_of_history ["W36", "get_admin_spent"];
    remaining_is_never_below_zero ["get_admin_remaining"];
    the_main_admin_is_unlimited ["get_admin_limit", "get_admin_remaining", "V12"];
    a_limit_of_zero_is_a_limit ["set_admin_limit", "get_admin_remaining"];
    spent_is_wider_than_money ["get_admin_spent", "V2"];
}

fn limited(amount: &str) -> Check<AdminLimit> {
    Ok(AdminLimit::Limited(amount.parse()?))
}

async fn set(storage: &dyn Storage, user: UserId, limit: &str) -> Check {
    let acknowledged = storage.set_admin_limit(SetAdminLimit::new(user, limit.parse()?)).await?;
    ensure_eq!(acknowledged.replayed, false);
    Ok(())
}

async fn an_unknown_admin_has_the_default_limit(context: Context) -> Check {
    let storage = context.open().await?;
    ensure_eq!(storage.get_admin_limit(context.alice).await?, limited("100")?);
    ensure_eq!(storage.get_admin_spent(context.alice).await?, Total::ZERO);
    ensure_eq!(storage.get_admin_remaining(context.alice).await?, limited("100")?);
    ensure_eq!(storage.find_user(context.alice).await?, None, "a read created a user");
    let context = context.elsewhere().await?;
    let storage = context.open_with(Policy { default_admin_limit: "2.5".parse()?, ..Policy::default() }).await?;
    ensure_eq!(storage.get_admin_limit(context.alice).await?, limited("2.5")?);
    Ok(())
}

async fn a_limit_is_kept(context: Context) -> Check {
    let storage = context.open().await?;
    for limit in ["250", "0.000001", "999999999999.999999"] {
        set(&*storage, context.alice, limit).await?;
        ensure_eq!(storage.get_admin_limit(context.alice).await?, limited(limit)?);
        ensure_eq!(storage.get_admin_remaining(context.alice).await?, limited(limit)?);
    }
    ensure_eq!(storage.get_admin_limit(context.bob).await?, limited("100")?);
    Ok(())
}

async fn setting_a_limit_creates_the_user(context: Context) -> Check {
    let storage = context.open().await?;
    set(&*storage, context.alice, "250").await?;
    ensure_eq!(storage.find_user(context.alice).await?.map(|user| user.created_at), Some(context.now()));
    Ok(())
}

async fn spent_is_the_sum_of_all_prices(context: Context) -> Check {
    let storage = context.open().await?;
    for (id, price) in [("g-1", "7.50"), ("g-2", "0.1"), ("g-3", "0.2"), ("g-4", "0")] {
        record(&*storage, context.alice, id, price).await?;
    }
    record(&*storage, context.bob, "g-1", "50").await?;
    ensure_eq!(storage.get_admin_spent(context.alice).await?.to_string(), "7.80");
    ensure_eq!(storage.get_admin_remaining(context.alice).await?, limited("92.20")?);
    record(&*storage, context.alice, "g-1", "7.50").await?;
    ensure_eq!(storage.get_admin_spent(context.alice).await?.to_string(), "7.80", "a replay costs nothing");
    Ok(())
}

async fn spent_outlives_the_trimming_of_history(context: Context) -> Check {
    let storage = context.open_with(keeping(3)).await?;
    for number in 1..=20 {
        record(&*storage, context.alice, &format!("g-{number}"), "1.5").await?;
    }
    ensure_eq!(storage.get_admin_spent(context.alice).await?.to_string(), "30.00");
    Ok(())
}

async fn remaining_is_never_below_zero(context: Context) -> Check {
    let storage = context.open().await?;
    set(&*storage, context.alice, "10").await?;
    record(&*storage, context.alice, "g-1", "10").await?;
    ensure_eq!(storage.get_admin_remaining(context.alice).await?, limited("0")?);
    record(&*storage, context.alice, "g-2", "0.000001").await?;
    ensure_eq!(storage.get_admin_remaining(context.alice).await?, limited("0")?);
    ensure_eq!(storage.get_admin_spent(context.alice).await?.to_string(), "10.000001");
    set(&*storage, context.alice, "11").await?;
    ensure_eq!(storage.get_admin_remaining(context.alice).await?, limited("0.999999")?);
    Ok(())
}

async fn the_main_admin_is_unlimited(context: Context) -> Check {
    let storage = context.open_with(Policy { main_admin: Some(context.alice), ..Policy::default() }).await?;
    set(&*storage, context.alice, "1").await?;
    record(&*storage, context.alice, "g-1", "500").await?;
    ensure_eq!(storage.get_admin_limit(context.alice).await?, AdminLimit::Unlimited);
    ensure_eq!(storage.get_admin_remaining(context.alice).await?, AdminLimit::Unlimited);
    ensure_eq!(storage.get_admin_spent(context.alice).await?.to_string(), "500.00");
    ensure_eq!(storage.get_admin_limit(context.bob).await?, limited("100")?);
    Ok(())
}

async fn a_limit_of_zero_is_a_limit(context: Context) -> Check {
    let storage = context.open().await?;
    set(&*storage, context.alice, "0").await?;
    ensure_eq!(storage.get_admin_limit(context.alice).await?, limited("0")?);
    ensure_eq!(storage.get_admin_remaining(context.alice).await?, limited("0")?);
    Ok(())
}

async fn spent_is_wider_than_money(context: Context) -> Check {
    let storage = context.open().await?;
    for number in 1..=3 {
        record(&*storage, context.alice, &format!("g-{number}"), "999999999999.999999").await?;
    }
    ensure_eq!(storage.get_admin_spent(context.alice).await?.to_string(), "2999999999999.999997");
    ensure_eq!(storage.get_admin_remaining(context.alice).await?, limited("0")?);
    Ok(())
}
