//! The chain under writers, crashes and forgers.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::*;
use gabion_core::caller::OwnUserNs;
use gabion_core::id::ControlId;
use gabion_core::policy::{AuditPolicy, Level};
use gabion_core::request::{Caller, PodType};
use gabion_see::audit::keeping::Owners;
use gabion_see::audit::record::{Changed, Differs, How, Line, Pod, Program, To};
use gabion_see::audit::verify::{self, Fault, Remembered, Whole};
use gabion_see::named::{Engine, InPod, Named};

struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("gabion-audit-{}-{name}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)).unwrap();
        Self(dir)
    }

    fn log(&self) -> PathBuf {
        self.0.join("audit.jsonl")
    }

    fn lines(&self) -> Vec<String> {
        fs::read_to_string(self.log())
            .unwrap()
            .lines()
            .map(str::to_owned)
            .collect()
    }

    fn head(&self) -> PathBuf {
        self.0.join(".audit.jsonl.head")
    }

    /// Takes the head away.
    fn forget(&self) {
        fs::remove_file(self.head()).unwrap();
    }

    fn write(&self, lines: &[String]) {
        fs::write(self.log(), lines.join("\n") + "\n").unwrap();
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

fn subject() -> Subject {
    Subject {
        id: "web".to_owned(),
        level: Level::Hardened,
        policy: "p".to_owned(),
        caller: Caller::Cri,
        pod: Some(Pod {
            namespace: "ns".into(),
            name: "web-0".into(),
            typ: PodType::Container,
        }),
        exceptions: vec!["because".to_owned()],
        named: Some(Named {
            engine: Engine::Kubernetes,
            name: Some("ns/web-0/web".into()),
            image: Some("docker.io/library/nginx:1".into()),
            pod: Some(InPod {
                namespace: "ns".into(),
                pod: "web-0".into(),
                container: Some("web".into()),
            }),
        }),
    }
}

fn trail(file: PathBuf) -> Trail {
    Trail {
        file: Some(file),
        on_failure: OnFailure::Refuse,
        args: ArgsRule::Keep,
        subject: subject(),
        keeping: Keeping::default(),
        policy: PolicyIs::Kept,
    }
}

/// Appends, in files of so many bytes.
fn add(at: &File, dir: &Dir, max_size: u64, events: &[Event]) {
    let keeping = Keeping {
        max_size,
        ..Keeping::default()
    };
    append(at, dir, &keeping, events).unwrap();
}

fn append(
    at: &File,
    dir: &Dir,
    keeping: &Keeping,
    events: &[Event],
) -> std::result::Result<verify::Head, place::Trouble> {
    let path = dir.log();
    let log = chain::Log {
        path: &path,
        keeping,
        owners: chain::Ownership::Leave,
    };
    chain::append_in(at, log, &subject(), events)
}

/// The chain alone, or with a hash that somebody has.
fn verify(log: &Path, hash: Option<&str>) -> std::result::Result<std::result::Result<Whole, Fault>, place::Trouble> {
    let remembered: Vec<Remembered> = hash
        .map(|hash| Remembered {
            by: "somebody".to_owned(),
            seq: None,
            hash: hash.to_owned(),
        })
        .into_iter()
        .collect();
    verify::verify(log, &remembered, 0)
}

fn filled(dir: &Dir, records: usize) {
    for _ in 0..records {
        trail(dir.log()).before(&[Event::Start {}]).unwrap();
    }
}

fn holds(dir: &Dir) -> Whole {
    verify(&dir.log(), None).unwrap().unwrap()
}

fn fault(dir: &Dir) -> String {
    verify(&dir.log(), None).unwrap().unwrap_err().to_string()
}

#[test]
fn a_chain_grows_and_holds() {
    let dir = Dir::new("grows");
    filled(&dir, 3);
    let whole = holds(&dir);
    assert_eq!((whole.records, whole.first), (3, Some(1)));
    let head = whole.head.unwrap();
    assert_eq!(verify::head(&dir.log()).unwrap().unwrap(), head);
    assert_eq!(fs::metadata(dir.log()).unwrap().permissions().mode() & 0o777, 0o600);
    filled(&dir, 1);
    let anchored = verify(&dir.log(), Some(&head.hash)).unwrap().unwrap();
    assert_eq!(anchored.matched["somebody"], (1, 3));
    assert!(verify(&dir.log(), Some(&"0".repeat(64))).unwrap().is_err());
}

#[test]
fn what_is_changed_dropped_or_moved_is_named() {
    let dir = Dir::new("forged");
    filled(&dir, 5);
    let good = dir.lines();
    let mut changed = good.clone();
    changed[2] = changed[2].replace("\"web\"", "\"wob\"");
    dir.write(&changed);
    assert!(
        fault(&dir).contains(":4: record 4 does not follow record 3"),
        "{}",
        fault(&dir)
    );
    let mut dropped = good.clone();
    dropped.remove(1);
    dir.write(&dropped);
    assert!(fault(&dir).contains(":2: record 3 does not follow record 1"));
    let mut moved = good.clone();
    moved.swap(1, 2);
    dir.write(&moved);
    assert!(fault(&dir).contains(":2: record 3 does not follow record 1"));
    let mut garbage = good.clone();
    garbage[3] = "{}".to_owned();
    dir.write(&garbage);
    assert!(fault(&dir).contains(":4: this is not a record"));
    // A cut tail holds by itself; an anchor shows it.
    dir.write(&good[..3]);
    assert_eq!(holds(&dir).records, 3);
    let last = gabion_core::digest::sha256_hex(good[4].as_bytes());
    let why = verify(&dir.log(), Some(&last)).unwrap().unwrap_err().why;
    assert!(why.contains("changed or cut off"), "{why}");
}

#[test]
fn a_torn_line_is_told_and_the_chain_goes_on() {
    let dir = Dir::new("torn");
    filled(&dir, 2);
    let whole = fs::read(dir.log()).unwrap();
    // As a writer leaves it that died in the middle: the head is the one before.
    fs::write(dir.log(), &whole[..whole.len() - 40]).unwrap();
    dir.forget();
    assert!(holds(&dir).notes[0].contains("the last line is torn"));
    filled(&dir, 1);
    let checked = holds(&dir);
    assert_eq!((checked.records, checked.head.unwrap().seq), (3, 3));
    assert!(checked.notes[0].contains("as record 2 says"), "{:?}", checked.notes);
    // The torn bytes are bound too.
    let text = fs::read_to_string(dir.log()).unwrap().replacen("web", "wob", 2);
    fs::write(dir.log(), text).unwrap();
    assert!(fault(&dir).contains("this is not a record") || fault(&dir).contains("does not follow"));
}

#[test]
fn whole_lines_that_are_no_records_are_a_fault_for_ever() {
    let dir = Dir::new("damaged");
    filled(&dir, 2);
    let mut lines = dir.lines();
    lines.push("hello".to_owned());
    dir.write(&lines);
    filled(&dir, 1);
    assert!(dir.lines()[3].contains("\"damaged\""));
    assert!(fault(&dir).contains(":3: this is not a record"));
}

#[test]
fn a_log_of_nothing_but_noise_begins_again() {
    let dir = Dir::new("noise");
    fs::write(dir.log(), "noise").unwrap();
    filled(&dir, 1);
    assert!(dir.lines()[1].contains("\"seq\":1"));
    assert_eq!(holds(&dir).notes.len(), 1);
}

#[test]
fn rotation_keeps_the_chain() {
    let dir = Dir::new("rotate");
    let at = File::open(&dir.0).unwrap();
    for _ in 0..60 {
        add(&at, &dir, 2000, &[Event::Start {}]);
    }
    let whole = holds(&dir);
    let head = whole.head.unwrap();
    assert_eq!(head.seq, 60);
    assert!(
        whole.first.unwrap() > 1 && whole.notes[0].contains("rotated away"),
        "{:?}",
        whole.notes
    );
    let mut names: Vec<String> = fs::read_dir(&dir.0)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .filter(|name| Path::new(name).extension().is_none_or(|end| end != "head"))
        .collect();
    names.sort();
    assert_eq!(names.len(), 6, "{names:?}");
    assert!(
        names
            .iter()
            .all(|name| fs::metadata(dir.0.join(name)).unwrap().len() <= 2000)
    );
    // A writer that died between its two steps: the full file is there twice.
    let numbered = |n: u32| dir.0.join(format!("audit.jsonl.{n}"));
    for n in (1..5).rev() {
        fs::rename(numbered(n), numbered(n + 1)).unwrap();
    }
    fs::hard_link(dir.log(), numbered(1)).unwrap();
    assert_eq!(holds(&dir).head.unwrap().seq, 60);
    for _ in 0..10 {
        add(&at, &dir, 2000, &[Event::Start {}]);
    }
    assert_eq!(holds(&dir).head.unwrap().seq, 70);
}

#[test]
fn a_torn_line_before_a_rotation_is_explained_in_the_next_file() {
    let dir = Dir::new("torn-rotate");
    let at = File::open(&dir.0).unwrap();
    filled(&dir, 3);
    let whole = fs::read(dir.log()).unwrap();
    fs::write(dir.log(), &whole[..whole.len() - 9]).unwrap();
    dir.forget();
    add(&at, &dir, 100, &[Event::Start {}]);
    let checked = holds(&dir);
    assert_eq!((checked.records, checked.notes.len()), (4, 1), "{checked:?}");
}

#[test]
fn many_writers_keep_one_chain() {
    let dir = Dir::new("many");
    let at = File::open(&dir.0).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..25 {
                    add(&at, &dir, 40_000, &[Event::Start {}, Event::Start {}]);
                }
            });
        }
    });
    let whole = holds(&dir);
    assert_eq!((whole.records, whole.head.unwrap().seq), (400, 400));
}

#[test]
fn places_that_others_could_write_to_are_not_trusted() {
    let dir = Dir::new("trust");
    symlink("elsewhere", dir.log()).unwrap();
    let refuse = |words: &str| {
        let text = trail(dir.log()).before(&[Event::Start {}]).unwrap_err().to_string();
        assert!(
            text.starts_with("refused [audit.unwritable]: the audit log: ") && text.contains(words),
            "{text}"
        );
    };
    refuse("ELOOP");
    fs::remove_file(dir.log()).unwrap();
    fs::write(dir.log(), "").unwrap();
    fs::set_permissions(dir.log(), fs::Permissions::from_mode(0o666)).unwrap();
    refuse("others can write to it (mode 0666)");
    fs::set_permissions(dir.log(), fs::Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(&dir.0, fs::Permissions::from_mode(0o777)).unwrap();
    refuse("others can write to it (mode 0777)");
    fs::set_permissions(&dir.0, fs::Permissions::from_mode(0o700)).unwrap();
    fs::remove_file(dir.log()).unwrap();
    nix::unistd::mkfifo(
        &dir.log(),
        nix::sys::stat::Mode::S_IRUSR | nix::sys::stat::Mode::S_IWUSR,
    )
    .unwrap();
    refuse("not a regular file");
    let mut open = trail("/proc/no/such/place/audit.jsonl".into());
    open.on_failure = OnFailure::Warn;
    open.before(&[Event::Start {}]).unwrap();
}

#[test]
fn what_fails_without_a_log_is_by_level() {
    let audit = |on_failure| AuditPolicy {
        on_failure,
        ..AuditPolicy::default()
    };
    for (said, level, want) in [
        (None, Level::Permissive, OnFailure::Warn),
        (None, Level::Hardened, OnFailure::Warn),
        (None, Level::Restricted, OnFailure::Refuse),
        (Some(OnFailure::Warn), Level::Restricted, OnFailure::Warn),
        (Some(OnFailure::Refuse), Level::Permissive, OnFailure::Refuse),
    ] {
        assert_eq!(audit(said).on_failure(level), want);
    }
    let root = Reader {
        euid: 0,
        user_ns: OwnUserNs::Initial,
    };
    assert_eq!(
        place::file(&audit(None), root).unwrap(),
        std::path::Path::new(place::SYSTEM)
    );
}

fn program() -> Program {
    let process = gabion_core::testing::process(json!({
        "args": ["curl", "-H", "Authorization: Bearer hunter2"], "env": ["PATH=/bin", "TOKEN=hunter2"], "cwd": "/",
        "user": {"uid": 7, "gid": 8}, "terminal": true
    }));
    Program::of(&process, ArgsRule::Redact)
}

/// One of each, with every field there.
fn samples() -> Vec<Event> {
    let changes = vec![Changed {
        control: ControlId::Mounts,
        verdict: "would refuse",
        path: "mounts./x".into(),
        from: Some("a".into()),
        to: Some("b".into()),
        reason: "why".into(),
        code: Some("mounts.host-path".into()),
    }];
    let differs = vec![Differs {
        control: ControlId::Rootfs,
        expected: "/ ro".into(),
        observed: "/ rw".into(),
    }];
    let (bytes, sha256) = (3, "x".to_owned());
    vec![
        Event::Create {
            bundle: "/b".into(),
            process: Some(program()),
            changes: changes.clone(),
        },
        Event::Refusal {
            of: Action::Create,
            codes: vec!["c".into()],
            message: "m".into(),
            changes: changes.clone(),
        },
        Event::exception("r"),
        Event::Start {},
        Event::Exec {
            process: program(),
            changes: changes.clone(),
            repeats: 2,
        },
        Event::Update {
            limits: json!({}),
            changes,
        },
        Event::Pause {},
        Event::Resume {},
        Event::Kill { signal: 9, to: To::All },
        Event::Delete {
            how: How::Forced,
            repeats: 3,
        },
        Event::Attest {
            differs,
            act: Some("kill"),
        },
        Event::Failure {
            of: Action::Start,
            code: "c".into(),
            message: "m".into(),
        },
        Event::Torn {
            bytes,
            sha256: sha256.clone(),
        },
        Event::Damaged {
            bytes,
            sha256: sha256.clone(),
        },
        Event::Lost {
            expected: 3,
            sha256,
            found: 2,
            booted: false,
        },
    ]
}

fn line(event: &Event, subject: Option<&Subject>) -> Value {
    let line = Line {
        v: 1,
        seq: 1,
        time: "t",
        boot: "b",
        prev: "p",
        uid: 0,
        event,
        subject,
    };
    serde_json::to_value(line).unwrap()
}

/// `create process.args`: the event and the way to the key. Keys of every record have no event.
fn keys(prefix: &str, value: &Value, found: &mut BTreeSet<String>) {
    for (key, value) in value.as_object().into_iter().flatten() {
        let path = format!("{prefix}{key}");
        let inner = value.as_array().and_then(|a| a.first()).unwrap_or(value);
        keys(&format!("{path}."), inner, found);
        found.insert(path);
    }
}

/// The first two columns of docs/AUDIT.md's table: event (or `every`, `container`) and key.
fn documented() -> BTreeSet<String> {
    let text = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/AUDIT.md")).unwrap();
    let row = |line: &str| {
        let mut cells = line.strip_prefix("| `")?.split('|');
        let event = cells.next()?.trim().trim_end_matches('`').to_owned();
        let names = cells.next()?.replace('`', "");
        Some(
            names
                .split(", ")
                .map(|key| format!("{event} {}", key.trim()))
                .collect::<Vec<_>>(),
        )
    };
    text.lines().filter_map(row).flatten().collect()
}

#[test]
fn the_schema_is_the_documented_one() {
    let mut seen = BTreeSet::new();
    let base: Value = line(&Event::Start {}, Some(&subject()));
    for event in samples() {
        let value = line(&event, Some(&subject()));
        let name = value["event"].as_str().unwrap().to_owned();
        let mut found = BTreeSet::new();
        keys("", &value, &mut found);
        let own: Vec<&String> = found
            .iter()
            .filter(|key| base.pointer(&format!("/{}", key.replace('.', "/"))).is_none())
            .collect();
        if own.is_empty() {
            seen.insert(format!("{name} –"));
        }
        seen.extend(own.into_iter().map(|key| format!("{name} {key}")));
    }
    let mut of_container = BTreeSet::new();
    keys("", &serde_json::to_value(subject()).unwrap(), &mut of_container);
    let mut every = BTreeSet::new();
    keys("", &line(&Event::Start {}, None), &mut every);
    seen.extend(every.iter().map(|key| format!("every {key}")));
    let of_cut = ["cut", "cut.entries", "cut.characters"];
    seen.extend(of_cut.map(|key| format!("every {key}")));
    seen.extend(of_container.iter().map(|key| format!("container {key}")));
    let documented = documented();
    let missing: Vec<_> = seen.difference(&documented).collect();
    let stale: Vec<_> = documented.difference(&seen).collect();
    assert!(
        missing.is_empty() && stale.is_empty(),
        "not in docs/AUDIT.md: {missing:?}; only there: {stale:?}"
    );
}

/// The largest records that there can be: every text as long as it may be, of characters that JSON writes with six bytes; thousands of each thing.
fn largest() -> Vec<Event> {
    let text = "\u{1}".repeat(2000);
    let long = record::short(&text);
    let changed = Changed {
        control: ControlId::Mounts,
        verdict: "refused",
        path: long.clone(),
        from: Some(long.clone()),
        to: Some(long.clone()),
        reason: long.clone(),
        code: Some("mounts.hostpath".to_owned()),
    };
    let process = Program {
        args: vec![long.clone(); record::MANY],
        env: vec![long.clone(); 400],
        cwd: long.clone(),
        ..program()
    };
    let changes = vec![changed; 300];
    let unified: serde_json::Map<String, Value> = (0..500)
        .map(|i| (format!("{}{i}", "\u{1}".repeat(30 + i % 40)), json!(text)))
        .collect();
    vec![
        Event::Create {
            bundle: long.clone(),
            process: Some(process.clone()),
            changes: changes.clone(),
        },
        Event::Refusal {
            of: Action::Create,
            codes: vec!["mounts.hostpath".to_owned(); 4096],
            message: long.clone(),
            changes: changes.clone(),
        },
        Event::Exec {
            process,
            changes: changes.clone(),
            repeats: u64::MAX,
        },
        Event::Update {
            limits: json!({ "unified": unified, "devices": vec![json!({"type": text}); 500] }),
            changes,
        },
        Event::Attest {
            differs: vec![
                Differs {
                    control: ControlId::Cgroup,
                    expected: long.clone(),
                    observed: long.clone(),
                };
                300
            ],
            act: None,
        },
        Event::Failure {
            of: Action::Start,
            code: "seccomp".into(),
            message: long,
        },
    ]
}

#[test]
fn no_record_is_larger_than_its_bound_and_each_says_what_was_cut() {
    let dir = Dir::new("bounded");
    let mut trail = trail(dir.log());
    let long = record::short(&"\u{1}".repeat(2000));
    trail.subject.id = "i".repeat(1024);
    trail.subject.pod = Some(Pod {
        namespace: long.clone(),
        name: long.clone(),
        typ: PodType::Container,
    });
    trail.subject.exceptions = vec![long; 500];
    // Those speak of lines that are not there.
    let of_the_log = |event: &Event| matches!(event, Event::Torn { .. } | Event::Damaged { .. } | Event::Lost { .. });
    let samples: Vec<Event> = samples().into_iter().filter(|event| !of_the_log(event)).collect();
    let count = samples.len();
    for event in samples.into_iter().chain(largest()) {
        trail.before(&[event]).unwrap();
    }
    let lines = dir.lines();
    for line in &lines {
        assert!(line.len() <= 16 << 10, "{} bytes: {}", line.len(), &line[..200]);
        let record: Value = serde_json::from_str(line).unwrap();
        assert_eq!(record["id"], "i".repeat(1024));
        let left = record["exceptions"].as_array().unwrap().len();
        assert_eq!(record["cut"]["entries"]["exceptions"], 500 - left, "{}", record["cut"]);
    }
    let refusal: Value = serde_json::from_str(&lines[count + 1]).unwrap();
    let (kept, cut) = (refusal["codes"].as_array().unwrap().len(), &refusal["cut"]);
    assert_eq!(cut["entries"]["codes"], 4096 - kept);
    let texts = cut["characters"].as_u64().unwrap();
    assert_eq!(refusal["message"].as_str().unwrap().chars().count() as u64, texts + 1);
    assert_eq!(holds(&dir).records, lines.len() as u64);
}

/// As much as fits is written, and no more is cut than has to be.
#[test]
fn what_fits_is_written_whole() {
    let dir = Dir::new("fits");
    let codes = |count: usize| Event::Refusal {
        of: Action::Create,
        codes: vec!["c".to_owned(); count],
        message: record::short(&"m".repeat(600)),
        changes: Vec::new(),
    };
    let trail = trail(dir.log());
    trail.before(&[codes(100), codes(101)]).unwrap();
    let [whole, cut] = [0, 1].map(|i| serde_json::from_str::<Value>(&dir.lines()[i]).unwrap());
    assert_eq!(
        (whole["codes"].as_array().unwrap().len(), whole.get("cut")),
        (100, None)
    );
    assert_eq!(cut["cut"], json!({ "entries": { "codes": 1 } }));
    assert_eq!(
        cut["message"], whole["message"],
        "a text that was cut once is not cut again"
    );
}

#[test]
fn secrets_stay_out() {
    let text = serde_json::to_string(&program()).unwrap();
    assert!(!text.contains("hunter2"), "{text}");
    assert!(
        text.contains("TOKEN") && text.contains("\"args\":[\"curl\"],\"args_left_out\":2"),
        "{text}"
    );
    let long = record::short(&"ä".repeat(1000));
    assert_eq!(long.chars().count(), 513);
}

#[test]
fn a_trail_is_found_again_and_only_where_nobody_else_could_have_put_it() {
    let dir = Dir::new("kept");
    fs::create_dir(dir.0.join("web")).unwrap();
    fs::set_permissions(dir.0.join("web"), fs::Permissions::from_mode(0o700)).unwrap();
    let open = || gabion_see::state::StateView::open(&dir.0, &"web".parse().unwrap());
    let state = open().unwrap();
    assert_eq!(Trail::load(&state).unwrap(), None);
    let trail = trail(dir.log());
    trail.save(&state).unwrap();
    assert_eq!(Trail::load(&state).unwrap(), Some(trail));
    let file = dir.0.join("web/audit.json");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
    assert!(Trail::load(&state).is_err(), "others can write to it");
    fs::remove_file(&file).unwrap();
    nix::unistd::mkfifo(&file, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(Trail::load(&state).is_err(), "a FIFO does not hang it");
    fs::set_permissions(dir.0.join("web"), fs::Permissions::from_mode(0o777)).unwrap();
    assert!(open().is_err(), "others can write to its directory");
}

/// What the newest record says, where it tells of a loss.
fn lost(dir: &Dir) -> Option<Value> {
    let lines = dir.lines();
    let mut all = lines
        .iter()
        .map(|line| serde_json::from_str::<Value>(line).unwrap_or_default());
    all.rfind(|record| record["event"] == "lost")
}

fn told(dir: &Dir) -> String {
    filled(dir, 1);
    let why = fault(dir);
    // Once, and the next record follows the new head.
    let count = dir.lines().len();
    filled(dir, 1);
    assert_eq!(dir.lines().len(), count + 1);
    why
}

#[test]
fn a_log_that_was_cut_replaced_or_removed_says_so_itself() {
    let dir = Dir::new("cut");
    filled(&dir, 5);
    let good = dir.lines();
    // The newest records are cut off.
    dir.write(&good[..3]);
    assert!(told(&dir).contains("it had ended with record 5, and ended with 3 then"));
    let record = lost(&dir).unwrap();
    assert_eq!(
        (&record["expected"], &record["found"], &record["booted"]),
        (&json!(5), &json!(3), &json!(false))
    );
    assert_eq!(record["sha256"], gabion_core::digest::sha256_hex(good[4].as_bytes()));
    assert_eq!(record["id"], Value::Null);
    // What is known is no news: only what comes after it.
    let known = record["seq"].as_u64().unwrap();
    let whole = verify::verify(&dir.log(), &[], known).unwrap().unwrap();
    assert!(
        whole.notes.iter().any(|note| note.ends_with("(known)")),
        "{:?}",
        whole.notes
    );
    // Removed.
    fs::remove_file(dir.log()).unwrap();
    assert!(told(&dir).contains("the log was gone: it had ended with record 6"));
    // Emptied.
    fs::write(dir.log(), "").unwrap();
    assert!(told(&dir).contains("the log was gone"));
    // Another log in its place, as long as it was, and longer: whole in itself.
    for more in [0, 5] {
        let count = holds_but_for_losses(&dir);
        let other = Dir::new("other");
        filled(&other, usize::try_from(count).unwrap() + more);
        fs::copy(other.log(), dir.log()).unwrap();
        fs::set_permissions(dir.log(), fs::Permissions::from_mode(0o600)).unwrap();
        assert!(told(&dir).contains("cut or exchanged"), "{more}");
    }
    // The head itself.
    fs::write(dir.head(), "gabion-audit-head-1 7 nonsense").unwrap();
    assert!(
        told(&dir).contains("cut or exchanged"),
        "the first loss is the one that is named"
    );
    assert_eq!(lost(&dir).unwrap()["expected"], 0);
    assert_eq!(
        fs::metadata(dir.head()).unwrap().len(),
        gabion_see::audit::head::LENGTH as u64
    );
}

fn holds_but_for_losses(dir: &Dir) -> u64 {
    let whole = verify::verify(&dir.log(), &[], u64::MAX).unwrap().unwrap();
    whole.head.unwrap().seq
}

#[test]
fn a_writer_that_dies_before_it_writes_the_head_is_no_alarm_and_hides_nothing() {
    let dir = Dir::new("died");
    let at = File::open(&dir.0).unwrap();
    let died = |max: u64, events: usize| {
        let before = fs::read(dir.head()).unwrap();
        add(&at, &dir, max, &vec![Event::Start {}; events]);
        fs::write(dir.head(), before).unwrap();
    };
    filled(&dir, 2);
    died(1 << 20, 1);
    died(1 << 20, 300);
    filled(&dir, 1);
    // At a rotation: what follows the head is the new file's first.
    died(1000, 1);
    filled(&dir, 1);
    assert_eq!(lost(&dir), None);
    // And two of them at rotations: it is the first of the file before.
    let before = fs::read(dir.head()).unwrap();
    add(&at, &dir, 100, &[Event::Start {}]);
    add(&at, &dir, 100, &[Event::Start {}]);
    fs::write(dir.head(), &before).unwrap();
    filled(&dir, 1);
    assert_eq!(lost(&dir), None);
    assert_eq!(holds(&dir).head.unwrap().seq, 309);
    // One that died, and a thief after it: the head's own record is gone.
    filled(&dir, 3);
    let good = dir.lines();
    died(1 << 20, 1);
    dir.write(&good[..good.len() - 2]);
    filled(&dir, 1);
    assert!(lost(&dir).is_some());
}

#[test]
fn a_loss_before_a_boot_says_that_there_was_one() {
    let dir = Dir::new("boot");
    filled(&dir, 3);
    let head = fs::read_to_string(dir.head()).unwrap();
    let (rest, boot) = head.trim_end().rsplit_once(' ').unwrap();
    let other = boot.replace(|c: char| c.is_ascii_hexdigit(), "0");
    fs::write(dir.head(), format!("{rest} {other}\n")).unwrap();
    // A boot alone is no loss.
    filled(&dir, 1);
    assert_eq!(lost(&dir), None);
    let head = fs::read_to_string(dir.head()).unwrap();
    fs::write(dir.head(), head.replace(boot, &other)).unwrap();
    dir.write(&dir.lines()[..2]);
    filled(&dir, 1);
    assert_eq!(lost(&dir).unwrap()["booted"], true);
    assert!(fault(&dir).contains("a power cut takes the newest records"));
}

#[test]
fn what_others_remember_is_compared_record_by_record() {
    let dir = Dir::new("remembered");
    filled(&dir, 4);
    let hash = |number: usize| gabion_core::digest::sha256_hex(dir.lines()[number - 1].as_bytes());
    let (second, fourth) = (hash(2), hash(4));
    let ask = |seq: u64, hash: &str| {
        let one = Remembered {
            by: "syslog".to_owned(),
            seq: Some(seq),
            hash: hash.to_owned(),
        };
        let other = Remembered {
            seq: Some(2),
            hash: second.to_uppercase(),
            ..one.clone()
        };
        verify::verify(&dir.log(), &[one, other], 0).unwrap()
    };
    assert_eq!(ask(4, &fourth).unwrap().matched["syslog"], (2, 4));
    let why = ask(3, &fourth).unwrap_err().why;
    assert!(why.contains("record 3 is not the one that syslog has"), "{why}");
    let why = ask(5, &fourth).unwrap_err().why;
    assert!(why.contains("record 5, which syslog has, is not there"), "{why}");
    // Older than the first that is here.
    let at = File::open(&dir.0).unwrap();
    for _ in 0..30 {
        add(&at, &dir, 2000, &[Event::Start {}]);
    }
    let whole = ask(3, &fourth).unwrap();
    assert!(
        whole
            .notes
            .iter()
            .any(|note| note.contains("2 older") && note.contains("syslog")),
        "{:?}",
        whole.notes
    );
}

#[test]
fn files_are_as_many_as_the_policy_says_and_no_young_one_goes() {
    let dir = Dir::new("files");
    let at = File::open(&dir.0).unwrap();
    let aside = |dir: &Dir| gabion_see::audit::chain::numbers(&dir.log()).unwrap();
    let keeping = |files: u32, keep_days: u32| Keeping {
        max_size: 100,
        files,
        keep_days,
        ..Keeping::default()
    };
    for _ in 0..9 {
        append(&at, &dir, &keeping(7, 0), &[Event::Start {}]).unwrap();
    }
    assert_eq!(aside(&dir), [1, 2, 3, 4, 5, 6, 7]);
    // Fewer, by a newer policy; others' files are let be.
    fs::write(dir.0.join("audit.jsonl.old"), "").unwrap();
    append(&at, &dir, &keeping(2, 0), &[Event::Start {}]).unwrap();
    assert_eq!(aside(&dir), [1, 2]);
    assert!(dir.0.join("audit.jsonl.old").exists());
    // The oldest is of today.
    let full = append(&at, &dir, &keeping(2, 7), &[Event::Start {}])
        .unwrap_err()
        .to_string();
    assert!(full.contains("keep_days = 7"), "{full}");
    assert_eq!((aside(&dir), holds(&dir).head.unwrap().seq), (vec![1, 2], 10));
    let oldest = File::options().write(true).open(dir.0.join("audit.jsonl.2")).unwrap();
    oldest
        .set_modified(std::time::SystemTime::now() - std::time::Duration::from_hours(8 * 24))
        .unwrap();
    append(&at, &dir, &keeping(2, 7), &[Event::Start {}]).unwrap();
    assert_eq!(holds(&dir).head.unwrap().seq, 11);
}

#[test]
fn a_file_whose_first_record_is_old_is_put_aside() {
    let dir = Dir::new("days");
    let at = File::open(&dir.0).unwrap();
    let keeping = Keeping {
        rotate_days: Some(30),
        ..Keeping::default()
    };
    append(&at, &dir, &keeping, &[Event::Start {}]).unwrap();
    append(&at, &dir, &keeping, &[Event::Start {}]).unwrap();
    assert_eq!(gabion_see::audit::chain::numbers(&dir.log()).unwrap(), [0; 0]);
    let text = fs::read_to_string(dir.log()).unwrap();
    let year = text.split_once("\"time\":\"").unwrap().1[..4].to_owned();
    fs::write(
        dir.log(),
        text.replacen(&format!("\"time\":\"{year}"), "\"time\":\"2001", 1),
    )
    .unwrap();
    append(&at, &dir, &keeping, &[Event::Start {}]).unwrap();
    assert_eq!(gabion_see::audit::chain::numbers(&dir.log()).unwrap(), [1]);
}

#[test]
fn mode_and_group_survive_a_rotation() {
    let dir = Dir::new("group");
    let at = File::open(&dir.0).unwrap();
    let seen = |name: &str| {
        use std::os::unix::fs::MetadataExt;
        let meta = fs::metadata(dir.0.join(name)).unwrap();
        (meta.mode() & 0o777, meta.gid())
    };
    let small = Keeping {
        max_size: 100,
        ..Keeping::default()
    };
    append(&at, &dir, &small, &[Event::Start {}]).unwrap();
    assert_eq!(seen("audit.jsonl").0, 0o600);
    // By hand, where the policy says nothing.
    fs::set_permissions(dir.log(), fs::Permissions::from_mode(0o640)).unwrap();
    let group = if nix::unistd::geteuid().is_root() {
        std::os::unix::fs::chown(dir.log(), None, Some(4)).unwrap();
        4
    } else {
        seen("audit.jsonl").1
    };
    append(&at, &dir, &small, &[Event::Start {}]).unwrap();
    assert_eq!(
        (seen("audit.jsonl"), seen("audit.jsonl.1")),
        ((0o640, group), (0o640, group))
    );
    // By the policy, when a container is made; and in every file after it.
    let mut said = trail(dir.log());
    said.keeping = Keeping {
        mode: Some(0o640),
        group: Some(Owners::Number(if group == 4 { 5 } else { group })),
        max_size: 100,
        ..Keeping::default()
    };
    let group = if group == 4 { 5 } else { group };
    fs::set_permissions(dir.log(), fs::Permissions::from_mode(0o600)).unwrap();
    said.policy = PolicyIs::New;
    said.before(&[Event::Start {}]).unwrap();
    assert_eq!(seen("audit.jsonl"), (0o640, group));
    said.policy = PolicyIs::Kept;
    said.before(&[Event::Start {}]).unwrap();
    assert_eq!(seen("audit.jsonl"), (0o640, group));
    said.keeping.group = Some(Owners::Unknown("nosuchgroup".to_owned()));
    said.policy = PolicyIs::New;
    let why = said.before(&[Event::Start {}]).unwrap_err().to_string();
    assert!(why.contains("there is no group nosuchgroup"), "{why}");
}

#[test]
fn a_container_of_an_older_gabion_is_recorded_as_before() {
    let old = json!({"file": "/x", "on_failure": "warn", "args": false, "subject": {
        "id": "web", "level": "hardened", "policy": "p", "caller": "bundle"}});
    let trail: Trail = serde_json::from_value(old).unwrap();
    assert_eq!(trail.keeping, Keeping::default());
    assert_eq!((trail.keeping.max_size, trail.keeping.files), (64 << 20, 5));
}
