//! From what was seen to what is needed, over records written by hand.

#![allow(clippy::unwrap_used)]

use super::*;
use crate::policy::SeccompGroup;
use crate::size::Size;
use crate::sockets::SocketWord;

fn needs(seen: &Seen) -> Loosening {
    loosening(seen, Size(64 << 20), Size(1 << 30))
}

fn what(change: Change, kind: Kind) -> Written {
    let before = (change != Change::Created).then_some(Before {
        kind,
        size: 0,
        uid: 0,
        gid: 0,
        mode: 0o755,
    });
    Written {
        change,
        kind,
        size: 1,
        uid: 0,
        gid: 0,
        mode: 0o755,
        before,
    }
}

fn wrote(all: &[(&str, Change, Kind)]) -> Seen {
    Seen {
        runs: 1,
        written: all
            .iter()
            .map(|(path, change, kind)| (path.into(), what(*change, *kind)))
            .collect(),
        ..Seen::new()
    }
}

fn entries(needs: &Loosening) -> Vec<String> {
    needs.holes.iter().map(Hole::entry).collect()
}

use Change::{Changed, Created, Deleted, Entries};
use Kind::{Directory, File};

#[test]
fn nothing_written_needs_nothing() {
    assert!(needs(&Seen::new()).is_empty());
    // The default holes hold it.
    let seen = wrote(&[
        ("/run", Entries, Directory),
        ("/run/app", Created, Directory),
        ("/run/app/pid", Created, File),
        ("/tmp", Entries, Directory),
        ("/tmp/x", Created, File),
    ]);
    assert!(needs(&seen).is_empty(), "{:?}", needs(&seen));
}

/// Debian's nginx, as overlayfs shows it.
#[test]
fn a_services_own_directories_are_holes() {
    let seen = wrote(&[
        ("/run", Entries, Directory),
        ("/run/nginx.pid", Created, File),
        ("/var/lib/nginx", Entries, Directory),
        ("/var/lib/nginx/body", Created, Directory),
        ("/var/lib/nginx/proxy", Created, Directory),
        ("/var/log/nginx/access.log", Changed, File),
        ("/var/log/nginx/error.log", Changed, File),
    ]);
    assert_eq!(entries(&needs(&seen)), ["/var/lib/nginx", "/var/log/nginx"]);
}

#[test]
fn a_directory_that_many_share_is_not_opened_for_one_of_them() {
    let seen = wrote(&[
        ("/", Entries, Directory),
        ("/data", Created, Directory),
        ("/data/a", Created, File),
        ("/var/lib", Entries, Directory),
        ("/var/lib/app", Created, Directory),
    ]);
    assert_eq!(entries(&needs(&seen)), ["/data", "/var/lib/app"]);
    // Where nothing is left of it, or it is a file, there is no smaller one.
    for seen in [
        wrote(&[("/var/log", Entries, Directory)]),
        wrote(&[("/var/log", Entries, Directory), ("/var/log/app.log", Created, File)]),
        wrote(&[("/var/log", Entries, Directory), ("/var/log/old", Deleted, File)]),
    ] {
        assert_eq!(entries(&needs(&seen)), ["/var/log"], "{seen:?}");
    }
}

#[test]
fn where_no_hole_may_be_is_said() {
    let seen = wrote(&[("/etc/app.conf", Changed, File), ("/usr/lib/x", Changed, File)]);
    let needs = needs(&seen);
    assert!(
        needs.holes.iter().all(|hole| hole.path == Path::new("/usr/lib")),
        "{needs:?}"
    );
    let paths: Vec<_> = needs.impossible.iter().map(|one| one.path.to_str().unwrap()).collect();
    assert_eq!(paths, ["/etc/app.conf"]);
    assert!(!needs.is_empty());
}

#[test]
fn caches_beside_the_code_are_no_need() {
    let seen = wrote(&[
        ("/usr/lib/python3/x", Entries, Directory),
        ("/usr/lib/python3/x/__pycache__", Created, Directory),
        ("/usr/lib/python3/x/__pycache__/a.pyc", Created, File),
    ]);
    let needs = needs(&seen);
    assert!(needs.is_empty(), "{needs:?}");
    assert_eq!(needs.spared.len(), 1);
    let dir = PathBuf::from("/usr/lib/python3/x");
    assert!(needs.leaves(&Denied::ReadOnly { dir, uid: 0 }));
}

#[test]
fn sizes_are_asked_for_where_the_usual_ones_do_not_hold_it() {
    let mut seen = wrote(&[("/var/lib/db", Entries, Directory), ("/tmp/x", Created, File)]);
    seen.sizes = [("/var/lib/db".into(), 140 << 20), ("/tmp".into(), 1 << 20)].into();
    assert_eq!(entries(&needs(&seen)), ["/var/lib/db:size=512m"]);
    seen.sizes.insert("/tmp".into(), 200 << 20);
    assert_eq!(entries(&needs(&seen)), ["/tmp:size=512m", "/var/lib/db:size=512m"]);
    seen.sizes.insert("/var/lib/db".into(), 700 << 20);
    assert_eq!(entries(&needs(&seen))[1], "/var/lib/db:size=1g");
    assert!(needs(&seen).holes[1].data);
}

#[test]
fn what_could_not_be_done_is_what_it_takes() {
    let mut seen = Seen::new();
    seen.needed = [
        Denied::Missing {
            dir: "/run/haproxy".into(),
            uid: 0,
        },
        Denied::Foreign {
            dir: "/run".into(),
            uid: 33,
        },
        Denied::Port(80),
        Denied::Capability {
            name: "SYS_CHROOT".to_owned(),
            call: "chroot".to_owned(),
        },
        Denied::ForeignFile {
            file: "/var/log/apache2/error.log".into(),
            uid: 33,
        },
    ]
    .into();
    // What was only denied on the way is not.
    seen.denied.insert(Denied::Port(22));
    let needs = needs(&seen);
    assert_eq!(entries(&needs), ["/run:mode=1777", "/run/haproxy"]);
    assert_eq!(needs.sysctls["net.ipv4.ip_unprivileged_port_start"], "0");
    assert!(needs.capabilities.contains("SYS_CHROOT"));
    assert_eq!(needs.volumes.len(), 1);
    assert!(needs.volumes[0].empty && needs.volumes[0].path == Path::new("/var/log/apache2"));
    assert_eq!(
        ready::podman(&needs),
        [
            "--annotation",
            "dev.gabion.holes=/run:mode=1777 /run/haproxy",
            "--sysctl",
            "net.ipv4.ip_unprivileged_port_start=0",
            "--cap-add",
            "SYS_CHROOT",
            "--tmpfs",
            "/var/log/apache2:mode=1777,notmpcopyup"
        ]
    );
    assert_eq!(
        ready::keys(&needs),
        [("capabilities.allow", "[\"CAP_SYS_CHROOT\"]".to_owned())]
    );
}

#[test]
fn what_is_executed_where_it_was_written_is_a_mount_of_its_own() {
    let mut seen = wrote(&[("/tmp/x", Created, File), ("/srv/app/bin", Entries, Directory)]);
    seen.programs = ["/usr/bin/sh".into(), "/srv/app/bin/x".into()].into();
    seen.mapped = [
        "/tmp/jna.so".into(),
        "/usr/lib/libc.so.6".into(),
        "/vol/lib.so".into(),
        "/open/lib.so".into(),
    ]
    .into();
    seen.volumes = [("/vol".into(), Executable::No), ("/open".into(), Executable::Yes)].into();
    let needs = needs(&seen);
    let paths: Vec<_> = needs
        .volumes
        .iter()
        .map(|v| (v.path.to_str().unwrap(), v.exec, v.mounted))
        .collect();
    assert_eq!(
        paths,
        [
            ("/srv/app/bin", true, false),
            ("/tmp", true, false),
            ("/vol", true, true)
        ]
    );
    assert!(needs.holes.is_empty(), "{needs:?}");
}

#[test]
fn calls_and_sockets_have_their_words() {
    let mut seen = Seen::new();
    let socket = |family, protocol| Socket {
        family,
        kind: 1,
        protocol,
    };
    // MPTCP is tried by every Go program, which then takes TCP.
    seen.sockets = [socket(2, 6), socket(2, 262), socket(40, 0), socket(1, 0), socket(16, 0)].into();
    seen.closed = ["unshare", "io_uring_setup", "userfaultfd"].map(str::to_owned).into();
    let needs = needs(&seen);
    assert_eq!(needs.sockets, [SocketWord::Vsock].into());
    assert_eq!(needs.seccomp, [SeccompGroup::Userns].into());
    assert_eq!(seen.closed_for_good(), ["userfaultfd"].into());
    assert_eq!(seen.has_another_way(), ["io_uring_setup"].into());
}

#[test]
fn runs_add_up() {
    let mut first = wrote(&[("/var/lib/a", Entries, Directory)]);
    first.sizes = [("/var/lib/a".into(), 1)].into();
    first.calls = Some(["read".to_owned()].into());
    let mut second = wrote(&[("/var/lib/b", Entries, Directory)]);
    second.sizes = [("/var/lib/a".into(), 100 << 20)].into();
    second.calls = Some(["write".to_owned()].into());
    second.jit = true;
    let mut all = Seen::new();
    all.merge(first.clone()).unwrap();
    all.merge(second.clone()).unwrap();
    assert_eq!((all.runs, all.jit), (2, true));
    assert_eq!(entries(&needs(&all)), ["/var/lib/a:size=256m", "/var/lib/b"]);
    assert_eq!(all.calls.as_ref().unwrap().len(), 2);
    // One run whose calls were not seen: the set is no set of all.
    all.merge(wrote(&[])).unwrap();
    assert_eq!(all.calls, None);
    let text = serde_json::to_string(&all).unwrap();
    assert_eq!(serde_json::from_str::<Seen>(&text).unwrap(), all);
    let other = Seen {
        version: 2,
        ..Seen::new()
    };
    assert_eq!(all.merge(other), Err(OtherVersion(2)));
}

/// A generator of numbers with a seed that is printed: SplitMix64.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }
}

fn at_random(dice: &mut Dice) -> Seen {
    const DIRS: [&str; 10] = [
        "/",
        "/etc",
        "/var/lib",
        "/var/lib/a",
        "/var/lib/a/b",
        "/srv/x",
        "/tmp",
        "/run",
        "/run/x",
        "/opt/y/z",
    ];
    let mut seen = Seen::new();
    seen.runs = 1;
    for _ in 0..dice.roll(8) {
        let dir = DIRS[usize::try_from(dice.roll(10)).unwrap()];
        let path = Path::new(dir).join(format!("n{}", dice.roll(3)));
        let change = [Created, Changed, Deleted, Entries][usize::try_from(dice.roll(4)).unwrap()];
        let kind = if change == Entries || dice.roll(2) == 0 {
            Directory
        } else {
            File
        };
        seen.sizes.insert(dir.into(), dice.roll(400 << 20));
        seen.written.insert(path, what(change, kind));
    }
    if dice.roll(3) == 0 {
        let dir = DIRS[usize::try_from(dice.roll(10)).unwrap()].into();
        seen.needed.insert(Denied::Missing { dir, uid: 33 });
    }
    seen
}

/// Whatever was written is in a hole, a default one or named as what cannot be; no hole is one too many; more runs never need less.
#[test]
fn properties_of_any_record() {
    let holds = |needs: &Loosening, path: &Path| {
        let dir = path.parent().unwrap();
        ["/tmp", "/var/tmp", "/run"].iter().any(|at| dir.starts_with(at))
            || needs.holes.iter().any(|hole| path.starts_with(&hole.path))
            || needs.impossible.iter().any(|one| one.path == path)
    };
    for seed in 0..500 {
        let mut dice = Dice(seed);
        let seen = at_random(&mut dice);
        let found = needs(&seen);
        for (path, what) in &seen.written {
            let explained = what.change == Entries && seen.written.keys().any(|other| other.parent() == Some(path));
            assert!(explained || holds(&found, path), "seed {seed}: {path:?} in {found:?}");
        }
        for hole in &found.holes {
            let used = seen.written.keys().any(|path| path.starts_with(&hole.path)) || !seen.needed.is_empty();
            assert!(used, "seed {seed}: {hole:?}");
            assert!(!crate::control::holes::forbidden(&hole.path), "seed {seed}: {hole:?}");
        }
        let mut more = seen.clone();
        more.merge(at_random(&mut dice)).unwrap();
        let more = needs(&more);
        for hole in &found.holes {
            let kept = more.holes.iter().any(|other| {
                hole.path.starts_with(&other.path) && other.size >= hole.size.filter(|_| other.path == hole.path)
            });
            assert!(kept, "seed {seed}: {hole:?} is not in {more:?}");
        }
    }
}

/// The annotation that is printed is one that is read: by the control's own parser, through a spec.
#[test]
fn the_annotation_is_one_that_gabion_takes() {
    use crate::harden::harden;
    use crate::testing::Case;
    for seed in 0..200 {
        let needs = needs(&at_random(&mut Dice(seed)));
        for between in [" ", ","] {
            let Some(value) = ready::annotation(&needs, between) else {
                continue;
            };
            let case = Case::new().with("/annotations", serde_json::json!({"dev.gabion.holes": value}));
            let hardened = harden(&case.request(), &case.policy, &case.host).unwrap();
            for hole in &needs.holes {
                assert!(
                    hardened.plan().holes.iter().any(|made| made.path == hole.path),
                    "seed {seed}: {hole:?}"
                );
            }
        }
    }
}

#[test]
fn the_profile_that_watches_denies_nothing_and_keeps_what_was_denied() {
    let all = watch::watching(None, "/l", &["SCMP_ARCH_X86_64"], |_| true);
    assert_eq!(all["defaultAction"], "SCMP_ACT_ALLOW");
    assert!(
        all["syscalls"]
            .as_array()
            .unwrap()
            .iter()
            .all(|rule| rule["action"] == "SCMP_ACT_NOTIFY")
    );
    let own = serde_json::json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
        {"names": ["read", "execve", "openat", "bind"], "action": "SCMP_ACT_ALLOW"},
        {"names": ["chroot"], "action": "SCMP_ACT_ERRNO"},
        {"names": ["clone"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}]},
    ]});
    let watched = watch::watching(Some(&own), "/l", &[], |name| name != "bind");
    assert_eq!(watched["defaultAction"], "SCMP_ACT_ERRNO");
    assert_eq!(watched["listenerPath"], "/l");
    let rules = watched["syscalls"].as_array().unwrap();
    let of = |name: &str| -> Vec<&str> {
        let mine = rules
            .iter()
            .filter(|rule| rule["names"].as_array().unwrap().contains(&name.into()));
        mine.map(|rule| rule["action"].as_str().unwrap()).collect()
    };
    assert_eq!(of("read"), ["SCMP_ACT_ALLOW"]);
    assert_eq!(of("execve"), ["SCMP_ACT_NOTIFY"]);
    assert_eq!(of("bind"), ["SCMP_ACT_ALLOW"]);
    assert_eq!(of("chroot"), ["SCMP_ACT_ERRNO"]);
    assert_eq!(of("clone"), ["SCMP_ACT_ALLOW"]);
    assert_eq!(of("mount"), [""; 0]);
    assert_eq!(
        of("openat")
            .iter()
            .filter(|action| **action == "SCMP_ACT_NOTIFY")
            .count(),
        3
    );
    assert_eq!(
        of("openat")
            .iter()
            .filter(|action| **action == "SCMP_ACT_ALLOW")
            .count(),
        2
    );
}

#[test]
fn yaml_is_what_json_says() {
    let value = serde_json::json!({"a": {"b-c": [{"d": 1, "e": []}, "x: y"]}, "f": {}});
    assert_eq!(
        ready::yaml(&value),
        "a:\n  \"b-c\":\n    - d: 1\n      e: []\n    - \"x: y\"\nf: {}\n"
    );
}

#[test]
fn the_words_name_each_need() {
    let mut seen = wrote(&[("/var/lib/app", Entries, Directory)]);
    seen.jit = true;
    let found = needs(&seen);
    let text = words::report(&seen, &found, &[(crate::policy::Level::Hardened, Vec::new())]);
    assert!(text.starts_with("It runs at hardened, with the following.\n"), "{text}");
    assert!(
        text.contains("needs a hole at /var/lib/app; a volume in its place"),
        "{text}"
    );
    assert!(text.contains("annotation  dev.gabion.holes = /var/lib/app"), "{text}");
    assert!(text.contains("memory.mdwe"), "{text}");
    let text = words::report(
        &Seen::new(),
        &needs(&Seen::new()),
        &[(crate::policy::Level::Restricted, Vec::new())],
    );
    assert!(text.starts_with("It runs at restricted, as it is.\n"), "{text}");
}
