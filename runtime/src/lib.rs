//! gabion.
pub mod seccomp;
pub mod sys;
