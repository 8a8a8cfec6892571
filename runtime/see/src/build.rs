//! Which gabion this is: its version, and the commit that it was built of.

/// The version that Cargo.toml has.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit, as hack/build gives it to the compiler (GABION_COMMIT); `unknown` where nobody did. One that ends in `-dirty` had changes
/// beside it.
pub const COMMIT: &str = env!("GABION_COMMIT");

/// What `--version` prints after the name, in runc's form: podman and CRI-O show it as it is.
pub const TOLD: &str = concat!(
    "version ",
    env!("CARGO_PKG_VERSION"),
    "\ncommit: ",
    env!("GABION_COMMIT"),
    "\nspec: 1.3.0"
);

/// Both, as a container's record has them.
pub const MADE_BY: &str = concat!(env!("CARGO_PKG_VERSION"), " ", env!("GABION_COMMIT"));
