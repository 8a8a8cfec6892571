//! `learn`: a program runs as at permissive, on a writable layer of ours, and what it does is written down; or, to prove an outcome, at the level
//! that is wanted. The runtime knows nothing of it: to it this is a bundle whose seccomp profile asks a listener.

pub(crate) mod judge;
mod listen;
mod look;
mod memory;
mod of;
mod run;
mod stage;
mod upper;

pub(crate) use of::of;
pub(crate) use run::{ARCHITECTURES, Asked, Ended, How, Prepared, Until, once};
pub(crate) use stage::Stage;
