#![no_main]

use std::cell::LazyCell;

use fuzz_targets::{Bench, Target};
use libfuzzer_sys::fuzz_target;

thread_local! {
    static BENCH: LazyCell<Bench> = LazyCell::new(|| Bench::new().expect("the fuzzer's own stores"));
}

fuzz_target!(|input: &[u8]| {
    if let Err(finding) = BENCH.with(|bench| bench.run(Target::Journal, input)) {
        panic!("{finding}");
    }
});
