//! Denials that a running program meets, and failures that are no refusals.

use super::{Entry, entry};

pub(super) static RUNNING: &[Entry] = &[
    entry(
        "run.read-only",
        "«Read-only file system» (EROFS): the program wrote to the image. The root of a hardened container is read-only, so that an \
         intruder cannot stay; /tmp, /var/tmp and /run are writable and small.",
        "the path in the program's own message; in the container `grep ' ro[ ,]' /proc/self/mountinfo`; from outside \
         `gabion attest ID`, the rows `rootfs` and `mounts`",
        "declare the directory as a hole: annotation dev.gabion.holes = \"/var/lib/nginx:size=16m\"; or mount a volume there \
         (emptyDir; --volume, --tmpfs); at last [controls] rootfs = \"observe\"",
    ),
    entry(
        "run.noexec",
        "«Permission denied» on execve of a file that has the x bit: it lies where files can be written (a hole, a volume, /dev/shm). \
         What can be written cannot be executed, nor mapped executable; an interpreter reading a script is not stopped.",
        "in the container `grep noexec /proc/self/mountinfo`; copying the file to another writable place does not help: Landlock says it a second time",
        "keep the program in the image; else mount the volume with the option `exec` (--volume …:exec), or [mounts] exec_paths = \
         [\"/path/in/the/container\"]; not at level restricted",
    ),
    entry(
        "run.memfd",
        "memfd_create gave a file that cannot be executed, or was refused (EACCES): vm.memfd_noexec=2 in the container's pid namespace. \
         JIT compilers that map anonymous memory executable keep working.",
        "in the container `cat /proc/sys/vm/memfd_noexec`",
        "[sysctl] memfd_noexec = \"observe\" for runtimes that execute memfds",
    ),
    entry(
        "run.jit",
        "mmap or mprotect gave «Permission denied» (EACCES), memfd_create «Function not implemented», or a write to /proc «Read-only file system»: the rules of \
         memory, at level restricted or by the annotation dev.gabion.memory. A JIT compiler says that it cannot allocate executable memory.",
        "`gabion check BUNDLE`, the row `memory`; in the container `grep ' /proc ' /proc/self/mountinfo`",
        "switch the program's JIT off (java -Xint, node --jitless, pcre.jit=0); else [memory] mdwe = \"observe\" (memfd, proc), by an exception for that pod",
    ),
    entry(
        "run.eperm",
        "«Operation not permitted» (EPERM): seccomp answers so for a known call that is not allowed (mount, unshare, bpf, ptrace attach, \
         keyctl), and the kernel for one that needs a capability which was dropped (SYS_ADMIN, NET_ADMIN, NET_RAW, SYS_CHROOT, …).",
        "`strace -f` on the workload outside; with [seccomp] log = true in the policy, or in an exception, the host's kernel log has what gabion's own \
         filters deny as `type=1326 … syscall=N` (a profile of the spec: its flag SECCOMP_FILTER_FLAG_LOG). The capability sets are in /proc/PID/status (`capsh --decode`); `gabion attest ID` shows both",
        "a capability: name it in the spec (capabilities.add; --cap-add) and in [capabilities] allow. A call: the floor is not for \
         profiles to open; an exception, or [controls] seccomp = \"observe\"",
    ),
    entry(
        "run.enosys",
        "«Function not implemented» (ENOSYS): seccomp answers so for calls that it does not know, for io_uring and for clone3, so that \
         programs fall back to what they did before.",
        "the call's name in the program's message; it works on the host",
        "most programs have an older way (io_uring: epoll). Else a profile of your own in the spec: what the floor does not name is then yours to allow",
    ),
    entry(
        "run.eacces",
        "«Permission denied» (EACCES) although owner and mode allow it: Landlock. It lets files be written in holes, writable mounts, \
         /proc and the usual devices, executed nowhere that is writable, and opened through no other process's /proc/PID/root, /exe or /fd.",
        "no file of /proc shows a Landlock domain; from kernel 6.15 the audit log of the kernel has `type=1423`. Try with [controls] landlock = \"observe\": \
         if it still fails it is noexec, an LSM or plain ownership",
        "what is meant to be written: a hole or a volume. Debuggers and /proc/1/root from exec: [controls] landlock = \"observe\", by an exception for that pod",
    ),
    entry(
        "run.tcp",
        "connect or bind of a TCP socket gave EACCES: the container's own annotation dev.gabion.landlock.tcp-connect or tcp-bind lists other ports.",
        "the annotations in `gabion state ID`",
        "add the port to the annotation; without the annotation every port may be used",
    ),
    entry(
        "run.no-space",
        "«No space left on device» (ENOSPC) in a hole: it is a tmpfs of bounded size (/tmp and /var/tmp 256 MiB, /run 16 MiB), and counts as the container's memory.",
        "in the container `df /tmp`",
        "declare the hole with its size: dev.gabion.holes = \"/tmp:size=1g\" (up to [holes] max_size), or mount a volume there",
    ),
    entry(
        "run.too-many-tasks",
        "fork or clone gave «Resource temporarily unavailable» (EAGAIN): pids.max is reached; 4096 where the spec sets none. Threads count.",
        "pids.current and pids.events in the container's cgroup; `gabion attest ID`, the rows `cgroup`",
        "set it in the spec (the kubelet's podPidsLimit; --pids-limit), up to [cgroup] max_pids; or raise [cgroup] pids",
    ),
    entry(
        "run.out-of-memory",
        "The program was killed (exit code 137): memory is limited, to half of the host's where the spec sets nothing, and there is no swap beyond it. Holes count.",
        "memory.events or memory.oom_control in the container's cgroup; the host's kernel log",
        "set a limit in the spec (resources.limits.memory; --memory), up to [cgroup] max_memory; or set [cgroup] memory",
    ),
    entry(
        "run.proc-hidden",
        "A file of /proc or /sys reads empty, is a device, or cannot be written: masked (keys, kcore, timer_list, interrupts, firmware) or read-only (/proc/sys, sysrq-trigger).",
        "`gabion attest ID`, the rows `masked_paths`",
        "sysctls of the container's own namespaces: securityContext.sysctls, --sysctl, and [sysctl] allow. The rest: [controls] masked_paths = \"observe\", by an exception",
    ),
    entry(
        "run.setuid",
        "sudo, su or ping do nothing or fail: no_new_privs is set, setuid bits and file capabilities give nothing. su works where it is run as root.",
        "NoNewPrivs in /proc/PID/status is 1",
        "start the container as the user that it needs; ping: sysctl net.ipv4.ping_group_range. At last [controls] no_new_privs = \"observe\", by an exception",
    ),
    entry(
        "<control>.not-enforced",
        "What was decided is not what the kernel shows. The program was not started; where only the running process shows it (the label, which execve puts on), it was ended; `update` put the old limits back. The message has both sides.",
        "the message; `dmesg`; whether the kernel is as old as docs/CONTROLS.md's floor for this control. It is never the workload's doing",
        "this is a fault of gabion, the kernel or something between them (another LSM, a seccomp filter around the engine): please report it. \
         [controls] CONTROL = \"observe\" starts without that layer",
    ),
    entry(
        "step.<step>",
        "A system call of this step of create, start or exec failed: the message has the step, what was tried and the kernel's answer.",
        "`gabion --debug …` prints every step on stderr; the kernel log",
        "depends on the answer. As an ordinary user most often: a missing entry in /etc/subuid, a cgroup that is not delegated, user namespaces switched off",
    ),
    entry(
        "bundle.invalid",
        "config.json, process.json or the limits for update cannot be used: missing, too large, not JSON, or without what every container needs. The message has line and column.",
        "`gabion check BUNDLE` reads it in the same way",
        "there is nothing to loosen: correct the file, or the engine that wrote it",
    ),
    entry(
        "annotations.unknown",
        "An annotation that begins with dev.gabion. is none of gabion's, or names one container where there is no pod. It is refused at every level: whoever wrote it believes that it holds.",
        "`gabion check BUNDLE` reads it in the same way; docs/POLICY.md has the table of annotations",
        "write the annotation as it is called, or remove it",
    ),
    entry(
        "annotations.value",
        "An annotation of gabion's has a value that it cannot have, be it by a capital letter or a blank. It is refused at every level.",
        "`gabion check BUNDLE` reads it in the same way; docs/POLICY.md has the table of annotations",
        "write the value exactly as the message has it, or remove the annotation; to loosen, write an [[exception]] in the policy",
    ),
    entry(
        "bundle.unsupported",
        "config.json asks for what gabion does not do, what would reach the host, or fields that contradict each other: an option of a bind that nobody would hear, a sysctl of the whole host, mappings of ids without a user namespace. It is never left out in silence.",
        "the message names the field; `gabion check BUNDLE` has them all",
        "no level and no policy lets it pass: correct config.json, or what wrote it",
    ),
    entry(
        "bundle.spelling",
        "A key of config.json, process.json or of new limits is in other letters than the runtime spec's, a name stands there more than once, or a capability is none. Programs in Go take such a key for the spec's, others drop it in silence: a mask would be lost by a capital letter.",
        "the message has the field, and how it is written; `gabion check BUNDLE` has them all",
        "write it as the spec does, or leave it out; level permissive takes it as runc does, with a warning",
    ),
    entry(
        "policy.invalid",
        "The policy cannot be read, parsed or believed, or is weaker than a locked one. Nothing starts under a policy that is not understood.",
        "`gabion policy validate FILE` names every error with its place; `gabion policy show` what holds",
        "correct the file; `chown root`, `chmod go-w`",
    ),
    entry(
        "state.unreadable",
        "gabion's own record of a container is damaged, of another version, or in a directory that is not the caller's alone.",
        "the path in the message",
        "`gabion delete --force ID`; where that fails too, remove its directory below --root and its cgroup",
    ),
    entry(
        "state.wrong",
        "The container is in another state than the command needs: started twice, executed into while paused, deleted while it runs.",
        "`gabion state ID`",
        "wait, resume, kill or delete --force first",
    ),
    entry(
        "state.not-running",
        "There is no process to signal, enter or look at: the container has stopped.",
        "`gabion state ID`; its exit code has the engine",
        "start a new one; delete this one",
    ),
    entry(
        "id.invalid",
        "The id is not safe as a file name: letters, digits, _ + - . and at most 1024 characters.",
        "the message",
        "use another id; engines make good ones",
    ),
    entry(
        "id.exists",
        "A container of this id is there, also a stopped one, until it is deleted.",
        "`gabion list`",
        "`gabion delete ID`, or another id",
    ),
    entry(
        "id.not-found",
        "There is no container of this id below this --root. Engines choose roots of their own.",
        "`gabion list` without --root searches those that are known",
        "give the engine's --root",
    ),
    entry(
        "program.not-found",
        "The program that the workload names is not in the image, not in PATH, or cannot be executed.",
        "`ls` below the bundle's rootfs; in a script, the interpreter of its first line counts too",
        "correct the command; a program on a volume: see mounts.entrypoint-noexec",
    ),
    entry(
        "usage",
        "The command line cannot be used.",
        "`gabion COMMAND --help`",
        "there is nothing to loosen: correct the call",
    ),
    entry(
        "file",
        "A file of gabion's own, or one that the caller named, could not be opened, read or written.",
        "the path and the kernel's answer in the message",
        "correct the path, its owner or mode",
    ),
    entry(
        "not-supported",
        "Left out by design: checkpoint and restore, because a restored process passes no control.",
        "docs/RUNC-COMPAT.md",
        "there is none: start a new container, and keep state in volumes",
    ),
];
