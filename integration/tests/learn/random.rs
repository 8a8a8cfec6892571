//! Programs made at random, so that no table of recipes can be the answer: what they do is known, what learn finds is held against it.

use super::{holes, learn, report, shell};
use std::collections::BTreeSet;

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % sides).unwrap()
    }
}

/// A script, the holes that it needs, and whether it executes what it wrote in /tmp.
fn program(dice: &mut Dice) -> (String, BTreeSet<String>, bool) {
    // Where it writes, and the hole for that.
    const PLACES: [(&str, Option<&str>); 8] = [
        ("/tmp", None),
        ("/run", None),
        ("/var/tmp", None),
        ("/var/lib/app", Some("/var/lib/app")),
        ("/var/log/app", Some("/var/log/app")),
        ("/var/log/app/deep", Some("/var/log/app")),
        ("/opt/own", Some("/opt/own")),
        ("/var/lib/own/deep", Some("/var/lib/own")),
    ];
    let (mut script, mut holes, mut executes) = (String::from("set -e\n"), BTreeSet::new(), false);
    for at in 0..2 + dice.roll(6) {
        let (place, hole) = PLACES[dice.roll(8)];
        let name = format!("{place}/f{at}");
        match dice.roll(5) {
            0 => script.push_str(&format!("mkdir -p {name}\n")),
            1 => script.push_str(&format!("mkdir -p {place}; echo x >{name}; rm {name}\n")),
            2 => script.push_str(&format!("mkdir -p {place}; ln -s nowhere {name}\n")),
            3 => script.push_str(&format!(
                "mkdir -p {place}; dd if=/dev/zero of={name} bs=1k count={} 2>/dev/null\n",
                1 + dice.roll(64)
            )),
            _ => {
                script.push_str("cp /usr/bin/busybox /tmp/true; /tmp/true\n");
                executes = true;
                continue;
            }
        }
        holes.extend(hole.map(str::to_owned));
    }
    (script, holes, executes)
}

#[test]
fn what_a_program_made_at_random_does_is_found_and_proved() {
    let given = std::env::var("GABION_LEARN_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or_else(|| u64::from(std::process::id()));
    let mut dice = Dice(seed);
    for round in 0..2 {
        let (script, expected, executes) = program(&mut dice);
        let container = shell("learn-random", &script);
        let done = learn(&container, &["--prove"]);
        let what = format!("GABION_LEARN_SEED={seed}, program {round}:\n{script}\n{done}");
        assert_eq!(done.code, 0, "{what}");
        let found = report(&done);
        assert_eq!(holes(&found), expected, "{what}");
        let exec = found["needs"]["volumes"]
            .as_array()
            .unwrap()
            .iter()
            .any(|v| v["path"] == "/tmp" && v["exec"] == true);
        assert_eq!(exec, executes, "{what}");
        assert_eq!(found["proof"]["holds"], true, "{what}");
        // With one hole taken away it is named, where the program cannot do without.
        if let Some(hole) = expected.iter().next() {
            let done = learn(&container, &["--prove", "--as-is"]).fails_with(3);
            let missing = report(&done)["proof"]["missing"]["holes"].to_string();
            let first = expected.iter().any(|hole| missing.contains(&format!("\"{hole}")));
            assert!(first || executes, "{hole}: {what}\n{done}");
        }
    }
}
