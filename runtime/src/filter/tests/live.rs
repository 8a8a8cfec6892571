//! The kernel's own answers. A filter is a thread's: each test takes one of its own and leaves it there.

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::AsFd;

use gabion_core::sockets::{May, SocketRules};
use libseccomp::{ScmpNotifReq, ScmpNotifResp};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use super::*;

/// Run in a thread that has given up new privileges, so that filters need no capability.
fn confined<T: Send>(body: impl FnOnce() -> T + Send) -> T {
    let run = || {
        nix::sys::prctl::set_no_new_privs().unwrap();
        body()
    };
    std::thread::scope(|scope| scope.spawn(run).join().unwrap())
}

/// What /proc/PID/status says of seccomp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Status {
    /// 0 none, 1 strict, 2 filters.
    mode: u8,
    /// Number of filters in force, outer ones included; `None` before Linux 5.9.
    filters: Option<u32>,
}

impl Status {
    /// Read the lines `Seccomp:` and `Seccomp_filters:`. `None` without the first, or where a line holds no number.
    ///
    /// No process can put a line of its own there: the kernel escapes newlines in `Name:`.
    fn parse(status: &str) -> Option<Self> {
        let value = |key: &str| status.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
        let mode = value("Seccomp:")?.parse().ok()?;
        let filters = match value("Seccomp_filters:") {
            Some(text) => Some(text.parse().ok()?),
            None => None,
        };
        Some(Self { mode, filters })
    }
}

fn status() -> Status {
    Status::parse(&fs::read_to_string("/proc/thread-self/status").unwrap()).unwrap()
}

fn family(family: AddressFamily) -> Result<(), Errno> {
    socket(family, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None).map(drop)
}

#[test]
fn floor_and_default_profile() {
    confined(|| {
        let before = status();
        assert_eq!(
            probe_floor(&BTreeSet::new(), &SocketRules::usual()).unwrap_err().call,
            "the marker",
            "without the floor the probe fails"
        );
        install(&Program::floor(), Flags::NONE).unwrap();
        probe_floor(&BTreeSet::new(), &SocketRules::usual()).unwrap();
        assert_eq!(
            install(&Program::default_profile(), Flags::NONE).unwrap().map(drop),
            None
        );
        probe_floor(&BTreeSet::new(), &SocketRules::usual()).unwrap();
        let after = status();
        assert_eq!(after.mode, 2);
        assert_eq!(after.filters, before.filters.map(|count| count + 2));
        assert_eq!(unshare(CloneFlags::CLONE_NEWUSER), Err(Errno::EPERM));
        assert_eq!(unshare(CloneFlags::CLONE_FS), Err(Errno::EPERM));
        assert_eq!(
            setns(
                fs::File::open("/proc/thread-self/ns/uts").unwrap().as_fd(),
                CloneFlags::empty()
            ),
            Err(Errno::EPERM)
        );
        assert_eq!(nix::mount::umount("/nowhere"), Err(Errno::EPERM));
        assert_eq!(nix::unistd::sethostname("x"), Err(Errno::EPERM));
        assert_eq!(family(AddressFamily::Alg), Err(Errno::EAFNOSUPPORT));
        assert_eq!(family(AddressFamily::Vsock), Err(Errno::EAFNOSUPPORT));
        assert_eq!(family(AddressFamily::Unix), Ok(()));
        assert_eq!(family(AddressFamily::Inet), Ok(()));
        assert_eq!(
            nix::sys::personality::set(nix::sys::personality::Persona::ADDR_NO_RANDOMIZE),
            Err(Errno::EPERM)
        );
        nix::sys::personality::get().unwrap();
        assert_eq!(
            gabion_sys::probe(gabion_sys::Probe::Unknown(1 << 23)),
            Some(Errno::ENOSYS)
        );
        // clone3 is ENOSYS: glibc must make threads and processes without it.
        std::thread::spawn(|| ()).join().unwrap();
        assert!(std::process::Command::new("/bin/true").status().unwrap().success());
    });
}

#[test]
fn what_rules_for_ports_close_is_probed() {
    let ruled = SocketRules {
        fast_open: May::No,
        listen: May::No,
        ..SocketRules::usual()
    };
    confined(|| {
        install(&Program::floor(), Flags::NONE).unwrap();
        assert_eq!(probe_floor(&BTreeSet::new(), &ruled).unwrap_err().call, "listen(-1)");
        install(&Program::floor().with_sockets(&ruled).unwrap(), Flags::NONE).unwrap();
        probe_floor(&BTreeSet::new(), &ruled).unwrap();
    });
}

#[test]
fn a_floor_that_is_not_ours_is_noticed() {
    // What a fault would look like: a filter is there, but it is another.
    let other = profile(
        r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["setns","unshare","umount2","ptrace"],"action":"SCMP_ACT_ERRNO"}]}"#,
    );
    confined(|| {
        install(&compile(&other).unwrap().program, Flags::NONE).unwrap();
        let error = probe_floor(&BTreeSet::new(), &SocketRules::usual()).unwrap_err();
        assert_eq!((error.call, error.got), ("the marker", Some(Errno::ENOSYS)));
    });
}

#[test]
fn floor_outranks_a_profile_that_allows_or_notifies() {
    let open = profile(
        r#"{"defaultAction":"SCMP_ACT_ALLOW","listenerPath":"/x","syscalls":[{"names":["unshare"],"action":"SCMP_ACT_NOTIFY"}]}"#,
    );
    let compiled = compile(&open).unwrap();
    confined(|| {
        install(&Program::floor(), Flags::NONE).unwrap();
        let listener = install(&compiled.program, compiled.flags).unwrap();
        assert!(listener.is_some());
        assert_eq!(
            unshare(CloneFlags::CLONE_NEWUSER),
            Err(Errno::EPERM),
            "nobody answers the listener, so a notification would hang"
        );
    });
}

#[test]
fn notify_reaches_the_listener() {
    let asked = profile(
        r#"{"defaultAction":"SCMP_ACT_ALLOW","listenerPath":"/x","syscalls":[{"names":["sethostname"],"action":"SCMP_ACT_NOTIFY"}]}"#,
    );
    let compiled = compile(&asked).unwrap();
    let (send, receive) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        let caller = scope.spawn(move || {
            nix::sys::prctl::set_no_new_privs().unwrap();
            install(&Program::floor(), Flags::NONE).unwrap();
            send.send(install(&compiled.program, compiled.flags).unwrap().unwrap())
                .unwrap();
            nix::unistd::sethostname("x")
        });
        let listener = receive.recv().unwrap();
        let fd = std::os::fd::AsRawFd::as_raw_fd(&listener);
        let request = ScmpNotifReq::receive(fd).unwrap();
        ScmpNotifResp::new_error(
            request.id,
            -(Errno::EXFULL as i32),
            libseccomp::ScmpNotifRespFlags::empty(),
        )
        .respond(fd)
        .unwrap();
        assert_eq!(caller.join().unwrap(), Err(Errno::EXFULL));
    });
}

#[test]
fn install_tells_what_the_kernel_says() {
    confined(|| {
        let unknown = Flags::from_bits(0x20).unwrap();
        assert_eq!(
            install(&Program::floor(), unknown).map(|_| ()),
            Err(Errno::EINVAL),
            "WAIT_KILLABLE_RECV without a listener"
        );
    });
}

#[test]
fn status_lines() {
    let text = "Name:\tx\\nSeccomp: 0\nNoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t3\n";
    assert_eq!(
        Status::parse(text),
        Some(Status {
            mode: 2,
            filters: Some(3)
        })
    );
    assert_eq!(Status::parse("Seccomp:\t0\n"), Some(Status { mode: 0, filters: None }));
    assert_eq!(Status::parse("Name:\tx\n"), None);
    assert_eq!(Status::parse("Seccomp:\tx\n"), None);
}
