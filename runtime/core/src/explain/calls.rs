//! Which capability the kernel asks for at a call, beside what a filter answers: whoever opens the filter alone meets it next.

use oci_spec::runtime::Capability;

/// The calls that always need one (capabilities(7)); those that need one for some arguments or files only are not here.
static NEEDS: &[(&str, Capability)] = &[
    ("acct", Capability::SysPacct),
    ("adjtimex", Capability::SysTime),
    ("bpf", Capability::Bpf),
    ("chroot", Capability::SysChroot),
    ("clock_adjtime", Capability::SysTime),
    ("clock_settime", Capability::SysTime),
    ("delete_module", Capability::SysModule),
    ("finit_module", Capability::SysModule),
    ("fsmount", Capability::SysAdmin),
    ("fsopen", Capability::SysAdmin),
    ("fspick", Capability::SysAdmin),
    ("init_module", Capability::SysModule),
    ("ioperm", Capability::SysRawio),
    ("iopl", Capability::SysRawio),
    ("kexec_file_load", Capability::SysBoot),
    ("kexec_load", Capability::SysBoot),
    ("lookup_dcookie", Capability::SysAdmin),
    ("mount", Capability::SysAdmin),
    ("mount_setattr", Capability::SysAdmin),
    ("move_mount", Capability::SysAdmin),
    ("open_by_handle_at", Capability::DacReadSearch),
    ("pivot_root", Capability::SysAdmin),
    ("quotactl", Capability::SysAdmin),
    ("reboot", Capability::SysBoot),
    ("setdomainname", Capability::SysAdmin),
    ("sethostname", Capability::SysAdmin),
    ("setns", Capability::SysAdmin),
    ("settimeofday", Capability::SysTime),
    ("swapoff", Capability::SysAdmin),
    ("swapon", Capability::SysAdmin),
    ("umount2", Capability::SysAdmin),
    ("vhangup", Capability::SysTtyConfig),
];

/// The calls that need one for some of their arguments, or by the host's settings.
static MAY_NEED: &[(&str, Capability)] = &[
    ("clone", Capability::SysAdmin),
    ("fanotify_init", Capability::SysAdmin),
    ("perf_event_open", Capability::Perfmon),
    ("process_vm_readv", Capability::SysPtrace),
    ("process_vm_writev", Capability::SysPtrace),
    ("ptrace", Capability::SysPtrace),
    ("sched_setscheduler", Capability::SysNice),
    ("setpriority", Capability::SysNice),
    ("socket", Capability::NetRaw),
    ("syslog", Capability::Syslog),
    ("unshare", Capability::SysAdmin),
    ("userfaultfd", Capability::SysPtrace),
];

/// The capability that a call may need.
pub fn may_need(call: &str) -> Option<Capability> {
    MAY_NEED
        .iter()
        .find(|(name, _)| *name == call)
        .map(|(_, needed)| *needed)
}

/// The capability that a call always needs.
pub fn needed_by(call: &str) -> Option<Capability> {
    NEEDS.iter().find(|(name, _)| *name == call).map(|(_, needed)| *needed)
}
