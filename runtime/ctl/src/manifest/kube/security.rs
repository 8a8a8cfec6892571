//! securityContext, a pod's and a container's.

use crate::manifest::at::{At, Wrong};
use crate::manifest::wish::Wish;

use super::filter;

const OF_POD: &[&str] = &[
    "appArmorProfile",
    "fsGroup",
    "fsGroupChangePolicy",
    "runAsGroup",
    "runAsNonRoot",
    "runAsUser",
    "seLinuxChangePolicy",
    "seLinuxOptions",
    "seccompProfile",
    "supplementalGroups",
    "supplementalGroupsPolicy",
    "sysctls",
    "windowsOptions",
];
const OF_CONTAINER: &[&str] = &[
    "allowPrivilegeEscalation",
    "appArmorProfile",
    "capabilities",
    "privileged",
    "procMount",
    "readOnlyRootFilesystem",
    "runAsGroup",
    "runAsNonRoot",
    "runAsUser",
    "seLinuxOptions",
    "seccompProfile",
    "windowsOptions",
];

/// What holds for every container of the pod, its sandbox included.
pub(super) fn of_pod(at: &At<'_>, wish: &mut Wish) -> Result<(), Wrong> {
    at.unknown(OF_POD, &mut wish.assumed)?;
    let groups = at.get("supplementalGroups");
    for group in groups.list()? {
        wish.groups.extend(group.id()?);
    }
    wish.groups.extend(at.get("fsGroup").id()?);
    wish.note("process.user.additionalGids", &groups.place);
    shared(at, wish)
}

/// Sysctls are the sandbox's to set.
pub(super) fn sysctls(at: &At<'_>, wish: &mut Wish) -> Result<(), Wrong> {
    for one in at.list()? {
        let Some(name) = one.get("name").text()? else {
            return Err(one.wrong("it has no name"));
        };
        wish.note(&format!("linux.sysctl.{name}"), &one.place);
        let value = one.get("value").text()?.unwrap_or_default();
        // With slashes it is the same to the kubelet.
        wish.sysctls.insert(name.replace('/', "."), value);
    }
    Ok(())
}

/// What both may say; a container's own word goes before its pod's.
fn shared(at: &At<'_>, wish: &mut Wish) -> Result<(), Wrong> {
    if let Some(uid) = at.get("runAsUser").id()? {
        wish.uid = uid;
        wish.note("process.user.uid", &at.get("runAsUser").place);
    }
    if let Some(gid) = at.get("runAsGroup").id()? {
        wish.gid = gid;
        wish.note("process.user.gid", &at.get("runAsGroup").place);
    }
    let profile = at.get("seccompProfile");
    if profile.is_there() {
        let typ = profile.get("type").text()?.unwrap_or_default();
        match typ.as_str() {
            "Unconfined" | "RuntimeDefault" => {}
            "Localhost" => wish.assume(format!(
                "{}: that the profile is on the node, and compiles",
                profile.place
            )),
            _ => return Err(profile.get("type").wrong(format!("{typ:?} is no kind of profile"))),
        }
        wish.filter = filter(typ != "Unconfined");
        wish.note("linux.seccomp", &profile.place);
    }
    let profile = at.get("appArmorProfile");
    if profile.is_there() {
        let typ = profile.get("type").text()?.unwrap_or_default();
        wish.apparmor = match typ.as_str() {
            "Unconfined" => Some("unconfined".to_owned()),
            "Localhost" => profile.get("localhostProfile").text()?,
            "RuntimeDefault" => None,
            _ => return Err(profile.get("type").wrong(format!("{typ:?} is no kind of profile"))),
        };
        wish.note("process.apparmorProfile", &profile.place);
    }
    selinux(&at.get("seLinuxOptions"), wish)
}

fn selinux(at: &At<'_>, wish: &mut Wish) -> Result<(), Wrong> {
    if !at.is_there() {
        return Ok(());
    }
    let part = |key: &str, default: &str| {
        let text = at.get(key).text()?;
        Ok(text
            .filter(|word| !word.is_empty())
            .unwrap_or_else(|| default.to_owned()))
    };
    let (user, role) = (part("user", "system_u")?, part("role", "system_r")?);
    let (typ, level) = (part("type", "container_t")?, part("level", "s0:c1,c2")?);
    wish.selinux = Some(format!("{user}:{role}:{typ}:{level}"));
    wish.note("process.selinuxLabel", &at.place);
    Ok(())
}

pub(super) fn of_container(at: &At<'_>, pod: &At<'_>, beta: &At<'_>, wish: &mut Wish) -> Result<(), Wrong> {
    at.unknown(OF_CONTAINER, &mut wish.assumed)?;
    if let Some(profile) = beta.text()? {
        // What kubelets of before 1.30 go by.
        wish.apparmor = match profile.as_str() {
            "runtime/default" => None,
            "unconfined" => Some(profile),
            other => Some(other.trim_start_matches("localhost/").to_owned()),
        };
        wish.note("process.apparmorProfile", &beta.place);
    }
    shared(at, wish)?;
    let said = at.get("runAsUser").is_there() || pod.get("runAsUser").is_there();
    let non_root = match at.get("runAsNonRoot").truth()? {
        Some(word) => word,
        None => pod.get("runAsNonRoot").is_true()?,
    };
    if !said {
        for part in ["process.user.uid", "process.user.gid"] {
            wish.note(part, &format!("{} (not set)", at.get("runAsUser").place));
        }
        if non_root {
            wish.uid = 65_532;
            wish.assume("no runAsUser, but runAsNonRoot: that the image's user is a number other than 0; else the kubelet does not start it");
        } else {
            wish.assume("no runAsUser: the image's user is not known; judged as root");
        }
    }
    if !at.get("runAsGroup").is_there() && !pod.get("runAsGroup").is_there() {
        // With a number for the user and none for the group it is 0, unless the image's /etc/passwd has that user.
        wish.note("process.user.gid", &format!("{} (not set)", at.get("runAsGroup").place));
        if wish.uid != 0 {
            wish.assume("no runAsGroup: the image's /etc/passwd is not known; judged as group 0");
        }
    }
    let privileged = at.get("privileged");
    wish.privileged = privileged.is_true()?;
    if wish.privileged {
        for part in ["linux.resources.devices", "linux.maskedPaths", "linux.readonlyPaths"] {
            wish.note(part, &privileged.place);
        }
    }
    for (key, list) in [("add", true), ("drop", false)] {
        let at = at.get("capabilities").get(key);
        for name in at.texts()? {
            // CRIs take both, in capitals alone.
            let bare = name.strip_prefix("CAP_").unwrap_or(&name).to_owned();
            if list {
                wish.note(&format!("process.capabilities.CAP_{bare}"), &at.place);
                wish.add.push(bare);
            } else {
                wish.drop.push(bare);
            }
        }
    }
    if !wish.privileged {
        wish.note_if("process.capabilities", &at.get("capabilities"));
    }
    wish.read_only_root = at.get("readOnlyRootFilesystem").is_true()?;
    wish.note("root.readonly", &at.get("readOnlyRootFilesystem").place);
    wish.no_new_privs = at.get("allowPrivilegeEscalation").truth()? == Some(false);
    wish.note_if("process.noNewPrivileges", &at.get("allowPrivilegeEscalation"));
    let proc = at.get("procMount");
    match proc.text()?.as_deref() {
        None | Some("Default" | "") => {}
        Some("Unmasked") => {
            wish.unmasked = true;
            wish.note("linux.maskedPaths", &proc.place);
            wish.note("linux.readonlyPaths", &proc.place);
        }
        Some(other) => return Err(proc.wrong(format!("{other:?} is neither Default nor Unmasked"))),
    }
    Ok(())
}
