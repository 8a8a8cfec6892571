//! What a service's row says: how it is run, what it is asked, and what it says where one of the things that it needs is missing.
//! docs/RECIPES.md has the rows, word for word.

/// One thing beyond the default holes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Need {
    /// An entry of the annotation `dev.gabion.holes`.
    Hole(&'static str),
    /// A named volume: `NAME:PATH`.
    Volume(&'static str),
    /// Words for podman.
    Option(&'static [&'static str]),
    /// Lines of the policy.
    Policy(&'static str),
}

/// A question, and a part of the right answer.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Ask {
    /// The output of a command beside the service.
    Run(&'static [&'static str], &'static str),
    /// What the program itself prints.
    Prints(&'static str),
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Restricted {
    Reached,
    /// By this code: what the service needs, or is, may not be had there.
    Refused(&'static str),
    /// It starts and says this: it writes what it executes. With `JIT` in the policy it serves.
    Jit(&'static str),
}

/// What the policy says for a JIT compiler at `restricted`.
pub(crate) const JIT: &str = "[memory]\nmdwe = \"observe\"\n";

#[derive(Debug, Clone, Copy)]
pub(crate) struct Service {
    pub(crate) name: &'static str,
    pub(crate) package: &'static str,
    pub(crate) options: &'static [&'static str],
    /// Each with what is said where it is missing.
    pub(crate) needs: &'static [(Need, &'static str)],
    pub(crate) command: &'static [&'static str],
    /// In words.
    pub(crate) asked: &'static str,
    pub(crate) asks: &'static [Ask],
    /// Asked of another container with the same volume, after the first has ended.
    pub(crate) kept: &'static [Ask],
    pub(crate) restricted: Restricted,
    /// Where it writes what it does not print.
    pub(crate) log: Option<&'static str>,
}

pub(crate) const NOTHING: Service = Service {
    name: "",
    package: "",
    options: &[],
    needs: &[],
    command: &[],
    asked: "",
    asks: &[],
    kept: &[],
    restricted: Restricted::Reached,
    log: None,
};

impl Service {
    /// The same question to the same program, where it does not start as root.
    pub(crate) const fn as_user(self) -> Self {
        Self {
            restricted: Restricted::Reached,
            ..self
        }
    }

    /// The needs but for the one left out.
    pub(crate) fn needs_without(&self, missing: Option<usize>) -> impl Iterator<Item = Need> {
        let all = self.needs.iter().enumerate();
        all.filter(move |(at, _)| Some(*at) != missing)
            .map(|(_, (need, _))| *need)
    }

    /// podman's words between `run` and the image.
    pub(crate) fn podman_options(&self, missing: Option<usize>) -> Vec<String> {
        let mut words: Vec<String> = self.options.iter().map(|word| (*word).to_owned()).collect();
        let mut holes = Vec::new();
        for need in self.needs_without(missing) {
            match need {
                Need::Hole(entry) => holes.push(entry),
                Need::Volume(volume) => words.extend(["-v".to_owned(), volume.to_owned()]),
                Need::Option(option) => words.extend(option.iter().map(|word| (*word).to_owned())),
                Need::Policy(_) => {}
            }
        }
        if !holes.is_empty() {
            words.extend([
                "--annotation".to_owned(),
                format!("dev.gabion.holes={}", holes.join(" ")),
            ]);
        }
        words
    }
}
