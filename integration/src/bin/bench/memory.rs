//! Peak resident memory, by GNU time: a child started from this program would be charged with this program's own pages.

use crate::measure::{command, with_acts};
use integration::Bundle;
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::Command;

const GNU_TIME: &str = "/usr/bin/time";

/// KiB in the order of `OPS`, the largest of five; None without GNU time.
pub(crate) fn peaks(runtime: &Path, bundle: &Bundle) -> Option<[u64; 5]> {
    Path::new(GNU_TIME).exists().then(|| {
        from_disk(runtime);
        let mut most = [0; 5];
        for _ in 0..5 {
            for (peak, now) in most.iter_mut().zip(once(runtime, bundle)) {
                *peak = now.max(*peak);
            }
        }
        most
    })
}

/// Has the kernel read the program anew. One that was written just now is in the page cache in pieces of up to 2 MB, and a touch of one
/// byte maps the piece; one that was read from the disk is there in smaller ones, as on a node that has been up for a while.
fn from_disk(program: &Path) {
    let file = File::open(program).expect("the runtime");
    file.sync_all().expect("sync");
    posix_fadvise(file.as_raw_fd(), 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED).expect("fadvise");
}

fn once(runtime: &Path, bundle: &Bundle) -> [u64; 5] {
    let path = with_acts(bundle, &["exit=0"]);
    let run = peak(runtime, bundle, &["run", "--bundle", &path, &bundle.name]);
    let path = with_acts(bundle, &["sleep"]);
    let create = peak(runtime, bundle, &["create", "--bundle", &path, &bundle.name]);
    let start = peak(runtime, bundle, &["start", &bundle.name]);
    let exec = peak(runtime, bundle, &["exec", &bundle.name, "/usr/bin/probe", "exit=0"]);
    let kill = command(runtime, &bundle.state(), &["kill", &bundle.name, "KILL"])
        .status()
        .expect("kill");
    assert!(kill.success());
    while nix::sys::wait::waitpid(None, None).is_ok() {}
    let delete = peak(runtime, bundle, &["delete", &bundle.name]);
    [run, create, start, exec, delete]
}

fn peak(runtime: &Path, bundle: &Bundle, words: &[&str]) -> u64 {
    let out = bundle.dir.join("peak");
    let inner = command(runtime, &bundle.state(), words);
    let mut time = Command::new(GNU_TIME);
    time.args(["-f", "%M", "-o"])
        .arg(&out)
        .arg(inner.get_program())
        .args(inner.get_args());
    let status = time
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .status()
        .expect("time");
    assert!(status.success(), "{time:?}");
    let text = std::fs::read_to_string(&out).expect("what time wrote");
    text.trim().parse().expect("KiB")
}
