//! Medians with their range, and ratios of pairs: two figures of one round share what the machine did meanwhile.

use crate::measure::{Cost, Round};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

type Rounds = BTreeMap<usize, Vec<Round>>;

pub(crate) fn print(op: &str, index: usize, runtimes: &[PathBuf], rounds: &Rounds, peaks: &[Option<[u64; 4]>]) {
    let first = name(&runtimes[0]);
    println!(
        "\n{op:<10} {:>24} {:>24} {:>10}   {first} / this: CPU, wall",
        "CPU", "wall", "peak"
    );
    for (which, runtime) in runtimes.iter().enumerate() {
        let column =
            |of: fn(&Cost) -> f64| -> Vec<f64> { rounds[&which].iter().map(|round| of(&round[index])).collect() };
        let base = |of: fn(&Cost) -> f64| -> Vec<f64> { rounds[&0].iter().map(|round| of(&round[index])).collect() };
        let ratio = |of: fn(&Cost) -> f64| median(base(of).iter().zip(column(of)).map(|(a, b)| a / b).collect());
        let peak = peaks[which].map_or("?".to_owned(), |peaks| format!("{} KiB", peaks[index]));
        println!(
            "{:<10} {:>24} {:>24} {peak:>10}   {:.2}, {:.2}",
            name(runtime),
            range(column(|cost| cost.cpu)),
            range(column(|cost| cost.wall)),
            ratio(|cost| cost.cpu),
            ratio(|cost| cost.wall),
        );
    }
}

fn name(runtime: &Path) -> String {
    runtime.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

pub(crate) fn range(values: Vec<f64>) -> String {
    let (min, max) = values.iter().fold((f64::MAX, f64::MIN), |(min, max), value| {
        (min.min(*value), max.max(*value))
    });
    format!("{:.2} ({min:.2}–{max:.2})", median(values))
}

pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 {
        values[middle]
    } else {
        f64::midpoint(values[middle - 1], values[middle])
    }
}
