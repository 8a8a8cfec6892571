//! The one table of acts.

mod attack;
mod files;
mod info;
mod kernel;
mod life;
mod memory;
mod net;
mod newcomers;
mod privilege;
mod time;

use crate::sys::Fail;

/// `Ok` holds details for acts that tell something, and is empty for acts that only succeed.
pub(crate) type Answer = Result<String, Fail>;

pub(crate) struct Act {
    pub name: &'static str,
    pub takes_arg: bool,
    pub run: fn(&str) -> Answer,
}

const fn act(name: &'static str, run: fn(&str) -> Answer) -> Act {
    Act {
        name,
        takes_arg: false,
        run,
    }
}

const fn with(name: &'static str, run: fn(&str) -> Answer) -> Act {
    Act {
        name,
        takes_arg: true,
        run,
    }
}

const ACTS: &[Act] = &[
    // Files and execution
    with("write-file", files::write_file),
    with("open-write", files::open_write),
    with("create-file", files::create_file),
    with("read-file", files::read_file),
    with("list-dir", files::list_dir),
    with("exec-file", files::exec_file),
    act("exec-memfd", files::exec_memfd),
    act("mmap-exec", files::mmap_exec),
    with("run-written", memory::run_written),
    with("truncate", files::truncate),
    with("chown", files::chown),
    with("symlink", files::symlink),
    with("rename", files::rename),
    with("link", files::link),
    with("mknod-char", files::mknod_char),
    with("open-device", files::open_device),
    with("sysctl-write", files::sysctl_write),
    act("write-proc-sysrq", files::write_sysrq),
    act("read-kcore", files::read_kcore),
    with("open-by-handle", files::open_by_handle),
    with("suid-exec", files::suid_exec),
    act("require-euid0", files::require_euid0),
    // Doors into the kernel
    act("mount-tmpfs", kernel::mount_tmpfs),
    act("mount-api", kernel::mount_api),
    act("mount-cgroup", kernel::mount_cgroup),
    act("unshare-user", kernel::unshare_user),
    act("unshare-net", kernel::unshare_net),
    act("clone-newuser", kernel::clone_newuser),
    act("clone3", kernel::clone3),
    act("setns", kernel::setns),
    act("ptrace-attach", kernel::ptrace_attach),
    act("ptrace-seize", kernel::ptrace_seize),
    act("bpf", kernel::bpf),
    act("keyctl", kernel::keyctl),
    act("add-key", kernel::add_key),
    act("key-label", kernel::key_label),
    act("landlock-abi", kernel::landlock_abi),
    act("userfaultfd", kernel::userfaultfd),
    act("io-uring", kernel::io_uring),
    act("perf-event", kernel::perf_event),
    act("kexec-load", kernel::kexec_load),
    act("init-module", kernel::init_module),
    act("personality", kernel::personality),
    act("x32", kernel::x32),
    act("int80", kernel::int80),
    with("syscall", kernel::unknown_syscall),
    act("unknown-syscall", |_| kernel::unknown_syscall("9999")),
    // Sockets
    with("make-socket", net::make_socket),
    with("make-pair", net::make_pair),
    with("make-socket-i386", net::make_socket_i386),
    with("make-socket-multiplexed", net::make_socket_multiplexed),
    with("make-socket-x32", net::make_socket_x32),
    with("connect-mptcp", net::connect_mptcp),
    with("bind-mptcp", net::bind_mptcp),
    with("fast-open", net::fast_open),
    act("listen-unbound", net::listen_unbound),
    with("tcp-ulp", net::tcp_ulp),
    act("raw-socket", net::raw_socket),
    act("packet-socket", net::packet_socket),
    with("bind-port", net::bind_port),
    with("connect-port", net::connect_port),
    with("listen-unix", net::listen_unix),
    // Attacks on the runtime
    with("overwrite-exe", attack::overwrite_exe),
    with("newcomers", newcomers::watch),
    act("leave-threads", life::leave_threads),
    // Identity and what only root may do
    with("setuid", privilege::setuid),
    act("setgid-groups", privilege::setgid_groups),
    with("chroot", privilege::chroot),
    with("kill-pid", privilege::kill_pid),
    with("sethostname", privilege::sethostname),
    act("settime", privilege::settime),
    act("sched-fifo", privilege::sched_fifo),
    act("raise-core", privilege::raise_core),
    // What the kernel says of this process
    act("caps", info::caps),
    act("nnp", info::nnp),
    act("seccomp", info::seccomp),
    with("status", info::status),
    act("limits", info::limits),
    with("mountinfo", info::mountinfo),
    act("list-fds", info::list_fds),
    act("cwd", info::cwd),
    act("id", info::id),
    act("env", info::env),
    with("see-cgroup", info::see_cgroup),
    with("namespace", info::namespace),
    act("label", info::label),
    // Staying alive, using things up
    with("fork-bomb", life::fork_bomb),
    with("alloc-memory", life::alloc_memory),
    with("open-terminals", life::open_terminals),
    act("sleep", life::sleep),
    with("wait-term", life::wait_term),
    with("exit", life::exit),
    with("serve", life::serve),
    act("time-calls", time::calls),
];

pub(crate) fn find(name: &str) -> Option<&'static Act> {
    ACTS.iter().find(|act| act.name == name)
}

pub(crate) fn print_all() {
    for act in ACTS {
        eprintln!("{}{}", act.name, if act.takes_arg { "=ARG" } else { "" });
    }
}
