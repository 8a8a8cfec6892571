//! Medians with their range, and ratios of pairs: two figures of one round share what the machine did meanwhile.

use crate::measure::{Cost, OPS, Round, Subject};
use std::path::Path;

pub(crate) type Peaks = Option<[u64; 5]>;

/// One case: a block for each operation, a line for each subject that has it. `first` is set against the others.
pub(crate) fn print(title: &str, subjects: &[Subject], rounds: &[Vec<Round>], peaks: &[Peaks]) {
    println!("\n== {title}");
    let first = name(subjects[0].path());
    for (op, label) in OPS.iter().enumerate() {
        println!(
            "\n{label:<10} {:>24} {:>24} {:>10}   {first} / this: CPU, wall",
            "CPU", "wall", "peak"
        );
        for (which, subject) in subjects.iter().enumerate() {
            let Some(costs) = costs(&rounds[which], op) else {
                continue;
            };
            let peak = peaks[which].map_or("-".to_owned(), |peaks| format!("{} KiB", peaks[op]));
            let (cpu, wall) = ratios(rounds, which, op);
            println!(
                "{:<10} {:>24} {:>24} {peak:>10}   {cpu:.2}, {wall:.2}",
                name(subject.path()),
                range(costs.iter().map(|cost| cost.cpu).collect()),
                range(costs.iter().map(|cost| cost.wall).collect()),
            );
        }
    }
}

/// The first subject's figure by this one's, CPU and wall: the median over the rounds.
pub(crate) fn ratios(rounds: &[Vec<Round>], which: usize, op: usize) -> (f64, f64) {
    let (Some(base), Some(this)) = (costs(&rounds[0], op), costs(&rounds[which], op)) else {
        return (f64::NAN, f64::NAN);
    };
    let ratio = |of: fn(&Cost) -> f64| median(base.iter().zip(&this).map(|(a, b)| of(a) / of(b)).collect());
    (ratio(|cost| cost.cpu), ratio(|cost| cost.wall))
}

fn costs(rounds: &[Round], op: usize) -> Option<Vec<Cost>> {
    rounds.iter().map(|round| round[op]).collect()
}

pub(crate) fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
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
    match values.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}
