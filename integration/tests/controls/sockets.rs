//! `seccomp`: which sockets may be made, under any profile, and by whichever door.

use crate::hardens;
use integration::outcome::Outcome;
use integration::{Bundle, Container, Policy};
use serde_json::{Value, json};

/// Families of linux/socket.h beside UNIX, IPv4, IPv6, netlink and packet, and one that is none.
const FAMILIES: [u32; 36] = [
    3, 4, 5, 6, 7, 8, 9, 11, 12, 15, 19, 20, 21, 22, 23, 24, 26, 27, 28, 29, 30, 31, 32, 33, 35, 36, 37, 38, 39, 40,
    41, 42, 43, 44, 45, 63,
];
/// IPv4 and IPv6 with L2TP, SCTP, UDP-Lite, SMC and MPTCP; and a raw protocol, by which OSPF goes.
const PROTOCOLS: [&str; 8] = [
    "2,2,115", "2,1,132", "10,5,132", "2,2,136", "2,1,256", "2,1,262", "10,1,262", "2,3,89",
];
const NETLINKS: [&str; 6] = ["16,3,2", "16,3,6", "16,3,10", "16,3,12", "16,3,20", "16,3,21"];
const USUAL: [&str; 8] = [
    "1,1,0",
    "1,5,0",
    "2,1,0",
    "2,2,17",
    "10,1,6",
    "16,3,0",
    "16,524291,15",
    "16,3,16",
];

/// The words of the policy, all of them.
const WORDS: &str = r#"seccomp.sockets = ["alg", "appletalk", "atm", "ax25", "bluetooth", "caif", "can", "dccp", "ieee802154", "iucv",
  "kcm", "key", "l2tp", "llc", "mctp", "mptcp", "netlink-connector", "netlink-crypto", "netlink-fib-lookup", "netlink-iscsi",
  "netlink-netfilter", "netlink-nflog", "netlink-rdma", "netlink-scsi", "netlink-selinux", "netlink-smc", "netlink-usersock",
  "netlink-xfrm", "netrom", "nfc", "phonet", "pppox", "qipcrtr", "rds", "rose", "rxrpc", "sctp", "smc", "tipc", "udplite",
  "vsock", "x25", "xdp"]"#;

fn acts(act: &str, words: impl IntoIterator<Item = impl std::fmt::Display>) -> Vec<String> {
    words.into_iter().map(|word| format!("{act}={word}")).collect()
}

fn run(name: &str, profile: Option<Value>, policy: &Policy, acts: &[String]) -> Outcome {
    let mut bundle = Bundle::new(name);
    if let Some(profile) = profile {
        bundle.config.set("/linux/seccomp", profile);
    }
    let acts: Vec<&str> = acts.iter().map(String::as_str).collect();
    Container::new(bundle).policy(policy).acts(&acts)
}

fn all_denied(outcome: &Outcome, acts: &[String], errno: &str) {
    for act in acts {
        outcome.denied(act, errno);
    }
}

/// Nothing, what docker and podman call unconfined, and a profile of one denial, which lets all sockets through.
fn profiles() -> [(&'static str, Option<Value>); 3] {
    let architectures = ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"];
    let open = json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": architectures});
    let mut lax = open.clone();
    lax["syscalls"] = json!([{"names": ["acct"], "action": "SCMP_ACT_ERRNO"}]);
    [("silent", None), ("unconfined", Some(open)), ("lax", Some(lax))]
}

#[test]
fn no_family_but_the_usual_ones_by_any_door_under_any_profile() {
    if !hardens() {
        return;
    }
    for (name, profile) in profiles() {
        let strange = FAMILIES.map(|family| format!("{family},2,0"));
        let closed = [acts("make-socket", &strange), acts("make-pair", &strange)].concat();
        let mut native = closed.clone();
        native.extend(acts("make-socket", PROTOCOLS.iter().chain(&NETLINKS)));
        native.extend(acts("make-pair", PROTOCOLS));
        native.extend(acts("make-socket", USUAL));
        native.push("make-socket=17,3,0".to_owned());
        let outcome = run(
            &format!("sockets-{name}"),
            profile.clone(),
            &Policy::hardened(),
            &native,
        );
        all_denied(&outcome, &closed, "EAFNOSUPPORT at socket");
        for act in [
            acts("make-socket", PROTOCOLS.iter().chain(&NETLINKS)),
            acts("make-pair", PROTOCOLS),
        ]
        .concat()
        {
            outcome.denied(&act, "EPROTONOSUPPORT at socket");
        }
        for act in acts("make-socket", USUAL) {
            outcome.ok(&act);
        }
        outcome.denied("make-socket=17,3,0", "EPERM");

        if cfg!(target_arch = "x86_64") {
            let other = [
                acts("make-socket-i386", &strange),
                acts("make-socket-multiplexed", &strange),
            ]
            .concat();
            let more = acts("make-socket-i386", PROTOCOLS.iter().chain(&NETLINKS));
            let usual = acts("make-socket-i386", USUAL);
            let multiplexed = acts("make-socket-multiplexed", USUAL);
            let x32 = acts("make-socket-x32", ["38,5,0", "2,1,0"]);
            let all = [
                other.clone(),
                more.clone(),
                usual.clone(),
                multiplexed.clone(),
                x32.clone(),
            ]
            .concat();
            let outcome = run(&format!("sockets32-{name}"), profile, &Policy::hardened(), &all);
            all_denied(&outcome, &other, "EAFNOSUPPORT");
            all_denied(&outcome, &more, "EPROTONOSUPPORT");
            for act in &usual {
                outcome.ok(act);
            }
            // All of it: its arguments lie where no filter can look.
            all_denied(&outcome, &multiplexed, "EAFNOSUPPORT");
            all_denied(&outcome, &x32, "ENOSYS");
        }
    }
}

/// With its word in the policy, and without any filter, the kernel itself answers; with neither, the floor does.
#[test]
fn the_words_of_the_policy_open_them() {
    if !hardens() {
        return;
    }
    let strange = FAMILIES.map(|family| format!("{family},2,0"));
    let asked = acts(
        "make-socket",
        strange.iter().map(String::as_str).chain(PROTOCOLS).chain(NETLINKS),
    );
    let without = run("sockets-without", None, &Policy::hardened().observe("seccomp"), &asked);
    let closed = run("sockets-closed", None, &Policy::hardened(), &asked);
    let open = run("sockets-open", None, &Policy::hardened().line(WORDS), &asked);
    let named: Vec<&String> = asked
        .iter()
        .filter(|act| !act.ends_with("=2,3,89") && !act.ends_with("=63,2,0"))
        .collect();
    for act in &named {
        // Families that no kernel of these years has are in no word.
        let gone = ["4,", "7,", "12,", "19,", "22,", "23,", "27,", "28,"];
        if gone.iter().any(|family| act.contains(&format!("={family}"))) {
            open.denied(act, "EAFNOSUPPORT");
        } else {
            assert_eq!(open.answer(act), without.answer(act), "{act}");
        }
    }
    // The test can tell the two apart here.
    let told = named.iter().filter(|act| closed.answer(act) != without.answer(act));
    let told: Vec<_> = told.collect();
    eprintln!("this kernel has: {told:?}");
    assert!(told.iter().any(|act| act.ends_with("16,3,12")), "{told:?}");
}

#[test]
fn raw_and_packet_sockets_open_with_their_capability() {
    if !hardens() {
        return;
    }
    let acts = [
        "make-socket=17,3,0",
        "make-socket=2,3,89",
        "make-socket=2,1,262",
        "make-socket=16,3,12",
    ];
    let with = |name: &str| {
        let mut bundle = Bundle::new(name);
        bundle
            .config
            .add_capability("CAP_NET_RAW")
            .add_capability("CAP_NET_ADMIN");
        let policy = Policy::hardened().line(r#"capabilities.allow = ["CAP_NET_RAW", "CAP_NET_ADMIN"]"#);
        Container::new(bundle).policy(&policy)
    };
    let outcome = with("sockets-raw").acts(&acts);
    // The kernel may have no packet sockets; what it says then is no EPERM.
    assert!(!outcome.answer(acts[0]).starts_with("EPERM"), "{outcome:?}");
    outcome.ok(acts[1]);
    outcome.denied(acts[2], "EPROTONOSUPPORT");
    // A kernel without nfnetlink gives the filter's errno, too.
    let netfilter = outcome.answer(acts[3]);
    assert!(
        netfilter.starts_with("ok") || netfilter.starts_with("EPROTONOSUPPORT"),
        "{netfilter}"
    );
    // exec stands under the same filter.
    let container = with("sockets-raw-exec");
    container.run_detached().ok();
    let answers = container.exec_acts(&acts);
    assert!(answers[acts[1]].starts_with("ok"), "{answers:?}");
    assert!(answers[acts[2]].starts_with("EPROTONOSUPPORT"), "{answers:?}");
}

fn ruled(name: &str, connect: Option<&str>, bind: Option<&str>, policy: &Policy, acts: &[&str]) -> Outcome {
    let mut bundle = Bundle::new(name);
    for (key, ports) in [("tcp-connect", connect), ("tcp-bind", bind)] {
        if let Some(ports) = ports {
            bundle.config.annotation(&format!("dev.gabion.landlock.{key}"), ports);
        }
    }
    Container::new(bundle).policy(policy).acts(acts)
}

/// The ways round a rule for TCP ports that Landlock leaves: each is walked without the floor, and closed by it.
#[test]
fn rules_for_tcp_ports_are_not_walked_around() {
    if !hardens() {
        return;
    }
    let connecting = [
        "connect-mptcp=4242",
        "fast-open=sendto,4242",
        "fast-open=sendmsg,4242",
        "fast-open=sendmmsg,4242",
    ];
    let binding = ["bind-mptcp=4243", "listen-unbound"];
    let all = [
        &connecting[..],
        &binding,
        &["connect-port=4242", "bind-port=4243", "io-uring", "tcp-ulp=tls"],
    ]
    .concat();
    let outcome = ruled("tcp-none", Some(""), Some(""), &Policy::hardened(), &all);
    outcome.denied("connect-port=4242", "EACCES");
    outcome.denied("bind-port=4243", "EACCES");
    outcome.denied("connect-mptcp=4242", "EPROTONOSUPPORT");
    for act in &connecting[1..] {
        outcome.denied(act, "EOPNOTSUPP");
    }
    outcome.denied("bind-mptcp=4243", "EPROTONOSUPPORT");
    outcome.denied("listen-unbound", "EACCES");
    outcome.denied("io-uring", "ENOSYS");
    outcome.denied("tcp-ulp=tls", "ENOENT");

    // Also where the policy has the word, and where the spec's profile lets everything through.
    let words = Policy::hardened().line(r#"seccomp.sockets = ["mptcp", "smc", "rds"]"#);
    let outcome = ruled("tcp-words", Some("443"), Some("8080"), &words, &all);
    outcome.denied("connect-mptcp=4242", "EPROTONOSUPPORT");
    outcome.denied("bind-mptcp=4243", "EPROTONOSUPPORT");

    // With a list of ports a socket that was never bound still listens, on a port of the kernel's choice.
    outcome.ok("listen-unbound");

    // Without rules nothing of this is held back but MPTCP, which the word opens.
    let free = ruled("tcp-free", None, None, &words, &all);
    for act in connecting.iter().chain(&binding) {
        let answer = free.answer(act);
        // A kernel without MPTCP, or with TCP fast open switched off, says so itself.
        assert!(
            answer.starts_with("ok") || act.contains("mptcp") || act.contains("fast"),
            "{act}: {answer}"
        );
    }
    free.ok("listen-unbound");
    free.ok("connect-port=4242");
}

/// The positive control: with the floor off, which is warned of, a rule that leaves no port is walked around.
#[test]
fn without_the_floor_the_rules_are_walked_around() {
    if !hardens() {
        return;
    }
    let policy = Policy::hardened().observe("seccomp");
    let outcome = ruled(
        "tcp-bare-listens",
        None,
        Some(""),
        &policy,
        &["bind-port=4243", "listen-unbound"],
    );
    outcome.denied("bind-port=4243", "EACCES");
    outcome.ok("listen-unbound");
}
