//! What gabion reads of a host and of its containers: the survey before a decision, vetted files, state, cgroups, procfs and the audit
//! log; what the kernel shows afterwards; and seccomp filters, which are computed here. Nothing is started and nothing is changed.
#![forbid(unsafe_code)]

pub mod apparmor;
pub mod audit;
pub mod build;
pub mod bundle;
pub mod caller;
pub mod cgroup;
pub mod clock;
pub mod error;
pub mod here;
pub mod kernel_audit;
pub mod named;
pub mod neighbours;
pub mod node;
pub mod pid_namespace;
pub mod policy;
pub mod procfs;
pub mod readback;
pub mod roots;
pub mod seccomp;
pub mod small;
pub mod state;
pub mod status;
pub mod survey;
pub mod vetted;
