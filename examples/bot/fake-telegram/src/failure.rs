//! Requests that go wrong, and leave the bot alive.

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The connection breaks before anything was done.
    RequestLost,
    /// The connection breaks after it was done.
    AnswerLost,
    /// It was done, and the answer is that of a server's failure.
    ServerError,
    /// It was done, and the answer is not what the bot knows.
    Unreadable,
    /// Too many requests: again in a second.
    Flooded,
}

impl Failure {
    /// Whether it is done all the same.
    pub(crate) fn is_done(self) -> bool {
        !matches!(self, Self::RequestLost | Self::Flooded)
    }
}

/// What is to go wrong.
#[derive(Debug, Default)]
pub(crate) struct Failures {
    every: Option<u64>,
    count: u64,
    once: Vec<(String, Failure)>,
}

impl Failures {
    pub(crate) fn every(&mut self, every: u64) {
        self.every = Some(every);
    }
    pub(crate) fn once(&mut self, method: &str, failure: Failure) {
        self.once.push((method.to_lowercase(), failure));
    }
    /// What goes wrong with this request.
    pub(crate) fn next(&mut self, method: &str) -> Option<Failure> {
        if let Some(at) = self.once.iter().position(|(name, _)| name == method) {
            return Some(self.once.remove(at).1);
        }
        let every = self.every?;
        self.count += 1;
        // Without those that cost a client its long pauses.
        let kinds = [Failure::RequestLost, Failure::AnswerLost, Failure::Unreadable];
        let turn = usize::try_from(self.count / every).unwrap_or(0);
        (self.count.is_multiple_of(every)).then_some(kinds[turn % kinds.len()])
    }
}
