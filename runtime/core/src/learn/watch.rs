//! The seccomp profile under which a program is watched: what it lets through it lets through still, and a few calls are told of first.
//!
//! A call that is told of goes on (SECCOMP_USER_NOTIF_FLAG_CONTINUE): nobody is kept from anything by it, and what was seen of its arguments
//! may change behind the listener's back. It is a record and no guard.

use serde_json::{Value, json};

/// Told of whatever their arguments are.
pub const ALWAYS: [&str; 57] = [
    "execve",
    "execveat",
    "socket",
    "bind",
    "connect",
    "chroot",
    "mkdir",
    "mkdirat",
    "creat",
    "openat2",
    "rename",
    "renameat",
    "renameat2",
    "unlink",
    "unlinkat",
    "rmdir",
    "symlink",
    "symlinkat",
    "link",
    "linkat",
    "mknod",
    "mknodat",
    "mount",
    "umount2",
    "pivot_root",
    "fsopen",
    "open_tree",
    "move_mount",
    "mount_setattr",
    "setns",
    "unshare",
    "ptrace",
    "process_vm_readv",
    "process_vm_writev",
    "pidfd_getfd",
    "kcmp",
    "keyctl",
    "add_key",
    "request_key",
    "perf_event_open",
    "bpf",
    "userfaultfd",
    "io_uring_setup",
    "sethostname",
    "setdomainname",
    "syslog",
    "open_by_handle_at",
    "fanotify_init",
    "vmsplice",
    "process_madvise",
    "settimeofday",
    "clock_settime",
    "reboot",
    "swapon",
    "quotactl",
    "iopl",
    "acct",
];

/// One condition on an argument: `argument & mask == value`.
type Condition = (u32, u64, u64);

/// A rule for some of a call's arguments: what has to hold, and whether it is told of.
type Rule = (&'static [Condition], Told);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    No,
    Yes,
}

/// O_WRONLY, O_RDWR, O_CREAT.
const OPEN: [Rule; 5] = [
    (&[(1, 3, 1)], Told::Yes),
    (&[(1, 3, 2)], Told::Yes),
    (&[(1, 0o103, 0o100)], Told::Yes),
    (&[(1, 0o103, 0)], Told::No),
    (&[(1, 3, 3)], Told::No),
];
const OPENAT: [Rule; 5] = [
    (&[(2, 3, 1)], Told::Yes),
    (&[(2, 3, 2)], Told::Yes),
    (&[(2, 0o103, 0o100)], Told::Yes),
    (&[(2, 0o103, 0)], Told::No),
    (&[(2, 3, 3)], Told::No),
];
/// PROT_EXEC of a file, or together with PROT_WRITE. 0x20 is MAP_ANONYMOUS.
const MMAP: [Rule; 4] = [
    (&[(2, 4, 0)], Told::No),
    (&[(2, 6, 4), (3, 0x20, 0x20)], Told::No),
    (&[(2, 6, 6), (3, 0x20, 0x20)], Told::Yes),
    (&[(2, 4, 4), (3, 0x20, 0)], Told::Yes),
];
/// PROT_EXEC.
const MPROTECT: [Rule; 2] = [(&[(2, 4, 4)], Told::Yes), (&[(2, 4, 0)], Told::No)];
/// CLONE_NEWUSER.
const CLONE: [Rule; 2] = [
    (&[(0, 0x1000_0000, 0x1000_0000)], Told::Yes),
    (&[(0, 0x1000_0000, 0)], Told::No),
];

const SOME: [(&str, &[Rule]); 5] = [
    ("open", &OPEN),
    ("openat", &OPENAT),
    ("mmap", &MMAP),
    ("mprotect", &MPROTECT),
    ("clone", &CLONE),
];

/// Makes the profile that tells of calls, from the one that the spec has, where it has one. `known` says which calls this machine has.
pub fn watching(own: Option<&Value>, listener: &str, architectures: &[&str], known: impl Fn(&str) -> bool) -> Value {
    let mut profile = own
        .cloned()
        .unwrap_or_else(|| json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": architectures}));
    let passes = |action: &Value| action == "SCMP_ACT_ALLOW";
    let passes_all = passes(&profile["defaultAction"]);
    let mut rules: Vec<Value> = profile["syscalls"].as_array().cloned().unwrap_or_default();
    let names = |rule: &Value| -> Vec<String> {
        let list = rule["names"].as_array().into_iter().flatten();
        list.filter_map(|name| name.as_str().map(str::to_owned)).collect()
    };
    // What some rule names stays its affair, but for those that let a call through whatever it is called with.
    let free = |rule: &Value| passes(&rule["action"]) && rule["args"].as_array().is_none_or(Vec::is_empty);
    let named_with_conditions: Vec<String> = rules.iter().filter(|rule| !free(rule)).flatten_names(&names);
    let let_through: Vec<String> = rules.iter().filter(|rule| free(rule)).flatten_names(&names);
    let mut told = Vec::new();
    for call in ALWAYS.into_iter().chain(SOME.iter().map(|(call, _)| *call)) {
        let mine = |names: &[String]| names.iter().any(|name| name == call);
        if known(call) && !mine(&named_with_conditions) && (passes_all || mine(&let_through)) {
            told.push(call);
        }
    }
    for rule in &mut rules {
        if free(rule) {
            let left: Vec<String> = names(rule)
                .into_iter()
                .filter(|name| !told.contains(&name.as_str()))
                .collect();
            rule["names"] = left.into();
        }
    }
    rules.retain(|rule| rule["names"].as_array().is_some_and(|names| !names.is_empty()));
    for call in told {
        match SOME.iter().find(|(name, _)| *name == call) {
            None => rules.push(json!({"names": [call], "action": "SCMP_ACT_NOTIFY"})),
            Some((_, some)) => rules.extend(some.iter().filter_map(|rule| one(call, rule, passes_all))),
        }
    }
    profile["syscalls"] = rules.into();
    profile["listenerPath"] = listener.into();
    profile
}

/// What is let through needs no rule where everything is.
fn one(call: &str, (conditions, told): &Rule, passes_all: bool) -> Option<Value> {
    let action = match told {
        Told::Yes => "SCMP_ACT_NOTIFY",
        Told::No if passes_all => return None,
        Told::No => "SCMP_ACT_ALLOW",
    };
    let args = conditions.iter().map(
        |(index, mask, value)| json!({"index": index, "value": mask, "valueTwo": value, "op": "SCMP_CMP_MASKED_EQ"}),
    );
    Some(json!({"names": [call], "action": action, "args": args.collect::<Vec<_>>()}))
}

/// The names of some rules.
trait Names<'a>: Iterator<Item = &'a Value> + Sized {
    fn flatten_names(self, names: &impl Fn(&Value) -> Vec<String>) -> Vec<String> {
        self.flat_map(names).collect()
    }
}

impl<'a, I: Iterator<Item = &'a Value>> Names<'a> for I {}
