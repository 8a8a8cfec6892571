//! A real dockerd with gabion as a runtime, by its path, at `hardened`: a day's commands, each beside runc's. Left out aloud where there is no
//! dockerd, or none can run.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test code: a panic is how a test fails"
)]

mod day;
mod engine;
mod life;
mod remapped;
mod stock;
