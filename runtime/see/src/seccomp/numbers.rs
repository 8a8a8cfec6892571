//! Answers by a call's number alone: for each ABI a binary tree.
//!
//! Shared with `build.rs` (by `#[path]`), so it depends on nothing but `std` and `bpf`.

use std::collections::{BTreeMap, BTreeSet};

use super::bpf::{AUDIT_X86_64, Insn, JA, JEQ_K, JGE_K, OFF_ARCH, OFF_NR, X32_BIT};

/// Calls that i386 also makes through socketcall(2) and ipc(2), and those two: libseccomp knows what a rule for one is there.
pub(crate) const MULTIPLEXED: [&str; 34] = [
    "socketcall",
    "socket",
    "bind",
    "connect",
    "listen",
    "accept",
    "getsockname",
    "getpeername",
    "socketpair",
    "send",
    "recv",
    "sendto",
    "recvfrom",
    "shutdown",
    "setsockopt",
    "getsockopt",
    "sendmsg",
    "recvmsg",
    "accept4",
    "recvmmsg",
    "sendmmsg",
    "ipc",
    "semop",
    "semget",
    "semctl",
    "semtimedop",
    "msgsnd",
    "msgrcv",
    "msgget",
    "msgctl",
    "shmat",
    "shmdt",
    "shmget",
    "shmctl",
];

/// Of calls as rules name them, each with whether the rule has no condition: those that stand there once, and without. What several
/// rules for one call come to is libseccomp's to say.
pub(crate) fn single<'a>(named: impl IntoIterator<Item = (&'a str, bool)>) -> BTreeSet<&'a str> {
    let (mut single, mut others) = (BTreeSet::new(), BTreeSet::new());
    for (name, free) in named {
        if !free || !single.insert(name) {
            others.insert(name);
        }
    }
    single.retain(|name| !others.contains(name));
    single
}

/// Answers by call number alone, for one ABI.
#[derive(Debug, Clone, Default)]
pub(crate) struct Numbers {
    /// `AUDIT_ARCH_*`
    pub(crate) arch: u32,
    /// (number, seccomp return value); for two of one number the first counts.
    pub(crate) answers: Vec<(u32, u32)>,
    /// Every number above the first gets the second.
    pub(crate) above: Option<(u32, u32)>,
}

/// A filter of number tests, ending by answering `pass` for all that it does not know: for each ABI a binary tree of the ranges that get
/// one answer. Calls are a few hundred in some dozens of ranges, so each is found by six or seven comparisons.
pub(crate) fn tree_of(blocks: &[Numbers], pass: u32) -> Vec<Insn> {
    let mut program = vec![Insn::load(OFF_ARCH)];
    for block in blocks {
        let mut body = vec![Insn::load(OFF_NR)];
        tree(&mut body, &ranges(block, pass));
        over(&mut program, JEQ_K, block.arch, body.len());
        program.extend(body);
    }
    program.push(Insn::ret(pass));
    program
}

/// Where each range of one answer begins, in order; the first one at 0.
fn ranges(block: &Numbers, pass: u32) -> Vec<(u32, u32)> {
    let mut known = BTreeMap::new();
    for &(number, answer) in &block.answers {
        known.entry(number).or_insert(answer);
    }
    // x32 is judged by the filter behind this one, but for what is listed here.
    let own = |number: u32| block.arch != AUDIT_X86_64 || number < X32_BIT;
    let answer = |number: u32| match (known.get(&number), block.above) {
        (Some(answer), _) => *answer,
        (None, Some((max, answer))) if number > max && own(number) => answer,
        (None, _) => pass,
    };
    let mut starts = vec![0, X32_BIT];
    starts.extend(block.above.map(|(max, _)| max.saturating_add(1)));
    starts.extend(known.keys().flat_map(|number| [*number, number.saturating_add(1)]));
    starts.sort_unstable();
    starts.dedup();
    let mut ranges: Vec<_> = starts.into_iter().map(|start| (start, answer(start))).collect();
    ranges.dedup_by_key(|(_, answer)| *answer);
    ranges
}

/// At most so many ranges have their returns in common: a conditional jump leads over 255 instructions, tests and returns.
const TOGETHER: usize = 128;

fn tree(out: &mut Vec<Insn>, ranges: &[(u32, u32)]) {
    if let (below, [(start, _), ..]) = ranges.split_at(ranges.len() / 2)
        && ranges.len() > TOGETHER
    {
        let mut lower = Vec::new();
        tree(&mut lower, below);
        over_unless(out, *start, lower.len());
        out.extend(lower);
        tree(out, &ranges[below.len()..]);
        return;
    }
    if let [(_, lowest), rest @ ..] = ranges {
        let mut grove = Grove::default();
        grove.add(*lowest, rest);
        out.extend(grove.program());
    }
}

/// A tree of tests, and behind them one return for each answer. With a return for each range it would be twice as long, and the kernel
/// checks and compiles all of it for every container.
#[derive(Default)]
struct Grove {
    /// Where the upper range begins; where to go on for that one, and for what is below.
    tests: Vec<(u32, Target, Target)>,
    answers: Vec<u32>,
}

/// By its place in the grove's lists.
#[derive(Clone, Copy)]
enum Target {
    Test(usize),
    Answer(usize),
}

impl Grove {
    /// `lowest` is the answer up to the first of `rest`, which are places where the answer changes.
    fn add(&mut self, lowest: u32, rest: &[(u32, u32)]) -> Target {
        let middle = rest.len() / 2;
        let Some(&(start, answer)) = rest.get(middle) else {
            let known = self.answers.iter().position(|one| *one == lowest);
            return Target::Answer(known.unwrap_or_else(|| {
                self.answers.push(lowest);
                self.answers.len() - 1
            }));
        };
        let at = self.tests.len();
        self.tests.push((start, Target::Test(at), Target::Test(at)));
        let below = self.add(lowest, &rest[..middle]);
        let above = self.add(answer, &rest[middle + 1..]);
        self.tests[at] = (start, above, below);
        Target::Test(at)
    }

    fn program(&self) -> Vec<Insn> {
        let place = |target: Target| match target {
            Target::Test(test) => test,
            Target::Answer(answer) => self.tests.len() + answer,
        };
        let distance = |at: usize, target| place(target).checked_sub(at + 1).map(u8::try_from);
        let test = |(at, (start, above, below)): (usize, &(u32, Target, Target))| {
            let (above, below) = (distance(at, *above), distance(at, *below));
            match (above, below) {
                (Some(Ok(above)), Some(Ok(below))) => Insn::new(JGE_K, above, below, *start),
                // Cannot be, by `TOGETHER`; what `validate` refuses if it is.
                _ => far(usize::MAX),
            }
        };
        let tests = self.tests.iter().enumerate().map(test);
        tests
            .chain(self.answers.iter().map(|answer| Insn::ret(*answer)))
            .collect()
    }
}

/// Leads over the next `length` instructions where the test fails.
pub(crate) fn over(out: &mut Vec<Insn>, test: u16, k: u32, length: usize) {
    match u8::try_from(length) {
        Ok(length) => out.push(Insn::new(test, 0, length, k)),
        Err(_) => out.extend([Insn::new(test, 1, 0, k), far(length)]),
    }
}

/// Leads over the next `length` instructions for numbers from `start` on.
fn over_unless(out: &mut Vec<Insn>, start: u32, length: usize) {
    match u8::try_from(length) {
        Ok(length) => out.push(Insn::new(JGE_K, length, 0, start)),
        Err(_) => out.extend([Insn::new(JGE_K, 0, 1, start), far(length)]),
    }
}

/// A length beyond what a program can have is found by `validate`.
fn far(length: usize) -> Insn {
    Insn::new(JA, 0, 0, u32::try_from(length).unwrap_or(u32::MAX))
}
