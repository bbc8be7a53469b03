//! Who brought whom: what users' own records say, what events say, and lists that may be stale.

use std::collections::{BTreeMap, HashMap};

use storage_core::{ImportRecord, MAX_REFERRAL_CHAIN, Result, Timestamp, UserId};

use super::fields::{Attempt, Read, Reason, broken, list, object, present, user_from, user_of};
use super::gather::{Gather, Spot};
use super::source_files::LegacyFile;
use crate::json_text::{Node, NodeValue};

/// Where an edge was said, the strongest word first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Said {
    /// By the user's own record in `referrals.json`.
    ByUser,
    /// In the fork's document of balances.
    InDocument,
    /// By an event.
    InEvent,
    /// In a referrer's list.
    InList,
}

/// What is known of who brought a user. Without a referrer the word stands that there is none.
struct Edge {
    referrer: Option<UserId>,
    since: Option<Timestamp>,
    said: Said,
    spot: Spot,
}

/// Everything that was said about who brought whom.
#[derive(Default)]
pub(super) struct Edges {
    edges: BTreeMap<UserId, Edge>,
    listed: Vec<(UserId, UserId, Spot)>,
}

impl Edges {
    /// What a record of the user says about who brought it. The strongest word stands.
    pub(super) fn say(
        &mut self,
        attempt: &mut Attempt<'_>,
        user: UserId,
        referrer: &Node<'_>,
        since: Read<Option<Timestamp>>,
        said: Said,
    ) -> Read<Option<ImportRecord>> {
        let given = match &referrer.value {
            NodeValue::Null => return Ok(None),
            NodeValue::Number("0") => Ok(None),
            NodeValue::String(text) if text == "0" || text.is_empty() => Ok(None),
            _ => user_of("referrer", referrer).map(Some),
        };
        let given = given.and_then(|given| match given {
            Some(referrer) if referrer == user => broken("referrer", "must not be the user itself"),
            given => Ok((given, since?)),
        });
        if let Some(known) = self.edges.get_mut(&user).filter(|known| known.said <= said) {
            let (given, since) = given?;
            if known.referrer == given {
                known.since = known.since.or(since);
            } else {
                attempt.note("contradicted by a stronger word: left alone");
            }
            return Ok(None);
        }
        // A refused word stands too: it must not leave the floor to a stale list.
        let spot = (attempt.file.name.clone(), attempt.key.into());
        let (referrer, since) = *given.as_ref().unwrap_or(&(None, None));
        self.edges.insert(user, Edge { referrer, since, said, spot });
        if let (None, _) = given? {
            attempt.note("the referrer 0 stands for none");
        }
        Ok(None)
    }
}

/// Reads `referrals.json`: scalars, objects, and the lists of referrers, all mixed.
pub(super) fn read(gather: &mut Gather<'_>, file: &LegacyFile) -> Result<()> {
    gather.entries(file, &mut |gather, key, node| {
        if key == "referrals" {
            let NodeValue::Object(lists) = &node.value else {
                return gather.attempt(file, key, |_, _| object(node).map(|()| None));
            };
            for (referrer, items) in lists {
                brought(gather, file, referrer, &format!("referrals/{referrer}"), items);
            }
            return;
        }
        gather.attempt(file, key, |gather, attempt| {
            let user = user_from("user id", key)?;
            let NodeValue::Object(_) = &node.value else {
                return gather.edges.say(attempt, user, node, Ok(None), Said::ByUser);
            };
            let Some(referrer) = node.field("referred_by") else { return Ok(None) };
            let since = attempt.time(node, "referred_at");
            gather.edges.say(attempt, user, referrer, since, Said::ByUser)
        });
        if let Some(items) = present(node, "referred_users") {
            brought(gather, file, key, &format!("{key}/referred_users"), items);
        }
    })
}

/// Remembers a referrer's list until all stronger words are known.
fn brought(gather: &mut Gather<'_>, file: &LegacyFile, referrer: &str, key: &str, items: &Node<'_>) {
    let read = || Ok((user_from("referrer", referrer)?, list("referred users", items)?));
    let (referrer, items) = match read() {
        Ok(read) => read,
        Err(reason) => return gather.refuse(&file.name, key, reason),
    };
    for (position, item) in items.iter().enumerate() {
        let key = format!("{key}/{}", position + 1);
        match user_of("referred user", item) {
            Ok(user) => gather.edges.listed.push((user, referrer, (file.name.clone(), key.into()))),
            Err(reason) => gather.refuse(&file.name, &key, reason),
        }
    }
}

/// Reads `referral_events.json`.
pub(super) fn read_events(gather: &mut Gather<'_>, file: &LegacyFile) -> Result<()> {
    gather.entries(file, &mut |gather, key, node| {
        let NodeValue::Object(events) = &node.value else {
            return gather.attempt(file, key, |_, _| object(node).map(|()| None));
        };
        if key != "events" {
            return gather.note(&file.name, key, "nobody knows this part: it was left alone");
        }
        for (key, event) in events {
            gather.attempt(file, &format!("events/{key}"), |gather, attempt| {
                object(event)?;
                let Some(user) = present(event, "referred_user_id") else {
                    return broken("referred_user_id", "is missing");
                };
                let user = user_of("referred_user_id", user)?;
                let Some(referrer) = present(event, "referrer_id") else { return broken("referrer_id", "is missing") };
                let since = attempt.time(event, "created_at");
                gather.edges.say(attempt, user, referrer, since, Said::InEvent)
            });
        }
    })
}

impl Gather<'_> {
    /// Turns everything that was said into records: circles are refused, stale lists are noted.
    pub(super) fn settle_referrals(&mut self) {
        let Edges { mut edges, listed } = std::mem::take(&mut self.edges);
        // Circles among the strong words come first, so that no stale list takes a good edge down with it.
        self.refuse_circles(&mut edges, |_| true);
        for (user, referrer, spot) in listed {
            match edges.get(&user) {
                Some(edge) if edge.referrer == Some(referrer) => {}
                Some(_) => self.note(&spot.0, &spot.1, "a stale entry of a list: the user's own record says otherwise"),
                None if user == referrer => {
                    self.refuse(&spot.0, &spot.1, Reason("referrer: must not be the user itself".to_owned()));
                }
                None => {
                    edges.insert(user, Edge { referrer: Some(referrer), since: None, said: Said::InList, spot });
                }
            }
        }
        self.refuse_circles(&mut edges, |edge| edge.said == Said::InList);
        self.refuse_long_chains(&mut edges);
        for (user, Edge { referrer, since, said, spot }) in edges {
            let Some(referrer) = referrer else { continue };
            if said == Said::InList {
                self.note(&spot.0, &spot.1, "only a list names this referrer, which was taken");
            }
            self.accept(spot, ImportRecord::Referral { user, referrer, since });
        }
    }

    /// Refuses those edges of every circle that `guilty` names.
    fn refuse_circles(&mut self, edges: &mut BTreeMap<UserId, Edge>, guilty: impl Fn(&Edge) -> bool) {
        // The walk on which a user was met first; meeting one of the same walk again closes a circle.
        let mut met: HashMap<UserId, usize> = HashMap::with_capacity(edges.len());
        let mut circles = Vec::new();
        for (walk, start) in edges.keys().enumerate() {
            let mut at = *start;
            while let std::collections::hash_map::Entry::Vacant(first) = met.entry(at) {
                first.insert(walk);
                let Some(next) = edges.get(&at).and_then(|edge| edge.referrer) else { break };
                at = next;
            }
            if met.get(&at) == Some(&walk) && edges.get(&at).is_some_and(|edge| edge.referrer.is_some()) {
                let mut circle = vec![at];
                let next = |of: UserId| edges.get(&of).and_then(|edge| edge.referrer).filter(|next| *next != at);
                while let Some(next) = circle.last().copied().and_then(next) {
                    circle.push(next);
                }
                circles.push(circle);
            }
        }
        for circle in circles {
            for (position, user) in circle.iter().enumerate() {
                let Some(edge) = edges.get_mut(user).filter(|edge| guilty(edge)) else { continue };
                edge.referrer = None;
                let (file, key) = edge.spot.clone();
                let round = circle.iter().cycle().skip(position).take(circle.len().min(8) + 1);
                let mut shown = round.map(UserId::to_string).collect::<Vec<_>>().join(" -> ");
                if circle.len() > 8 {
                    shown.push_str(" -> ...");
                }
                self.refuse(&file, &key, Reason(format!("referrer: closes a circle ({shown})")));
            }
        }
    }

    /// Refuses edges that make a chain longer than the store takes. There are no circles any more.
    fn refuse_long_chains(&mut self, edges: &mut BTreeMap<UserId, Edge>) {
        let mut depths: HashMap<UserId, usize> = HashMap::with_capacity(edges.len());
        let mut too_long = Vec::new();
        for start in edges.keys() {
            let mut path = Vec::new();
            let mut at = *start;
            let mut depth = loop {
                if let Some(depth) = depths.get(&at) {
                    break *depth;
                }
                let Some(next) = edges.get(&at).and_then(|edge| edge.referrer) else { break 0 };
                path.push(at);
                at = next;
            };
            while let Some(user) = path.pop() {
                depth += 1;
                if depth > MAX_REFERRAL_CHAIN {
                    too_long.push(user);
                    depth = 0;
                }
                depths.insert(user, depth);
            }
        }
        for user in too_long {
            if let Some(edge) = edges.get_mut(&user) {
                edge.referrer = None;
                let (file, key) = edge.spot.clone();
                let reason = format!("referrer: the chain of referrers is longer than {MAX_REFERRAL_CHAIN}");
                self.refuse(&file, &key, Reason(reason));
            }
        }
    }
}
