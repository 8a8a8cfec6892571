//! Random sets of binds of a small tree: what the container wrote anywhere, it can run nowhere.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use integration::{Bundle, Container, Policy};

use super::hardens;
use super::host::Tree;

/// Within this many a rule that is off is found; so a rule that is on was tried.
const CASES: u32 = 60;

/// However slow the machine is.
const AT_MOST: Duration = Duration::from_secs(45);

/// Sources in the tree. A second name of a file in another directory (`c/h` in `c`) is only tried by itself: which names a file has cannot be
/// asked, and a container gives it none across mounts.
const SOURCES: [&str; 11] = [
    "", "a", "a/b", "a/f", "a/b/f", "c/f", "c/h", "l", "c/l", "alias", "c/alias",
];

/// Writes a program at every place, and runs whatever is found at every place.
const SCRIPT: &str = r"
for d in $(busybox find /m0 /m1 /m2 /m3 -type d 2>/dev/null); do
    printf '#!/bin/sh\necho RAN-IT\n' > $d/new && busybox chmod 755 $d/new
done 2>/dev/null
for f in $(busybox find /m0 /m1 /m2 /m3 -type f 2>/dev/null); do
    printf '#!/bin/sh\necho RAN-IT\n' > $f && echo WROTE
done 2>/dev/null
for f in $(busybox find /m0 /m1 /m2 /m3 -type f 2>/dev/null); do $f && echo AT $f; done 2>/dev/null
echo END
";

/// xorshift64*.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }
}

fn seed() -> u64 {
    let given = std::env::var("GABION_SEED").ok().and_then(|text| text.parse().ok());
    let now = || {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(1, |d| d.subsec_nanos().into())
    };
    given.unwrap_or_else(now).max(1)
}

/// One set of binds; what it was, and what came of it.
fn one(random: &mut Random, policy: &Policy) -> (String, String) {
    let tree = Tree::new();
    let mut bundle = Bundle::with_busybox("reach-generated");
    let mut shown = Vec::new();
    for index in 0..2 + random.below(3) {
        let which = usize::try_from(random.below(SOURCES.len() as u64)).unwrap();
        let source = tree.path(SOURCES[which]);
        let how = if random.below(2) == 0 { "ro" } else { "rw" };
        let kind = if random.below(4) == 0 { "bind" } else { "rbind" };
        bundle
            .config
            .mount(&format!("/m{index}"), "bind", source.to_str().unwrap(), &[kind, how]);
        shown.push(format!("{}:{how}:{kind}", SOURCES[which]));
    }
    bundle.config.args(&["/bin/sh", "-c", SCRIPT]);
    let container = Container::new(bundle).policy(policy);
    let done = container.run();
    drop(container);
    (shown.join(" "), format!("{} {}", done.out, done.err))
}

/// Gives the first set by which something written was run, how many sets were tried, and in how many something was written.
fn search(policy: &Policy, seed: u64) -> (Option<String>, u32, u32) {
    let (mut random, begin) = (Random(seed), Instant::now());
    let (mut tried, mut wrote) = (0, 0);
    while tried < CASES && begin.elapsed() < AT_MOST {
        let (set, end) = one(&mut random, policy);
        let judged = end.contains("END") || end.contains("refused [mounts.");
        assert!(judged, "GABION_SEED={seed}, case {tried}: {set}: {end}");
        wrote += u32::from(end.contains("WROTE"));
        tried += 1;
        if end.contains("RAN-IT") {
            return (Some(format!("{set}: {end}")), tried, wrote);
        }
    }
    (None, tried, wrote)
}

#[test]
fn what_is_written_anywhere_runs_nowhere() {
    if !hardens() {
        return;
    }
    let seed = seed();
    println!("GABION_SEED={seed}");
    let (found, tried, wrote) = search(&Policy::hardened(), seed);
    assert!(
        found.is_none(),
        "GABION_SEED={seed}, case {tried}: {}",
        found.unwrap_or_default()
    );
    assert!(
        wrote * 3 > tried,
        "GABION_SEED={seed}: {tried} tried, in {wrote} something was written"
    );
}

/// The same search finds a rule that is off.
#[test]
fn a_rule_that_is_off_is_found() {
    if !hardens() {
        return;
    }
    let seed = seed();
    println!("GABION_SEED={seed}");
    let off = Policy::hardened().observe("mounts").observe("landlock");
    let (found, tried, _) = search(&off, seed);
    assert!(found.is_some(), "GABION_SEED={seed}: not found in {tried}");
}
