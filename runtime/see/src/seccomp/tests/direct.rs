//! What gabion makes of a profile by itself, beside what libseccomp makes of all of it: the same answers.

use std::collections::BTreeSet;

use super::*;
use crate::seccomp::compile::{compile_with, here};

const FOREIGN: u32 = bpf::AUDIT_AARCH64;

/// Numbers around every table's, and arguments that conditions and the multiplexed calls of i386 tell apart.
fn calls() -> Vec<Call> {
    let mut calls = Vec::new();
    let edges = [0x3fff_ffff, 0x4000_0400, 0x7fff_ffff, 0x8000_0000, u32::MAX];
    let numbers: Vec<u32> = (0..620).chain(0x4000_0000..0x4000_0280).chain(edges).collect();
    for arch in [bpf::AUDIT_X86_64, bpf::AUDIT_I386, FOREIGN] {
        for &number in &numbers {
            for first in [0, 1, 2, 8, 17, 40, 0x7e02_0000, 0xffff_ffff, 0x1_0000_0001] {
                calls.push(Call {
                    arch,
                    number,
                    args: [first, first, 0, 0, 0, 0],
                });
            }
            // socketcall(2) and ipc(2): which call it is stands in the first argument.
            if [102, 117].contains(&number) {
                calls.extend((0..30).map(|first| Call {
                    arch,
                    number,
                    args: [first, 1, 2, 3, 4, 5],
                }));
            }
        }
    }
    calls
}

/// How many instructions each way takes.
fn same(profile: &LinuxSeccomp, calls: &[Call]) -> Option<(usize, usize)> {
    let (ours, all) = (here(profile), compile_with(profile, &BTreeSet::new()));
    let (ours, all) = match (ours, all) {
        (Ok(ours), Ok(all)) => (ours, all),
        (ours, all) => {
            assert_eq!(ours.err(), all.err(), "{profile:?}");
            return None;
        }
    };
    assert_eq!(ours.skipped, all.skipped);
    let (a, b) = (load(ours.program.as_bytes()), load(all.program.as_bytes()));
    for call in calls {
        assert_eq!(interpret(&a, *call), interpret(&b, *call), "{call:x?} of {profile:?}");
    }
    Some((a.len(), b.len()))
}

#[test]
fn engines_profiles() {
    let calls = calls();
    let containerd = include_str!("../../../../../integration/data/containerd-seccomp.json");
    for profile in [podman(), profile(containerd)] {
        assert!(crate::seccomp::aside::is_usual(
            profile.syscalls().as_deref().unwrap_or_default()
        ));
        let (ours, all) = same(&profile, &calls).unwrap();
        assert!(ours < all, "{ours} instructions, and libseccomp's {all}");
    }
}

/// Rules in any order and combination: names twice, with and without conditions, for one architecture or three.
#[test]
fn profiles_by_lot() {
    let calls = calls();
    let podman = podman();
    let names: Vec<&String> = podman
        .syscalls()
        .iter()
        .flatten()
        .flat_map(oci_spec::runtime::LinuxSyscall::names)
        .collect();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut draw = |below: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % below
    };
    let actions = [
        r#""SCMP_ACT_ALLOW""#,
        r#""SCMP_ACT_ERRNO""#,
        r#""SCMP_ACT_ERRNO","errnoRet":38"#,
        r#""SCMP_ACT_KILL_PROCESS""#,
        r#""SCMP_ACT_KILL""#,
        r#""SCMP_ACT_TRAP""#,
        r#""SCMP_ACT_LOG""#,
        r#""SCMP_ACT_TRACE","errnoRet":26466"#,
    ];
    let conditions = [
        "",
        "",
        "",
        r#","args":[{"index":0,"value":1,"op":"SCMP_CMP_EQ"}]"#,
        r#","args":[{"index":0,"value":40,"op":"SCMP_CMP_NE"}]"#,
        r#","args":[{"index":0,"value":1,"valueTwo":0,"op":"SCMP_CMP_MASKED_EQ"}]"#,
        r#","args":[{"index":1,"value":8,"op":"SCMP_CMP_GT"},{"index":0,"value":2,"op":"SCMP_CMP_LE"}]"#,
    ];
    let arches = [
        "",
        r#""SCMP_ARCH_X86""#,
        r#""SCMP_ARCH_X32""#,
        r#""SCMP_ARCH_X86","SCMP_ARCH_X32""#,
    ];
    let mut compared = 0;
    for _ in 0..60 {
        let rules: Vec<String> = (0..=draw(8))
            .map(|_| {
                let names: Vec<String> = (0..=draw(40))
                    .map(|_| format!("{:?}", names[draw(names.len())]))
                    .collect();
                let (action, condition) = (actions[draw(actions.len())], conditions[draw(conditions.len())]);
                format!(r#"{{"names":[{}],"action":{action}{condition}}}"#, names.join(","))
            })
            .collect();
        let default = actions[draw(7)].replace("errnoRet", "defaultErrnoRet");
        let text = format!(
            r#"{{"defaultAction":{default},"architectures":[{}],"syscalls":[{}]}}"#,
            arches[draw(arches.len())],
            rules.join(",")
        );
        compared += usize::from(same(&profile(&text), &calls).is_some());
    }
    assert!(compared > 20, "{compared} of 60 were profiles");
}

/// More ranges than one tree holds, each with an answer of its own, up to what jumps over returns have to be.
#[test]
fn every_number_finds_its_answer_in_a_tree_of_any_size() {
    for count in [0_u32, 1, 2, 3, 127, 128, 129, 300, 1000] {
        let answers: Vec<(u32, u32)> = (0..count).map(|i| (2 * i, bpf::RET_ERRNO + i)).collect();
        let block = numbers::Numbers {
            arch: bpf::AUDIT_X86_64,
            answers: answers.clone(),
            above: None,
        };
        let program = numbers::tree_of(&[block], ALLOW);
        bpf::validate(&program).unwrap();
        for number in (0..2 * count + 3).chain([bpf::X32_BIT, u32::MAX]) {
            let call = Call {
                arch: bpf::AUDIT_X86_64,
                number,
                args: [0; 6],
            };
            let known = answers.iter().find(|(known, _)| *known == number);
            let expected = known.map_or(ALLOW, |(_, answer)| *answer);
            assert_eq!(interpret(&program, call), expected, "{number} of {count}");
        }
    }
}
