//! A profile's rules for calls that libseccomp does not know and gabion does, with conditions as libseccomp takes them.
//!
//! libseccomp of a distribution is years older than its kernel: of mseal, statmount or file_getattr it knows nothing, and runc leaves such
//! rules out in silence. Here they are found by number, before libseccomp's program.

use std::collections::BTreeSet;

use libseccomp::ScmpArch;
use oci_spec::runtime::{LinuxSeccompArg, LinuxSeccompOperator as Op, LinuxSyscall};

use super::bpf::{self, Insn};
use super::numbers;
use super::tables::{NEWER, NEWER_NATIVE};
use super::translate::{raw, strictness};

/// A call's number on an architecture, where libseccomp has none.
pub(super) fn number(name: &str, arch: ScmpArch) -> Option<u32> {
    let among = |table: &[(&str, u32)]| {
        table
            .iter()
            .find(|(newer, _)| *newer == name)
            .map(|(_, number)| *number)
    };
    let native = || among(NEWER_NATIVE).filter(|_| arch == ScmpArch::native());
    let number = among(NEWER).or_else(native)?;
    Some(if arch == ScmpArch::X32 {
        number | bpf::X32_BIT
    } else {
        number
    })
}

/// What rules say of one call.
#[derive(Default)]
pub(super) struct Call {
    name: String,
    /// The answer of the first rule without conditions: it counts whatever other rules say, as with libseccomp.
    always: Option<u32>,
    rules: Vec<Rule>,
}

struct Rule {
    /// The kernel's order: of two rules that hold, the stricter one counts, as of two filters.
    strictness: u8,
    tests: Vec<Test>,
    answer: u32,
}

#[derive(Clone, Copy)]
struct Test {
    arg: u32,
    op: Op,
    value: u64,
    /// With a mask in `value`: what must be left.
    left: u64,
}

/// The calls of a profile, in the order in which they are named.
#[derive(Default)]
pub(super) struct Calls(Vec<Call>);

impl Calls {
    /// Takes what one rule says of one call. Its arguments were judged (`translate::comparison`).
    pub(super) fn add(&mut self, name: &str, rule: &LinuxSyscall) {
        let known = self.0.iter().position(|call| call.name == name);
        let at = known.unwrap_or_else(|| {
            self.0.push(Call {
                name: name.to_owned(),
                ..Call::default()
            });
            self.0.len() - 1
        });
        let call = &mut self.0[at];
        let answer = raw(rule.action(), rule.errno_ret());
        let tests: Vec<Test> = rule.args().iter().flatten().map(Test::of).collect();
        if tests.is_empty() {
            call.always.get_or_insert(answer);
        }
        let args: BTreeSet<u32> = tests.iter().map(|test| test.arg).collect();
        // Several conditions on one argument are alternatives, as in runc.
        let together = if args.len() < tests.len() {
            1
        } else {
            tests.len().max(1)
        };
        call.rules.extend(tests.chunks(together).map(|tests| Rule {
            strictness: strictness(rule.action()),
            tests: tests.to_vec(),
            answer,
        }));
    }

    /// The calls that get one answer whatever their arguments.
    pub(super) fn whole(&self, arch: ScmpArch) -> impl Iterator<Item = (u32, u32)> {
        let whole = move |call: &Call| Some((number(&call.name, arch)?, call.always?));
        self.0.iter().filter_map(whole)
    }

    /// A program for the calls that are told by their arguments, on these architectures: (libseccomp's, `AUDIT_ARCH`). It answers `pass`
    /// for all others, and where no rule holds. None: there are no such calls.
    pub(super) fn program(&self, arches: &[(ScmpArch, u32)], pass: u32) -> Option<Vec<Insn>> {
        let mut program = vec![Insn::load(bpf::OFF_ARCH)];
        for &(arch, audit) in arches {
            let mut body = vec![Insn::load(bpf::OFF_NR)];
            for call in self.0.iter().filter(|call| call.always.is_none()) {
                if let Some(number) = number(&call.name, arch) {
                    let rules = call.program(arch, pass);
                    numbers::over(&mut body, bpf::JEQ_K, number, rules.len());
                    body.extend(rules);
                }
            }
            if body.len() > 1 {
                // Another architecture may have the same `AUDIT_ARCH`: x32. What is behind this block looks at that again.
                body.push(Insn::load(bpf::OFF_ARCH));
                numbers::over(&mut program, bpf::JEQ_K, audit, body.len());
                program.extend(body);
            }
        }
        program.push(Insn::ret(pass));
        (program.len() > 2).then_some(program)
    }
}

impl Call {
    fn program(&self, arch: ScmpArch, pass: u32) -> Vec<Insn> {
        let mut rules: Vec<&Rule> = self.rules.iter().collect();
        rules.sort_by_key(|rule| std::cmp::Reverse(rule.strictness));
        let mut program: Vec<Insn> = rules.into_iter().flat_map(|rule| rule.program(is_wide(arch))).collect();
        program.push(Insn::ret(pass));
        program
    }
}

/// Whether an argument has 64 bits. Of x32, as of 32-bit machines, libseccomp looks at the lower half alone.
fn is_wide(arch: ScmpArch) -> bool {
    matches!(arch, ScmpArch::X8664 | ScmpArch::Aarch64)
}

impl Rule {
    /// Answers where all tests hold, else goes on behind.
    fn program(&self, wide: bool) -> Vec<Insn> {
        let mut steps: Vec<Step> = self.tests.iter().flat_map(|test| test.steps(wide)).collect();
        steps.push(Step::Do(Insn::ret(self.answer)));
        let end = steps.len();
        // Six tests of six steps are the most.
        let over = |from: usize, to: usize| u8::try_from(to.saturating_sub(from + 1)).unwrap_or(u8::MAX);
        let place = |at: usize, target: Next| match target {
            Next::On => 0,
            Next::Fails => over(at, end),
            Next::Holds(steps) => steps,
        };
        let insn = |(at, step): (usize, Step)| match step {
            Step::Do(insn) => insn,
            Step::Ask(code, k, yes, no) => Insn::new(code, place(at, yes), place(at, no), k),
        };
        steps.into_iter().enumerate().map(insn).collect()
    }
}

/// Where a comparison leads.
#[derive(Clone, Copy)]
enum Next {
    On,
    /// The rule does not hold.
    Fails,
    /// The test holds: over the rest of its steps.
    Holds(u8),
}

#[derive(Clone, Copy)]
enum Step {
    Do(Insn),
    Ask(u16, u32, Next, Next),
}

impl Test {
    fn of(arg: &LinuxSeccompArg) -> Self {
        let masked = arg.op() == Op::ScmpCmpMaskedEq;
        let left = arg.value_two().filter(|_| masked).unwrap_or(0);
        Self {
            arg: u32::try_from(arg.index()).unwrap_or(u32::MAX),
            op: arg.op(),
            value: arg.value(),
            left,
        }
    }

    fn steps(self, wide: bool) -> Vec<Step> {
        use Next::{Fails, Holds, On};
        let half = |value: u64| u32::try_from(value & u64::from(u32::MAX)).unwrap_or(u32::MAX);
        let halves = |value: u64| [half(value >> 32), half(value)];
        let [high, low] = halves(self.value);
        let look = |offset: u32| Step::Do(Insn::load(offset));
        let (upper, lower) = (look(bpf::high(self.arg)), look(bpf::low(self.arg)));
        let ask = |code, k, yes, no| Step::Ask(code, k, yes, no);
        // The lower half decides where the upper halves are the same; where the first is greater, or not the same, `greater` and `smaller` say.
        let ordered = |last: Step, greater: Next, smaller: Next| {
            let first = [
                upper,
                ask(bpf::JGT_K, high, greater, On),
                ask(bpf::JEQ_K, high, On, smaller),
            ];
            let mut steps: Vec<Step> = first.into_iter().filter(|_| wide).collect();
            steps.extend([lower, last]);
            steps
        };
        match self.op {
            Op::ScmpCmpEq => ordered(ask(bpf::JEQ_K, low, On, Fails), Fails, Fails),
            Op::ScmpCmpNe => ordered(ask(bpf::JEQ_K, low, Fails, On), Holds(3), Holds(2)),
            Op::ScmpCmpGe => ordered(ask(bpf::JGE_K, low, On, Fails), Holds(3), Fails),
            Op::ScmpCmpGt => ordered(ask(bpf::JGT_K, low, On, Fails), Holds(3), Fails),
            Op::ScmpCmpLt => ordered(ask(bpf::JGE_K, low, Fails, On), Fails, Holds(2)),
            Op::ScmpCmpLe => ordered(ask(bpf::JGT_K, low, Fails, On), Fails, Holds(2)),
            Op::ScmpCmpMaskedEq => {
                let [high_left, low_left] = halves(self.left & self.value);
                let one = |look, mask, left| {
                    let mask = Step::Do(Insn::new(bpf::AND_K, 0, 0, mask));
                    [look, mask, ask(bpf::JEQ_K, left, On, Fails)]
                };
                let upper = one(upper, high, high_left).into_iter().filter(|_| wide);
                upper.chain(one(lower, low, low_left)).collect()
            }
        }
    }
}
