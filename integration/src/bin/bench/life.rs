//! Run, create, start, exec, delete: every runtime in every case, in one run.

use crate::Asked;
use crate::cases::Case;
use crate::dice::Dice;
use crate::measure::{OPS, Round, Subject};
use crate::room::Room;
use crate::table::{self, Peaks};
use crate::{measure, memory};
use std::process::ExitCode;

pub(crate) fn compare(asked: Asked) -> ExitCode {
    let cases: Vec<Case> = match asked.case {
        Some(which) => vec![Case::ALL[which]],
        None => Case::ALL.to_vec(),
    };
    let bundles: Vec<Room> = cases.iter().map(|case| Room::new("bench", case.profile)).collect();
    let mut subjects: Vec<Subject> = asked.runtimes.into_iter().map(Subject::Runtime).collect();
    subjects.extend(asked.floor.map(Subject::Floor));
    let rounds = rounds(asked.rounds, &cases, &bundles, &subjects);
    println!(
        "{} rounds, shuffled: medians (min–max) of CPU (user+sys, all processes of the operation) and wall in ms; \
         peak memory; medians of the ratios in each round",
        asked.rounds
    );
    let mut far_out = Vec::new();
    for ((case, bundle), rounds) in cases.iter().zip(&bundles).zip(&rounds) {
        let peaks: Vec<Peaks> = subjects
            .iter()
            .map(|subject| match subject {
                Subject::Runtime(path) => memory::peaks(path, bundle),
                Subject::Floor(_) => None,
            })
            .collect();
        table::print(case.title(), &subjects, rounds, &peaks);
        if let Some(most) = asked.most {
            far_out.extend(beyond(most, case.title(), &subjects, rounds));
        }
    }
    for line in &far_out {
        eprintln!("{line}");
    }
    ExitCode::from(u8::from(!far_out.is_empty()))
}

/// One case after the other in each round, all subjects of a case next to each other: what is compared is close in time.
fn rounds(count: usize, cases: &[Case], bundles: &[Room], subjects: &[Subject]) -> Vec<Vec<Vec<Round>>> {
    let mut rounds = vec![vec![Vec::new(); subjects.len()]; cases.len()];
    let mut dice = Dice::new();
    for round in 0..=count {
        for case in dice.shuffled(cases.len()) {
            for which in dice.shuffled(subjects.len()) {
                let measured = measure::round(&subjects[which], &bundles[case], cases[case].cache);
                // The first round fills caches: the page cache, and the runtimes' own.
                if round > 0 {
                    rounds[case][which].push(measured);
                }
            }
        }
    }
    rounds
}

fn beyond(most: f64, title: &str, subjects: &[Subject], rounds: &[Vec<Round>]) -> Vec<String> {
    let mut lines = Vec::new();
    for (which, subject) in subjects.iter().enumerate().skip(1) {
        let Subject::Runtime(path) = subject else { continue };
        for (op, label) in OPS.iter().enumerate() {
            let (cpu, _) = table::ratios(rounds, which, op);
            if cpu > most {
                lines.push(format!(
                    "{label}, {title}: {cpu:.2} times the CPU of {}, where {most} is far out",
                    table::name(path)
                ));
            }
        }
    }
    lines
}
