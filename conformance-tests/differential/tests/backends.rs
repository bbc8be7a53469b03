//! Every backend answers alike.

#[test]
fn every_backend_gives_the_same_answers_and_the_same_dump() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap();
    let backends = conformance_differential::every_backend().unwrap();
    let played = runtime.block_on(conformance_tests::differential(backends)).unwrap_or_else(|difference| {
        panic!("{difference}");
    });
    println!("{played}");
}
