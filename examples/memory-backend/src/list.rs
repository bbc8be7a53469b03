//! Lists: some rows in an order, behind a position.

use std::cmp::Reverse;
use std::sync::Arc;

/// The first rows by ascending position.
pub(crate) fn ascending<T, P: Ord>(
    rows: impl Iterator<Item = T>,
    after: Option<&P>,
    most: usize,
    position: impl Fn(&T) -> P,
) -> Vec<T> {
    let mut rows: Vec<T> = rows.filter(|row| after.is_none_or(|after| position(row) > *after)).collect();
    rows.sort_by_cached_key(&position);
    rows.truncate(most);
    rows
}

/// The first rows by descending position.
pub(crate) fn descending<'r, T: 'r, P: Ord + Clone>(
    rows: impl Iterator<Item = &'r Arc<T>>,
    after: Option<&P>,
    most: usize,
    position: impl Fn(&T) -> P,
) -> Vec<Arc<T>> {
    let after = after.map(|after| Reverse(after.clone()));
    ascending(rows.cloned(), after.as_ref(), most, |row| Reverse(position(row)))
}
