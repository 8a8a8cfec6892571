//! `can`: may this container do this, and who says no? From what gabion decided for it; the container is not touched.

use std::io::Read;
use std::path::PathBuf;

use clap::builder::NonEmptyStringValueParser;
use gabion_common::cli::Global;
use gabion_common::cli::output::{self, Format};
use gabion_core::can::{Act, By, Denied, NotAnAct, Verdict, judge, missing};
use gabion_core::explain::calls::{may_need, needed_by};
use gabion_core::hardened::Hardened;
use gabion_core::id::ControlId;
use gabion_see::error::{Error, Result};
use gabion_see::roots;
use gabion_see::seccomp::Program;
use gabion_see::seccomp::ask::{Answer, Call, Layer, layers};
use gabion_see::state::StateView;
use serde_json::{Value, json};

use super::check;
use super::seccomp::helps;
use crate::calls::{self, Known, word};
use crate::page::Page;

/// It may not; 1 is «could not look».
const MAY_NOT: u8 = 3;

/// How much of standard input is read.
const MOST: u64 = 1 << 20;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Acts:\n  exec /tmp/x            run a program\n  write /opt/x           make or write a file\n  read /proc/kcore       read one\n  \
    open /dev/fuse         open a device\n  call unshare           a system call; with numbers for its arguments: call unshare 0x10000000\n  \
    connect 10.0.0.1:443   TCP\n  bind 80                TCP\n  cap NET_RAW            have a capability\n\n\
    Examples:\n  gabion can web exec /tmp/x\n  gabion can shop/web-0/nginx bind 80 --format json\n  gabion can --bundle ./bundle write /opt/x\n  \
    gabion can web - < acts            (an act a line)\n\n\
    Every layer that says no is named, with what takes it off. Exit code: 0 it may, 3 it may not, 1 it could not be looked at."
)]
pub(super) struct Args {
    /// Ask of a bundle that does not run yet; then no ID is given
    #[arg(short, long, value_name = "DIR")]
    bundle: Option<PathBuf>,
    /// table or json
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    format: Format,
    /// The container's id, name, or the beginning of its id; then the act
    #[arg(value_name = "ID|ACT", required = true, num_args = 1.., value_parser = NonEmptyStringValueParser::new())]
    words: Vec<String>,
}

/// One act, asked and answered.
struct Asked {
    act: String,
    verdict: Verdict,
    /// What the filters answer, of a system call.
    answers: Vec<String>,
}

impl Args {
    pub(super) fn run(self, global: &Global) -> Result<u8> {
        let (name, hardened, words) = if let Some(bundle) = &self.bundle {
            let hardened = check::hardened(bundle, global)?;
            (bundle.display().to_string(), hardened, self.words.as_slice())
        } else {
            let Some((id, words)) = self.words.split_first() else {
                return Err(Error::Usage("which container?".to_owned()));
            };
            let (name, hardened) = running(id, global)?;
            (name, hardened, words)
        };
        let acts = match words {
            [one] if one == "-" => lines()?,
            words => vec![words.to_vec()],
        };
        let mut asked = Vec::new();
        for words in acts {
            asked.push(ask(&hardened, &words)?);
        }
        match (self.format, asked.as_slice()) {
            (Format::Json, [one]) => output::print_json(&as_json(one))?,
            (Format::Json, all) => output::print_json(&all.iter().map(as_json).collect::<Vec<_>>())?,
            (Format::Table, all) => {
                let page = Page::of_stdout();
                let texts: Vec<String> = all.iter().map(|one| as_text(&name, one, &page)).collect();
                output::print(&texts.join("\n"))?;
            }
        }
        Ok(if asked.iter().all(|one| one.verdict.may()) {
            0
        } else {
            MAY_NOT
        })
    }
}

/// What was decided for a container that there is.
fn running(id: &str, global: &Global) -> Result<(String, Hardened)> {
    let settings = global.settings();
    let roots = match &global.root {
        Some(root) => vec![root.clone()],
        None => roots::all(&settings.root),
    };
    let (root, id) = roots::find(&roots, id)?;
    let record = StateView::open(&root, &id)?.record()?.clone();
    Ok((id.to_string(), record.hardened))
}

fn lines() -> Result<Vec<Vec<String>>> {
    let mut text = String::new();
    let stdin = std::io::stdin().lock();
    stdin
        .take(MOST)
        .read_to_string(&mut text)
        .map_err(Error::file("read", "stdin"))?;
    let acts = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    Ok(acts
        .map(|line| line.split_whitespace().map(str::to_owned).collect())
        .collect())
}

fn ask(hardened: &Hardened, words: &[String]) -> Result<Asked> {
    let act = Act::parse(words).map_err(|NotAnAct(why)| Error::Usage(why))?;
    let mut asked = Asked {
        act: words.join(" "),
        verdict: judge(hardened, &act),
        answers: Vec::new(),
    };
    if let Act::Call { name, args } = &act {
        call(hardened, name, *args, &mut asked)?;
    }
    labels(hardened, &act, &mut asked.verdict);
    Ok(asked)
}

/// Asks the filters themselves, and then for the capability that the kernel wants beside them.
fn call(hardened: &Hardened, name: &str, args: Option<[u64; 6]>, asked: &mut Asked) -> Result<()> {
    let known = calls::find(name).ok_or_else(|| {
        Error::Usage(format!(
            "no call {name:?} is known; `gabion explain {name}` may say what was meant"
        ))
    })?;
    let filters = layers(hardened)?;
    let variants = match args {
        Some(args) => vec![("as given".to_owned(), known.with(args))],
        None => known.asked(),
    };
    let mut refused = 0;
    let mut answers = Vec::new();
    for (words, call) in &variants {
        let (layer, answer) = strictest(&filters, call);
        refused += usize::from(answer != Answer::Allow);
        let by = if answer == Answer::Allow { "" } else { name_of(layer) };
        answers.push((
            words.as_str(),
            format!("{} {by}", self::word(answer)).trim_end().to_owned(),
        ));
    }
    // One answer to all is said once.
    match answers.first() {
        Some((_, first)) if answers.len() > 1 && answers.iter().all(|(_, answer)| answer == first) => {
            asked
                .answers
                .push(format!("with each argument that was asked about: {first}"));
        }
        _ => asked
            .answers
            .extend(answers.iter().map(|(words, answer)| format!("{words}: {answer}"))),
    }
    // Where only some arguments are refused, it depends on them: the answers say on which.
    if refused == variants.len() {
        for (layer, program) in &filters {
            let all = variants.iter().all(|(_, call)| program.answer(call) != Answer::Allow);
            if all {
                asked.verdict.denied.push(denied(*layer, &known));
            }
        }
        if asked.verdict.denied.is_empty() {
            let (layer, _) = filters
                .first()
                .map_or((Layer::Default, Answer::Allow), |(layer, _)| (*layer, Answer::Allow));
            asked.verdict.denied.push(denied(layer, &known));
        }
    } else if refused > 0 {
        asked.verdict.also.push("its arguments, as said above".to_owned());
    }
    if let Some(needed) = needed_by(name) {
        missing(hardened, needed, &mut asked.verdict);
    }
    if let Some(needed) = may_need(name) {
        let mut verdict = Verdict::default();
        missing(hardened, needed, &mut verdict);
        if !verdict.may() {
            let what =
                format!("the kernel: some arguments, or the host's settings, ask for CAP_{needed}, which it has not");
            asked.verdict.also.push(what);
        }
    }
    Ok(())
}

/// The filter that is heard, and its answer: the kernel takes the strictest.
fn strictest(filters: &[(Layer, Program)], call: &Call) -> (Layer, Answer) {
    const fn rank(answer: Answer) -> u8 {
        match answer {
            Answer::Kill => 4,
            Answer::Trap => 3,
            Answer::Errno(_) => 2,
            Answer::Supervisor => 1,
            Answer::Allow => 0,
        }
    }
    let answers = filters.iter().map(|(layer, program)| (*layer, program.answer(call)));
    answers
        .max_by_key(|(_, answer)| rank(*answer))
        .unwrap_or((Layer::Default, Answer::Allow))
}

const fn name_of(layer: Layer) -> &'static str {
    match layer {
        Layer::Default => "(gabion's default profile)",
        Layer::Floor => "(gabion's floor)",
        Layer::Profile => "(the spec's own profile)",
        Layer::Memory => "(the rules of memory)",
    }
}

fn denied(layer: Layer, known: &Known) -> Denied {
    let (by, loosen) = match layer {
        Layer::Default | Layer::Floor => (By::Control(ControlId::Seccomp), helps(known)),
        Layer::Memory => (
            By::Control(ControlId::Memory),
            "[memory] memfd, ptrace, shm_exec or mdwe = \"observe\", by an exception for that container".to_owned(),
        ),
        Layer::Profile => (
            By::Spec,
            "a profile of the spec's that allows it (securityContext.seccompProfile, --security-opt seccomp=FILE)"
                .to_owned(),
        ),
    };
    Denied {
        by,
        what: format!("{} is refused by a filter {}", known.name, name_of(layer)),
        loosen,
    }
}

/// A security module has a policy of its own, which is not gabion's to simulate.
fn labels(hardened: &Hardened, act: &Act, verdict: &mut Verdict) {
    let labelled = hardened
        .labels()
        .is_some_and(|labels| labels.apparmor.is_some() || labels.selinux.is_some());
    if labelled && !matches!(act, Act::Cap(_)) {
        verdict
            .also
            .push("the container's AppArmor profile or SELinux label (`gabion apparmor show`)".to_owned());
    }
}

fn by(denied: &Denied) -> String {
    match denied.by {
        By::Control(id) => id.to_string(),
        By::Spec => "the spec".to_owned(),
    }
}

fn as_json(asked: &Asked) -> Value {
    let denied = asked.verdict.denied.iter();
    let denied: Vec<Value> = denied
        .map(|denied| {
            let control = match denied.by {
                By::Control(id) => Value::from(id.as_str()),
                By::Spec => Value::Null,
            };
            json!({"control": control, "what": denied.what, "loosen": denied.loosen})
        })
        .collect();
    json!({
        "act": asked.act,
        "may": asked.verdict.may(),
        "denied": denied,
        "loosen": asked.verdict.loosenings(),
        "answers": asked.answers,
        "also": asked.verdict.also,
    })
}

fn as_text(name: &str, asked: &Asked, page: &Page) -> String {
    let outcome = if asked.verdict.may() { "may" } else { "MAY NOT" };
    let mut text = output::clean(&format!("{name}: {outcome} {}\n", asked.act));
    for denied in &asked.verdict.denied {
        text.push_str(&format!("  {:<14}", by(denied)));
        page.fill(&mut text, 16, &denied.what);
    }
    for answer in &asked.answers {
        text.push_str(&format!("  {:<14}{answer}\n", "filters"));
    }
    for loosen in asked.verdict.loosenings() {
        text.push_str(&format!("  {:<14}", "what helps"));
        page.fill(&mut text, 16, loosen);
    }
    if !asked.verdict.also.is_empty() {
        text.push_str(&format!("  {:<14}", "also decides"));
        page.fill(&mut text, 16, &asked.verdict.also.join("; "));
    }
    text
}
