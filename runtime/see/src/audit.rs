//! Reading the audit log: where it is, what a record is, whether the chain holds. The crate gabion-common writes it.

pub mod anchor;
pub mod bounded;
pub mod chain;
pub mod head;
pub mod keeping;
pub mod place;
pub mod record;
pub mod verify;
