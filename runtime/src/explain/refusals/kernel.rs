//! What of the kernel is its own, and how much: namespaces, limits, settings.

use crate::explain::{Entry, entry};

pub(super) static TABLE: &[Entry] = &[
    entry(
        "cgroup.controller-missing",
        "A limit is asked for and its controller is not there: the container would run without it.",
        "/sys/fs/cgroup/cgroup.controllers, or the folders of v1",
        "enable the controller on the kernel command line, delegate it to the user (systemd: Delegate=), or remove the limit",
    ),
    entry(
        "cgroup.cpu-unlimited",
        "An update asks for no CPU quota, and the policy of create bounds it.",
        "`gabion policy show`, cgroup.cpu_percent",
        "give a number; or remove [cgroup] cpu_percent and create the container again",
    ),
    entry(
        "cgroup.memory-above-max",
        "More memory is asked for than the policy allows any container. It is refused, never cut: a program sized for more would be killed.",
        "",
        "lower resources.limits.memory or --memory; else raise [cgroup] max_memory",
    ),
    entry(
        "cgroup.memory-unlimited",
        "An update asks for unlimited memory, which the policy of create bounds.",
        "`gabion policy show`, cgroup.memory",
        "give a number",
    ),
    entry(
        "cgroup.not-delegated",
        "A cgroup is asked for by its path, and the user who calls may make none there: the container would run outside of it.",
        "who owns the directory above it below /sys/fs/cgroup; on cgroup v2 `systemctl --user show -p Delegate`",
        "leave cgroupsPath (--cgroup-parent) out: the container then runs without limits of its own, and says so; else delegate the cgroup to the user (systemd: Delegate=yes)",
    ),
    entry(
        "cgroup.path",
        "The cgroup's path climbs, is the root of the hierarchy, or is not in systemd's form: limits would hold for others.",
        "",
        "leave cgroupsPath out, or name a cgroup of the container's own",
    ),
    entry(
        "cgroup.pids-above-max",
        "More tasks are asked for than the policy allows any container.",
        "",
        "lower --pids-limit; else raise [cgroup] max_pids",
    ),
    entry(
        "cgroup.pids-unlimited",
        "An update asks for unlimited tasks, which the policy of create bounds.",
        "`gabion policy show`, cgroup.pids",
        "give a number",
    ),
    entry(
        "cgroup.swap-accounting-missing",
        "A limit for swap is asked for and this kernel does not count swap.",
        "memory.memsw.limit_in_bytes or memory.swap.max is not there",
        "boot with swapaccount=1, or remove the swap limit",
    ),
    entry(
        "cgroup.swap-below-memory",
        "Memory and swap together are asked to be less than memory alone.",
        "",
        "raise memory.swap, or leave it out: there is then no swap beyond the limit",
    ),
    entry(
        "cgroup.unified-key",
        "linux.resources.unified names a path, or a file that moves processes or changes the tree (cgroup.*).",
        "",
        "name files of controllers only: memory.high",
    ),
    entry(
        "cgroup.unified-on-v1",
        "linux.resources.unified is for cgroup v2 and this host has v1.",
        "`stat -f /sys/fs/cgroup`",
        "use the limit's own field, or boot with cgroup v2",
    ),
    entry(
        "namespaces.duplicate",
        "A kind of namespace is listed twice: which one would hold cannot be told.",
        "",
        "list each once",
    ),
    entry(
        "namespaces.host-cgroup",
        "The cgroup namespace to be joined is the host's.",
        "",
        "leave its path out; podman: no --cgroupns host",
    ),
    entry(
        "namespaces.host-ipc",
        "The container is to share the host's shared memory and queues.",
        "",
        "remove hostIPC: true, --ipc host; or list {\"type\": \"ipc\"} in linux.namespaces; else an exception that loosens namespaces",
    ),
    entry(
        "namespaces.host-mount",
        "The mount namespace would be the host's.",
        "",
        "list {\"type\": \"mount\"} in linux.namespaces without a path",
    ),
    entry(
        "namespaces.host-network",
        "The container is to have the host's network: every local service, and raw sockets if it may.",
        "",
        "remove hostNetwork: true, --network host; or list {\"type\": \"network\"}; CNI and kube-proxy need an exception that loosens namespaces",
    ),
    entry(
        "namespaces.host-pid",
        "The container is to see and signal the host's processes.",
        "",
        "remove hostPID: true, --pid host; or list {\"type\": \"pid\"}; else an exception that loosens namespaces",
    ),
    entry(
        "namespaces.host-time",
        "The time namespace to be joined is the host's.",
        "",
        "leave its path out",
    ),
    entry(
        "namespaces.host-user",
        "The user namespace to be joined is the host's.",
        "",
        "leave its path out; podman: no --userns host",
    ),
    entry(
        "namespaces.host-uts",
        "The container is to share the host's name.",
        "",
        "remove --uts host, hostNetwork: true; or list {\"type\": \"uts\"}",
    ),
    entry(
        "namespaces.mount-joined",
        "The mount namespace is to be joined: gabion builds a container's mounts in a new one only.",
        "",
        "remove its path",
    ),
    entry(
        "namespaces.not-a-namespace",
        "A path that should be a namespace is something else.",
        "",
        "give a path like /proc/PID/ns/net, or one that a CNI made",
    ),
    entry(
        "namespaces.unreadable",
        "A namespace's path cannot be opened, or is relative: what it is cannot be told.",
        "",
        "give an absolute path that exists and that this caller may open",
    ),
    entry(
        "namespaces.wrong-type",
        "A path is a namespace of another kind than the entry says.",
        "",
        "give the path of one of that kind",
    ),
    entry(
        "rlimits.duplicate",
        "A limit is given twice: which one would hold cannot be told.",
        "",
        "give each once",
    ),
    entry(
        "rlimits.rank",
        "Real-time scheduling or I/O, a negative nice value or an OOM score below the host's own is asked for: the container would come before the \
         host's services, and no limit holds it.",
        "process.scheduler, ioPriority, oomScoreAdj, RLIMIT_RTPRIO and RLIMIT_NICE in config.json",
        "leave it out; the kubelet's OOM scores pass where the policy says `cri`",
    ),
    entry(
        "rlimits.soft-above-hard",
        "A soft limit above its hard limit is asked for, which the kernel refuses.",
        "",
        "lower the soft limit",
    ),
    entry(
        "sysctl.host-namespace",
        "A sysctl would be set in the host's namespace: the container has none of its own for it.",
        "",
        "give the container that namespace, or remove the sysctl",
    ),
    entry(
        "sysctl.name",
        "A sysctl's name is not one: it could climb out of /proc/sys.",
        "",
        "write it with dots: net.core.somaxconn",
    ),
    entry(
        "sysctl.not-namespaced",
        "A sysctl is the whole machine's, not a container's.",
        "",
        "set it on the host",
    ),
    entry(
        "sysctl.unsafe",
        "A sysctl is a namespace's, and not on the list of safe ones.",
        "",
        "remove it; else [sysctl] allow = [\"net.core.somaxconn\"]",
    ),
];
