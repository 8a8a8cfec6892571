//! Rules for calls that libseccomp does not know: beside what they say, and beside what libseccomp makes of the same rules for a call that it does know.

use super::*;
use oci_spec::runtime::{LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompOperator as Op, LinuxSyscall};

/// A call that every architecture has, and libseccomp knows.
const KNOWN: &str = "getpid";
const NEW: &str = "mseal";
const MSEAL: u32 = 462;

struct Lot(u64);

impl Lot {
    fn draw(&mut self, below: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % below
    }

    fn of<T: Copy>(&mut self, among: &[T]) -> T {
        among[self.draw(among.len())]
    }
}

/// Around every edge of either half.
const VALUES: [u64; 12] = [
    0,
    1,
    2,
    7,
    0x7fff_ffff,
    0xffff_ffff,
    0x1_0000_0000,
    0x1_0000_0001,
    0x1_ffff_ffff,
    0x2_0000_0000,
    u64::MAX - 1,
    u64::MAX,
];
const OPERATORS: [&str; 7] = ["NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"];

fn condition(lot: &mut Lot, index: usize) -> String {
    let (op, value, two) = (lot.of(&OPERATORS), lot.of(&VALUES), lot.of(&VALUES));
    format!(r#"{{"index":{index},"value":{value},"valueTwo":{two},"op":"SCMP_CMP_{op}"}}"#)
}

fn rule(lot: &mut Lot, action: &str) -> String {
    let conditions: Vec<String> = (0..lot.draw(5))
        .map(|_| {
            let index = lot.draw(3);
            condition(lot, index)
        })
        .collect();
    format!(
        r#"{{"names":["NAME"],"action":{action},"args":[{}]}}"#,
        conditions.join(",")
    )
}

fn holds(arg: &LinuxSeccompArg, args: &[u64; 6], wide: bool) -> bool {
    let cut = |value: u64| if wide { value } else { value & 0xffff_ffff };
    let (is, value) = (cut(args[arg.index()]), cut(arg.value()));
    match arg.op() {
        Op::ScmpCmpNe => is != value,
        Op::ScmpCmpLt => is < value,
        Op::ScmpCmpLe => is <= value,
        Op::ScmpCmpEq => is == value,
        Op::ScmpCmpGe => is >= value,
        Op::ScmpCmpGt => is > value,
        Op::ScmpCmpMaskedEq => is & value == cut(arg.value_two().unwrap_or(0)) & value,
    }
}

/// What the rules come to: the first without conditions, else the strictest that holds, else the default.
fn evaluate(profile: &LinuxSeccomp, args: &[u64; 6], wide: bool) -> u32 {
    let answer = |action: LinuxSeccompAction, errno: Option<u32>| action.as_u32(Some(errno.unwrap_or(1)));
    let default = answer(profile.default_action(), profile.default_errno_ret());
    let of = |rule: &LinuxSyscall| answer(rule.action(), rule.errno_ret());
    let conditions = |rule: &LinuxSyscall| rule.args().clone().unwrap_or_default();
    let rules: Vec<_> = profile
        .syscalls()
        .iter()
        .flatten()
        .filter(|rule| of(rule) != default)
        .collect();
    if let Some(rule) = rules.iter().find(|rule| conditions(rule).is_empty()) {
        return of(rule);
    }
    let matching = rules.iter().filter(|rule| {
        let conditions = conditions(rule);
        let twice = conditions
            .iter()
            .enumerate()
            .any(|(i, one)| conditions[i + 1..].iter().any(|other| other.index() == one.index()));
        let mut each = conditions.iter().map(|one| holds(one, args, wide));
        if twice {
            each.any(|holds| holds)
        } else {
            each.all(|holds| holds)
        }
    });
    // As the kernel orders answers: by the action, as a signed number; of one action the first rule.
    matching
        .map(|rule| of(rule))
        .min_by_key(|answer| (*answer & 0xffff_0000).cast_signed())
        .unwrap_or(default)
}

/// (`AUDIT_ARCH`, bits of the number, known call, whether arguments have 64 bits)
#[cfg(target_arch = "x86_64")]
const ABIS: [(u32, u32, u32, bool); 3] = [
    (bpf::AUDIT_X86_64, 0, 39, true),
    (bpf::AUDIT_I386, 0, 20, false),
    (bpf::AUDIT_X86_64, bpf::X32_BIT, 39, false),
];
#[cfg(target_arch = "aarch64")]
const ABIS: [(u32, u32, u32, bool); 2] = [(bpf::AUDIT_AARCH64, 0, 172, true), (bpf::AUDIT_ARM, 0, 20, false)];

fn arguments(lot: &mut Lot) -> [u64; 6] {
    [0; 6].map(|_: u64| lot.of(&VALUES).wrapping_add([0, 0, 1, u64::MAX][lot.draw(4)]))
}

const ACTIONS: [&str; 7] = [
    r#""SCMP_ACT_ALLOW""#,
    r#""SCMP_ACT_ERRNO""#,
    r#""SCMP_ACT_ERRNO","errnoRet":38"#,
    r#""SCMP_ACT_KILL_PROCESS""#,
    r#""SCMP_ACT_KILL""#,
    r#""SCMP_ACT_LOG""#,
    r#""SCMP_ACT_TRACE","errnoRet":26466"#,
];

fn text(lot: &mut Lot) -> String {
    let rules: Vec<String> = (0..=lot.draw(4))
        .map(|_| {
            let action = lot.of(&ACTIONS);
            rule(lot, action)
        })
        .collect();
    around(lot, &rules.join(","))
}

/// A rule that tests no argument twice.
fn one_rule(lot: &mut Lot) -> String {
    let from = lot.draw(3);
    let conditions: Vec<String> = (from..3).map(|index| condition(lot, index)).collect();
    let (action, conditions) = (lot.of(&ACTIONS), conditions.join(","));
    around(
        lot,
        &format!(r#"{{"names":["NAME"],"action":{action},"args":[{conditions}]}}"#),
    )
}

fn around(lot: &mut Lot, rules: &str) -> String {
    let default = lot.of(&ACTIONS[..6]).replace("errnoRet", "defaultErrnoRet");
    format!(
        r#"{{"defaultAction":{default},"architectures":["SCMP_ARCH_X86","SCMP_ARCH_X32","SCMP_ARCH_ARM"],"syscalls":[{rules}]}}"#
    )
}

/// Every operator, halves of 64 bits, several arguments, several rules, any default, on every ABI.
#[test]
fn rules_by_lot_say_what_they_say() {
    let mut lot = Lot(0x5eed);
    let mut kinds = BTreeSet::new();
    for _ in 0..400 {
        let text = text(&mut lot).replace("NAME", NEW);
        let profile = profile(&text);
        let compiled = crate::seccomp::compile::here(&profile).unwrap_or_else(|e| panic!("{e}: {text}"));
        assert!(!compiled.skipped.iter().any(|name| name == NEW), "{text}");
        let program = load(compiled.program.as_bytes());
        for _ in 0..60 {
            let args = arguments(&mut lot);
            for (arch, bits, _, wide) in ABIS {
                let number = MSEAL | bits;
                let is = interpret(&program, Call { arch, number, args });
                assert_eq!(
                    is,
                    evaluate(&profile, &args, wide),
                    "{arch:x} {bits:x} {args:x?} of {text}"
                );
                kinds.insert(is);
            }
        }
        // Its neighbours are asked nothing.
        for number in [MSEAL - 1, MSEAL + 1] {
            let call = Call {
                arch: ABIS[0].0,
                number,
                args: [7; 6],
            };
            let default = evaluate(&profile_of_default(&profile), &[0; 6], true);
            let is = interpret(&program, call);
            assert!(
                is == default || (number > MSEAL && is == ENOSYS),
                "{number}: {is:x} of {text}"
            );
        }
    }
    assert!(kinds.len() >= 7, "{kinds:x?}");
}

fn profile_of_default(profile: &LinuxSeccomp) -> LinuxSeccomp {
    let mut bare = profile.clone();
    bare.set_syscalls(None);
    bare
}

/// The same rule, for a call that libseccomp knows, is libseccomp's. One at a time: what libseccomp 2.5.4 makes of several orders of 64 bits on one
/// argument is not what they say (`arg >= 0x7fff_ffff` beside `arg < 0x1_0000_0000` does not hold of `0x1_0000_0000`).
#[test]
fn it_is_what_libseccomp_makes_of_a_call_that_it_knows() {
    let mut lot = Lot(0xfeed);
    let (mut compared, mut refused) = (0, 0);
    for _ in 0..400 {
        let text = one_rule(&mut lot);
        let known = profile(&text.replace("NAME", KNOWN));
        let Ok(known) = crate::seccomp::compile::compile_with(&known, &BTreeSet::new()) else {
            refused += 1;
            continue;
        };
        let new = crate::seccomp::compile::here(&profile(&text.replace("NAME", NEW))).unwrap();
        compared += 1;
        let (known, new) = (load(known.program.as_bytes()), load(new.program.as_bytes()));
        for _ in 0..60 {
            let args = arguments(&mut lot);
            for (arch, bits, number, _) in ABIS {
                let asked = |program: &[bpf::Insn], number| {
                    let number = number | bits;
                    interpret(program, Call { arch, number, args })
                };
                assert_eq!(
                    asked(&new, MSEAL),
                    asked(&known, number),
                    "{arch:x} {bits:x} {args:x?} of {text}"
                );
            }
        }
    }
    assert!(compared > 300, "{compared} compared, {refused} refused by libseccomp");
}
