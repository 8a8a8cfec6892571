//! The contract between the runtime and the container's first process: what the one hands to the other (`setup`), what they say to each
//! other (`channel`), and the hooks that both run (`hooks`). The walk of the first process is in `birth.rs`.

pub(crate) mod channel;
pub(crate) mod hooks;
pub(crate) mod setup;
