//! Who calls gabion.

use serde::{Deserialize, Serialize};

/// Whether gabion itself runs inside a user namespace that is not the host's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OwnUserNs {
    #[default]
    Initial,
    Nested,
}

/// Who reads a policy or writes an audit log: it decides whose files are believed, and where a user's are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reader {
    pub euid: u32,
    pub user_ns: OwnUserNs,
}
