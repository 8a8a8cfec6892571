//! The section about sockets, as containers get it.

use gabion_core::sockets::{May, Opens, SocketRules, SocketWord};

use super::*;
use crate::seccomp::sockets::Calls;

const EACCES: u32 = bpf::RET_ERRNO + 13;
const ENOENT: u32 = bpf::RET_ERRNO + 2;
const EOPNOTSUPP: u32 = bpf::RET_ERRNO + 95;
const FAST_OPEN: u64 = 0x2000_0000;

const fn usual() -> SocketRules {
    SocketRules::usual()
}

/// Floor and default profile under these rules.
fn both(rules: &SocketRules) -> [Vec<bpf::Insn>; 2] {
    [Program::floor(), Program::default_profile()].map(|program| load(program.with_sockets(rules).unwrap().as_bytes()))
}

/// What both answer, of each ABI, for the call that `number` gives.
fn answers(programs: &[Vec<bpf::Insn>; 2], number: impl Fn(&Calls) -> Option<u32>, args: [u64; 4]) -> Vec<u32> {
    let [a, b, c, d] = args;
    let mut found = Vec::new();
    for calls in &tables::CALLS {
        // Rubbish in the high half changes nothing.
        for high in [0, 7 << 32] {
            for program in programs {
                found.extend(number(calls).map(|number| {
                    let args = [a | high, b | high, c | high, d | high, 0, 0];
                    let arch = calls.arch;
                    interpret(program, Call { arch, number, args })
                }));
            }
        }
    }
    found.dedup();
    found
}

fn makes(programs: &[Vec<bpf::Insn>; 2], family: u32, typ: u32, protocol: u32) -> u32 {
    let args = [family.into(), typ.into(), protocol.into(), 0];
    let mut found = answers(programs, |calls| Some(calls.socket), args);
    found.extend(answers(programs, |calls| Some(calls.socketpair), args));
    found.dedup();
    assert_eq!(found.len(), 1, "{family} {typ} {protocol}: {found:x?}");
    found[0]
}

#[test]
fn each_word_opens_what_it_names_and_nothing_else() {
    let closed = both(&usual());
    for word in SocketWord::ALL {
        let mut rules = usual();
        rules.words.insert(word);
        let open = both(&rules);
        for family in 0..64 {
            for protocol in 0..300 {
                let named = word.opens().iter().any(|opens| match *opens {
                    Opens::Family(number) => number == family,
                    Opens::Inet(number) => matches!(family, 2 | 10) && number == protocol,
                    Opens::Netlink(number) => family == 16 && number == protocol,
                });
                // All families are asked for one protocol, those that have several for each that any word knows, and some more.
                let asked = match family {
                    2 | 10 | 16 => protocol < 24 || matches!(protocol, 33 | 58 | 115 | 132 | 136 | 255 | 256 | 262),
                    _ => protocol == 0,
                };
                if !asked {
                    continue;
                }
                let call = |programs| {
                    let args = [u64::from(family), 1, u64::from(protocol), 0];
                    answers(programs, |calls| Some(calls.socket), args)
                };
                let expected = if named { vec![ALLOW] } else { call(&closed) };
                assert_eq!(call(&open), expected, "{word}: family {family}, protocol {protocol}");
            }
        }
    }
}

#[test]
fn what_capabilities_open() {
    let closed = both(&usual());
    let open = both(&SocketRules {
        raw: May::Yes,
        admin: May::Yes,
        ..usual()
    });
    // SOCK_CLOEXEC and SOCK_NONBLOCK stand in the type, too.
    for flags in [0, 0o2_000_000, 0o2_004_000] {
        for (family, typ, protocol, without, with) in [
            (17, 3, 768, EPERM, ALLOW),
            (2, 3, 255, EPROTONOSUPPORT, ALLOW),
            (10, 3, 89, EPROTONOSUPPORT, ALLOW),
            // The kernel asks for the capability: ping of an image may have it.
            (2, 3, 1, ALLOW, ALLOW),
            // Not raw: SCTP and MPTCP are protocols of their own.
            (2, 1, 132, EPROTONOSUPPORT, EPROTONOSUPPORT),
            (2, 5, 132, EPROTONOSUPPORT, EPROTONOSUPPORT),
            (2, 1, 262, EPROTONOSUPPORT, EPROTONOSUPPORT),
            (16, 3, 12, EPROTONOSUPPORT, ALLOW),
            (16, 3, 6, EPROTONOSUPPORT, ALLOW),
            (16, 3, 21, EPROTONOSUPPORT, EPROTONOSUPPORT),
        ] {
            assert_eq!(
                makes(&closed, family, typ | flags, protocol),
                without,
                "{family} {typ} {protocol}"
            );
            assert_eq!(
                makes(&open, family, typ | flags, protocol),
                with,
                "{family} {typ} {protocol}"
            );
        }
    }
}

#[test]
fn the_multiplexer_makes_none() {
    let programs = both(&usual());
    let ask = |word| answers(&programs, |calls| calls.socketcall, [word, 0, 0, 0]);
    let there = tables::CALLS.iter().any(|calls| calls.socketcall.is_some());
    for word in 0..24 {
        let expected = if matches!(word, 1 | 8) { EAFNOSUPPORT } else { ALLOW };
        assert_eq!(ask(word), if there { vec![expected] } else { vec![] }, "{word}");
    }
}

type Number = fn(&Calls) -> Option<u32>;

#[test]
fn what_rules_for_ports_close() {
    let free = both(&usual());
    let ruled = both(&SocketRules {
        fast_open: May::No,
        ..usual()
    });
    let deaf = both(&SocketRules {
        listen: May::No,
        ..usual()
    });
    let sending: [(Number, usize); 4] = [
        (|calls| Some(calls.sendto), 3),
        (|calls| calls.send, 3),
        (|calls| Some(calls.sendmsg), 2),
        (|calls| Some(calls.sendmmsg), 3),
    ];
    for (number, arg) in sending {
        for (flags, expected) in [
            (0, ALLOW),
            (FAST_OPEN, EOPNOTSUPP),
            (FAST_OPEN | 0x4040, EOPNOTSUPP),
            (0x4040, ALLOW),
        ] {
            let mut args = [0; 4];
            args[arg] = flags;
            if tables::CALLS.iter().all(|calls| number(calls).is_none()) {
                continue;
            }
            assert_eq!(answers(&ruled, number, args), [expected], "{flags:x}");
            assert_eq!(answers(&free, number, args), [ALLOW]);
            assert_eq!(answers(&deaf, number, args), [ALLOW]);
        }
    }
    let option = |programs, level, name| answers(programs, |calls| Some(calls.setsockopt), [3, level, name, 0]);
    assert_eq!(
        (option(&ruled, 6, 31), option(&free, 6, 31)),
        (vec![ENOENT], vec![ALLOW])
    );
    assert_eq!(
        (option(&ruled, 6, 30), option(&ruled, 1, 31)),
        (vec![ALLOW], vec![ALLOW])
    );
    let listen = |programs| answers(programs, |calls| Some(calls.listen), [3, 1, 0, 0]);
    assert_eq!(
        (listen(&deaf), listen(&ruled), listen(&free)),
        (vec![EACCES], vec![ALLOW], vec![ALLOW])
    );
    if tables::CALLS.iter().any(|calls| calls.socketcall.is_some()) {
        let word = |programs, word| answers(programs, |calls| calls.socketcall, [word, 0, 0, 0]);
        assert_eq!((word(&deaf, 4), word(&ruled, 4)), (vec![EACCES], vec![ALLOW]));
        for sending in [9, 11, 14, 16, 20] {
            assert_eq!(
                (word(&ruled, sending), word(&deaf, sending)),
                (vec![EOPNOTSUPP], vec![ALLOW])
            );
        }
    }
}

/// What stands around the section is what it was: every call gets the same answer, whatever the section's length.
#[test]
fn the_rest_of_a_program_stays() {
    let mut rules = usual();
    rules.words.extend(SocketWord::ALL);
    rules.fast_open = May::No;
    rules.listen = May::No;
    let (longer, usual) = (both(&rules), both(&usual()));
    for (a, b) in usual.iter().zip(&longer) {
        assert!(a.len() < b.len());
        for calls in &tables::CALLS {
            for number in (0..620).chain([tables::MARKER.0, bpf::X32_BIT + 39]) {
                if calls.numbers().any(|judged| judged == number) {
                    continue;
                }
                for value in [0, 1, 0x10, 0x5412, 0x1000_0011, u64::MAX] {
                    let call = Call {
                        arch: calls.arch,
                        number,
                        args: [value; 6],
                    };
                    assert_eq!(interpret(a, call), interpret(b, call), "{call:x?}");
                }
            }
        }
    }
}
