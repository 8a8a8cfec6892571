//! Every key of the policy: what it may be, what it is where nothing is said, what it is for. A test holds this list and the
//! types together, another one docs/POLICY.md and this list.

use super::narrow::NARROW;

/// One key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// With its table: `cgroup.pids`. `<control>` stands for a control's id.
    pub name: &'static str,
    pub values: &'static str,
    /// As TOML; words where it is worked out.
    pub default: &'static str,
    pub about: &'static str,
}

const fn key(name: &'static str, values: &'static str, default: &'static str, about: &'static str) -> Key {
    Key {
        name,
        values,
        default,
        about,
    }
}

pub static KEYS: [Key; 60] = [
    key(
        "level",
        "hardened, restricted, permissive",
        "\"hardened\"",
        "how much is enforced",
    ),
    key(
        "lock",
        "true, false",
        "false",
        "whether flags and `--policy` may only tighten",
    ),
    key(
        "cri",
        "containerd, cri-o, none",
        "\"none\"",
        "whose annotations name a pod truthfully, for exceptions and volumes",
    ),
    key(
        "controls.<control>",
        "enforce, observe",
        "by level",
        "one control on, or only written down, whatever the level says",
    ),
    key(
        "exec",
        "allow, deny",
        "\"allow\"",
        "whether exec may enter containers; `deny` closes the kubelet's exec probes and hooks, too",
    ),
    key(
        "holes.max_size",
        "size, 4k to 1048576g",
        "\"1g\"",
        "the largest hole that an annotation may ask for",
    ),
    key(
        "holes.default_size",
        "size, 4k to 1048576g",
        "\"64m\"",
        "where the annotation gives none",
    ),
    key(
        "holes.max_count",
        "number, 0 to 256",
        "16",
        "how many holes an annotation may ask for",
    ),
    key(
        "mounts.allow",
        "absolute paths",
        "[]",
        "host paths, with all below them, that may be bound although sensitive or a hostPath",
    ),
    key(
        "mounts.exec_paths",
        "absolute paths",
        "[]",
        "container paths that may be both writable and executable",
    ),
    key(
        "mounts.kubelet_root",
        "absolute path",
        "\"/var/lib/kubelet\"",
        "where the kubelet keeps what belongs to pods",
    ),
    key(
        "mounts.containerd_root",
        "absolute path",
        "\"/var/lib/containerd\"",
        "containerd's `root`",
    ),
    key(
        "mounts.containerd_state",
        "absolute path",
        "\"/run/containerd\"",
        "containerd's `state`",
    ),
    key(
        "devices.allow",
        "absolute paths",
        "[]",
        "device nodes beyond the usual ones: `/dev/fuse`; network devices that a spec may take: `/sys/class/net/eth1`",
    ),
    key(
        "cgroup.pids",
        "number, 1 to 4194304",
        "4096",
        "tasks, where the spec sets no limit",
    ),
    key(
        "cgroup.max_pids",
        "number, 1 to 4194304",
        "65536",
        "the most tasks that a spec may ask for",
    ),
    key(
        "cgroup.memory",
        "size, 1m to 1048576g",
        "half of the host's memory, clamped to the parent's limit",
        "memory, where the spec sets no limit",
    ),
    key(
        "cgroup.max_memory",
        "size, 1m to 1048576g",
        "no bound",
        "the most memory that a spec may ask for",
    ),
    key(
        "cgroup.cpu_percent",
        "number, 1 to 819200",
        "no quota",
        "CPU quota in percent of one CPU, where the spec sets none",
    ),
    key("sysctl.allow", "names", "[]", "namespaced sysctls beyond the safe list"),
    key(
        "sysctl.memfd_noexec",
        "enforce, observe",
        "\"enforce\"",
        "`observe` lets memfd_create(2) make executable files, which undoes noexec",
    ),
    key(
        "rlimits.max_nofile",
        "number, 16 to 1073741816",
        "1048576",
        "the largest RLIMIT_NOFILE",
    ),
    key(
        "hooks.allow",
        "absolute paths",
        "[]",
        "programs of the host, or directories of such, that a spec may have run as hooks",
    ),
    key(
        "cdi.allow",
        "kinds",
        "[]",
        "kinds of devices, `nvidia.com/gpu`, for which this host's CDI files are believed: see [CDI](CONTROLS.md#cdi)",
    ),
    key(
        "capabilities.allow",
        "names",
        "[]",
        "capabilities beyond the eight that a spec may keep: `CAP_SYS_CHROOT`",
    ),
    key(
        "memory.mdwe",
        "enforce, observe",
        "enforce at restricted, else observe",
        "`observe` lets mappings become executable that were written (JIT compilers); PR_SET_MDWE, and no executable shared memory",
    ),
    key(
        "memory.memfd",
        "enforce, observe",
        "enforce at restricted, else observe",
        "`observe` lets memfd_create(2) make files, which can be mapped executable",
    ),
    key(
        "memory.shm_exec",
        "enforce, observe",
        "enforce at restricted, else observe",
        "`observe` lets shmat(2) attach a segment executable",
    ),
    key(
        "memory.ptrace",
        "enforce, observe",
        "enforce at restricted, else observe",
        "`observe` leaves ptrace(2) and process_vm_writev(2) to `seccomp`",
    ),
    key(
        "memory.proc",
        "enforce, observe",
        "enforce at restricted, else observe",
        "`observe` leaves /proc writable: /proc/PID/mem writes past every protection, oom_score_adj and the like can be set",
    ),
    key(
        "memory.need",
        "best_effort, required",
        "\"best_effort\"",
        "whether the kernel must have PR_SET_MDWE (6.3) where `mdwe` is enforced",
    ),
    key(
        "seccomp.allow",
        "io_uring, userns, ptrace, keyring, perf",
        "[]",
        "groups of calls that gabion's own filters refuse and that are let through: see «Groups of calls»",
    ),
    key(
        "images.allow",
        "globs",
        "[]",
        "the images that pods may have, by name: `registry.example/*`; `[]` is any. Held where containerd vouches for the name",
    ),
    key(
        "lsm.need",
        "best_effort, required",
        "\"best_effort\"",
        "whether AppArmor or SELinux must be there",
    ),
    key(
        "landlock.need",
        "best_effort, required",
        "\"best_effort\"",
        "whether Landlock must be there",
    ),
    key(
        "landlock.min_abi",
        "number, 1 to 64",
        "1",
        "the lowest ABI that counts as being there (3: TRUNCATE, kernel 6.2)",
    ),
    key(
        "seccomp.sockets",
        "words",
        "[]",
        "sockets beyond the usual ones that a container may make: `vsock`, `sctp` ([CONTROLS.md](CONTROLS.md#seccomp) has the words)",
    ),
    key(
        "seccomp.log",
        "true, false",
        "false",
        "whether the kernel logs what gabion's own filters deny, but for what they answer with ENOSYS (`type=1326`)",
    ),
    key(
        "audit.file",
        "absolute path",
        "/var/log/gabion/audit.jsonl, for a user below XDG_STATE_HOME",
        "where records go (docs/AUDIT.md)",
    ),
    key(
        "audit.on_failure",
        "warn, refuse",
        "refuse at restricted, else warn",
        "what a record that cannot be written means",
    ),
    key(
        "audit.redact_args",
        "true, false",
        "false",
        "of a program's arguments only its name is written",
    ),
    key(
        "audit.max_size",
        "size, 1m to 1048576g",
        "\"64m\"",
        "a file of the log that would grow beyond it is put aside",
    ),
    key(
        "audit.files",
        "number, 1 to 1000",
        "5",
        "how many files that were put aside are kept",
    ),
    key(
        "audit.rotate_days",
        "number, 1 to 3650",
        "by size alone",
        "a file whose first record is so many days old is put aside",
    ),
    key(
        "audit.keep_days",
        "number, 0 to 3650",
        "0",
        "a file whose last record is younger is not removed: the log is full then, and a record that cannot be written is what `on_failure` says",
    ),
    key(
        "audit.mode",
        "\"0600\", \"0640\"",
        "0600, or what the file before had",
        "the mode of the log's files; with \"0640\" its group may read it",
    ),
    key(
        "audit.group",
        "group, by name or number",
        "the writer's, or that of the file before",
        "the group of the log's files",
    ),
    key(
        "audit.repeated_exec",
        "write, count",
        "\"write\"",
        "`count`: an exec that is the same as one in the last minute of the same container is counted and not written again",
    ),
    key(
        "audit.head",
        "absolute path",
        "/var/lib/gabion/audit.head; beside a log in another place",
        "where the newest record's hash is kept, so that a log that was cut shows",
    ),
    key(
        "audit.anchors",
        "list of journald, syslog, kernel",
        "[]",
        "where the newest record's hash is told besides, each time",
    ),
    key(
        "exception.reason",
        "text",
        "required",
        "why; it stands in every audit record that the exception touched",
    ),
    key("exception.match.namespace", "glob", "required", "the pod's namespace"),
    key("exception.match.name", "glob", "\"*\"", "the pod's name"),
    key(
        "exception.match.type",
        "sandbox, container",
        "both",
        "the pod's sandbox, or its containers",
    ),
    key(
        "exception.match.container",
        "glob",
        "all",
        "the container's name in its pod (containerd)",
    ),
    key(
        "exception.match.image",
        "glob",
        "all",
        "the image's name as containerd has it: `docker.io/library/nginx:*`",
    ),
    key(
        "exception.level",
        "hardened, restricted, permissive",
        "the policy's",
        "the level for these containers",
    ),
    key(
        "exception.loosen",
        "controls",
        "[]",
        "controls that are only written down for these containers",
    ),
    key(
        "exception.<narrow key>",
        "as there",
        "nothing more",
        "a narrow key of the policy, for these containers alone: see «Narrow keys»",
    ),
    key(
        "exception.expires",
        "date, or a date in quotes",
        "never",
        "the last day (UTC) on which a container may be created under it",
    ),
];

/// The key of this name. Controls share one; a narrow key is in an exception what it is in the policy.
pub fn find(name: &str) -> Option<&'static Key> {
    let control = name.strip_prefix("controls.").is_some();
    let narrow = name.strip_prefix("exception.").filter(|name| NARROW.contains(name));
    let name = narrow.unwrap_or(name);
    KEYS.iter()
        .find(|k| k.name == name || (control && k.name == "controls.<control>"))
}

/// Whether keys lie below this name.
pub fn is_table(name: &str) -> bool {
    let below = |key: &str, name: &str| key.strip_prefix(name).is_some_and(|rest| rest.starts_with('.'));
    let narrow = name.strip_prefix("exception.");
    KEYS.iter().any(|k| below(k.name, name)) || narrow.is_some_and(|name| NARROW.iter().any(|key| below(key, name)))
}

/// The first key that lies below this table.
pub fn below(table: &str) -> Option<&'static str> {
    let names = KEYS.iter().map(|k| k.name).chain(NARROW);
    let table = table.strip_prefix("exception.").unwrap_or(table);
    names
        .into_iter()
        .find_map(|name| name.strip_prefix(table)?.strip_prefix('.'))
}

/// The name that was probably meant, if one is near enough.
pub fn nearest<'a>(word: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let reach = (word.chars().count() / 3).max(2);
    let scored = names.into_iter().map(|name| (strsim::levenshtein(word, name), name));
    scored
        .filter(|(far, _)| *far <= reach)
        .min_by_key(|(far, _)| *far)
        .map(|(_, name)| name)
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "these read the sources and the documents")]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use serde_json::Value;

    use super::*;
    use crate::policy::narrow::tests::sample;
    use crate::policy::{Policy, parse};

    /// Names of all leaves. A list is a leaf, a list of tables is looked into.
    fn leaves(prefix: &str, value: &Value, found: &mut BTreeMap<String, Value>) {
        match value {
            Value::Object(map) => {
                for (name, value) in map {
                    let name = if prefix.is_empty() {
                        name.clone()
                    } else {
                        format!("{prefix}.{name}")
                    };
                    leaves(&name, value, found);
                }
            }
            Value::Array(list) if list.first().is_some_and(Value::is_object) => leaves(prefix, &list[0], found),
            _ => {
                found.insert(prefix.to_owned(), value.clone());
            }
        }
    }

    #[test]
    fn the_list_is_the_types() {
        let mut full = r#"
            controls = { rootfs = "observe" }
            [[exception]]
            reason = "r"
            match = { namespace = "n", name = "m", type = "container", container = "c", image = "i" }
            level = "permissive"
            loosen = ["rootfs"]
            expires = "2099-01-01"
        "#
        .to_owned();
        for key in NARROW {
            full.push_str(&format!("{key} = {}\n", sample(key)));
        }
        let mut found = BTreeMap::new();
        leaves("", &serde_json::to_value(parse(&full).unwrap()).unwrap(), &mut found);
        let narrow = |key: &String| key.strip_prefix("exception.").is_some_and(|k| NARROW.contains(&k));
        assert_eq!(found.keys().filter(|key| narrow(key)).count(), NARROW.len());
        let types: BTreeSet<String> = found
            .into_keys()
            .map(|k| {
                if narrow(&k) {
                    "exception.<narrow key>".to_owned()
                } else {
                    k
                }
            })
            .map(|k| k.replace("controls.rootfs", "controls.<control>"))
            .collect();
        let listed: BTreeSet<String> = KEYS.iter().map(|k| k.name.to_owned()).collect();
        assert_eq!(types, listed);
    }

    #[test]
    fn defaults_are_the_types_own() {
        let mut found = BTreeMap::new();
        leaves("", &serde_json::to_value(Policy::default()).unwrap(), &mut found);
        for key in KEYS
            .iter()
            .filter(|k| !k.name.starts_with("exception.") && !k.name.starts_with("controls."))
        {
            let value = &found[key.name];
            if *value != Value::Null {
                assert_eq!(
                    serde_json::from_str::<Value>(key.default).unwrap(),
                    *value,
                    "{}",
                    key.name
                );
            }
        }
    }

    #[test]
    fn the_documented_table_is_the_list() {
        let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/POLICY.md")).unwrap();
        let quoted = |text: &str| {
            if text.starts_with(['"', '[']) || text.parse::<u64>().is_ok() || text == "false" {
                format!("`{text}`")
            } else {
                text.to_owned()
            }
        };
        let rows: Vec<String> = KEYS
            .iter()
            .map(|k| format!("| `{}` | {} | {} | {} |", k.name, k.values, quoted(k.default), k.about))
            .collect();
        let shown: Vec<&str> = text
            .lines()
            .skip_while(|l| !l.starts_with("| key |"))
            .skip(2)
            .take_while(|l| l.starts_with('|'))
            .collect();
        assert_eq!(shown.join("\n"), rows.join("\n"), "docs/POLICY.md: the table of keys");
    }

    #[test]
    fn near_names() {
        let names = ["level", "lock", "exec", "max_pids"];
        assert_eq!(nearest("levle", names), Some("level"));
        assert_eq!(nearest("max-pids", names), Some("max_pids"));
        assert_eq!(nearest("seccomp", names), None);
    }
}
