//! A privileged container: one wish, that engines write as a rule for every device, a node for each of them and every capability.

use oci_spec::runtime::Capability;

use super::devices;
use crate::request::{Caller, Request};

/// Whether a request is for a privileged container, whoever wrote it: every device by one rule, and CAP_SYS_ADMIN.
pub(super) fn is(request: &Request) -> bool {
    let admin = request
        .process()
        .and_then(|process| process.capabilities().as_ref()?.bounding().as_ref())
        .is_some_and(|bounding| bounding.contains(&Capability::SysAdmin));
    let resources = request
        .spec
        .linux()
        .as_ref()
        .and_then(|linux| linux.resources().as_ref());
    let rules = resources
        .and_then(|resources| resources.devices().as_deref())
        .unwrap_or_default();
    admin && rules.iter().any(devices::allows_all)
}

/// What is wished, in the caller's words.
pub(super) const fn word(caller: Caller) -> &'static str {
    match caller {
        Caller::Cri => "`privileged: true`",
        Caller::Podman | Caller::Docker => "`--privileged`",
        Caller::Bundle => "a privileged container",
    }
}

/// What to do instead.
pub(super) const fn remedy(caller: Caller) -> &'static str {
    match caller {
        Caller::Cri => {
            "remove `privileged: true`, and ask for what is needed by name (`capabilities.add`, a volume); `kubectl debug`: \
             `--profile=baseline` instead of sysadmin; a pod of the node's own (CNI, kube-proxy, CSI) has an [[exception]] in /etc/gabion/policy.toml"
        }
        Caller::Podman | Caller::Docker => {
            "remove `--privileged`, and ask for what is needed by name: `--cap-add`, `--device`, where [capabilities] allow and [devices] allow \
             in /etc/gabion/policy.toml have it"
        }
        Caller::Bundle => {
            "remove the rule for all devices from `linux.resources.devices`, and CAP_SYS_ADMIN from `process.capabilities`"
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::decision::Mode;
    use crate::harden::harden;
    use crate::id::ControlId;
    use crate::testing::Case;

    fn codes(case: &Case) -> Vec<String> {
        let denied = harden(&case.request(), &case.policy, &case.host).err();
        let codes = denied
            .iter()
            .flat_map(|denial| denial.refusals().filter_map(|change| change.code.clone()));
        codes.collect()
    }

    #[test]
    fn is_one_refusal_where_the_devices_control_gives_it() {
        let caps = json!(["CAP_SYS_ADMIN", "CAP_NET_ADMIN", "CAP_SYS_MODULE"]);
        let with = |rule: serde_json::Value| {
            Case::new()
                .with(
                    "/process/capabilities",
                    json!({"bounding": caps, "effective": caps, "permitted": caps}),
                )
                .with("/linux/resources/devices", json!([rule]))
                .with(
                    "/linux/devices",
                    json!([{"path": "/dev/sda", "type": "b", "major": 8, "minor": 0}]),
                )
        };
        let mut case = with(json!({"allow": true, "access": "rwm"}));
        assert_eq!(codes(&case), ["devices.allow-all"]);
        // Where the devices' control only watches, nothing is passed over.
        case.policy.policy.controls.insert(ControlId::Devices, Mode::Observe);
        assert_eq!(codes(&case), ["capabilities.not-allowed"; 3]);
        let each = with(json!({"allow": false, "access": "rwm"}));
        assert_eq!(codes(&each).len(), 4, "{:?}", codes(&each));
    }
}
