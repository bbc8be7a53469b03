//! Progress on stderr, only where somebody watches.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A progress bar on a terminal, nothing elsewhere.
#[derive(Debug)]
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// A bar at its beginning, of records.
    pub(crate) fn new(what: &'static str) -> Self {
        Self::styled(what, "{msg} [{bar:30}] {percent}%  {per_sec}, {eta} left")
    }
    /// A bar of bytes.
    pub(crate) fn of_bytes(what: &'static str) -> Self {
        Self::styled(what, "{msg} [{bar:30}] {percent}%  {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left")
    }
    /// Bytes whose sum nobody knows.
    pub(crate) fn open_end(what: &'static str) -> Self {
        let progress = Self::styled(what, "{msg} {bytes}, {bytes_per_sec}, for {elapsed}");
        progress.0.unset_length();
        progress
    }
    fn styled(what: &'static str, template: &str) -> Self {
        // indicatif draws on a terminal alone, and without colours where NO_COLOR says so.
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_message(what);
        bar.enable_steady_tick(Duration::from_millis(200));
        Self(bar)
    }
    /// So much of so much is done.
    pub(crate) fn set(&self, done: u64, total: u64) {
        self.0.set_length(total);
        self.0.set_position(done);
    }
    /// So much is done.
    pub(crate) fn count(&self, done: u64) {
        self.0.set_position(done);
    }
    /// Says what is being done.
    pub(crate) fn say(&self, what: &str) {
        if self.0.message() != what {
            self.0.set_message(what.to_owned());
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
