//! Limits that no cgroup takes, whatever the host has. What one version of cgroups has no file for is told when it is written.

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType, LinuxHugepageLimit, LinuxResources};

use super::Invalid;
use crate::id::ControlId;

pub(super) fn judge(resources: &LinuxResources, found: &mut Vec<Invalid>) {
    for (i, rule) in resources.devices().iter().flatten().enumerate() {
        if let Some(why) = device(rule) {
            let bad = Invalid::malformed(format!("linux.resources.devices[{i}]"), why);
            found.push(bad.told_by(ControlId::Devices));
        }
    }
    let mut bad = |field: &str, name: &str, why: &str| {
        let bad = Invalid::malformed(format!("linux.resources.{field} {name:?}"), why);
        found.push(bad.told_by(ControlId::Cgroup));
    };
    // Joined to the cgroup's path as they are: with a slash they would name any file of the host.
    for key in resources.unified().iter().flatten().map(|(key, _)| key) {
        if key.is_empty() || key.contains('/') || key.contains("..") {
            bad("unified", key, "it is not the name of a cgroup's file");
        }
    }
    for size in resources
        .hugepage_limits()
        .iter()
        .flatten()
        .map(LinuxHugepageLimit::page_size)
    {
        if size.is_empty() || !size.bytes().all(|b| b.is_ascii_alphanumeric()) {
            bad("hugepageLimits", size, "it is not a page size");
        }
    }
    for device in resources.rdma().iter().flatten().map(|(device, _)| device) {
        if device.is_empty() || device.contains(|c: char| c.is_whitespace() || c.is_control()) {
            bad("rdma", device, "it is not the name of a device");
        }
    }
}

fn device(rule: &LinuxDeviceCgroup) -> Option<&'static str> {
    let access = rule.access().as_deref().unwrap_or_default();
    let numbers = [rule.major(), rule.minor()];
    if rule.typ() == Some(LinuxDeviceType::P) {
        Some("a FIFO has no device rule")
    } else if access.contains(|c: char| !"rwm".contains(c)) {
        Some("its access is not of r, w and m")
    } else if numbers.into_iter().flatten().any(|n| n > i64::from(i32::MAX)) {
        Some("a device number out of range")
    } else {
        None
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn fields(resources: &Value) -> Vec<String> {
        let mut found = Vec::new();
        judge(&serde_json::from_value(resources.clone()).unwrap(), &mut found);
        found.into_iter().map(|bad| bad.field).collect()
    }

    #[test]
    fn names_are_of_one_file() {
        for good in [
            json!({"unified": {"memory.high": "max"}}),
            json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 9}]}),
            json!({"rdma": {"mlx5_1": {"hcaHandles": 3}}}),
        ] {
            assert_eq!(fields(&good), [] as [&str; 0], "{good}");
        }
        for (bad, field) in [
            (json!({"unified": {"../x": "1"}}), "linux.resources.unified \"../x\""),
            (json!({"unified": {"a/b": "1"}}), "linux.resources.unified \"a/b\""),
            (
                json!({"hugepageLimits": [{"pageSize": "2/MB", "limit": 9}]}),
                "linux.resources.hugepageLimits \"2/MB\"",
            ),
            (
                json!({"rdma": {"a b": {"hcaHandles": 3}}}),
                "linux.resources.rdma \"a b\"",
            ),
        ] {
            if serde_json::from_value::<LinuxResources>(bad.clone()).is_err() {
                // oci-spec has a pattern of its own for page sizes.
                assert!(bad.get("hugepageLimits").is_some(), "{bad}");
                continue;
            }
            assert_eq!(fields(&bad), [field], "{bad}");
        }
    }
}
