//! `gabion learn` on the services of docs/RECIPES.md, none of whose needs it is given: it finds those, no more, and proves it. A recipe is a line for
//! podman; this is the same program in a bundle of the same root file system.

use crate::stand::root;
use crate::table::{Ask, Need, Service};
use integration::command::limit;
use integration::{Bundle, Container, Done, Policy};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

/// uid, gid and further groups of a user of the image.
fn user(root: &Path, name: &str) -> Value {
    let line = |file: &str| fs::read_to_string(root.join(file)).unwrap();
    let passwd = line("etc/passwd");
    let fields: Vec<&str> = passwd
        .lines()
        .map(|l| l.split(':').collect::<Vec<_>>())
        .find(|f| f[0] == name)
        .unwrap();
    let number = |text: &str| text.parse::<u32>().unwrap();
    let groups = line("etc/group");
    let more = groups
        .lines()
        .map(|l| l.split(':').collect::<Vec<_>>())
        .filter(|f| f[3].split(',').any(|member| member == name));
    let more: Vec<u32> = more.map(|fields| number(fields[2])).collect();
    json!({"uid": number(fields[2]), "gid": number(fields[3]), "additionalGids": more})
}

/// A bundle of the service, with nothing that its row needs.
fn bundle(service: &Service, root: &Path) -> Container {
    let mut bundle = Bundle::new("learn-service");
    let user = match service.options {
        ["-u", name] => user(root, name),
        _ => json!({"uid": 0, "gid": 0}),
    };
    bundle
        .config
        .set("/root", json!({"path": root, "readonly": false}))
        .set("/process/args", json!(service.command))
        .set("/process/user", user.clone());
    if user["uid"] != 0 {
        bundle
            .config
            .set("/process/capabilities/effective", json!([]))
            .set("/process/capabilities/permitted", json!([]));
    }
    Container::new(bundle).policy(&Policy::hardened())
}

fn quoted(words: impl IntoIterator<Item = String>) -> String {
    let words: Vec<String> = words
        .into_iter()
        .map(|word| format!("'{}'", word.replace('\'', r"'\''")))
        .collect();
    words.join(" ")
}

/// A line for a shell that succeeds once every question has been answered well.
fn ask(service: &Service, container: &Container) -> Option<String> {
    let asks: Vec<String> = service
        .asks
        .iter()
        .filter_map(|ask| match ask {
            Ask::Run(command, expect) => {
                let exec = container.command(&[&["exec", container.id()], *command].concat());
                let words = std::iter::once(exec.get_program()).chain(exec.get_args());
                let line = quoted(words.map(|word| word.to_string_lossy().into_owned()));
                Some(format!(
                    "{line} </dev/null | grep -qF {}",
                    quoted([(*expect).to_owned()])
                ))
            }
            Ask::Prints(_) => None,
        })
        .collect();
    (!asks.is_empty()).then(|| asks.join(" && "))
}

fn learn(container: &Container, ask: Option<&str>, seconds: u64, words: &[&str]) -> Done {
    let (path, seconds) = (container.path(), limit(seconds).as_secs().to_string());
    let mut all = vec!["learn", "--bundle", &path, "--format", "json"];
    if let Some(ask) = ask {
        all.extend(["--ask", ask, "--for", &seconds]);
    }
    all.extend(words);
    all.push(container.id());
    let done = container.spawn(&all).wait(limit(300));
    container.nothing_left();
    done
}

/// What a row needs, by its paths and words.
#[derive(Debug, Default)]
struct Recipe {
    places: Vec<PathBuf>,
    sysctls: bool,
    chroot: bool,
}

fn recipe(service: &Service) -> Recipe {
    let mut recipe = Recipe::default();
    for need in service.needs_without(None) {
        match need {
            Need::Hole(entry) => recipe.places.push(entry.split(':').next().unwrap().into()),
            Need::Option(["--tmpfs", entry]) => recipe.places.push(entry.split(':').next().unwrap().into()),
            Need::Option(["--sysctl", _]) => recipe.sysctls = true,
            Need::Policy(_) => recipe.chroot = true,
            Need::Option(other) => panic!("{other:?}"),
            Need::Volume(_) => {}
        }
    }
    recipe
}

fn places(loosening: &Value) -> Vec<PathBuf> {
    let lists = [&loosening["holes"], &loosening["volumes"]];
    let all = lists.into_iter().flat_map(|list| list.as_array().unwrap());
    all.map(|one| PathBuf::from(one["path"].as_str().unwrap())).collect()
}

fn overlap(one: &Path, other: &Path) -> bool {
    one.starts_with(other) || other.starts_with(one)
}

/// Learns each row that keeps its data in memory: the others are the same programs with a volume.
pub(crate) fn check(service: &Service) {
    let Some(root) = root() else { return };
    if service.needs.iter().any(|(need, _)| matches!(need, Need::Volume(_))) {
        return;
    }
    let container = bundle(service, &root);
    let record = container.bundle.dir.join("record.json").display().to_string();
    let ask = ask(service, &container);
    let done = learn(&container, ask.as_deref(), 60, &["--merge", &record]);
    assert_eq!(done.code, 0, "{}: {done}", service.name);
    let report: Value = serde_json::from_str(&done.out).unwrap();
    let (needs, recipe) = (&report["needs"], recipe(service));
    let found = places(needs);
    for place in &recipe.places {
        assert!(
            found.iter().any(|one| one.starts_with(place)),
            "{}: {} was not found: {needs:#}",
            service.name,
            place.display()
        );
    }
    for one in &found {
        assert!(
            recipe.places.iter().any(|place| one.starts_with(place)),
            "{}: {} is one too many: {needs:#}",
            service.name,
            one.display()
        );
    }
    let empty = |key: &str| {
        needs[key].as_object().is_none_or(serde_json::Map::is_empty) && needs[key].as_array().is_none_or(Vec::is_empty)
    };
    assert_eq!(
        (!empty("sysctls"), !empty("capabilities")),
        (recipe.sysctls, recipe.chroot),
        "{}: {needs:#}",
        service.name
    );
    assert!(
        empty("seccomp") && empty("sockets") && needs["memfd"] == false,
        "{}: {needs:#}",
        service.name
    );
    let done = learn(&container, ask.as_deref(), 60, &["--merge", &record, "--prove"]);
    assert_eq!(done.code, 0, "{} with {needs:#}: {done}", service.name);
    if let Some(place) = found.first() {
        without(service, &container, &record, ask.as_deref(), place);
    }
}

/// A record in which nobody needed a place: the proof names it.
fn without(service: &Service, container: &Container, record: &str, ask: Option<&str>, place: &Path) {
    let mut text: Value = serde_json::from_slice(&fs::read(record).unwrap()).unwrap();
    for key in ["written", "sizes"] {
        text[key]
            .as_object_mut()
            .unwrap()
            .retain(|path, _| !Path::new(path).starts_with(place));
    }
    for key in ["programs", "mapped"] {
        text[key]
            .as_array_mut()
            .unwrap()
            .retain(|path| !Path::new(path.as_str().unwrap()).starts_with(place));
    }
    let of_it = |denied: &Value| {
        let paths = denied
            .as_object()
            .into_iter()
            .flatten()
            .filter_map(|(_, of)| of["dir"].as_str().or(of["file"].as_str()));
        paths.map(Path::new).any(|path| path.starts_with(place))
    };
    for key in ["needed", "denied"] {
        text[key].as_array_mut().unwrap().retain(|denied| !of_it(denied));
    }
    fs::write(record, text.to_string()).unwrap();
    let done = learn(container, ask, 15, &["--merge", record, "--prove"]);
    assert_eq!(done.code, 3, "{} without {}: {done}", service.name, place.display());
    let report: Value = serde_json::from_str(&done.out).unwrap();
    let missing = places(&report["proof"]["missing"]);
    assert!(
        missing.iter().any(|one| overlap(one, place)),
        "{} without {} misses {missing:?}: {done}",
        service.name,
        place.display()
    );
}
