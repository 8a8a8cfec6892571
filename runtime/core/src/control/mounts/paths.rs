//! Paths of the host that mean something. Sources are resolved before they are compared: `/var/run` is `/run` here.

/// Trees of the host that tell or control too much; nor may anything above them be bound.
pub(in crate::control) const SENSITIVE: [&str; 38] = [
    "/boot",
    "/dev",
    "/efi",
    "/etc",
    "/proc",
    "/root",
    "/run/containerd",
    "/run/containers",
    "/run/credentials",
    "/run/crio",
    "/run/dbus",
    "/run/docker",
    "/run/gabion",
    "/run/k0s",
    "/run/k3s",
    "/run/incus",
    "/run/libvirt",
    "/run/netns",
    "/run/podman",
    "/run/snapd.socket",
    "/run/systemd",
    "/run/udev",
    "/run/user",
    "/sys",
    "/var/backups",
    "/var/lib/containerd",
    "/var/lib/containers",
    "/var/lib/crio",
    "/var/lib/docker",
    "/var/lib/etcd",
    "/var/lib/incus",
    "/var/lib/k0s",
    "/var/lib/kubelet",
    "/var/lib/libvirt",
    "/var/lib/lxd",
    "/var/lib/rancher",
    "/var/log/gabion",
    "/var/snap",
];

/// Those of them, and of their like, in which engines keep the images and the roots of containers.
pub(in crate::control) const ENGINES: [&str; 19] = [
    "/run/containerd",
    "/run/containers",
    "/run/crio",
    "/run/docker",
    "/run/incus",
    "/run/k0s",
    "/run/k3s",
    "/run/podman",
    "/run/user",
    "/var/lib/containerd",
    "/var/lib/containers",
    "/var/lib/crio",
    "/var/lib/docker",
    "/var/lib/incus",
    "/var/lib/k0s",
    "/var/lib/lxd",
    "/var/lib/machines",
    "/var/lib/rancher",
    "/var/snap",
];

/// Trees that may be read but, written to, give the host away.
pub(in crate::control) const SYSTEM: [&str; 12] = [
    "/bin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/sbin",
    "/usr",
    "/var/lib/dpkg",
    "/var/lib/rpm",
    "/var/lib/systemd",
    "/var/spool/at",
    "/var/spool/cron",
];

/// Files of /etc that containers commonly share, and that hold no secret.
pub(super) const ETC_FILES: [&str; 7] = [
    "/etc/localtime",
    "/etc/timezone",
    "/etc/hosts",
    "/etc/hostname",
    "/etc/resolv.conf",
    "/etc/os-release",
    "/etc/host.conf",
];

/// Trees that hold nothing secret: certificates (keys lie elsewhere) and time zones.
pub(super) const PUBLIC: [&str; 5] = [
    "/etc/ssl/certs",
    "/etc/pki/ca-trust",
    "/etc/pki/tls/certs",
    "/etc/ca-certificates",
    "/usr/share/zoneinfo",
];

/// Names of sockets that give whoever may connect the host.
pub(super) const RUNTIME_SOCKETS: [&str; 9] = [
    "docker.sock",
    "containerd.sock",
    "containerd.sock.ttrpc",
    "crio.sock",
    "cri-dockerd.sock",
    "podman.sock",
    "buildkitd.sock",
    "kubelet.sock",
    "system_bus_socket",
];
