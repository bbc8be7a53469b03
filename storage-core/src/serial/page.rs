//! Pages of lists.

use std::fmt::Display;
use std::str::FromStr;
use std::sync::Arc;

use crate::{Fingerprint, Page, PageRequest, Result};

/// One page: `rows` lists as many as it is told, behind a position.
pub(super) fn page<T, P: Display + FromStr>(
    request: &PageRequest,
    filter: Fingerprint,
    rows: impl FnOnce(Option<&P>, usize) -> Result<Vec<Arc<T>>>,
    position: impl FnOnce(&T) -> P,
) -> Result<Page<T>> {
    let after: Option<P> = request.position(filter)?;
    // One more than the page holds: it says whether there is another page.
    let rows = rows(after.as_ref(), request.size.get() + 1)?;
    Ok(Page::from_surplus(rows, request.size, filter, position))
}
