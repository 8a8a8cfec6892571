//! What system calls cost inside: the filters, and Landlock for opening files. gabion's own profile against podman's under the others.

use crate::cases::Profile;
use crate::dice::Dice;
use crate::measure::{command, with_acts};
use crate::room::Room;
use crate::table::{median, name, range};
use integration::Bundle;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Nanoseconds by call.
type Costs = BTreeMap<String, f64>;

pub(crate) fn compare(rounds: usize, runtimes: &[PathBuf]) {
    // gabion has its own profile where the spec brings none; for the others it is podman's.
    let bundles: Vec<Room> = (0..runtimes.len())
        .map(|which| Room::new("syscalls", if which == 0 { Profile::None } else { Profile::Podman }))
        .collect();
    let mut costs: Vec<Vec<Costs>> = vec![Vec::new(); runtimes.len()];
    let mut dice = Dice::new();
    for round in 0..=rounds {
        for which in dice.shuffled(runtimes.len()) {
            let measured = inside(&runtimes[which], &bundles[which]);
            if round > 0 {
                costs[which].push(measured);
            }
        }
    }
    println!("{rounds} rounds, shuffled; nanoseconds a call, and the first's by this one's in each round");
    for call in costs[0][0].keys() {
        println!("\n{call}");
        for (which, runtime) in runtimes.iter().enumerate() {
            let this = costs[which].iter().map(|costs| costs[call]).collect();
            let ratio = median(
                costs[0]
                    .iter()
                    .zip(&costs[which])
                    .map(|(a, b)| a[call] / b[call])
                    .collect(),
            );
            println!("{:<10} {:>28}   {ratio:.2}", name(runtime), range(this));
        }
    }
}

/// The probe prints `time-calls: ok CALL=NS…`.
fn inside(runtime: &Path, bundle: &Bundle) -> Costs {
    let path = with_acts(bundle, &["time-calls"]);
    let mut run = command(runtime, &bundle.state(), &["run", "--bundle", &path, &bundle.name]);
    let output = run.stdout(std::process::Stdio::piped()).output().expect("the runtime");
    let text = String::from_utf8_lossy(&output.stdout);
    let costs: Costs = text
        .split_ascii_whitespace()
        .filter_map(|word| word.split_once('='))
        .map(|(call, ns)| (call.to_owned(), ns.parse().expect("nanoseconds")))
        .collect();
    assert_eq!(costs.len(), 4, "{}: {output:?}", runtime.display());
    costs
}
