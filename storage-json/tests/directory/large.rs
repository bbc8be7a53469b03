//! What takes long when there is much: nothing of it may change an answer.

use storage_core::{
    AddGenerationToHistory, GenerationId, GetReferrals, GetUserGenerationsHistory, HistoryRetention, ImportOutcome,
    ImportRecord, Policy, Referrals as _, SetReferrer,
};

use super::*;

fn brought(of: i64, by: i64) -> ImportRecord {
    ImportRecord::Referral { user: user(of), referrer: user(by), since: None }
}

/// Edges of one batch are judged by each other, in whatever order they come: heights live in the batch before they are in
/// the store.
#[tokio::test]
async fn a_chain_that_comes_in_one_import_has_a_thousand_edges_at_most() {
    for order in [|n: i64| n, |n: i64| 1002 - n, |n: i64| n * 8 % 1001 + 1] {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("data");
        let storage = open(&dir).await.unwrap();
        let edges: Vec<ImportRecord> = (1..=1001).map(|n| brought(order(n) + 1, order(n))).collect();
        let mut outcomes = storage.import_records(edges).await.unwrap();
        let last = outcomes.pop().unwrap();
        assert!(outcomes.iter().all(|outcome| *outcome == ImportOutcome::Added));
        assert!(matches!(&last, ImportOutcome::Refused(why) if why.contains("1000")), "{last:?}");
        storage.close().await.unwrap();
        // The heights are counted anew at opening, and the edge that was too many still is.
        let storage = open(&dir).await.unwrap();
        let n = order(1001);
        let error = storage.set_referrer(SetReferrer::new(user(n + 1), user(n))).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::InvalidInput { .. }), "{error}");
        if n > 1 && n < 1001 {
            // Either end can still grow.
            storage.set_referrer(SetReferrer::new(user(1), user(5000))).await.unwrap();
        }
    }
}

/// Another handle, which follows the journal, judges by the same heights.
#[tokio::test]
async fn heights_follow_the_other_handles() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("data");
    let (one, other) = (open(&dir).await.unwrap(), open(&dir).await.unwrap());
    one.import_records((1..=500).map(|n| brought(n + 1, n)).collect()).await.unwrap();
    other.import_records((1001..=1500).map(|n| brought(n + 1, n)).collect()).await.unwrap();
    let error = one.set_referrer(SetReferrer::new(user(1001), user(501))).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::InvalidInput { .. }), "500 + 1 + 500: {error}");
    one.set_referrer(SetReferrer::new(user(1001), user(500))).await.unwrap();
    let error = other.set_referrer(SetReferrer::new(user(1), user(9000))).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::InvalidInput { .. }), "1 + 1000: {error}");
    // Somebody who brought many and has nobody above.
    let many = (10_001..=15_000).map(|n| brought(n, 10_000)).collect();
    one.import_records(many).await.unwrap();
    other.set_referrer(SetReferrer::new(user(10_000), user(1))).await.unwrap();
    let page = one.get_referrals(GetReferrals::of(user(1))).await.unwrap();
    assert_eq!(page.items.iter().map(|referral| referral.user).collect::<Vec<_>>(), [user(2), user(10_000)]);
}

/// Entries that share a moment, more than one too many in a batch: what goes is the oldest, by time and then id.
#[tokio::test]
async fn of_a_history_the_oldest_go_also_within_one_batch() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("data");
    let mut options = options(&dir);
    let kept = std::num::NonZeroU32::new(10).unwrap();
    options.environment.policy = Policy { history: HistoryRetention::Newest(kept), ..Policy::default() };
    let storage = JsonStorage::open(options).await.unwrap();
    let entry = |n: u32| AddGenerationToHistory {
        user: user(1),
        id: Some(GenerationId::new(format!("g-{n:03}")).unwrap()),
        model_id: "m".parse().unwrap(),
        model_name: "M".parse().unwrap(),
        params: Params::from_json("{}").unwrap(),
        result_urls: ResultUrls::default(),
        price: Money::ZERO,
    };
    for round in 0..20 {
        // All of a round wait at once, so they share batches.
        let adds = (0..7).map(|n| storage.add_generation_to_history(entry(round * 7 + n)));
        for added in tokio_join(adds.collect()).await {
            added.unwrap();
        }
        let mut list = GetUserGenerationsHistory::of(user(1));
        list.page = PageRequest::first(storage_core::PageSize::new(1000).unwrap());
        let page = storage.get_user_generations_history(list).await.unwrap();
        let shown: Vec<String> = page.items.iter().map(|entry| entry.id.to_string()).collect();
        let last = round * 7 + 7;
        let expected: Vec<String> = (last.saturating_sub(10)..last).rev().map(|n| format!("g-{n:03}")).collect();
        assert_eq!(shown, expected, "round {round}");
    }
}

/// Waits for all of them side by side.
async fn tokio_join<T, F: Future<Output = T>>(futures: Vec<F>) -> Vec<T> {
    let mut futures: Vec<_> = futures.into_iter().map(Box::pin).collect();
    let mut outputs: Vec<Option<T>> = futures.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        for (future, output) in futures.iter_mut().zip(&mut outputs) {
            if output.is_none()
                && let std::task::Poll::Ready(ready) = future.as_mut().poll(context)
            {
                *output = Some(ready);
            }
        }
        if outputs.iter().all(Option::is_some) { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    outputs.into_iter().flatten().collect()
}
