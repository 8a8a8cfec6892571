//! Profiles of specs.

use super::*;

#[cfg(target_arch = "x86_64")]
const NATIVE: u32 = bpf::AUDIT_X86_64;
#[cfg(target_arch = "aarch64")]
const NATIVE: u32 = bpf::AUDIT_AARCH64;

fn answer(compiled: &Compiled, name: &str, args: [u64; 2]) -> u32 {
    let number = libseccomp::ScmpSyscall::from_name(name)
        .unwrap()
        .as_raw_syscall()
        .cast_unsigned();
    number_answer(compiled, number, args)
}

fn number_answer(compiled: &Compiled, number: u32, args: [u64; 2]) -> u32 {
    run(
        compiled.program.as_bytes(),
        Call {
            arch: NATIVE,
            number,
            args: [args[0], args[1], 0, 0, 0, 0],
        },
    )
}

fn one(rule: &str) -> Result<Compiled, SeccompError> {
    compile(&profile(&format!(
        r#"{{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{rule}]}}"#
    )))
}

#[test]
fn podman_profile() {
    let compiled = compile(&podman()).unwrap();
    assert_eq!((compiled.flags, compiled.listener), (Flags::NONE, false));
    assert_eq!(answer(&compiled, "read", [0; 2]), ALLOW);
    assert_eq!(answer(&compiled, "kexec_load", [0; 2]), EPERM);
    assert_eq!(answer(&compiled, "personality", [8, 0]), ALLOW);
    assert_eq!(answer(&compiled, "personality", [9, 0]), ENOSYS);
    // In the profile both allowed and refused: the first rule counts, as under runc. The floor refuses it.
    assert_eq!(answer(&compiled, "setns", [0; 2]), ALLOW);
    assert_eq!(number_answer(&compiled, 600, [0; 2]), ENOSYS);
}

#[test]
#[cfg(target_arch = "x86_64")]
fn listed_architectures_only() {
    let x86 = |compiled: &Compiled| {
        run(
            compiled.program.as_bytes(),
            Call {
                arch: bpf::AUDIT_I386,
                number: 3,
                args: [0; 6],
            },
        )
    };
    let x32 = |compiled: &Compiled| number_answer(compiled, bpf::X32_BIT, [0; 2]);
    let listed = compile(&podman()).unwrap();
    assert_eq!((x86(&listed), x32(&listed)), (ALLOW, ALLOW));
    let native = compile(&profile(
        r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_S390X"]}"#,
    ))
    .unwrap();
    assert_eq!((x86(&native), x32(&native)), (KILL_PROCESS, KILL_PROCESS));
    assert_eq!(native.skipped, ["SCMP_ARCH_S390X"]);
}

#[test]
fn containerd_profile_with_one_refusal() {
    let compiled = one(r#"{"names":["sethostname"],"action":"SCMP_ACT_ERRNO"}"#).unwrap();
    assert_eq!(answer(&compiled, "sethostname", [0; 2]), EPERM);
    assert_eq!(answer(&compiled, "read", [0; 2]), ALLOW);
}

#[test]
fn every_action() {
    let with = |action: &str, errno: &str| {
        let rule = format!(r#"{{"names":["getpid"],"action":"SCMP_ACT_{action}"{errno}}}"#);
        one(&rule).map(|compiled| answer(&compiled, "getpid", [0; 2]))
    };
    assert_eq!(with("KILL", ""), Ok(0));
    assert_eq!(with("KILL_THREAD", ""), Ok(0));
    assert_eq!(with("KILL_PROCESS", ""), Ok(KILL_PROCESS));
    assert_eq!(with("TRAP", ""), Ok(0x0003_0000));
    assert_eq!(with("ERRNO", ""), Ok(EPERM));
    assert_eq!(with("ERRNO", r#","errnoRet":38"#), Ok(ENOSYS));
    assert_eq!(with("ERRNO", r#","errnoRet":4096"#), Err(SeccompError::ErrnoRet(4096)));
    assert_eq!(with("TRACE", r#","errnoRet":7"#), Ok(0x7ff0_0007));
    assert_eq!(
        with("TRACE", r#","errnoRet":65536"#),
        Err(SeccompError::ErrnoRet(65536))
    );
    assert_eq!(with("LOG", ""), Ok(0x7ffc_0000));
    assert_eq!(with("ALLOW", ""), Ok(ALLOW));
    assert_eq!(with("NOTIFY", ""), Err(SeccompError::NoListenerPath));
}

#[test]
fn every_operator() {
    let holds = |op: &str, value: u64, two: &str| {
        let rule = format!(
            r#"{{"names":["dup2"],"action":"SCMP_ACT_ERRNO","args":[{{"index":1,"value":{value}{two},"op":"SCMP_CMP_{op}"}}]}}"#
        );
        let compiled = one(&rule).unwrap();
        [4, 5, 6].map(|arg| answer(&compiled, "dup2", [9, arg]) == EPERM)
    };
    assert_eq!(holds("NE", 5, ""), [true, false, true]);
    assert_eq!(holds("LT", 5, ""), [true, false, false]);
    assert_eq!(holds("LE", 5, ""), [true, true, false]);
    assert_eq!(holds("EQ", 5, ""), [false, true, false]);
    assert_eq!(holds("GE", 5, ""), [false, true, true]);
    assert_eq!(holds("GT", 5, ""), [false, false, true]);
    assert_eq!(holds("MASKED_EQ", 2, r#","valueTwo":2"#), [false, false, true]);
    assert_eq!(holds("MASKED_EQ", 2, ""), [true, true, false]);
}

#[test]
fn conditions_on_two_arguments_all_hold_and_on_one_are_alternatives() {
    let rule = |a: u8, b: u8| {
        format!(
            r#"{{"names":["dup2"],"action":"SCMP_ACT_ERRNO","args":[
            {{"index":{a},"value":1,"op":"SCMP_CMP_EQ"}},{{"index":{b},"value":2,"op":"SCMP_CMP_EQ"}}]}}"#
        )
    };
    let both = one(&rule(0, 1)).unwrap();
    assert_eq!(
        [[1, 2], [1, 3], [3, 2]].map(|args| answer(&both, "dup2", args)),
        [EPERM, ALLOW, ALLOW]
    );
    let either = one(&rule(0, 0)).unwrap();
    assert_eq!(
        [[1, 9], [2, 9], [3, 9]].map(|args| answer(&either, "dup2", args)),
        [EPERM, EPERM, ALLOW]
    );
    assert_eq!(
        one(&rule(0, 6)),
        Err(SeccompError::ArgIndex {
            name: "dup2".to_owned(),
            index: 6
        })
    );
    let twice = format!("{},{}", rule(0, 1), rule(0, 1));
    assert_eq!(
        answer(&one(&twice).unwrap(), "dup2", [1, 2]),
        EPERM,
        "a rule given twice is one rule"
    );
}

#[test]
fn unknown_names() {
    let under = |default: &str, action: &str, name: &str| {
        compile(&profile(&format!(
            r#"{{"defaultAction":"SCMP_ACT_{default}","syscalls":[{{"names":["read","{name}"],"action":"SCMP_ACT_{action}"}}]}}"#
        )))
    };
    let skipped = |default, action| under(default, action, "no_such_call").map(|compiled| compiled.skipped);
    let refused = |action: &str| {
        Err(SeccompError::UnknownDenied {
            name: "no_such_call".to_owned(),
            action: format!("SCMP_ACT_{action}"),
        })
    };
    let left_out = || Ok(vec!["no_such_call".to_owned()]);
    assert_eq!(skipped("ERRNO", "ALLOW"), left_out());
    assert_eq!(skipped("KILL_PROCESS", "ERRNO"), left_out());
    assert_eq!(skipped("TRAP", "LOG"), left_out());
    assert_eq!(skipped("ALLOW", "ERRNO"), refused("ERRNO"));
    assert_eq!(skipped("LOG", "KILL"), refused("KILL"));
    assert_eq!(skipped("ERRNO", "KILL_PROCESS"), refused("KILL_PROCESS"));
    // Newer than libseccomp, but not than gabion.
    let newer = under("ALLOW", "ERRNO", "mseal").unwrap();
    assert_eq!(
        (number_answer(&newer, 462, [0; 2]), number_answer(&newer, 461, [0; 2])),
        (EPERM, ALLOW)
    );
    let newer = under("ERRNO", "ALLOW", "mseal").unwrap();
    assert_eq!(number_answer(&newer, 462, [0; 2]), ALLOW);
}

#[test]
fn calls_newer_than_the_profile_do_not_exist() {
    let with = |default: &str| {
        let arches = if cfg!(target_arch = "x86_64") {
            r#""SCMP_ARCH_X86""#
        } else {
            r#""SCMP_ARCH_ARM""#
        };
        compile(&profile(&format!(
            r#"{{"defaultAction":"{default}","architectures":[{arches}],"syscalls":[{{"names":["read","openat2"],"action":"SCMP_ACT_ALLOW"}}]}}"#
        )))
        .unwrap()
    };
    let asked = |compiled: &Compiled| [437, 438, 436, 2000].map(|number| number_answer(compiled, number, [0; 2]));
    assert_eq!(asked(&with("SCMP_ACT_ERRNO")), [ALLOW, ENOSYS, EPERM, ENOSYS]);
    assert_eq!(
        asked(&with("SCMP_ACT_KILL_PROCESS")),
        [ALLOW, KILL_PROCESS, KILL_PROCESS, KILL_PROCESS],
        "a kill is never softened"
    );
    if cfg!(target_arch = "x86_64") {
        let compiled = with("SCMP_ACT_ERRNO");
        let x86 = |number| {
            run(
                compiled.program.as_bytes(),
                Call {
                    arch: bpf::AUDIT_I386,
                    number,
                    args: [0; 6],
                },
            )
        };
        assert_eq!([3, 437, 438, 4].map(x86), [ALLOW, ALLOW, ENOSYS, EPERM]);
        assert_eq!(number_answer(&compiled, bpf::X32_BIT + 500, [0; 2]), KILL_PROCESS);
    }
}

#[test]
fn notify_and_flags() {
    let with = |extra: &str, name: &str, default: &str| {
        compile(&profile(&format!(
            r#"{{"defaultAction":"{default}",{extra}"syscalls":[{{"names":["{name}"],"action":"SCMP_ACT_NOTIFY"}}]}}"#
        )))
    };
    let path =
        r#""listenerPath":"/run/agent","flags":["SECCOMP_FILTER_FLAG_LOG","SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"],"#;
    let compiled = with(path, "mkdir", "SCMP_ACT_ALLOW").unwrap();
    assert!(compiled.listener);
    assert_eq!(
        compiled.flags,
        Flags::NEW_LISTENER.with(Flags::LOG).with(Flags::WAIT_KILLABLE_RECV)
    );
    assert_eq!(
        with(path, "write", "SCMP_ACT_ALLOW"),
        Err(SeccompError::NotifyForbidden("the write syscall"))
    );
    assert_eq!(
        with(path, "mkdir", "SCMP_ACT_NOTIFY"),
        Err(SeccompError::NotifyForbidden("the default action"))
    );
    let quiet = r#"{"defaultAction":"SCMP_ACT_ALLOW","flags":["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV","SECCOMP_FILTER_FLAG_TSYNC"]}"#;
    assert_eq!(compile(&profile(quiet)).unwrap().flags, Flags::TSYNC);
}
