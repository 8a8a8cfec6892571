//! `probe ACT [ARG] [ACT=ARG]…` makes each act once and prints what the kernel answered, one line each:
//! `ACT: ok [details]` or `ACT: ERRNO at STEP`. Exit 0 in both cases, 2 for an act it does not know:
//! a test that finds «command not found» must never take it for a denial.
//!
//! It is linked statically so that it runs in a root file system that holds nothing else.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::unnecessary_wraps,
    reason = "system calls are made with raw words, and every act has the table's one signature"
)]

mod acts;
mod errno;
mod sys;
mod without;

use acts::{Act, Answer, find};

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.is_empty() {
        acts::print_all();
        std::process::exit(2);
    }
    if words[0] == "--without" {
        without::become_program(&words[1..]);
    }
    match parse(&words) {
        Ok(calls) => calls.iter().for_each(|(act, arg)| run(act, arg.as_deref())),
        Err(word) => {
            eprintln!("probe: no act is called {word}");
            std::process::exit(2);
        }
    }
}

/// Acts are checked before the first is made: half a run is worse than none.
fn parse(words: &[String]) -> Result<Vec<(&'static Act, Option<String>)>, String> {
    let mut calls: Vec<(&'static Act, Option<String>)> = Vec::new();
    for word in words {
        let (name, arg) = match word.split_once('=') {
            Some((name, arg)) => (name, Some(arg.to_owned())),
            None => (word.as_str(), None),
        };
        match (find(name), calls.last_mut()) {
            (Some(act), _) => calls.push((act, arg)),
            // `probe write-file /usr/x`: a word after an act that wants an argument and has none.
            (None, Some((act, missing @ None))) if act.takes_arg => *missing = Some(word.clone()),
            _ => return Err(word.clone()),
        }
    }
    Ok(calls)
}

fn run(act: &Act, arg: Option<&str>) {
    let label = arg.map_or_else(|| act.name.to_owned(), |arg| format!("{}={arg}", act.name));
    let answer: Answer = (act.run)(arg.unwrap_or_default());
    match answer {
        Ok(details) if details.is_empty() => println!("{label}: ok"),
        Ok(details) => println!("{label}: ok {details}"),
        Err(fail) => println!("{label}: {} at {}", errno::name(fail.errno), fail.at),
    }
}

/// One command line from `serve`, split at blanks; answers are printed as for the program's arguments.
fn run_line(line: &str) {
    let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    match parse(&words) {
        Ok(calls) => calls.iter().for_each(|(act, arg)| run(act, arg.as_deref())),
        Err(word) => println!("{word}: unknown"),
    }
}
