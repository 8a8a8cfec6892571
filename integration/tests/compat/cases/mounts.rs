//! config.md, Mounts; config-linux.md, masked and read-only paths, propagation, default file systems.

use crate::case::Case;
use integration::{Bundle, Container, unified};
use serde_json::{Value, json};

const MOUNTS: &str = "config.md#mounts";
const OPTIONS: &str = "config.md#linux-mount-options";

/// Flags, propagation and type of what is at /mnt and below it.
const SHOW: &str = "awk '$5 ~ \"^/mnt\" {t=\"\"; for(i=7;i<=NF;i++){if($i==\"-\"){t=t\" \"$(i+1);break} sub(/:.*/,\"\",$i); t=t\" \"$i} print $5, $6 t}' /proc/self/mountinfo | sort";

fn add(mount: Value) -> Value {
    json!({"mounts+": [mount]})
}

fn bind(options: &[&str]) -> Value {
    add(json!({"destination": "/mnt", "type": "bind", "source": "@DIR@/host", "options": options}))
}

fn rbind(options: &[&str]) -> Value {
    // A tree of mounts that every host has.
    add(json!({"destination": "/mnt", "type": "bind", "source": "/sys", "options": options}))
}

fn tmpfs(options: &[&str]) -> Value {
    add(json!({"destination": "/mnt", "type": "tmpfs", "source": "tmpfs", "options": options}))
}

fn host(bundle: &mut Bundle) {
    let dir = bundle.host_dir("host");
    std::fs::write(dir.join("file"), "from the host\n").unwrap();
    std::fs::create_dir(dir.join("below")).unwrap();
}

pub(crate) fn cases() -> Vec<Case> {
    [flags(), recursive(), propagation(), kinds(), ids(), places(), paths()].concat()
}

fn flags() -> Vec<Case> {
    let flag = |name: &'static str, options: &[&str]| Case::new(OPTIONS, name, bind(options), SHOW).setup(host);
    let field = "/mounts/-/options/1";
    vec![
        flag("bind", &["bind"]),
        flag("bind-ro", &["bind", "ro"]).field(field).shows("/mnt ro"),
        flag("bind-rw", &["bind", "rw"]),
        flag("bind-nosuid", &["bind", "nosuid"]).field(field).shows("nosuid"),
        flag("bind-nodev", &["bind", "nodev"]).field(field).shows("nodev"),
        flag("bind-noexec", &["bind", "noexec"]).field(field).shows("noexec"),
        flag("bind-noatime", &["bind", "noatime"]).field(field).shows("noatime"),
        flag("bind-nodiratime", &["bind", "nodiratime"])
            .field(field)
            .shows("nodiratime")
            .only_if(tmp_has_relatime),
        flag("bind-relatime", &["bind", "relatime"]),
        flag("bind-strictatime", &["bind", "strictatime"])
            .field(field)
            .only_if(tmp_has_relatime),
        flag("bind-many", &["bind", "ro", "nosuid", "nodev", "noexec", "noatime"]).shows("noexec"),
        flag("bind-later-wins", &["bind", "ro", "rw", "nosuid", "suid"]).runc(),
        flag("bind-unknown-option", &["bind", "whatever"])
            .alone()
            .shows("exit 1"),
        Case::new(
            OPTIONS,
            "tmpfs-flags",
            tmpfs(&["ro", "nosuid", "nodev", "noexec", "noatime"]),
            SHOW,
        )
        .field("/mounts/-/options"),
        Case::new(
            OPTIONS,
            "tmpfs-later-wins",
            tmpfs(&["noexec", "exec", "nodev", "dev", "nosuid", "suid"]),
            SHOW,
        )
        .runc(),
        Case::new(OPTIONS, "tmpfs-defaults", tmpfs(&["defaults"]), SHOW).crun(),
        Case::new(OPTIONS, "tmpfs-sync", tmpfs(&["sync", "dirsync"]), SHOW),
        Case::new(
            OPTIONS,
            "tmpfs-options-of-the-file-system",
            tmpfs(&["sync", "dirsync", "silent", "iversion"]),
            "awk '$5==\"/mnt\"{for(i=7;$i!=\"-\";i++); n=split($(i+3),o,\",\"); for(j=1;j<=n;j++) if(o[j]~/sync/) print o[j]}' /proc/self/mountinfo",
        )
        .shows("dirsync")
        .runc(),
        Case::new(
            OPTIONS,
            "many-in-one-string",
            tmpfs(&["size=64k,mode=0750", "nosuid,noexec"]),
            "stat -c %a /mnt; awk '$5==\"/mnt\"{print $6}' /proc/self/mountinfo",
        )
        .alone()
        .shows("750\nrw,nosuid,noexec"),
        Case::new(
            OPTIONS,
            "tmpfs-no-options",
            add(json!({"destination": "/mnt", "type": "tmpfs", "source": "tmpfs"})),
            SHOW,
        ),
    ]
}

/// The options that the host has a mount with, comma-separated.
fn options_of(mount: &str) -> String {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    let mut options = String::new();
    for line in mounts.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        if fields[4] == mount {
            fields[5].clone_into(&mut options);
        }
    }
    options
}

/// A bind keeps what its source's mount is, and the peers do not (docs/RUNC-COMPAT.md): alike only where that is nothing special, as it
/// is not where systemd mounted it.
fn sys_has_no_flags() -> bool {
    !options_of("/sys").contains("nosuid")
}

/// The same of access times. Not a mount of its own: what lies on the root file system.
fn tmp_has_relatime() -> bool {
    let options = options_of("/tmp");
    options.is_empty() || options.contains("relatime")
}

fn recursive() -> Vec<Case> {
    let flag = |name: &'static str, options: &[&str]| {
        Case::new(
            OPTIONS,
            name,
            rbind(options),
            "awk '$5 ~ \"^/mnt\" {print $5, $6}' /proc/self/mountinfo | grep -v -e /git- -e hugetlb | sort",
        )
    };
    vec![
        // Not crun: on a hybrid machine it runs beside a hierarchy of its own, which is part of the tree that is bound.
        flag("rbind", &["rbind"]).shows("/mnt/fs/cgroup").runc(),
        flag("bind-not-recursive", &["bind"]).only_if(sys_has_no_flags),
        flag("rbind-ro-top-only", &["rbind", "ro"])
            .runc()
            .only_if(sys_has_no_flags),
        flag("rro", &["rbind", "rro"])
            .field("/mounts/-/options/1")
            .shows("/mnt/fs/cgroup ro")
            .runc(),
        flag("rnosuid", &["rbind", "rnosuid"])
            .field("/mounts/-/options/1")
            .runc()
            .only_if(sys_has_no_flags),
        flag("rnodev", &["rbind", "rnodev"])
            .field("/mounts/-/options/1")
            .runc()
            .only_if(sys_has_no_flags),
        flag("rnoexec", &["rbind", "rnoexec"])
            .field("/mounts/-/options/1")
            .runc()
            .only_if(sys_has_no_flags),
        flag("rnoatime", &["rbind", "rnoatime"])
            .field("/mounts/-/options/1")
            .runc(),
        flag("rnodiratime", &["rbind", "rnodiratime"])
            .field("/mounts/-/options/1")
            .runc(),
        flag("rstrictatime", &["rbind", "rstrictatime"])
            .field("/mounts/-/options/1")
            .runc(),
        flag("rrelatime", &["rbind", "rrelatime"]).runc(),
    ]
}

fn propagation() -> Vec<Case> {
    let option = |name: &'static str, how: &str| Case::new(OPTIONS, name, bind(&["bind", how]), SHOW).setup(host);
    let root = |name: &'static str, how: &str| {
        let script = "awk '$5==\"/\"{sub(/:.*/,\"\",$7); print $7}' /proc/self/mountinfo";
        Case::new(
            "config-linux.md#rootfs-mount-propagation",
            name,
            json!({"linux": {"rootfsPropagation": how}}),
            script,
        )
    };
    vec![
        option("mount-private", "private"),
        option("mount-rprivate", "rprivate"),
        option("mount-shared", "shared")
            .field("/mounts/-/options/1")
            .runc()
            .shows("shared"),
        option("mount-rshared", "rshared").runc().shows("shared"),
        option("mount-slave", "slave"),
        option("mount-rslave", "rslave"),
        option("mount-unbindable", "unbindable")
            .field("/mounts/-/options/1")
            .runc()
            .shows("unbindable"),
        root("root-propagation-private", "private"),
        root("root-propagation-slave", "slave"),
        root("root-propagation-rslave", "rslave"),
        root("root-propagation-shared", "shared")
            .crun()
            .field("/linux/rootfsPropagation")
            .shows("shared"),
        root("root-propagation-unbindable", "unbindable")
            .crun()
            .shows("unbindable"),
        root("root-propagation-unknown", "sideways").runc().shows("exit 1"),
    ]
}

fn kinds() -> Vec<Case> {
    vec![
        Case::new(MOUNTS, "tmpfs-size-and-mode", tmpfs(&["size=64k", "mode=0750", "uid=7", "gid=8"]), "stat -c '%a %u %g' /mnt; awk '$2==\"/mnt\"{print $4}' /proc/mounts")
            .field("/mounts/-/options").shows("750 7 8"),
        Case::new(MOUNTS, "tmpfs-copy-up", json!({"mounts+": [{"destination": "/etc", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup"]}]}),
            "cat /etc/hostname; touch /etc/new && ls /etc | sort").field("/mounts/-/options").shows("image"),
        Case::new(MOUNTS, "tmpfs-without-copy-up", json!({"mounts+": [{"destination": "/etc", "type": "tmpfs", "source": "tmpfs"}]}), "ls /etc"),
        Case::new(MOUNTS, "tmpfs-mode-of-the-image", tmpfs(&["nosuid"]), "stat -c %a /mnt").setup(|b| { std::fs::create_dir(b.rootfs().join("mnt")).unwrap(); std::fs::set_permissions(b.rootfs().join("mnt"), std::os::unix::fs::PermissionsExt::from_mode(0o711)).unwrap(); }).runc().shows("711"),
        Case::new(MOUNTS, "tmpfs-mode-without-the-image", add(json!({"destination": "/not/there", "type": "tmpfs", "source": "tmpfs", "options": ["size=1m", "uid=7", "gid=8"]})), "stat -c '%a %u %g' /not/there /not").runc().shows("1777 7 8\n755 0 0"),
        Case::new(MOUNTS, "tmpfs-copy-up-without-the-image", add(json!({"destination": "/not/there", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup", "uid=7"]})), "stat -c '%a %u' /not/there").runc().shows("1777 7"),
        Case::new(MOUNTS, "tmpfs-copy-up-owner", json!({"mounts+": [{"destination": "/etc", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup", "uid=7", "gid=8", "mode=0710"]}]}), "stat -c '%a %u %g' /etc; ls /etc/hostname").alone().shows("710 7 8\n/etc/hostname"),
        Case::new(MOUNTS, "overlay-of-many-layers", add(json!({"destination": "/mnt", "type": "overlay", "source": "overlay", "options": [layers(), "nosuid"]})), "ls /mnt; awk '$5==\"/mnt\"{print $6}' /proc/self/mountinfo").setup(make_layers).runc().shows("0\n1\n2\n3\n"),
        Case::new(MOUNTS, "all-mounts", json!({}), "awk '{f=\"\"; for(i=7;i<=NF;i++) if($i==\"-\") f=$(i+1); print $5, $6, f}' /proc/self/mountinfo | grep -v /sys/fs/cgroup"),
        Case::new(MOUNTS, "super-options", json!({}), "awk '{print $2, $3, $4}' /proc/mounts | grep -E '^/(dev|proc)' | sed 's/,inode64//; s/size=[0-9]*k//'"),
        Case::new(MOUNTS, "cgroup-mount", json!({}), "ls /sys/fs/cgroup | grep -v hugetlb | sort; cat /sys/fs/cgroup/pids/cgroup.procs > /tmp/p; wc -l < /tmp/p")
            .runc().only_if(|| !unified()),
        // The container's own: the hierarchy's root has no such file.
        Case::new(MOUNTS, "cgroup-mount-of-v2", json!({}), "ls /sys/fs/cgroup/cgroup.type").alone().shows("cgroup.type").only_if(unified),
        Case::new(MOUNTS, "cgroup-mount-in-a-namespace", json!({"linux": {"namespaces+": [{"type": "cgroup"}]}}),
            "ls /sys/fs/cgroup | sort; cat /sys/fs/cgroup/cgroup.procs > /tmp/p; wc -l < /tmp/p").shows("cgroup.type").only_if(unified),
        Case::new(MOUNTS, "proc-mount", json!({}), "cat /proc/1/comm; test -d /proc/self/fd && echo proc"),
        Case::new(MOUNTS, "mounts-none", json!({"mounts": []}), "ls /proc | wc -l; ls /dev | sort").alone(),
        Case::new(MOUNTS, "file-bind", add(json!({"destination": "/etc/new-file", "type": "bind", "source": "@DIR@/host/file", "options": ["bind", "ro"]})),
            "cat /etc/new-file; stat -c %F /etc/new-file").setup(host).field("/mounts/-").shows("from the host"),
        Case::new(MOUNTS, "bind-source-relative", add(json!({"destination": "/mnt", "type": "bind", "source": "../host", "options": ["bind"]})), "cat /mnt/file").setup(host).runc().shows("from the host"),
        Case::new(MOUNTS, "bind-type-none", add(json!({"destination": "/mnt", "type": "none", "source": "@DIR@/host", "options": ["bind"]})), "cat /mnt/file").setup(host).shows("from the host"),
        Case::new(MOUNTS, "bind-type-absent", add(json!({"destination": "/mnt", "source": "@DIR@/host", "options": ["bind"]})), "cat /mnt/file").setup(host).shows("from the host"),
        Case::new(MOUNTS, "bind-without-option", add(json!({"destination": "/mnt", "type": "bind", "source": "@DIR@/host"})), "cat /mnt/file").alone().setup(host),
        Case::new(MOUNTS, "bind-missing-source", bind(&["bind"]), "ls /mnt").shows("exit 1"),
        Case::new(MOUNTS, "unknown-file-system", add(json!({"destination": "/mnt", "type": "nofs", "source": "x"})), "ls").shows("exit 1"),
        Case::new(MOUNTS, "tmpfs-unknown-option", tmpfs(&["whatever=1"]), "ls").shows("exit 1"),
        Case::new("config-linux.md#default-filesystems", "mqueue", json!({}), "awk '$5==\"/dev/mqueue\"{print $6}' /proc/self/mountinfo"),
    ]
}

fn one_id(host: u32) -> Value {
    json!([{"containerID": 0, "hostID": host, "size": 1}])
}

/// The runtimes compared with are older than idmapped mounts (crun 1.8 has a syntax of its own for them).
fn ids() -> Vec<Case> {
    let owner = "stat -c '%u %g' /mnt/file; touch /mnt/new && stat -c '%u %g' /mnt/new";
    let own = |options: &[&str]| {
        add(
            json!({"destination": "/mnt", "type": "bind", "source": "@DIR@/host", "options": options,
            "uidMappings": one_id(7), "gidMappings": one_id(8)}),
        )
    };
    let userns = |mount: Value| {
        let mut patch = super::namespaces::mapped(65536);
        patch["mounts+"] = mount["mounts+"].clone();
        patch
    };
    let in_userns = |bundle: &mut Bundle| {
        super::namespaces::own_rootfs(bundle);
        host(bundle);
    };
    vec![
        Case::new(MOUNTS, "idmapped-mount", own(&["bind"]), owner)
            .setup(host)
            .alone()
            .field("/mounts/-/uidMappings")
            .shows("7 8\n"),
        Case::new(MOUNTS, "idmapped-mount-groups", own(&["bind"]), owner)
            .setup(host)
            .alone()
            .field("/mounts/-/gidMappings")
            .shows("7 8\n"),
        Case::new(OPTIONS, "idmap-option", userns(bind(&["bind", "idmap"])), owner)
            .setup(in_userns)
            .alone()
            .field("/mounts/-/options/1")
            .shows("0 0\n0 0\n"),
        Case::new(OPTIONS, "idmap-shows", userns(bind(&["bind", "idmap"])), SHOW)
            .setup(in_userns)
            .alone()
            .shows("idmapped"),
        Case::new(OPTIONS, "ridmap-option", userns(bind(&["rbind", "ridmap"])), "stat -c '%u %n' /mnt/file /mnt/below/f")
            .setup(in_userns)
            .drive(with_a_mount_below)
            .alone()
            .field("/mounts/-/options/1")
            .shows("0 /mnt/file\n0 /mnt/below/f"),
        Case::new(OPTIONS, "idmap-is-not-recursive", userns(bind(&["rbind", "idmap"])), "stat -c '%u %n' /mnt/file /mnt/below/f")
            .setup(in_userns)
            .drive(with_a_mount_below)
            .alone()
            .shows("0 /mnt/file\n65534 /mnt/below/f"),
        Case::new(OPTIONS, "idmap-without-user-namespace", bind(&["bind", "idmap"]), "true")
            .setup(host)
            .alone()
            .shows("exit 1"),
        Case::new(
            MOUNTS,
            "idmapped-mount-half",
            add(json!({"destination": "/mnt", "type": "bind", "source": "@DIR@/host", "options": ["bind"], "uidMappings": one_id(7)})),
            "true",
        )
        .setup(host)
        .alone()
        .shows("exit 1"),
        Case::new(
            MOUNTS,
            "idmapped-tmpfs",
            add(json!({"destination": "/mnt", "type": "tmpfs", "source": "tmpfs", "uidMappings": one_id(7), "gidMappings": one_id(8)})),
            "true",
        )
        .alone()
        .shows("exit 1"),
        Case::new(
            MOUNTS,
            "idmapped-proc",
            add(json!({"destination": "/mnt", "type": "bind", "source": "/proc/fs", "options": ["bind"], "uidMappings": one_id(7), "gidMappings": one_id(8)})),
            "true",
        )
        .alone()
        .shows("exit 1"),
    ]
}

/// A file system below the source, as long as the container runs.
fn with_a_mount_below(container: &Container) -> String {
    use nix::mount::{MntFlags, MsFlags, mount, umount2};
    let below = container.bundle.dir.join("host/below");
    mount(Some("tmpfs"), &below, Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
    std::fs::write(below.join("f"), "").unwrap();
    let done = container.run();
    umount2(&below, MntFlags::MNT_DETACH).unwrap();
    format!("{}exit {}", done.out, done.code)
}

/// Longer than fsconfig(2) takes a value.
fn layers() -> String {
    let layers: Vec<String> = (0..4).map(|n| format!("@DIR@/layers/{}{n}", "x".repeat(70))).collect();
    format!("lowerdir={}", layers.join(":"))
}

fn make_layers(bundle: &mut Bundle) {
    let dir = bundle.host_dir("layers");
    for n in 0..4 {
        std::fs::create_dir_all(dir.join(format!("{}{n}", "x".repeat(70))).join(n.to_string())).unwrap();
    }
}

/// Symlinks of the image that lead nowhere: /etc/resolv.conf of distributions with systemd is one.
fn dangling(bundle: &mut Bundle) {
    host(bundle);
    for (to, at) in [
        ("../run/x/stub", "etc/file"),
        ("/var/q", "etc/dir"),
        ("../../../../up", "etc/tmpfs"),
    ] {
        std::os::unix::fs::symlink(to, bundle.rootfs().join(at)).unwrap();
    }
}

fn places() -> Vec<Case> {
    let at = |destination: &str| {
        add(json!({"destination": destination, "type": "tmpfs", "source": "tmpfs", "options": ["mode=700"]}))
    };
    let show = "awk '$6 !~ /x/ && $5 !~ /^.(proc|dev|sys)/{print $5}' /proc/self/mountinfo | sort";
    vec![
        Case::new(MOUNTS, "destination-made", at("/a/b/c"), "stat -c '%a' /a /a/b /a/b/c")
            .runc()
            .shows("700"),
        Case::new(MOUNTS, "destination-through-link", at("/var/run/x"), show).shows("/run/x"),
        Case::new(MOUNTS, "destination-climbs", at("/tmp/../opt/../../srv"), show).shows("/srv"),
        Case::new(MOUNTS, "destination-relative", at("srv"), show).runc(),
        Case::new(
            MOUNTS,
            "bind-on-a-dangling-link",
            add(json!({"destination": "/etc/file", "type": "bind", "source": "@DIR@/host/file", "options": ["bind"]})),
            "cat /run/x/stub /etc/file",
        )
        .setup(dangling)
        .runc()
        .shows("from the host\nfrom the host"),
        Case::new(
            MOUNTS,
            "directory-on-a-dangling-link",
            add(json!({"destination": "/etc/dir", "type": "bind", "source": "@DIR@/host", "options": ["bind"]})),
            "cat /var/q/file",
        )
        .setup(dangling)
        .runc()
        .shows("from the host"),
        Case::new(
            MOUNTS,
            "below-a-dangling-link",
            add(json!({"destination": "/etc/dir/a/b", "type": "bind", "source": "@DIR@/host", "options": ["bind"]})),
            "cat /var/q/a/b/file",
        )
        .setup(dangling)
        .runc()
        .shows("from the host"),
        Case::new(
            MOUNTS,
            "tmpfs-on-a-dangling-link",
            add(json!({"destination": "/etc/tmpfs", "type": "tmpfs", "source": "tmpfs"})),
            "stat -c %a /up; awk '$5==\"/up\"{print $5}' /proc/self/mountinfo",
        )
        .setup(dangling)
        .runc()
        .shows("1777\n/up"),
        Case::new(
            MOUNTS,
            "mount-order",
            json!({"mounts+": [
            {"destination": "/srv", "type": "tmpfs", "source": "tmpfs", "options": ["mode=700"]},
            {"destination": "/srv/in", "type": "tmpfs", "source": "tmpfs", "options": ["mode=711"]}]}),
            "stat -c %a /srv /srv/in",
        )
        .crun()
        .shows("711"),
        Case::new(
            MOUNTS,
            "mount-over",
            json!({"mounts+": [
            {"destination": "/srv", "type": "tmpfs", "source": "tmpfs", "options": ["mode=700"]},
            {"destination": "/srv", "type": "tmpfs", "source": "tmpfs", "options": ["mode=711"]}]}),
            "stat -c %a /srv; grep -c ' /srv ' /proc/self/mountinfo",
        )
        .crun()
        .shows("711"),
    ]
}

fn paths() -> Vec<Case> {
    let masked = "config-linux.md#masked-paths";
    let readonly = "config-linux.md#readonly-paths";
    vec![
        Case::new(
            masked,
            "masked-file",
            json!({"linux": {"maskedPaths": ["/etc/passwd"]}}),
            "wc -c < /etc/passwd; stat -c '%F %t %T' /etc/passwd",
        )
        .field("/linux/maskedPaths")
        .shows("1 3"),
        Case::new(
            masked,
            "masked-directory",
            json!({"linux": {"maskedPaths": ["/etc"]}}),
            "ls -A /etc | wc -l; touch /etc/x 2>&1; awk '$5==\"/etc\"{print substr($6,1,2)}' /proc/self/mountinfo",
        )
        .field("/linux/maskedPaths")
        .shows("0\n"),
        Case::new(
            masked,
            "masked-in-other-letters",
            json!({"linux": {"maskedPaths": null, "Maskedpaths": ["/etc/passwd"]}}),
            "wc -c < /etc/passwd",
        )
        .runc()
        .shows("0\n"),
        Case::new(
            masked,
            "masked-twice",
            json!({"linux": {"maskedPaths": ["/etc", "/etc/", "/proc/interrupts", "/proc//interrupts"], "readonlyPaths": ["/proc/sys", "/proc/sys"]}}),
            "awk '$5==\"/etc\"||$5 ~ /^.proc.(interrupts|sys)$/' /proc/self/mountinfo | wc -l",
        )
        .alone()
        .shows("3\n"),
        Case::new(
            masked,
            "masked-absent",
            json!({"linux": {"maskedPaths": ["/no/such/path"]}}),
            "echo ran",
        )
        .shows("ran"),
        Case::new(
            masked,
            "masked-proc",
            json!({"linux": {"maskedPaths": ["/proc/kcore", "/proc/scsi", "/sys/firmware"]}}),
            "wc -c < /proc/kcore; ls -A /proc/scsi /sys/firmware",
        ),
        Case::new(
            readonly,
            "readonly-path",
            json!({"linux": {"readonlyPaths": ["/proc/sys", "/etc"]}}),
            "touch /etc/x 2>&1; awk '$5==\"/etc\"||$5==\"/proc/sys\"{print $5, substr($6,1,2)}' /proc/self/mountinfo",
        )
        .field("/linux/readonlyPaths")
        .shows("Read-only"),
        Case::new(
            readonly,
            "readonly-path-runs",
            json!({"linux": {"readonlyPaths": ["/usr"]}}),
            "awk '$5==\"/usr\"{print \"is \" $6}' /proc/self/mountinfo",
        )
        .runc()
        .shows("is ro"),
        Case::new(
            readonly,
            "readonly-absent",
            json!({"linux": {"readonlyPaths": ["/no/such/path"]}}),
            "echo ran",
        )
        .shows("ran"),
    ]
}
