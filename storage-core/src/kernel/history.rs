//! The history of delivered generations.

use super::keys::{account_or_new, first};
use super::{Atom, Changes, Decision, Halt, Record, Trim, View};
use crate::{AddGenerationToHistory, Answer, Generation, GenerationId, GenerationReceipt, Policy};

pub(super) fn add(
    atom: &Atom,
    add: &AddGenerationToHistory,
    view: &dyn View,
    policy: &Policy,
) -> Result<Decision, Halt> {
    let AddGenerationToHistory { user, id: _, model_id, model_name, params, result_urls, price } = add;
    // The caller's id, else the operation's. Found among the keys, not in the history: ids outlive the trimming.
    let id = GenerationId::from(atom.key());
    if let Some(first) = first(atom, *user, view)? {
        return Ok(Changes::default().answering(GenerationReceipt { id, replayed: first.replayed }));
    }
    let mut account = account_or_new(atom, *user, view)?;
    account.record.spend(*price)?;
    let generation = Generation {
        id: id.clone(),
        model_id: model_id.clone(),
        model_name: model_name.clone(),
        params: params.clone(),
        result_urls: result_urls.clone(),
        price: *price,
        at: atom.stamp().now,
    };
    let changes = Changes {
        record: Some(Record::Generation(*user, generation)),
        // What is recorded now stays, also when the clock went back: the others make room.
        trim: Some(Trim::Before(policy.history.limit() - 1)),
        ..Changes::of(account).settled(atom, *user, Answer::Record)
    };
    Ok(changes.answering(GenerationReceipt { id, replayed: false }))
}
