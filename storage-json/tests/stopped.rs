//! Behind a process that holds a lock and stands still: a store keeps no more than its limits say, forgets at once what is given
//! up, says who it is that stands still, and reads without any lock.
//!
//! The test starts this very program again as the holder, and stops it by a signal. How memory grows in such a minute
//! is measured by `storage-bench stopped`.

#![expect(clippy::print_stdout, reason = "the holder says on stdout that it has the lock")]

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitCode, Stdio};
use std::time::Duration;

use libtest_mimic::{Arguments, Failed, Trial};
use storage_core::{
    AddBalance, AddGenerationToHistory, AdminLimits as _, Applied, AuditScope, Balances as _, Error, ErrorKind,
    History as _, Money, Operations as _, Params, ResultUrls, Store as _, UserId,
};
use storage_json::{JsonOptions, JsonStorage};

const HOLDER: &str = "STORAGE_JSON_TEST_HOLDER";
const CALLS: u64 = 100;
const BYTES: u64 = 4 * 1024 * 1024;
/// What each call keeps: 60 KB.
const ARGUMENTS: usize = 60_000;

/// Takes the lock, says so, and keeps it until its input ends.
fn hold(lock: &str) -> std::io::Result<()> {
    let file = File::options().read(true).write(true).open(lock)?;
    file.lock()?;
    println!("held");
    std::io::stdout().flush()?;
    std::io::stdin().read_line(&mut String::new()).map(|_| ())
}

struct Holder {
    child: Child,
    stdin: ChildStdin,
}

impl Holder {
    fn stopped(lock: &Path) -> Result<Self, Failed> {
        let mut child = Command::new(std::env::current_exe()?)
            .env(HOLDER, lock)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (stdin, stdout) = child.stdin.take().zip(child.stdout.take()).ok_or("a holder without pipes")?;
        let holder = Self { child, stdin };
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        if line != "held\n" {
            return Err(format!("the holder said {line:?}").into());
        }
        holder.signal("STOP")?;
        Ok(holder)
    }

    fn signal(&self, name: &str) -> Result<(), Failed> {
        let sent = Command::new("sh").arg("-c").arg(format!("kill -{name} {}", self.child.id())).status()?;
        if sent.success() { Ok(()) } else { Err(format!("kill -{name}: {sent}").into()) }
    }

    fn goes_on_and_ends(mut self) -> Result<(), Failed> {
        self.signal("CONT")?;
        drop(self.stdin);
        self.child.wait()?;
        Ok(())
    }
}

/// A call of 60 KB that costs a millionth, so that what was spent counts what was applied.
async fn call(storage: &JsonStorage, params: &Params) -> Result<(), Error> {
    let add = AddGenerationToHistory {
        user: UserId::new(1)?,
        id: None,
        model_id: "model".parse()?,
        model_name: "Model".parse()?,
        params: params.clone(),
        result_urls: ResultUrls::default(),
        price: Money::from_micros(1)?,
    };
    storage.add_generation_to_history(add).await.map(|_| ())
}

/// Polls it once and gives it up, unless it is ready.
async fn once<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(|context| {
        std::task::Poll::Ready(match future.as_mut().poll(context) {
            std::task::Poll::Ready(output) => Some(output),
            std::task::Poll::Pending => None,
        })
    })
    .await
}

async fn behind_it(storage: &JsonStorage, params: &Params, deadline: Duration) -> Result<(), Failed> {
    let held = || (storage.vitals().waiting_calls, storage.vitals().waiting_bytes);
    let check = |is: bool, what: &str| if is { Ok(()) } else { Err(Failed::from(format!("{what}: {:?}", held()))) };
    // A second's worth of calls at a time, far more than there is room for.
    for _ in 0..20 {
        let mut calls = futures_of(storage, params, 200);
        let mut answers = Vec::new();
        std::future::poll_fn(|context| {
            poll_all(&mut calls, &mut answers, context);
            std::task::Poll::Ready(())
        })
        .await;
        let (waiting, bytes) = held();
        check(waiting > 0 && waiting + answers.len() as u64 == 200, "what waits and what was refused is all")?;
        check(waiting <= CALLS && bytes <= BYTES, "the limits are kept")?;
        check(bytes >= waiting * ARGUMENTS as u64, "the arguments are counted")?;
        for error in answers.drain(..) {
            let refused = *error.kind() == ErrorKind::Busy { waited: Duration::ZERO };
            check(refused && error.applied() == Applied::No, &error.to_string())?;
        }
        std::future::poll_fn(|context| {
            poll_all(&mut calls, &mut answers, context);
            if calls.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        })
        .await;
        for error in answers {
            let given_up = *error.kind() == ErrorKind::Busy { waited: deadline };
            check(given_up && error.applied() == Applied::No, &error.to_string())?;
        }
        check(held() == (0, 0), "nothing waits that was given up")?;
    }
    for _ in 0..1000 {
        check(once(call(storage, params)).await.is_none(), "a call is done behind the holder")?;
        check(once(storage.ping()).await.is_none(), "a ping is done behind the holder")?;
        check(held() == (0, 0), "nothing waits that was dropped")?;
    }
    Ok(())
}

type Calls<'s> = Vec<std::pin::Pin<Box<dyn Future<Output = Result<(), Error>> + 's>>>;

fn futures_of<'s>(storage: &'s JsonStorage, params: &'s Params, count: usize) -> Calls<'s> {
    (0..count).map(|_| Box::pin(call(storage, params)) as std::pin::Pin<Box<_>>).map(|call| call as _).collect()
}

/// Polls all, and keeps the errors of those that are over.
fn poll_all(calls: &mut Calls<'_>, errors: &mut Vec<Error>, context: &mut std::task::Context<'_>) {
    calls.retain_mut(|call| match call.as_mut().poll(context) {
        std::task::Poll::Ready(outcome) => {
            errors.push(outcome.err().unwrap_or_else(|| Error::internal("it was done behind the holder")));
            false
        }
        std::task::Poll::Pending => true,
    });
}

fn behind_a_stopped_holder_calls_are_bounded_and_forgotten() -> Result<(), Failed> {
    let temp = tempfile::tempdir()?;
    let dir = temp.path().join("data");
    let deadline = Duration::from_millis(50);
    let options = JsonOptions { deadline, queue_calls: CALLS, queue_bytes: BYTES, ..JsonOptions::new(&dir) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let storage = JsonStorage::open(options).await?;
        let holder = Holder::stopped(&dir.join("writer.lock"))?;
        let params = Params::new(&"x".repeat(ARGUMENTS).into())?;
        behind_it(&storage, &params, deadline).await?;
        holder.goes_on_and_ends()?;
        // Nothing of it happens afterwards; what comes now does.
        storage.ping().await?;
        let spent = async || storage.get_admin_spent(UserId::new(1)?).await;
        let before = spent().await?.micros();
        call(&storage, &params).await?;
        let after = spent().await?.micros();
        if (before, after) != (0, 1) {
            return Err(format!("{before} calls were applied of which it was said that they were not").into());
        }
        storage.close().await?;
        Ok(())
    })
}

fn whoever_keeps_a_lock_is_named_and_readers_need_none() -> Result<(), Failed> {
    let temp = tempfile::tempdir()?;
    let dir = temp.path().join("data");
    let (lock_wait, deadline) = (Duration::from_millis(100), Duration::from_millis(200));
    let hasty = JsonOptions { lock_wait, deadline, ..JsonOptions::new(&dir) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (user, amount) = (UserId::new(1)?, "5".parse::<storage_core::Amount>()?);
    let named = |text: &str, holder: &Holder| {
        let way_out = format!("kill -CONT {}", holder.child.id());
        if text.contains(&way_out) { Ok(()) } else { Err(Failed::from(format!("not named: {text}"))) }
    };
    runtime.block_on(async {
        let storage = JsonStorage::open(hasty.clone()).await?;
        storage.add_balance(AddBalance::new(user, amount)).await?;
        let holder = Holder::stopped(&dir.join("writer.lock"))?;
        // Opening, reading and closing beside the store take no writer lock.
        let beside = JsonStorage::open(hasty.clone()).await?;
        let balance = beside.get_balance(user).await?;
        let clean = beside.audit(AuditScope::Everyone).await?.is_clean();
        if (balance, clean, beside.moved_to().await?) != (amount.money(), true, None) {
            return Err(format!("{balance}, clean: {clean}").into());
        }
        beside.close().await?;
        let error = storage.add_balance(AddBalance::new(user, amount)).await.err().ok_or("it was done")?;
        if *error.kind() != (ErrorKind::Busy { waited: deadline }) {
            return Err(error.to_string().into());
        }
        named(&error.to_string(), &holder)?;
        let found = storage_json::examine(&dir, storage_core::Timestamp::MIN);
        let lock = found.iter().find(|found| found.subject == "writer.lock").ok_or("the doctor says nothing")?;
        named(&lock.found, &holder)?;
        holder.goes_on_and_ends()?;
        storage.add_balance(AddBalance::new(user, amount)).await?;
        storage.close().await?;

        let holder = Holder::stopped(&dir.join("opening.lock"))?;
        let error = JsonStorage::open(hasty.clone()).await.err().ok_or("it opened")?;
        if !matches!(error.kind(), ErrorKind::Locked { pid, .. } if *pid == Some(holder.child.id())) {
            return Err(error.to_string().into());
        }
        named(&error.to_string(), &holder)?;
        holder.goes_on_and_ends()?;
        let storage = JsonStorage::open(hasty).await?;
        let balance = storage.get_balance(user).await?;
        storage.close().await?;
        if balance == "10".parse()? { Ok(()) } else { Err(format!("{balance} is stored").into()) }
    })
}

fn main() -> ExitCode {
    if let Ok(lock) = std::env::var(HOLDER) {
        return if hold(&lock).is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let trials = vec![
        Trial::test(
            "behind_a_stopped_holder_calls_are_bounded_and_forgotten",
            behind_a_stopped_holder_calls_are_bounded_and_forgotten,
        ),
        Trial::test(
            "whoever_keeps_a_lock_is_named_and_readers_need_none",
            whoever_keeps_a_lock_is_named_and_readers_need_none,
        ),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
