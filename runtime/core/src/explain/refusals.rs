//! Refusals, by control.

mod access;
mod files;
mod kernel;

use super::Entry;

pub(super) fn all() -> impl Iterator<Item = &'static Entry> {
    access::TABLE.iter().chain(files::TABLE).chain(kernel::TABLE)
}
