//! The runtime's own binary (CVE-2019-5736).

use integration::command::{Running, limit};
use integration::{Bundle, Container, Policy, Runtime};
use std::fs;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;

/// A copy of the runtime, since a test that fails has destroyed it.
fn copied(bundle: &Bundle) -> Runtime {
    let original = Runtime::under_test();
    let program = bundle.dir.join(original.program.file_name().unwrap());
    fs::copy(&original.program, &program).unwrap();
    Runtime {
        program,
        hardens: original.hardens,
    }
}

/// What the hunter does, and for how long: when it ends its pid namespace does, in which nobody can be made any more.
fn hunt() -> String {
    format!("overwrite-exe={}", limit(15).as_secs())
}

fn attacker(test: &str) -> (Container, Vec<u8>) {
    let mut bundle = Bundle::new(test);
    // As a privileged container has: with SYS_ADMIN a read-only flag could be cleared, with SYS_PTRACE a process that
    // is not dumpable can be looked into. Without the latter nothing could be held, and the test would prove nothing.
    bundle
        .config
        .acts(&[&hunt()])
        .add_capability("CAP_SYS_ADMIN")
        .add_capability("CAP_SYS_PTRACE");
    std::os::unix::fs::symlink("/proc/self/exe", bundle.rootfs().join("usr/bin/self")).unwrap();
    let runtime = copied(&bundle);
    let before = fs::read(&runtime.program).unwrap();
    (Container::of(&runtime, bundle).policy(&Policy::permissive()), before)
}

/// Created and started, not run in the foreground: a `run` that stays would execute the binary all the time, which gives
/// ETXTBSY without any protection.
fn hunting(container: &Container) -> Running {
    let create = container.spawn(&["create", "--bundle", &container.path(), container.id()]);
    container.wait_status("created");
    container.start().ok();
    create.wait_for("hunting");
    create
}

/// Ends the hunt: with the hunter's answer where it held something.
fn unharmed(container: &Container, hunter: &Running, before: &[u8]) {
    if hunter.out().contains("held") {
        hunter.wait_for(&format!("{}: ", hunt()));
    }
    let said = hunter.out();
    eprintln!("the hunter said: {}", said.replace('\n', " / "));
    assert!(
        fs::read(&container.runtime.program).unwrap() == before,
        "the runtime was overwritten: {said}"
    );
    assert!(!said.contains(&format!("{}: ok", hunt())), "{said}");
    assert!(
        !said.contains("ETXTBSY"),
        "it was in use until the end, which proves nothing: {said}"
    );
}

/// CVE-2019-5736 by way of exec: the runtime is visible in the container's pid namespace before it executes the program.
#[test]
fn the_runtimes_binary_is_not_overwritten_on_exec() {
    let (container, before) = attacker("attack-exec");
    let hunter = hunting(&container);
    for _ in 0..50 {
        if hunter.out().contains("held") {
            break;
        }
        drop(container.exec(&["/usr/bin/probe", "cwd"]));
        // The way of the first exploit: the program to execute is the runtime itself, which is dumpable again.
        drop(container.exec(&["/usr/bin/self", "--help"]));
    }
    unharmed(&container, &hunter, &before);
}

/// The same on create, from a container that shares its pid namespace with the next.
#[test]
fn the_runtimes_binary_is_not_overwritten_on_create() {
    let (first, before) = attacker("attack-create");
    let hunter = hunting(&first);
    let mut bundle = Bundle::new("attack-create-second");
    // The second's own program would be held too if it were another file than the hunter's.
    let same = first.bundle.rootfs();
    bundle.config.set("/root/path", same.to_str().unwrap().into());
    bundle
        .config
        .namespace_path("pid", &format!("/proc/{}/ns/pid", first.pid()))
        .acts(&["cwd"]);
    let second = Container::of(&first.runtime, bundle).policy(&Policy::permissive());
    for _ in 0..20 {
        if hunter.out().contains("held") {
            break;
        }
        second.create().ok();
        std::thread::sleep(std::time::Duration::from_millis(10));
        second.op(&["delete", "--force", second.id()]).ok();
    }
    unharmed(&first, &hunter, &before);
}

/// An image whose program is the runtime: `/proc/self/exe` is resolved inside, where it must not be the runtime.
#[test]
fn an_image_cannot_make_the_runtime_its_program() {
    for args in [
        ["/proc/self/exe", "--version"],
        ["/proc/1/exe", "--version"],
        ["/usr/bin/self", "--version"],
    ] {
        let mut bundle = Bundle::new("attack-self");
        std::os::unix::fs::symlink("/proc/self/exe", bundle.rootfs().join("usr/bin/self")).unwrap();
        bundle.config.args(&args);
        let container = Container::new(bundle).policy(&Policy::permissive());
        let done = container.run();
        if Runtime::under_test().hardens {
            assert!(
                done.code != 0 && done.err.contains("it is the runtime itself"),
                "{done}"
            );
        }
        container.nothing_left();
    }
}

/// The first instructions of the binary see to it, once a command, before libc is set up: `main` finds nothing left to do.
#[cfg(target_arch = "x86_64")]
#[test]
fn the_first_instructions_leave_nothing_to_do() {
    if !Runtime::under_test().hardens {
        return;
    }
    let container = Container::new(Bundle::new("attack-first")).policy(&Policy::hardened());
    let words = ["--debug", "create", "--bundle", &container.path(), container.id()];
    let done = container.op(&words).ok();
    assert!(done.err.contains("called"), "it tells what it does: {done}");
    assert!(!done.err.contains("runs again"), "by main: {done}");
}

/// Where the addresses lie that a program asks to have made read-only, as offsets from its start: PT_GNU_RELRO of elf(5).
fn to_be_sealed(elf: &[u8]) -> Range<u64> {
    let number = |at: usize, bytes: usize| {
        let field = elf[at..at + bytes].iter().rev();
        field.fold(0_u64, |number, byte| number << 8 | u64::from(*byte))
    };
    let headers = usize::try_from(number(32, 8)).unwrap();
    let mut all = (0..number(56, 2)).map(|i| headers + usize::try_from(i * number(54, 2)).unwrap());
    let relro = all.find(|at| number(*at, 4) == 0x6474_e552).unwrap();
    let start = number(relro + 16, 8);
    start..start + number(relro + 40, 8)
}

/// Tables of functions are what a write to the wrong place goes for. No loader seals them in a static program, and musl does not either.
#[test]
fn the_runtimes_constants_cannot_be_written() {
    const PAGE: u64 = 4096;
    if !Runtime::under_test().hardens {
        return;
    }
    let program = &Runtime::under_test().program;
    let (inode, sealed) = (
        fs::metadata(program).unwrap().ino().to_string(),
        to_be_sealed(&fs::read(program).unwrap()),
    );
    let container = Container::new(Bundle::new("attack-constants")).policy(&Policy::hardened());
    container.create().ok();
    let maps = fs::read_to_string(format!("/proc/{}/maps", container.pid())).unwrap();
    let ours: Vec<(u64, u64, &str)> = maps
        .lines()
        .filter(|line| line.split_ascii_whitespace().nth(4) == Some(&inode))
        .map(|line| {
            let (range, rest) = line.split_once(' ').unwrap();
            let (start, end) = range.split_once('-').unwrap();
            let number = |text| u64::from_str_radix(text, 16).unwrap();
            (number(start), number(end), &rest[..4])
        })
        .collect();
    let base = ours.first().unwrap().0;
    // The last page, where it is not whole, is shared with what stays writable.
    let sealed = base + sealed.start..(base + sealed.end) & !(PAGE - 1);
    let mut seen = 0;
    for (start, end, how) in ours {
        if start < sealed.end && end > sealed.start {
            assert!(!how.contains('w'), "{maps}");
            seen += 1;
        }
    }
    assert!(seen > 0, "nothing to be sealed is mapped: {maps}");
}
