//! What gabion and gabionctl do alike: write the audit log, load the AppArmor profile, talk on the command line.
#![forbid(unsafe_code)]

pub mod apparmor;
pub mod audit;
pub mod cli;
pub mod limits;
pub mod whole;
