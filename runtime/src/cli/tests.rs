//! The command lines that callers write.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::Path;

use super::*;
use crate::container::{AskNoNewPrivs, ExecProcess, Paused, Terminal};

fn parse(line: &str) -> Cli {
    Cli::try_parse_from(line.split(' ')).unwrap_or_else(|error| panic!("{line}: {error}"))
}

fn fails(line: &str) -> String {
    gabion_common::cli::one_line(&Cli::try_parse_from(line.split(' ')).unwrap_err())
}

#[test]
fn clap_s_own_checks_hold() {
    <Cli as clap::CommandFactory>::command().debug_assert();
}

#[test]
fn containerd_s_create_is_understood() {
    let cli = parse(
        "gabion --root /r --log /b/log.json --log-format json --systemd-cgroup create --bundle /b --pid-file /p \
         --console-socket /s --pidfd-socket /t --no-pivot --no-new-keyring c1"
            .replace("  ", "")
            .as_str(),
    );
    assert_eq!(cli.global.settings().root, Path::new("/r"));
    assert_eq!(
        cli.global.settings().cgroup_driver,
        gabion_core::host::CgroupDriver::Systemd
    );
    assert_eq!(cli.global.log_format, log::LogFormat::Json);
    let Command::Create(args) = cli.command else { panic!() };
    let launch = args.launch;
    assert_eq!((launch.id.as_str(), launch.bundle.as_path()), ("c1", Path::new("/b")));
    assert!(
        launch.no_pivot && launch.no_new_keyring && launch.console_socket.is_some() && launch.pidfd_socket.is_some()
    );
}

#[test]
fn options_stand_before_or_after_the_id() {
    for line in [
        "gabion create --bundle /b --preserve-fds 2 c1",
        "gabion create c1 --bundle /b --preserve-fds 2",
        "gabion create --bundle=/b c1 --preserve-fds=2",
        "gabion create -b /b c1 --preserve-fds 2",
    ] {
        let Command::Create(args) = parse(line).command else {
            panic!()
        };
        assert_eq!(
            (
                args.launch.id.as_str(),
                args.launch.bundle.as_path(),
                args.launch.preserve_fds
            ),
            ("c1", Path::new("/b"), 2),
            "{line}"
        );
    }
    for line in [
        "gabion kill --all c1 9",
        "gabion kill c1 --all 9",
        "gabion kill c1 9 --all",
        "gabion kill c1 -a KILL",
        "gabion kill -a c1",
        "gabion kill c1 -a -9",
    ] {
        let Command::Kill(args) = parse(line).command else {
            panic!()
        };
        assert!(format!("{args:?}").contains("all: true"), "{line}");
    }
    for line in [
        "gabion delete --force c1",
        "gabion delete c1 --force",
        "gabion delete c1 -f",
    ] {
        assert!(matches!(parse(line).command, Command::Delete(_)), "{line}");
    }
}

#[test]
fn global_options_stand_before_the_command() {
    assert!(fails("gabion state --root /r c1").contains("unexpected argument '--root'"));
    for value in ["true", "false", "auto"] {
        parse(&format!("gabion --rootless={value} state c1"));
        parse(&format!("gabion --rootless {value} state c1"));
    }
    assert_eq!(
        parse("gabion --level restricted list").global.level,
        Some(gabion_core::policy::Level::Restricted)
    );
    assert!(fails("gabion --level soft list").contains("use hardened, restricted or permissive"));
}

fn exec_of(line: &str) -> exec::Args {
    match parse(line).command {
        Command::Exec(args) => args,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_follows_the_program_is_its_own() {
    let args = exec_of("gabion exec -e A=1 c1 -t --cwd /x sh -c id --tty -e B=2 -- -p");
    assert_eq!(args.command, ["sh", "-c", "id", "--tty", "-e", "B=2", "--", "-p"]);
    assert_eq!(args.env, ["A=1"]);
    assert!(args.tty && args.cwd.as_deref() == Some(Path::new("/x")));
    assert_eq!(exec_of("gabion exec c1 -- ls -l").command, ["ls", "-l"]);
}

#[test]
fn exec_s_flags_become_options() {
    let args = exec_of("gabion exec -u 1000:100 -g 5 -g 6 -d --cap CAP_X --no-new-privs --ignore-paused c1 id");
    let options = args.options().unwrap();
    assert_eq!(
        (options.detach, options.paused),
        (crate::container::Detach::Detached, Paused::Ignore)
    );
    let ExecProcess::Line(line) = options.process else {
        panic!()
    };
    assert_eq!(line.user.map(|u| (u.uid, u.gid)), Some((1000, Some(100))));
    assert_eq!((line.additional_gids, line.terminal), (vec![5, 6], Terminal::None));
    assert_eq!(
        (line.caps, line.no_new_privs),
        (vec!["CAP_X".to_owned()], AskNoNewPrivs::Set)
    );
    assert!(fails("gabion exec -u www-data c1 id").contains("give UID[:GID]"));
    for (line, words) in [
        ("gabion exec c1", "needs a program"),
        ("gabion exec -e A c1 id", "is not NAME=VALUE"),
        ("gabion exec --cwd x c1 id", "not an absolute path"),
    ] {
        let text = exec_of(line).options().unwrap_err().to_string();
        assert!(text.contains(words), "{line}: {text}");
    }
}

#[test]
fn conmon_s_exec_is_understood() {
    let args = exec_of("gabion exec --pid-file /p --process /f --detach --console-socket /s c1");
    assert_eq!(args.process.as_deref(), Some(Path::new("/f")));
    assert!(args.detach && args.command.is_empty());
}

#[test]
fn ps_passes_options_on() {
    for line in [
        "gabion ps --format json c1",
        "gabion ps -f json c1",
        "gabion ps c1 --format json",
    ] {
        let Command::Ps(args) = parse(line).command else {
            panic!()
        };
        assert_eq!((args.format, args.options.len()), (output::Format::Json, 0), "{line}");
    }
    let Command::Ps(args) = parse("gabion ps c1 -o pid,args").command else {
        panic!()
    };
    assert_eq!(args.options, ["-o", "pid,args"]);
}

#[test]
fn messages_are_one_line() {
    for (line, words) in [
        ("gabion create", "required arguments were not provided: <ID>"),
        ("gabion frobnicate", "unrecognized subcommand 'frobnicate'"),
        ("gabion create --frob c1", "unexpected argument '--frob'"),
        ("gabion create --preserve-fds x c1", "invalid value 'x'"),
    ] {
        let text = fails(line);
        assert!(text.contains(words) && !text.contains('\n'), "{line}: {text}");
    }
}

#[test]
fn what_may_have_been_meant_is_said() {
    for (line, words) in [
        ("gabion runn", "did you mean run?"),
        ("gabion run --bundel . c1", "did you mean --bundle?"),
        ("gabion explan", "did you mean explain?"),
        (
            "gabion run c1 --level hardened",
            "--level is a global option: it stands before the command",
        ),
        ("gabion state c1 --root=/x", "--root is a global option"),
    ] {
        let text = fails(line);
        assert!(text.contains(words) && !text.contains('\n'), "{line}: {text}");
    }
    assert!(!fails("gabion qwertyuiop").contains("did you mean"));
    // All global options but the version, which is a command's answer.
    let options = <Cli as clap::CommandFactory>::command();
    let long: std::collections::BTreeSet<String> = options
        .get_arguments()
        .filter_map(|arg| arg.get_long())
        .filter(|name| !["version", "help"].contains(name))
        .map(|name| format!("--{name}"))
        .collect();
    let named = gabion_common::cli::global::NAMES.map(str::to_owned).into();
    assert_eq!(long, named);
}

#[test]
fn checkpoint_takes_anything_and_says_no() {
    let cli = parse("gabion checkpoint --image-path /x c1");
    let text = cli.run(&[]).unwrap_err().to_string();
    assert!(text.contains("not supported, by design"), "{text}");
}
