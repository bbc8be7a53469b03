//! One byte of a dump changed, anywhere: it is refused, or it holds the very same records. Never anything else.
//!
//! `FLIP_STRIDE` says how far the bytes are apart that are changed (default 2999; 1 is every byte, which takes minutes
//! with an optimised build: `scripts/prove moving`).
#![expect(clippy::unwrap_used, reason = "a test that fails must stop")]

use std::sync::atomic::{AtomicUsize, Ordering};

use storage_core::{DumpReader, DumpRecord, DumpWriter, Policy, Result};

const USERS: i64 = 1000;

/// A dump of a thousand users, with every kind of record.
fn dump() -> Vec<u8> {
    let at = "2026-01-15T10:00:00.000000Z";
    let operation = |n: i64| format!("00000000-0000-7000-8000-{n:012}");
    let mut lines = Vec::new();
    for user in 1..=USERS {
        let cents = user % 100;
        lines.push(format!(
            r#"{{"record":"account","user":{user},"created_at":"{at}","updated_at":"{at}","balance":"{user}.{cents:02}","language":"en","quota_date":"2026-01-15","quota_used":2,"bank":5,"spent":"3.00"}}"#
        ));
        lines.push(format!(
            r#"{{"record":"key","user":{user},"space":"operation","key":"k-{user}","used":{{"arguments":"689a9e1d5c306fcec8dafe4ec822805b","operation":"{0}","answer":{{"money":{{"operation":"{0}","balance_after":"{user}.{cents:02}","replayed":false}}}}}}}}"#,
            operation(user)
        ));
        lines.push(format!(
            r#"{{"record":"ledger","user":{user},"seq":1,"operation":"{}","kind":"credit","balance_change":"+{user}.{cents:02}","held_change":"+0.00","balance_after":"{user}.{cents:02}","held_after":"0.00","key":"k-{user}","at":"{at}"}}"#,
            operation(user)
        ));
        if user % 100 == 0 {
            lines.push(format!(
                r#"{{"record":"generation","user":{user},"id":"g-{user}","model_id":"m","model_name":"Модель","params":{{"prompt":"кот под дождём","steps":7}},"result_urls":["https://example.org/{user}.png"],"price":"3.00","at":"{at}"}}"#
            ));
            lines.push(format!(
                r#"{{"record":"job","user":{user},"id":"j-{user}","model_id":"m","model_name":"M","params":{{}},"price":"3.00","status":"completed","external_task_id":"t-{user}","result_urls":[],"error_message":null,"created_at":"{at}","updated_at":"{at}","created_with":"c3ac7b7ba35661f907cd096588d3a45c"}}"#
            ));
            lines.push(format!(
                r#"{{"record":"payment","user":{user},"id":"p-{user}","amount":"100.00","method":"card","screenshot_file_id":null,"provider_key":null,"status":"pending","admin":null,"notes":null,"origin":"here","created_at":"{at}","updated_at":"{at}"}}"#
            ));
        }
    }
    let mut records: Vec<DumpRecord> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    records.sort_by_cached_key(DumpRecord::place);
    let mut writer = DumpWriter::new(&Policy::default()).unwrap();
    let mut bytes = Vec::new();
    for record in &records {
        writer.record(record).unwrap();
        bytes.append(&mut writer.take());
    }
    bytes.append(&mut writer.finish().unwrap().0);
    bytes
}

fn read(bytes: &[u8]) -> Result<Vec<DumpRecord>> {
    let (mut reader, mut records) = (DumpReader::new(), Vec::new());
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        records.extend(reader.line(line)?);
    }
    reader.finish().map(|_| records)
}

#[test]
fn one_byte_changed_anywhere_is_refused_or_means_the_same() {
    let stride = std::env::var("FLIP_STRIDE").map_or(2999, |text| text.parse().unwrap());
    let whole = dump();
    let records = read(&whole).unwrap();
    let (next, same) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut damaged = whole.clone();
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed) * stride;
                    let Some(byte) = damaged.get_mut(at) else { return };
                    // Another bit each time: a digit becomes a digit, a letter a letter, a quote a letter.
                    let was = std::mem::replace(byte, *byte ^ (1 << (at % 8)));
                    if let Ok(taken) = read(&damaged) {
                        assert_eq!(taken, records, "byte {at} was changed, and other records were taken");
                        same.fetch_add(1, Ordering::Relaxed);
                    }
                    damaged[at] = was;
                }
            });
        }
    });
    let (tried, same) = (whole.len().div_ceil(stride), same.into_inner());
    println!("{tried} of {} bytes changed one at a time: {} refused, {same} the same", whole.len(), tried - same);
}
