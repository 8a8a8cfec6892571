//! Building what the first process of a container stands on: namespaces, mounts, devices, masks, identity. One file a step; the order is
//! in `birth.rs`.

pub(crate) mod cgroup_mount;
pub(crate) mod console;
pub(crate) mod devices;
pub(crate) mod fsmount;
pub(crate) mod holes;
pub(crate) mod ids;
pub(crate) mod limits;
pub(crate) mod masks;
pub(crate) mod memory_policy;
pub(crate) mod mounts;
pub(crate) mod namespaces;
pub(crate) mod pivot;
pub(crate) mod target;
