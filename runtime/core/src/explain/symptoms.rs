//! What a person has in their hands when something does not work: a message, an errno, an exit code, a word of a mount. Each with its causes,
//! the likeliest first, and with what tells them apart.

use super::{Entry, find};

/// One cause of a symptom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cause {
    /// The entry that says what it is and what helps; empty where it is nothing of gabion's.
    pub code: &'static str,
    /// How it is told from the others.
    pub tell: &'static str,
}

impl Cause {
    pub fn entry(&self) -> Option<&'static Entry> {
        find(self.code)
    }
}

/// A symptom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Symptom {
    /// What people call it; the first is its name.
    pub words: &'static [&'static str],
    pub what: &'static str,
    pub causes: &'static [Cause],
}

const fn cause(code: &'static str, tell: &'static str) -> Cause {
    Cause { code, tell }
}

/// All of them.
pub static SYMPTOMS: &[Symptom] = &[
    Symptom {
        words: &["EROFS", "Read-only file system", "read only file system"],
        what: "the program wrote where nothing is written",
        causes: &[
            cause(
                "run.read-only",
                "the path lies in the image: `gabion can ID write PATH` names the control `rootfs`",
            ),
            cause("run.proc-hidden", "the path lies in /proc or /sys"),
            cause(
                "run.jit",
                "the path lies in /proc and the level is restricted: /proc is mounted read-only by `memory`",
            ),
            cause(
                "",
                "the path lies on a volume that was asked for read-only (readOnly: true, :ro)",
            ),
        ],
    },
    Symptom {
        words: &["EACCES", "Permission denied"],
        what: "something may not be opened, run, connected to or mapped",
        causes: &[
            cause(
                "",
                "ordinary owner and mode: `ls -ld` of the path and of every directory above it, beside `id`. Without CAP_DAC_READ_SEARCH root does not pass these either; \
                   /run is root's, 0755",
            ),
            cause(
                "run.noexec",
                "it is the program itself that is not run, and it lies where files can be written (/tmp, a volume): \
                   `gabion can ID exec PATH` names `mounts` or `holes`, and `landlock` beside it",
            ),
            cause(
                "run.eacces",
                "owner and mode allow it and it is not about running: `gabion can ID write PATH` names `landlock`",
            ),
            cause("run.tcp", "it is connect or bind of TCP"),
            cause(
                "run.jit",
                "it is mmap or mprotect, at level restricted or with the annotation dev.gabion.memory",
            ),
            cause("run.memfd", "it is a memfd that is run"),
            cause("run.proc-hidden", "the path lies in /proc or /sys"),
        ],
    },
    Symptom {
        words: &["EPERM", "Operation not permitted", "not permitted"],
        what: "a call was refused",
        causes: &[
            cause(
                "run.eperm",
                "a capability that was dropped, or a call that seccomp stops: `gabion explain CALL` says what gabion's filters answer, `gabion can ID call CALL` what this container's do",
            ),
            cause(
                "run.setuid",
                "it is the start of a program with file capabilities (ping), or sudo and su",
            ),
            cause(
                "run.jit",
                "it is ptrace, at level restricted or with the annotation dev.gabion.memory",
            ),
            cause(
                "",
                "a file that is another user's (chown, chmod, utime), or is immutable: the kernel's own rule",
            ),
        ],
    },
    Symptom {
        words: &["ENOSYS", "Function not implemented", "not implemented"],
        what: "the kernel answers as if it had no such call",
        causes: &[
            cause(
                "run.enosys",
                "seccomp: io_uring, clone3, calls that gabion does not know",
            ),
            cause(
                "run.jit",
                "it is memfd_create, at level restricted or with the annotation dev.gabion.memory",
            ),
            cause("", "this kernel is older than the call"),
        ],
    },
    Symptom {
        words: &["EINVAL", "Invalid argument"],
        what: "the kernel does not take an argument",
        causes: &[
            cause(
                "",
                "the program itself: gabion's filters answer EINVAL to nothing. mount, setgroups and writes to uid_map in a user namespace give it by the kernel's own rules",
            ),
            cause("run.proc-hidden", "it is a write to a file of /proc/sys"),
        ],
    },
    Symptom {
        words: &["ENOSPC", "No space left on device", "no space left"],
        what: "a file system is full, or a number of something is reached",
        causes: &[
            cause(
                "run.no-space",
                "the path lies in /tmp, /var/tmp, /run or another hole: `df PATH` shows a tmpfs",
            ),
            cause(
                "",
                "the path lies on a volume that is full; or it is inotify, whose watches are the user's (fs.inotify.max_user_watches on the host)",
            ),
        ],
    },
    Symptom {
        words: &[
            "EAGAIN",
            "Resource temporarily unavailable",
            "Cannot fork",
            "can't fork",
            "unable to create native thread",
            "pthread_create failed",
        ],
        what: "there can be no further process or thread",
        causes: &[
            cause(
                "run.too-many-tasks",
                "pids.current in the container's cgroup is pids.max",
            ),
            cause("", "RLIMIT_NPROC: `ulimit -u`, the spec's rlimits (--ulimit nproc)"),
        ],
    },
    Symptom {
        words: &["ENOMEM", "Cannot allocate memory", "Out of memory", "OOM", "OOMKilled"],
        what: "there is no memory to be had",
        causes: &[
            cause(
                "run.out-of-memory",
                "memory.events or memory.oom_control of the container's cgroup counts up",
            ),
            cause("", "the program's own limit (a heap, RLIMIT_AS)"),
        ],
    },
    Symptom {
        words: &[
            "EAFNOSUPPORT",
            "Address family not supported by protocol",
            "Address family not supported",
        ],
        what: "a socket of a family that is not allowed, or that the kernel has not",
        causes: &[
            cause(
                "run.eperm",
                "`gabion can ID call socket FAMILY` names `seccomp`: sockets beyond UNIX, IP, netlink and packet need [seccomp] sockets in the policy",
            ),
            cause("", "IPv6 is switched off on the host"),
        ],
    },
    Symptom {
        words: &["EPROTONOSUPPORT", "Protocol not supported"],
        what: "a socket of a protocol that is not allowed: SCTP, MPTCP, DCCP and the like",
        causes: &[cause(
            "run.eperm",
            "the policy opens it by [seccomp] sockets = [\"sctp\"] and the like; Go and glibc go on with TCP by themselves",
        )],
    },
    Symptom {
        words: &["SIGSYS", "159", "Bad system call"],
        what: "a filter ended the process",
        causes: &[cause(
            "",
            "the spec's own seccomp profile: gabion's filters answer with an errno and end nobody",
        )],
    },
    Symptom {
        words: &["126", "cannot execute"],
        what: "a program is there and was not started",
        causes: &[
            cause(
                "run.noexec",
                "it lies where files can be written: `gabion can ID exec PATH`",
            ),
            cause(
                "mounts.entrypoint-noexec",
                "the container's own program lies on a volume: gabion said so at create",
            ),
            cause(
                "",
                "it has no x bit for this user, its directory may not be entered, or it is of another architecture",
            ),
        ],
    },
    Symptom {
        words: &[
            "127",
            "command not found",
            "executable file not found",
            "No such file or directory",
        ],
        what: "a program was not found",
        causes: &[
            cause(
                "",
                "it is not in the image or not in PATH; or the interpreter of its first line, or its loader (ld-linux, ld-musl), is not there",
            ),
            cause(
                "run.read-only",
                "it was to be written by something that ran before and could not write",
            ),
        ],
    },
    Symptom {
        words: &["137", "SIGKILL", "Killed"],
        what: "SIGKILL ended it (128 and 9)",
        causes: &[
            cause(
                "run.out-of-memory",
                "memory.events or memory.oom_control of the container's cgroup, or the host's kernel log, has an oom_kill",
            ),
            cause(
                "",
                "somebody stopped it: `kubectl delete`, `podman stop` after its ten seconds, a liveness probe",
            ),
            cause(
                "",
                "gabion itself, where the label of AppArmor or SELinux was not what was decided: then its log and the audit log have lsm.not-enforced",
            ),
        ],
    },
    Symptom {
        words: &["255"],
        what: "exec could not start the program, or the program itself gave 255",
        causes: &[cause(
            "exec.denied",
            "gabion's error line on stderr and in its log has the code",
        )],
    },
    Symptom {
        words: &["noexec"],
        what: "nothing on this mount is executed, nor mapped executable",
        causes: &[cause(
            "run.noexec",
            "`grep noexec /proc/self/mountinfo` in the container",
        )],
    },
    Symptom {
        words: &["nosuid", "setuid", "sudo", "no_new_privs", "NoNewPrivs"],
        what: "setuid bits and file capabilities give nothing",
        causes: &[cause("run.setuid", "NoNewPrivs in /proc/PID/status is 1")],
    },
    Symptom {
        words: &["nodev"],
        what: "a device node on this mount is not opened",
        causes: &[cause(
            "devices.not-allowed",
            "devices come from `linux.devices` (--device, a device plugin) and [devices] allow, never from a volume",
        )],
    },
    Symptom {
        words: &["memfd"],
        what: "a program in memory is not run",
        causes: &[
            cause("run.memfd", "EACCES on execve or fexecve"),
            cause("run.jit", "memfd_create itself is refused, at level restricted"),
        ],
    },
    Symptom {
        words: &["JIT", "WX", "W^X"],
        what: "memory that was written is not run",
        causes: &[cause("run.jit", "mprotect or mmap gives EACCES at level restricted")],
    },
    Symptom {
        words: &["tmpfs", "hole"],
        what: "a small writable place in the read-only root",
        causes: &[
            cause(
                "run.no-space",
                "it is full: the size that the hole was given is used up",
            ),
            cause("run.read-only", "there is none where the program writes"),
        ],
    },
];

/// Gives the symptom that a text is or has in it: a whole line of a log may be given.
pub fn symptom(text: &str) -> Option<&'static Symptom> {
    let text = text.trim();
    let named = |s: &&Symptom| s.words.iter().any(|word| word.eq_ignore_ascii_case(text));
    let lower = text.to_ascii_lowercase();
    // A sentence, not a number or a short word that may stand in any path.
    let said = |s: &&Symptom| {
        s.words
            .iter()
            .any(|word| word.contains(' ') && lower.contains(&word.to_ascii_lowercase()))
    };
    let errno = |s: &&Symptom| {
        let mut words = text.split(|c: char| !c.is_ascii_alphanumeric());
        words.any(|word| word.starts_with('E') && s.words.first() == Some(&word))
    };
    let code = |s: &&Symptom| {
        let number = lower
            .strip_prefix("exit code ")
            .or_else(|| lower.strip_prefix("exit status "));
        number.is_some_and(|number| s.words.contains(&number.trim()))
    };
    SYMPTOMS
        .iter()
        .find(named)
        .or_else(|| SYMPTOMS.iter().find(said))
        .or_else(|| SYMPTOMS.iter().find(errno))
        .or_else(|| SYMPTOMS.iter().find(code))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_people_have_leads_to_its_causes() {
        for (text, name, first) in [
            ("Read-only file system", "EROFS", "run.read-only"),
            ("touch: /opt/x: Read-only file system", "EROFS", "run.read-only"),
            ("erofs", "EROFS", "run.read-only"),
            ("sh: /tmp/x: Permission denied", "EACCES", ""),
            ("bind() to 0.0.0.0:80 failed (13: Permission denied)", "EACCES", ""),
            (
                "unshare(CLONE_NEWUSER) = -1 EPERM (Operation not permitted)",
                "EPERM",
                "run.eperm",
            ),
            ("openat failed: EROFS", "EROFS", "run.read-only"),
            ("126", "126", "run.noexec"),
            ("exit code 137", "137", "run.out-of-memory"),
            ("noexec", "noexec", "run.noexec"),
            ("EINVAL", "EINVAL", ""),
        ] {
            let found = symptom(text).unwrap_or_else(|| unreachable!("{text}"));
            assert!(found.words.contains(&name), "{text}: {:?}", found.words);
            assert_eq!(found.causes.first().unwrap().code, first, "{text}");
        }
        for text in ["", "x", "1260", "/srv/noexec/x", "EXPECTED"] {
            assert!(symptom(text).is_none(), "{text}");
        }
    }

    #[test]
    fn every_cause_is_explained_or_says_it_all() {
        for symptom in SYMPTOMS {
            for cause in symptom.causes {
                assert!(cause.code.is_empty() || cause.entry().is_some(), "{}", cause.code);
                assert!(cause.tell.len() > 10);
            }
        }
    }
}
