//! Which sockets may be made: the part of the floor that is put together for each container.
//!
//! Shared with `build.rs` (by `#[path]`), so it depends on nothing but `std` and `bpf`. It stands behind the floor's tree of numbers,
//! which sends only the calls of [`Calls`] here: no other call passes a test of it.

use super::bpf::{self, Insn};

/// What the tree of numbers answers for the calls that are judged here: replaced by a jump, so no kernel ever sees it.
pub const HERE: u32 = 0x7ff0_6763;
/// What is left to the filter behind this one, as in the layers of the floor.
pub const PASS: u32 = 0x7ff0_6762;

const EPERM: u32 = bpf::RET_ERRNO + 1;
const ENOENT: u32 = bpf::RET_ERRNO + 2;
const EACCES: u32 = bpf::RET_ERRNO + 13;
const EPROTONOSUPPORT: u32 = bpf::RET_ERRNO + 93;
const EOPNOTSUPP: u32 = bpf::RET_ERRNO + 95;
const EAFNOSUPPORT: u32 = bpf::RET_ERRNO + 97;

const AF_INET: u32 = 2;
const AF_INET6: u32 = 10;
const AF_NETLINK: u32 = 16;
const AF_PACKET: u32 = 17;
/// `SOCK_TYPE_MASK` of linux/net.h: what else stands in a type are flags.
const TYPE_MASK: u32 = 0xf;
const SOCK_RAW: u32 = 3;
const MSG_FASTOPEN: u32 = 0x2000_0000;
const SOL_TCP: u32 = 6;
const TCP_ULP: u32 = 31;

/// The words of socketcall(2), linux/net.h.
mod word {
    pub(super) const SOCKET: u32 = 1;
    pub(super) const LISTEN: u32 = 4;
    pub(super) const SOCKETPAIR: u32 = 8;
    /// send, sendto, setsockopt, sendmsg, sendmmsg: their flags and options lie behind a pointer.
    pub(super) const SENDING: [u32; 5] = [9, 11, 14, 16, 20];
}

/// Whether something may be done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum May {
    #[default]
    No,
    Yes,
}

/// The numbers of one ABI's calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Calls {
    /// `AUDIT_ARCH_*`
    pub arch: u32,
    pub socket: u32,
    pub socketpair: u32,
    pub listen: u32,
    pub setsockopt: u32,
    pub sendto: u32,
    pub sendmsg: u32,
    pub sendmmsg: u32,
    /// Where send(2) is a call of its own.
    pub send: Option<u32>,
    /// The multiplexer of 32-bit x86.
    pub socketcall: Option<u32>,
}

impl Calls {
    /// All of them, for the tree of numbers.
    pub fn numbers(&self) -> impl Iterator<Item = u32> {
        let always = [
            self.socket,
            self.socketpair,
            self.listen,
            self.setsockopt,
            self.sendto,
            self.sendmsg,
            self.sendmmsg,
        ];
        always.into_iter().chain(self.send).chain(self.socketcall)
    }
}

/// What is open. Everything that is not listed is closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    pub families: Vec<u32>,
    /// Protocols of IPv4 and IPv6.
    pub inet: Vec<u32>,
    /// Protocols of netlink.
    pub netlink: Vec<u32>,
    /// Packet sockets, and raw ones of any IP protocol: with `CAP_NET_RAW`, which the kernel asks for as well.
    pub raw: May,
    /// To connect with TCP by sending (`MSG_FASTOPEN`) or through an upper layer protocol: Landlock's rule for ports sees neither.
    pub fast_open: May,
    /// To listen: a socket that was never bound gets a port of the kernel's choice, which Landlock's rule does not see.
    pub listen: May,
}

/// The instructions, for these ABIs. What is open, and calls that are none of these, go on by answering [`PASS`].
pub fn section(rules: &Rules, abis: &[Calls]) -> Vec<Insn> {
    let mut program = vec![Insn::load(bpf::OFF_ARCH)];
    for calls in abis {
        let body = of_abi(rules, calls);
        program.extend([
            Insn::new(bpf::JEQ_K, 1, 0, calls.arch),
            Insn::new(bpf::JA, 0, 0, length(&body)),
        ]);
        program.extend(body);
    }
    program.push(Insn::ret(PASS));
    program
}

fn of_abi(rules: &Rules, calls: &Calls) -> Vec<Insn> {
    let mut body = vec![Insn::load(bpf::OFF_NR)];
    let makes = made(rules);
    for number in [calls.socket, calls.socketpair] {
        when(&mut body, number, &makes);
    }
    if rules.listen == May::No {
        when(&mut body, calls.listen, &[Insn::ret(EACCES)]);
    }
    if rules.fast_open == May::No {
        for (number, flags) in [
            (Some(calls.sendto), 3),
            (calls.send, 3),
            (Some(calls.sendmsg), 2),
            (Some(calls.sendmmsg), 3),
        ] {
            let fast = [
                Insn::load(bpf::low(flags)),
                Insn::new(bpf::JSET_K, 0, 1, MSG_FASTOPEN),
                Insn::ret(EOPNOTSUPP),
                Insn::ret(PASS),
            ];
            if let Some(number) = number {
                when(&mut body, number, &fast);
            }
        }
        when(&mut body, calls.setsockopt, &upper_layer());
    }
    if let Some(number) = calls.socketcall {
        when(&mut body, number, &multiplexed(rules));
    }
    body.push(Insn::ret(PASS));
    body
}

/// socket(2) and socketpair(2): family, type, protocol.
fn made(rules: &Rules) -> Vec<Insn> {
    let mut inet = vec![Insn::load(bpf::low(2))];
    passes(&mut inet, &rules.inet);
    if rules.raw == May::Yes {
        inet.extend([Insn::load(bpf::low(1)), Insn::new(bpf::AND_K, 0, 0, TYPE_MASK)]);
        passes(&mut inet, &[SOCK_RAW]);
    }
    inet.push(Insn::ret(EPROTONOSUPPORT));
    let mut netlink = vec![Insn::load(bpf::low(2))];
    passes(&mut netlink, &rules.netlink);
    netlink.push(Insn::ret(EPROTONOSUPPORT));

    let mut out = vec![Insn::load(bpf::low(0))];
    for family in &rules.families {
        match *family {
            AF_INET | AF_INET6 => when(&mut out, *family, &inet),
            AF_NETLINK => when(&mut out, *family, &netlink),
            // The kernel's own answer, before it looks for the module.
            AF_PACKET if rules.raw == May::No => when(&mut out, *family, &[Insn::ret(EPERM)]),
            _ => passes(&mut out, &[*family]),
        }
    }
    out.push(Insn::ret(EAFNOSUPPORT));
    out
}

/// setsockopt(TCP_ULP) makes another protocol of a TCP socket; the answer is that of a kernel without it.
fn upper_layer() -> Vec<Insn> {
    let mut of_tcp = vec![Insn::load(bpf::low(2))];
    when(&mut of_tcp, TCP_ULP, &[Insn::ret(ENOENT)]);
    of_tcp.push(Insn::ret(PASS));
    let mut out = vec![Insn::load(bpf::low(1))];
    when(&mut out, SOL_TCP, &of_tcp);
    out.push(Insn::ret(PASS));
    out
}

/// socketcall(2) keeps the arguments behind a pointer, where no filter can look: of its words those go whole whose arguments count.
fn multiplexed(rules: &Rules) -> Vec<Insn> {
    let mut out = vec![Insn::load(bpf::low(0))];
    for made in [word::SOCKET, word::SOCKETPAIR] {
        when(&mut out, made, &[Insn::ret(EAFNOSUPPORT)]);
    }
    if rules.listen == May::No {
        when(&mut out, word::LISTEN, &[Insn::ret(EACCES)]);
    }
    if rules.fast_open == May::No {
        for sending in word::SENDING {
            when(&mut out, sending, &[Insn::ret(EOPNOTSUPP)]);
        }
    }
    out.push(Insn::ret(PASS));
    out
}

fn passes(out: &mut Vec<Insn>, values: &[u32]) {
    for value in values {
        when(out, *value, &[Insn::ret(PASS)]);
    }
}

/// Runs `then`, which returns, where what was loaded last is `value`.
fn when(out: &mut Vec<Insn>, value: u32, then: &[Insn]) {
    match u8::try_from(then.len()) {
        Ok(length) => out.push(Insn::new(bpf::JEQ_K, 0, length, value)),
        Err(_) => out.extend([
            Insn::new(bpf::JEQ_K, 1, 0, value),
            Insn::new(bpf::JA, 0, 0, length(then)),
        ]),
    }
    out.extend_from_slice(then);
}

/// A length beyond what a program can have is found by `validate`.
fn length(body: &[Insn]) -> u32 {
    u32::try_from(body.len()).unwrap_or(u32::MAX)
}

/// Puts a section behind the program that sends calls to it.
#[allow(dead_code, reason = "build.rs alone puts the first one in")]
pub fn append(program: &mut Vec<Insn>, section: &[Insn]) {
    bpf::chain(program, HERE, section);
}

/// Puts `section` in the place of the `old` instructions from `at` on: jumps of what stands before lead to it, or behind it.
#[allow(dead_code, reason = "build.rs makes but one of each")]
pub fn replace(program: &[Insn], at: usize, old: usize, section: &[Insn]) -> Vec<Insn> {
    let (before, rest) = program.split_at(at.min(program.len()));
    let behind = rest.get(old..).unwrap_or_default();
    let mut out: Vec<Insn> = Vec::with_capacity(before.len() + section.len() + behind.len());
    out.extend(before.iter().enumerate().map(|(i, insn)| {
        let target = i + 1 + usize::try_from(insn.k).unwrap_or(usize::MAX / 2);
        if insn.code != bpf::JA || target < at + old {
            return *insn;
        }
        let moved = (target - old + section.len()).saturating_sub(i + 1);
        Insn::new(bpf::JA, 0, 0, u32::try_from(moved).unwrap_or(u32::MAX))
    }));
    out.extend_from_slice(section);
    bpf::chain(&mut out, PASS, behind);
    out
}
