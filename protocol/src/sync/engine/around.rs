//! What a decision sees of the engine around it, and the way through everything that is wanted.

use super::{Engine, View};
use crate::model::RelPath;
use crate::sync::decide::Around;
use crate::sync::local::{LocalRow, Rows, Want};
use crate::sync::reconcile::Rules;

/// Wanted rows read at a time.
const PAGE: usize = 512;

/// All wanted rows in path order, read a page at a time.
pub(super) fn all_wanted(rows: &dyn Rows) -> impl Iterator<Item = (RelPath, LocalRow)> {
    let mut after = None;
    let pages = std::iter::from_fn(move || {
        let page = rows.wanted(after.as_ref(), PAGE);
        after = Some(page.last()?.0.clone());
        Some(page)
    });
    pages.flatten()
}

pub(super) struct Surroundings<'a> {
    pub(super) engine: &'a Engine,
    pub(super) view: View<'a>,
}

impl Around for Surroundings<'_> {
    fn rows(&self) -> &dyn Rows {
        self.view.rows
    }

    fn rules(&self) -> &Rules {
        &self.engine.config.rules
    }

    fn is_busy(&self, path: &RelPath) -> bool {
        self.engine.pump.is_in_flight(path)
    }

    fn deletion_pending_below(&self, dir: &RelPath) -> bool {
        self.engine.deletions.pending_below(dir)
    }

    fn is_caught_up(&self, want: &Want) -> bool {
        self.engine.is_caught_up(want, self.view.rows)
    }
}
