//! `[seccomp] log`: what gabion's own filters deny is in the kernel's log, and no workload fills that by it.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::time::Instant;

use crate::hardens;
use integration::command::{limit, until};
use integration::{Bundle, Container, Policy, left_out};

/// Denied calls of the flood.
const FLOOD: usize = 2000;

/// Records of seccomp in the kernel's log that name this program. None: the log cannot be read here, or goes to somebody else.
fn records(program: &str) -> Option<Vec<String>> {
    let audited_elsewhere = fs::read_dir("/proc")
        .ok()?
        .flatten()
        .any(|process| fs::read_to_string(process.path().join("comm")).is_ok_and(|comm| comm.trim() == "auditd"));
    let off = fs::read_to_string("/proc/cmdline").ok()?.contains("audit=0");
    let mut log = OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_NONBLOCK)
        .open("/dev/kmsg")
        .ok()
        .filter(|_| !audited_elsewhere && !off)?;
    let (mut found, mut record) = (Vec::new(), [0; 8192]);
    loop {
        match log.read(&mut record) {
            Ok(length) => {
                let text = String::from_utf8_lossy(&record[..length]).into_owned();
                if text.contains("type=1326") && text.contains(program) {
                    found.push(text);
                }
            }
            // What stood there was overwritten meanwhile.
            Err(error) if error.raw_os_error() == Some(nix::libc::EPIPE) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Some(found),
            Err(_) => return None,
        }
    }
}

/// Makes the acts by a program of this name.
fn run(program: &str, policy: &Policy, acts: &[&str]) {
    let mut bundle = Bundle::new(program);
    let path = format!("/usr/bin/{program}");
    fs::copy(bundle.rootfs().join("usr/bin/probe"), bundle.rootfs().join(&path[1..])).unwrap();
    let words: Vec<&str> = std::iter::once(path.as_str()).chain(acts.iter().copied()).collect();
    bundle.config.args(&words);
    let container = Container::new(bundle).policy(policy);
    let done = container.run().ok();
    assert!(done.out.contains("keyctl: EPERM"), "{done}");
}

#[test]
fn they_are_logged_where_the_policy_says_so_and_are_bounded() {
    if !hardens() {
        return;
    }
    // One name for each run of this test: the log keeps those of earlier ones.
    let name = |what: &str| format!("denied-{what}-{}", std::process::id());
    let (on, off) = (name("on"), name("off"));
    if records(&on).is_none() {
        left_out("the kernel's log cannot be read, or goes to auditd");
        return;
    }
    let logging = Policy::hardened().line("seccomp.log = true");
    // Calls that the kernel seems not to have come first: if they were logged, they would be seen first.
    let mut acts = vec!["clone3"; 50];
    acts.extend(vec!["keyctl"; FLOOD]);
    let begun = Instant::now();
    // All that the kernel's log is told by ratelimited printk shares one bound: others may have used it up.
    let told = until(limit(30), || {
        run(&on, &logging, &acts);
        records(&on).is_some_and(|seen| !seen.is_empty())
    });
    assert!(told, "no record of {on}");
    run(&off, &Policy::hardened(), &acts);
    let seen = records(&on).unwrap();
    #[cfg(target_arch = "x86_64")]
    assert!(seen.iter().all(|record| record.contains("syscall=250")), "{seen:#?}");
    assert_eq!(records(&off).unwrap(), Vec::<String>::new());
    // Without auditd the kernel passes records on to its log by printk_ratelimit: so many in so many seconds.
    let setting = |name: &str| -> usize {
        let text = fs::read_to_string(format!("/proc/sys/kernel/{name}")).unwrap();
        text.trim().parse().unwrap()
    };
    let (interval, burst) = (setting("printk_ratelimit"), setting("printk_ratelimit_burst"));
    if interval == 0 {
        left_out("this machine's kernel bounds its log by nothing");
        return;
    }
    let elapsed = usize::try_from(begun.elapsed().as_secs()).unwrap();
    let bound = burst * (elapsed / interval + 2);
    assert!(
        seen.len() <= bound && seen.len() < FLOOD,
        "{} records, {bound}",
        seen.len()
    );
}
