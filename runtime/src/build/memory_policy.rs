//! `linux.memoryPolicy`: on which NUMA nodes the workload's memory is to lie (runtime-spec, config-linux.md#memory-policy).
//!
//! No privilege is needed for it, and it reaches nobody else's memory: what the cgroup's cpuset leaves is all there is.

use oci_spec::runtime::{LinuxMemoryPolicy, MemoryPolicyFlagType, MemoryPolicyModeType};

use crate::contract::setup::Setup;
use gabion_core::list::Numbers;
use gabion_see::error::{Error, Result, Step};
use gabion_sys::NodeMask;

/// Sets what the spec says; execve keeps it.
pub(crate) fn apply(setup: &Setup<'_>) -> Result<()> {
    let linux = setup.hardened.spec().linux().as_ref();
    let Some(policy) = linux.and_then(|l| l.memory_policy().as_ref()) else {
        return Ok(());
    };
    let nodes = nodes(policy)?;
    gabion_sys::set_mempolicy(mode(policy), nodes.as_ref())
        .map_err(|e| Error::step(Step::Rlimits, format!("set the memory policy {}", policy.mode()), e))
}

/// linux/mempolicy.h
fn mode(policy: &LinuxMemoryPolicy) -> i32 {
    let mode = match policy.mode() {
        MemoryPolicyModeType::MpolDefault => 0,
        MemoryPolicyModeType::MpolPreferred => 1,
        MemoryPolicyModeType::MpolBind => 2,
        MemoryPolicyModeType::MpolInterleave => 3,
        MemoryPolicyModeType::MpolLocal => 4,
        MemoryPolicyModeType::MpolPreferredMany => 5,
        MemoryPolicyModeType::MpolWeightedInterleave => 6,
    };
    policy.flags().iter().flatten().fold(mode, |bits, flag| {
        bits | match flag {
            MemoryPolicyFlagType::MpolFNumaBalancing => 1 << 13,
            MemoryPolicyFlagType::MpolFRelativeNodes => 1 << 14,
            MemoryPolicyFlagType::MpolFStaticNodes => 1 << 15,
        }
    })
}

/// `0-1,3` as a mask; None where no node is named.
fn nodes(policy: &LinuxMemoryPolicy) -> Result<Option<NodeMask>> {
    let Some(list) = policy.nodes().as_deref().filter(|list| !list.is_empty()) else {
        return Ok(None);
    };
    let wrong = || Error::Unsupported {
        field: format!("linux.memoryPolicy.nodes {list:?}"),
        why: "it is not a list of nodes like 0-1,3".to_owned(),
    };
    let bound = u32::try_from(NodeMask::BITS).map_err(|_| wrong())?;
    let mut mask = NodeMask::default();
    for node in Numbers::parse(list, bound).map_err(|_| wrong())?.iter() {
        mask.set(usize::try_from(node).map_err(|_| wrong())?);
    }
    Ok(Some(mask))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn policy(nodes: &str, flags: &[&str]) -> LinuxMemoryPolicy {
        serde_json::from_value(serde_json::json!({"mode": "MPOL_INTERLEAVE", "nodes": nodes, "flags": flags})).unwrap()
    }

    #[test]
    fn lists_become_masks() {
        let mask = |list: &str| nodes(&policy(list, &[])).unwrap();
        assert_eq!(mask(""), None);
        let mut wanted = NodeMask::default();
        for node in [0, 1, 2, 64, 1023] {
            wanted.set(node);
        }
        assert_eq!(mask("0-2, 64,1023"), Some(wanted));
        for bad in ["x", "3-1", "0,", "-1", "1024", "0-99999999"] {
            assert!(nodes(&policy(bad, &[])).is_err(), "{bad}");
        }
    }

    #[test]
    fn flags_join_the_mode() {
        assert_eq!(mode(&policy("0", &[])), 3);
        assert_eq!(
            mode(&policy("0", &["MPOL_F_STATIC_NODES", "MPOL_F_NUMA_BALANCING"])),
            3 | 0xa000
        );
    }
}
