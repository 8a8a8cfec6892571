//! Compiles aside what may take libseccomp long: in a child with a bound of CPU time and of memory.
//!
//! libseccomp makes a tree of all conditions on one call. How large that grows is not a matter of how many there are: eight rules of six
//! conditions take longer than four thousand of one. So what is far from any engine's profile is compiled where the kernel ends it.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use gabion_sys::Cloned;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::{Pid, pipe2};
use oci_spec::runtime::{LinuxSeccomp, LinuxSyscall};

use super::compile::here;
use super::translate::flags;
use super::{Compiled, Program, SeccompError, uses_notify};

/// Names and conditions up to which a profile is compiled in this process: well above what engines send.
const NAMES: usize = 1024;
/// Conditions on one call: docker's profile has five on `personality`, podman's another five on `socket`.
const ON_ONE_CALL: usize = 12;
/// Conditions on all calls together: podman's profile has ten.
const CONDITIONS: usize = 64;
/// CPU time of the child, in seconds.
const CPU: u64 = 1;
/// Its memory, in bytes.
const MEMORY: u64 = 512 << 20;
/// How long the child is waited for where the machine has no time for it.
const PATIENCE: Duration = Duration::from_secs(20);
/// How much of what it says is read: a program, and names that are in a config.json.
const LONGEST: u64 = 16 << 20;

/// What the child says: instructions and what was skipped, or why there are none.
type Said = Result<(Vec<u8>, Vec<String>), String>;

/// Whether a profile is like those that engines send.
pub(super) fn is_usual(rules: &[LinuxSyscall]) -> bool {
    let mut on = std::collections::BTreeMap::<&str, usize>::new();
    let (mut names, mut all) = (0, 0_usize);
    for rule in rules {
        let conditions = rule.args().as_ref().map_or(0, Vec::len);
        names += rule.names().len();
        for name in rule.names().iter().filter(|_| conditions > 0) {
            let of_it = on.entry(name).or_default();
            *of_it += conditions;
            all += conditions;
            if *of_it > ON_ONE_CALL || all > CONDITIONS {
                return false;
            }
        }
    }
    names <= NAMES
}

/// Compiles in a child.
pub(super) fn compile(profile: &LinuxSeccomp) -> Result<Compiled, SeccompError> {
    let failed = |errno: Errno| SeccompError::Aside(format!("no process to compile it in: {}", errno.desc()));
    let (ours, theirs) = pipe2(OFlag::O_CLOEXEC).map_err(failed)?;
    let pid = match gabion_sys::fork().map_err(failed)? {
        Cloned::Child => {
            drop(ours);
            gabion_sys::exit_now(i32::from(child(profile, theirs).is_err()));
        }
        Cloned::Parent(pid) => pid,
    };
    drop(theirs);
    let said = listen(ours);
    end(pid)?;
    let (program, skipped) = said?.map_err(SeccompError::Aside)?;
    let listener = uses_notify(profile);
    Ok(Compiled {
        program: Program::from_bytes(program)?,
        listener,
        flags: flags(profile, listener),
        skipped,
    })
}

fn child(profile: &LinuxSeccomp, out: OwnedFd) -> std::io::Result<()> {
    gabion_sys::at_parents_end(gabion_sys::ParentsEnd::Kills)?;
    setrlimit(Resource::RLIMIT_CPU, CPU, CPU + 1)?;
    setrlimit(Resource::RLIMIT_AS, MEMORY, MEMORY)?;
    gabion_sys::default_signals()?;
    let said: Said = match here(profile) {
        Ok(compiled) => Ok((compiled.program.as_bytes().to_vec(), compiled.skipped)),
        Err(error) => Err(error.to_string()),
    };
    File::from(out).write_all(&serde_json::to_vec(&said)?)
}

/// Reads what the child says. One that the kernel ended says nothing.
fn listen(from: OwnedFd) -> Result<Said, SeccompError> {
    let deadline = Instant::now() + PATIENCE;
    let mut text = Vec::new();
    let mut from = File::from(from);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(from.as_fd(), PollFlags::POLLIN)], left) {
            Err(Errno::EINTR) => continue,
            Ok(0) => return Err(SeccompError::TooComplex),
            Ok(_) => {}
            Err(errno) => return Err(SeccompError::Aside(errno.desc().to_owned())),
        }
        let mut piece = [0; 16 << 10];
        match from.read(&mut piece) {
            Ok(0) => break,
            Ok(n) => text.extend_from_slice(&piece[..n]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(SeccompError::Aside(error.to_string())),
        }
        if text.len() as u64 > LONGEST {
            return Err(SeccompError::TooComplex);
        }
    }
    // Cut short, or nothing: it was ended before it was through.
    serde_json::from_slice(&text).map_err(|_| SeccompError::TooComplex)
}

/// Ends the child and reaps it: it has said all it had to say, or too little in its time.
fn end(pid: Pid) -> Result<(), SeccompError> {
    let outcome = kill(pid, Signal::SIGKILL).and_then(|()| {
        loop {
            match waitpid(pid, None) {
                Err(Errno::EINTR) => {}
                other => return other.map(drop),
            }
        }
    });
    match outcome {
        // The caller ignores SIGCHLD: the kernel reaps.
        Ok(()) | Err(Errno::ECHILD | Errno::ESRCH) => Ok(()),
        Err(errno) => Err(SeccompError::Aside(format!(
            "cannot reap the process that compiled: {}",
            errno.desc()
        ))),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn profile(rules: usize, conditions: usize) -> LinuxSeccomp {
        let args = |i: usize| {
            let arg = |k: usize| serde_json::json!({"index": k, "value": i * 6 + k + (1 << 33), "op": "SCMP_CMP_GE"});
            (0..conditions).map(arg).collect::<Vec<_>>()
        };
        let rule = |i: usize| serde_json::json!({"names": ["read"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1 + i % 100, "args": args(i)});
        let rules: Vec<_> = (0..rules).map(rule).collect();
        serde_json::from_value(serde_json::json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules})).unwrap()
    }

    #[test]
    fn it_is_told_from_engines_by_its_conditions() {
        let usual = |profile: &LinuxSeccomp| is_usual(profile.syscalls().as_deref().unwrap_or_default());
        assert!(usual(&profile(12, 1)) && usual(&profile(2, 6)));
        assert!(!usual(&profile(13, 1)) && !usual(&profile(3, 6)));
    }

    #[test]
    fn what_is_compiled_aside_is_the_same() {
        for (rules, conditions) in [(20, 1), (3, 5)] {
            let profile = profile(rules, conditions);
            assert_eq!(compile(&profile), here(&profile), "{rules} × {conditions}");
        }
    }

    #[test]
    fn its_words_come_over() {
        let bad = serde_json::json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            {"names": ["read"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5000}]});
        let bad: LinuxSeccomp = serde_json::from_value(bad).unwrap();
        let words = |result: Result<Compiled, SeccompError>| result.unwrap_err().to_string();
        assert_eq!(words(compile(&bad)), words(here(&bad)));
    }
}
