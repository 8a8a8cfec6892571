//! `probe --without CALL[,CALL] PROGRAM [ARG]…` becomes the program on a kernel that seems not to have these calls (ENOSYS).

use crate::sys::{self, Fail, call};
use std::os::unix::process::CommandExt;
use std::process::Command;

const CALLS: [(&str, libc::c_long); 12] = [
    ("clone3", libc::SYS_clone3),
    ("close_range", libc::SYS_close_range),
    ("fsmount", libc::SYS_fsmount),
    ("fsopen", libc::SYS_fsopen),
    ("keyctl", libc::SYS_keyctl),
    ("landlock_create_ruleset", libc::SYS_landlock_create_ruleset),
    ("mount_setattr", libc::SYS_mount_setattr),
    ("move_mount", libc::SYS_move_mount),
    ("open_tree", libc::SYS_open_tree),
    ("openat2", libc::SYS_openat2),
    ("pidfd_open", libc::SYS_pidfd_open),
    ("pidfd_send_signal", libc::SYS_pidfd_send_signal),
];

/// Never returns: the program runs in its place, or it ends with 2.
pub(crate) fn become_program(words: &[String]) -> ! {
    if let Err(why) = start(words) {
        eprintln!("probe: --without: {why}");
    }
    sys::exit_now(2)
}

fn start(words: &[String]) -> Result<(), String> {
    let [calls, program, args @ ..] = words else {
        return Err("CALL[,CALL] PROGRAM [ARG]…".to_owned());
    };
    let numbers: Result<Vec<libc::c_long>, String> = calls
        .split(',')
        .map(|name| {
            CALLS
                .iter()
                .find(|(n, _)| *n == name)
                .map(|(_, number)| *number)
                .ok_or_else(|| name.to_owned())
        })
        .collect();
    install(&numbers?).map_err(|fail| format!("{} at {}", crate::errno::name(fail.errno), fail.at))?;
    Err(Command::new(program).args(args).exec().to_string())
}

/// A filter that says ENOSYS to each and lets everything else through. By CAP_SYS_ADMIN: no_new_privs stays as it was.
fn install(numbers: &[libc::c_long]) -> Result<(), Fail> {
    const LOAD_NUMBER: libc::sock_filter = statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0);
    let answer = libc::SECCOMP_RET_ERRNO | libc::ENOSYS.unsigned_abs();
    let mut filter = vec![LOAD_NUMBER];
    for number in numbers {
        let mut compare = statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, *number as u32);
        compare.jf = 1;
        filter.extend([compare, statement(libc::BPF_RET | libc::BPF_K, answer)]);
    }
    filter.push(statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW));
    let program = libc::sock_fprog {
        len: filter.len() as u16,
        filter: filter.as_mut_ptr(),
    };
    let words = [libc::SECCOMP_SET_MODE_FILTER as usize, 0, &raw const program as usize];
    call("seccomp", libc::SYS_seccomp, &words).map(drop)
}

const fn statement(code: u32, k: u32) -> libc::sock_filter {
    libc::sock_filter {
        code: code as u16,
        jt: 0,
        jf: 0,
        k,
    }
}
