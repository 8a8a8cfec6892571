//! Cgroups below the container's, that a further process joins (`exec --cgroup`). They are the container's own to make: an exec that asks
//! for one which is not there fails, and makes none.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use gabion_see::error::{Error, Result, Step};

/// Which cgroup a further process joins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Below {
    /// The container's own.
    #[default]
    Own,
    /// The same path below the container's in every hierarchy.
    All(PathBuf),
    /// A path below the container's for each controller named; the container's own for the others (cgroup v1).
    Each(BTreeMap<String, PathBuf>),
}

impl Below {
    /// Parses what runc takes: `PATH`, or `CONTROLLER[,CONTROLLER…]:PATH` as often as there are controllers.
    ///
    /// # Errors
    /// Another form; a controller named twice; a path that leads out of the container's cgroup.
    pub(crate) fn parse(words: &[String]) -> Result<Self> {
        let mut each = BTreeMap::new();
        for word in words {
            let mut parts = word.split(':');
            match (parts.next(), parts.next(), parts.next()) {
                (Some(path), None, _) if words.len() == 1 => return Ok(Self::All(inside(path)?)),
                (Some(controllers), Some(path), None) => {
                    for controller in controllers.split(',') {
                        if each.insert(controller.to_owned(), inside(path)?).is_some() {
                            let why = format!("--cgroup names the controller {controller:?} more than once");
                            return Err(Error::Usage(why));
                        }
                    }
                }
                (_, None, _) => {
                    let why = format!("--cgroup {word} has no CONTROLLER: before it, and is not the only one");
                    return Err(Error::Usage(why));
                }
                _ => return Err(Error::Usage(format!("--cgroup {word} is not [CONTROLLER:]PATH"))),
            }
        }
        // runc's name of the hierarchy without controllers, and of all of them.
        match each.remove("") {
            Some(path) => Ok(Self::All(path)),
            None if each.is_empty() => Ok(Self::Own),
            None => Ok(Self::Each(each)),
        }
    }

    /// Gives the path below the container's own in a hierarchy of v1, by its directory's name (`cpu,cpuacct`).
    pub(super) fn within(&self, hierarchy: &str) -> &Path {
        match self {
            Self::Own => Path::new(""),
            Self::All(path) => path,
            Self::Each(each) => each
                .iter()
                .find(|(controller, _)| is_of(hierarchy, controller))
                .map_or(Path::new(""), |(_, path)| path),
        }
    }

    /// Checks that every controller named is of one of the hierarchies.
    ///
    /// # Errors
    /// One is of none.
    pub(super) fn known(&self, hierarchies: &[String]) -> Result<()> {
        let Self::Each(each) = self else { return Ok(()) };
        let unknown = |controller: &&String| !hierarchies.iter().any(|h| is_of(h, controller));
        match each.keys().find(unknown) {
            None => Ok(()),
            Some(controller) => Err(Error::failed(
                Step::Cgroup,
                format!("--cgroup {controller}: unknown controller {controller}: the container has no such one"),
            )),
        }
    }
}

/// Whether the directory of a hierarchy is the controller's. systemd's own has none, and a name.
fn is_of(hierarchy: &str, controller: &str) -> bool {
    match controller.strip_prefix("name=") {
        Some(name) => hierarchy == name,
        None => hierarchy != "systemd" && hierarchy != "unified" && hierarchy.split(',').any(|c| c == controller),
    }
}

/// A path that stays inside, without `..`.
fn inside(path: &str) -> Result<PathBuf> {
    let mut clean = PathBuf::new();
    for part in Path::new(path).components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir if !clean.pop() => {
                let why = format!("--cgroup {path} is not a sub cgroup path: it leads out of the container's cgroup");
                return Err(Error::Usage(why));
            }
            _ => {}
        }
    }
    Ok(clean)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Below> {
        Below::parse(&words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn the_forms_are_runc_s() {
        let all = |path: &str| Below::All(path.into());
        let each = |list: &[(&str, &str)]| Below::Each(list.iter().map(|(c, p)| ((*c).into(), (*p).into())).collect());
        for (words, wanted) in [
            (&[] as &[&str], Below::Own),
            (&["a/b"], all("a/b")),
            (&["/"], all("")),
            (&["/a/./b/../c/"], all("a/c")),
            (&[":/x"], all("x")),
            (&["cpu:x"], each(&[("cpu", "x")])),
            (
                &["cpu,memory:/x", "pids:y"],
                each(&[("cpu", "x"), ("memory", "x"), ("pids", "y")]),
            ),
            (&["name=systemd:/"], each(&[("name=systemd", "")])),
        ] {
            assert_eq!(parse(words).unwrap(), wanted, "{words:?}");
        }
        for wrong in [
            &["a", "b"] as &[&str],
            &["cpu:/", "b"],
            &["cpu:/", "cpu:/a"],
            &["cpu,cpu:/"],
            &["a:b:c"],
            &[".."],
            &["a/../.."],
            &["cpu:../x"],
        ] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_controller_is_of_one_hierarchy() {
        let below = parse(&["cpuacct:a", "name=systemd:b"]).unwrap();
        let names = |list: &[&str]| list.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        assert_eq!(below.within("cpu,cpuacct"), Path::new("a"));
        assert_eq!(below.within("systemd"), Path::new("b"));
        assert_eq!(below.within("memory"), Path::new(""));
        assert!(below.known(&names(&["cpu,cpuacct", "systemd"])).is_ok());
        assert!(below.known(&names(&["cpu", "systemd"])).is_err());
        for (unknown, hierarchies) in [("unified", "unified"), ("systemd", "systemd"), ("cp", "cpu,cpuacct")] {
            let below = parse(&[&format!("{unknown}:/")]).unwrap();
            assert!(below.known(&names(&[hierarchies])).is_err(), "{unknown}");
        }
    }
}
