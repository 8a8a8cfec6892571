//! The programs that build.rs made, against a second reading of policy/seccomp.toml that knows nothing of BPF.

use libseccomp::{ScmpArch, ScmpSyscall};
use toml::{Table, Value};

use super::*;

struct Family {
    default: &'static [u8],
    floor: &'static [u8],
    own: &'static str,
    arches: [(ScmpArch, u32); 2],
}

const FAMILIES: [Family; 2] = [
    Family {
        default: include_bytes!(concat!(env!("OUT_DIR"), "/default-x86_64.bpf")),
        floor: include_bytes!(concat!(env!("OUT_DIR"), "/floor-x86_64.bpf")),
        own: "x86_64",
        arches: [(ScmpArch::X8664, bpf::AUDIT_X86_64), (ScmpArch::X86, bpf::AUDIT_I386)],
    },
    Family {
        default: include_bytes!(concat!(env!("OUT_DIR"), "/default-aarch64.bpf")),
        floor: include_bytes!(concat!(env!("OUT_DIR"), "/floor-aarch64.bpf")),
        own: "aarch64",
        arches: [(ScmpArch::Aarch64, bpf::AUDIT_AARCH64), (ScmpArch::Arm, bpf::AUDIT_ARM)],
    },
];

/// Every value that a condition of the policy looks for, others beside them, and the same with rubbish in the high half.
const VALUES: [u64; 34] = [
    0,
    1,
    2,
    3,
    7,
    8,
    10,
    15,
    16,
    17,
    18,
    38,
    39,
    40,
    41,
    0x11,
    0x80,
    0x4200,
    0x4206,
    0x5401,
    0x5412,
    0x541c,
    0x5423,
    0x20000,
    0x20008,
    0x40000,
    0x0200_0011,
    0x0400_0000,
    0x0800_0000,
    0x1000_0000,
    0x2000_0000,
    0x4000_0000,
    0x003d_0f00,
    0xffff_ffff,
];

fn policy() -> Table {
    include_str!("../../../../policy/seccomp.toml").parse().unwrap()
}

fn list<'a>(value: &'a Value, key: &str) -> Vec<&'a Value> {
    value.get(key).and_then(Value::as_array).into_iter().flatten().collect()
}

fn matches(rule: &Value, name: &str, args: [u64; 6]) -> bool {
    let named = list(rule, "calls").iter().any(|call| call.as_str() == Some(name));
    let Some(when) = rule.get("when") else { return named };
    let arg = args[usize::try_from(when["arg"].as_integer().unwrap()).unwrap()] & 0xffff_ffff;
    let numbers = |key| {
        list(when, key)
            .into_iter()
            .map(|value| value.as_integer().unwrap().cast_unsigned())
            .collect::<Vec<_>>()
    };
    named && (numbers("values").contains(&arg) || numbers("bits").iter().any(|bit| arg & bit != 0))
}

fn answer(rule: &Value) -> u32 {
    match rule.get("errno").map(|errno| errno.as_str().unwrap()) {
        None => ALLOW,
        Some("EPERM") => EPERM,
        Some("ENOSYS") => ENOSYS,
        Some(other) => panic!("{other}"),
    }
}

/// What the table of sockets says of a call that makes one; None where it says nothing.
fn socket_verdict(policy: &Table, name: &str, args: [u64; 6]) -> Option<u32> {
    let table = &policy["sockets"];
    let [first, _, third, ..] = args.map(|arg| arg & 0xffff_ffff);
    let listed = |key: &str, value: u64| {
        list(table, key)
            .iter()
            .any(|v| v.as_integer() == Some(value.cast_signed()))
    };
    match name {
        "socketcall" => matches!(first, 1 | 8).then_some(EAFNOSUPPORT),
        "socket" | "socketpair" if !listed("families", first) => Some(EAFNOSUPPORT),
        "socket" | "socketpair" => match first {
            2 | 10 => (!listed("inet", third)).then_some(EPROTONOSUPPORT),
            16 => (!listed("netlink", third)).then_some(EPROTONOSUPPORT),
            17 => Some(EPERM),
            _ => None,
        },
        _ => None,
    }
}

/// What the policy says: (floor, default).
fn verdicts(policy: &Table, name: Option<&str>, args: [u64; 6]) -> (u32, u32) {
    let Some(name) = name else { return (ALLOW, ENOSYS) };
    let find = |rules: Vec<&Value>| rules.into_iter().find(|rule| matches(rule, name, args)).map(answer);
    let floor = find(policy["floor"].as_array().unwrap().iter().collect());
    let floor = floor.or_else(|| socket_verdict(policy, name, args));
    let default = &policy["default"];
    let rest = || {
        find(list(default, "allow"))
            .or_else(|| find(list(default, "refuse")))
            .unwrap_or(ENOSYS)
    };
    (floor.unwrap_or(ALLOW), floor.unwrap_or_else(rest))
}

fn name_of(policy: &Table, own: &str, native: bool, arch: ScmpArch, number: u32) -> Option<String> {
    let tables = if native { vec!["all", own] } else { vec!["all"] };
    let rows = tables
        .into_iter()
        .filter_map(|table| policy["numbers"].get(table)?.as_table())
        .flatten();
    let here = |(_, value): &(&String, &Value)| value.as_integer() == Some(number.into());
    let newer = rows.into_iter().find(here).map(|(name, _)| name.clone());
    // 32-bit x86 has numbers for them that libseccomp does not name.
    let abi = ["x86_64", "i386", "aarch64", "arm"][[ScmpArch::X8664, ScmpArch::X86, ScmpArch::Aarch64, ScmpArch::Arm]
        .iter()
        .position(|of| *of == arch)
        .unwrap()];
    let sockets = policy["sockets"]["calls"][abi].as_table().unwrap();
    let newer = newer.or_else(|| sockets.iter().find(here).map(|(name, _)| name.clone()));
    newer.or_else(|| ScmpSyscall::from(number.cast_signed()).get_name_by_arch(arch).ok())
}

#[test]
fn every_call_of_every_architecture_gets_what_the_policy_says() {
    let policy = policy();
    let policy_text = include_str!("../../../../policy/seccomp.toml");
    let mut compared = 0;
    for family in &FAMILIES {
        let (floor_program, default_program) = (load(family.floor), load(family.default));
        for (index, (arch, audit)) in family.arches.into_iter().enumerate() {
            for number in (0..620).chain(0xf_0000..0xf_0008) {
                let name = name_of(&policy, family.own, index == 0, arch, number);
                let conditional = name.as_deref().is_some_and(|name| {
                    policy_text.contains(&format!("\"{name}\"]\nwhen")) || name.starts_with("socket")
                });
                let values = if conditional { &VALUES[..] } else { &[0, u64::MAX] };
                for value in values.iter().flat_map(|value| [*value, value | 0x7_0000_0000]) {
                    let call = Call {
                        arch: audit,
                        number,
                        args: [value; 6],
                    };
                    let (floor, default) = verdicts(&policy, name.as_deref(), call.args);
                    assert_eq!(
                        interpret(&floor_program, call),
                        floor,
                        "floor, {arch:?} {name:?} {call:x?}"
                    );
                    assert_eq!(
                        interpret(&default_program, call),
                        default,
                        "default, {arch:?} {name:?} {call:x?}"
                    );
                    compared += 1;
                }
            }
        }
    }
    assert!(compared > 10_000, "{compared}");
}

#[test]
fn x32_and_foreign_calls_do_not_exist() {
    for (index, family) in FAMILIES.iter().enumerate() {
        let other = FAMILIES[1 - index].arches;
        for number in 0..620 {
            for (arch, number) in [(other[0].1, number), (other[1].1, number), (0xdead, number)] {
                let call = Call {
                    arch,
                    number,
                    args: [0; 6],
                };
                assert_eq!(
                    (run(family.floor, call), run(family.default, call)),
                    (ENOSYS, ENOSYS),
                    "{call:x?}"
                );
            }
        }
    }
    for number in 0..620 {
        let call = Call {
            arch: bpf::AUDIT_X86_64,
            number: number | bpf::X32_BIT,
            args: [0; 6],
        };
        assert_eq!((run(FLOOR, call), run(DEFAULT, call)), (ENOSYS, ENOSYS), "{call:x?}");
    }
}

/// A table for people: what one would look up first.
#[test]
#[cfg(target_arch = "x86_64")]
fn well_known_calls() {
    use nix::libc::{self, c_long};
    let ask = |number: c_long, args: [u64; 2]| {
        let number = u32::try_from(number).unwrap();
        let call = Call {
            arch: bpf::AUDIT_X86_64,
            number,
            args: [args[0], args[1], 0, 0, 0, 0],
        };
        (run(FLOOR, call), run(DEFAULT, call))
    };
    let same = |answer| (answer, answer);
    assert_eq!(ask(libc::SYS_read, [0, 0]), same(ALLOW));
    assert_eq!(ask(libc::SYS_clone, [0x0120_0011, 0]), same(ALLOW));
    assert_eq!(ask(libc::SYS_clone, [0x1000_0011, 0]), same(EPERM));
    assert_eq!(ask(libc::SYS_clone3, [0, 0]), same(ENOSYS));
    assert_eq!(ask(libc::SYS_unshare, [0x1000_0000, 0]), same(EPERM));
    assert_eq!(ask(libc::SYS_unshare, [0x400, 0]), (ALLOW, EPERM));
    assert_eq!(ask(libc::SYS_io_uring_setup, [1, 0]), same(ENOSYS));
    assert_eq!(ask(libc::SYS_ptrace, [0, 0]), same(ALLOW));
    assert_eq!(ask(libc::SYS_ptrace, [0x10, 1]), same(EPERM));
    assert_eq!(ask(libc::SYS_ioctl, [0, 0x1_0000_5412]), same(EPERM));
    assert_eq!(ask(libc::SYS_ioctl, [0, 0x5401]), same(ALLOW));
    assert_eq!(ask(libc::SYS_socket, [2, 1]), same(ALLOW));
    assert_eq!(ask(libc::SYS_socket, [0x1_0000_0028, 1]), same(EAFNOSUPPORT));
    assert_eq!(ask(libc::SYS_socket, [29, 1]), same(EAFNOSUPPORT));
    assert_eq!(ask(libc::SYS_socket, [17, 3]), same(EPERM));
    assert_eq!(ask(libc::SYS_personality, [0x40000, 0]), (ALLOW, EPERM));
    assert_eq!(ask(libc::SYS_personality, [0xffff_ffff, 0]), same(ALLOW));
    assert_eq!(ask(462, [0, 0]), same(ALLOW));
    assert_eq!(ask(467, [0, 0]), same(EPERM));
    assert_eq!(ask(335, [0, 0]), same(ALLOW));
    assert_eq!(ask(336, [0, 0]), same(ALLOW));
    assert_eq!(ask(471, [0, 0]), same(ALLOW));
    assert_eq!(ask(tables::MARKER.0.into(), [0, 0]), same(bpf::RET_ERRNO + 73));
}

/// What images' programs were seen to make, or would fail without: see the list of services.
#[test]
fn services_find_their_calls() {
    let calls = "accept4 arch_prctl bind brk capget chown clock_nanosleep connect dup2 epoll_pwait epoll_wait eventfd2 execve faccessat2 \
        fadvise64 fallocate fchown fcntl fdatasync flock fsync ftruncate futex getdents64 getpeername getrandom getsockopt inotify_add_watch \
        io_getevents io_setup io_submit kill listen lseek madvise membarrier mmap mprotect mremap msync newfstatat openat pipe2 poll \
        prctl pread64 preadv prlimit64 pwrite64 pwritev readlink recvmsg rename rseq rt_sigaction rt_sigreturn rt_sigtimedwait \
        sched_getaffinity sched_setaffinity sched_yield semctl semget semop sendfile sendmsg sendto set_robust_list setgid setgroups \
        setitimer setpgid setpriority setresuid setsid setsockopt setuid shmat shmctl shmdt shmget shutdown sigaltstack splice statx \
        sync_file_range sysinfo tgkill timerfd_create umask uname unlink utimensat vfork wait4 waitid writev";
    let family = FAMILIES
        .iter()
        .find(|family| family.own == std::env::consts::ARCH)
        .unwrap();
    for name in calls.split_whitespace() {
        let call = ScmpSyscall::from_name(name).unwrap().as_raw_syscall();
        let Ok(number) = u32::try_from(call) else { continue };
        let call = Call {
            arch: family.arches[0].1,
            number,
            args: [0; 6],
        };
        assert_eq!(run(family.default, call), ALLOW, "{name}");
    }
}

#[test]
fn every_rule_has_a_reason() {
    let policy = policy();
    let default = &policy["default"];
    let rules: Vec<_> = policy["floor"]
        .as_array()
        .unwrap()
        .iter()
        .chain(list(default, "allow"))
        .chain(list(default, "refuse"))
        .collect();
    assert!(rules.len() > 45);
    assert!(
        rules
            .iter()
            .all(|rule| rule["reason"].as_str().is_some_and(|reason| reason.len() > 20))
    );
}

#[test]
fn programs_are_checked() {
    let refused = |bytes: Vec<u8>| matches!(Program::from_bytes(bytes), Err(SeccompError::Program(_)));
    assert!(refused(vec![]));
    assert!(refused(FLOOR[..FLOOR.len() - 1].to_vec()));
    assert!(
        refused(FLOOR[..FLOOR.len() - bpf::INSN_SIZE].to_vec()),
        "no return at the end, or a jump past it"
    );
    assert!(refused([FLOOR; 100].concat()), "too long");
    let mut odd = FLOOR.to_vec();
    odd[0] = 0x84;
    assert!(refused(odd), "an opcode that no filter of ours has");
    let mut far = FLOOR.to_vec();
    far[4] = 66;
    assert!(refused(far), "a load outside the data");
    assert_eq!(Program::from_bytes(FLOOR.to_vec()).unwrap(), Program::floor());
}
