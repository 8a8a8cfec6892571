//! Asks an engine's program for its version.

use std::time::Duration;

use gabion_core::doctor::node::{Program, Seen};

use crate::ask;

/// How long a program may take: engines answer in a tenth of a second.
const PATIENCE: Duration = Duration::from_secs(10);

/// How much of an answer is read.
const LARGEST: usize = 4096;

/// Gives what `PROGRAM --version` prints. A program that others than root can exchange is not run.
pub(super) fn ask(program: &Program) -> Seen<String> {
    let shown = program.path.display();
    if program.owned.uid != 0 || program.owned.mode & 0o022 != 0 {
        return Seen::Unknown(format!("{shown} can be exchanged by others than root, and is not run"));
    }
    match ask::ask(&program.path, &["--version"], PATIENCE, LARGEST) {
        Ok(text) if text.trim().is_empty() => Seen::Unknown(format!("{shown} --version says nothing")),
        Ok(text) => Seen::Is(text),
        Err(error) => Seen::Unknown(format!("{shown} --version: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gabion_core::doctor::node::Owned;

    #[test]
    fn a_program_answers_or_the_reason_is_said() {
        let program = |path: &str, mode: u32| Program {
            path: path.into(),
            owned: Owned { uid: 0, mode },
        };
        let said = ask(&program("/bin/echo", 0o755));
        assert!(matches!(&said, Seen::Is(said) if !said.trim().is_empty()), "{said:?}");
        let why = |program: &Program| match ask(program) {
            Seen::Unknown(why) => why,
            other => panic!("{other:?}"),
        };
        assert!(why(&program("/bin/echo", 0o775)).contains("not run"));
        assert!(why(&program("/nowhere/program", 0o755)).contains("--version: "));
    }
}
