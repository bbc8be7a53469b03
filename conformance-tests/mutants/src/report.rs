//! The page `docs/mutants.md`.

use std::fmt::Write as _;

use crate::table::mutants;

/// Every mutant, what is wrong with it, and what catches it.
pub(crate) fn page() -> String {
    let mut page = format!(
        "# Which scenario catches what\n\nThe suite is a proof only if it bites. `conformance-mutants` is the example \
         backend with one defect at a time; each must\nbe caught by the scenario that is named beside it, and the backend \
         without a defect must pass them all.\n`scripts/prove mutants` runs them. This page is made by that program: \
         `UPDATE_DOCS=1 cargo test -p conformance-mutants`.\n{} mutants.\n\n| mutant | what is wrong | caught by |\n\
         | --- | --- | --- |\n",
        mutants().len()
    );
    for mutant in mutants() {
        // Writing to a String cannot fail.
        let _ = writeln!(page, "| {} | {} | `{}` |", mutant.name, mutant.defect, mutant.caught_by);
    }
    page
}
