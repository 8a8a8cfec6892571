//! Paths of the host that mean something. Sources are resolved before they are compared: `/var/run` is `/run` here.

/// Trees of the host that tell or control too much; nor may anything above them be bound.
pub(in crate::control) const SENSITIVE: [&str; 39] = [
    "/boot",
    "/dev",
    "/efi",
    "/etc",
    "/proc",
    "/root",
    "/run/cdi",
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

/// Trees that may be read but, written to, give the host away.
///
/// Programs and their libraries, also where others run them from (/opt/cni is root's at every pod's start); and what services of the host
/// keep for themselves below /var/lib: whoever writes there is believed by them. A person's data is elsewhere, below /home, /srv, /data, /mnt
/// or a directory of its own, and may be bound.
pub(in crate::control) const SYSTEM: [&str; 39] = [
    "/bin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/opt/cni",
    "/opt/containerd",
    "/opt/gabion",
    "/opt/nvidia",
    "/sbin",
    "/usr",
    "/var/cache/apt",
    "/var/cache/debconf",
    "/var/cache/ldconfig",
    "/var/lib/AccountsService",
    "/var/lib/NetworkManager",
    "/var/lib/alternatives",
    "/var/lib/apt",
    "/var/lib/bluetooth",
    "/var/lib/boltd",
    "/var/lib/cloud",
    "/var/lib/cni",
    "/var/lib/dbus",
    "/var/lib/dhcp",
    "/var/lib/dnf",
    "/var/lib/dpkg",
    "/var/lib/fwupd",
    "/var/lib/initramfs-tools",
    "/var/lib/misc",
    "/var/lib/pacman",
    "/var/lib/pam",
    "/var/lib/polkit-1",
    "/var/lib/private",
    "/var/lib/rpm",
    "/var/lib/selinux",
    "/var/lib/systemd",
    "/var/lib/usbutils",
    "/var/spool/at",
    "/var/spool/cron",
];

/// What holds many people's files: each of them may give their own, nobody all.
pub(super) const OF_MANY: &str = "/home";

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
