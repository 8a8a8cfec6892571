//! regex-lite under the name of regex.
//!
//! oci-spec, cgroups-rs and libcontainer match three ASCII patterns between them, and bring regex's engines and the tables of all of
//! Unicode along: half of the addresses that every start of gabion has to relocate, and a fifth of its code. regex-lite is by the same
//! people, and its interface is a part of regex's; `\d`, `\w` and `\s` are ASCII's.

pub use regex_lite::*;
