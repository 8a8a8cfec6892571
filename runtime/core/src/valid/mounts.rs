//! Options that nobody would hear, and mappings of ids that nobody could apply.

use oci_spec::runtime::Mount;

use super::{Invalid, Namespaces};
use crate::namespace::NsType;
use crate::request::idmap::{self, HalfMapped, IdMap};
use crate::request::mount_options::{self, Meaning, is_bind, meaning};

/// Words of engines for themselves (relabelling, copying, ownership), which some leave in the list.
const OF_ENGINES: [&str; 6] = ["z", "Z", "U", "O", "copy", "nocopy"];

pub(super) fn judge(mount: &Mount, namespaces: &Namespaces, found: &mut Vec<Invalid>) {
    if let Some(why) = idmapped(mount, namespaces) {
        let field = format!("idmapped mount at {}", mount.destination().display());
        found.push(Invalid::unsupported(field, why));
    }
    for word in mount_options::of(mount) {
        if let Some(why) = option(mount, word) {
            let field = format!("option {word:?} of the mount at {}", mount.destination().display());
            found.push(Invalid::unsupported(field, why));
        }
    }
}

/// A mapping of ids that nobody could apply, or that says only half (runtime-spec, config.md, Mounts).
fn idmapped(mount: &Mount, namespaces: &Namespaces) -> Option<&'static str> {
    match idmap::asked(mount) {
        Ok(None) => None,
        Ok(Some(_)) if !is_bind(mount) => Some("only a bind mount can be idmapped"),
        Ok(Some(IdMap::Container)) if !namespaces.own(NsType::User) => {
            Some("it names no uidMappings, and there is no user namespace of the container's own in linux.namespaces")
        }
        Ok(Some(_)) => None,
        Err(HalfMapped) => Some("uidMappings and gidMappings come together or not at all"),
    }
}

/// What a bind may say: its file system is mounted already, so that anything else would be heard by nobody, and a slip of the
/// pen (`noexce`) would loosen what was meant. What a file system may say is its own; of a tmpfs the numbers are looked at.
fn option(mount: &Mount, word: &str) -> Option<&'static str> {
    match meaning(word) {
        Some(Meaning::Remount) => Some("nothing that is mounted is changed"),
        Some(_) => None,
        None if is_bind(mount) => (!OF_ENGINES.contains(&word)).then_some("a bind mount has no such option"),
        None if mount.typ().as_deref() == Some("tmpfs") => of_tmpfs(word),
        None => None,
    }
}

/// The values of a tmpfs that are numbers (mm/shmem.c, shmem_parse_one).
fn of_tmpfs(word: &str) -> Option<&'static str> {
    let (key, value) = word.split_once('=')?;
    let good = match key {
        "mode" => u32::from_str_radix(value, 8).is_ok(),
        // -1 is no id (make_kuid(9)).
        "uid" | "gid" => value.parse::<u32>().is_ok_and(|id| id != u32::MAX),
        "size" => is_size(value.strip_suffix('%').unwrap_or(value)),
        "nr_blocks" | "nr_inodes" => is_size(value),
        _ => true,
    };
    (!good).then_some("its value is not one that a tmpfs takes")
}

/// A number as the kernel's memparse reads it: decimal, octal or hexadecimal, with a suffix.
fn is_size(text: &str) -> bool {
    let digits = text
        .strip_suffix(|c: char| "kKmMgGtTpPeE".contains(c) && !text.starts_with("0x"))
        .unwrap_or(text);
    match digits.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex.trim_end_matches(|c: char| "kKmMgGtTpP".contains(c)), 16).is_ok(),
        None => !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) && digits.parse::<u64>().is_ok(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn judged(patch: &Value, types: &[NsType]) -> Vec<Invalid> {
        let mut value = json!({"destination": "/d", "source": "/s"});
        value
            .as_object_mut()
            .unwrap()
            .extend(patch.as_object().unwrap().clone());
        let namespaces = Namespaces {
            listed: types.iter().copied().collect(),
            ..Namespaces::default()
        };
        let mut found = Vec::new();
        judge(&serde_json::from_value(value).unwrap(), &namespaces, &mut found);
        found
    }

    #[test]
    fn options_that_nobody_would_hear() {
        for good in [
            json!({"options": ["rbind", "rro", "nosuid", "rprivate", "nosymfollow", "z", "sync", "silent", "iversion"]}),
            json!({"options": ["bind,ro,nosuid"]}),
            json!({"options": ["size=64k", "mode=755", "rslave"]}),
            json!({"type": "tmpfs", "options": ["size=10%,mode=1777", "uid=7", "nr_inodes=4k", "size=0x100k", "huge=never"]}),
        ] {
            assert_eq!(judged(&good, &[]), [], "{good}");
        }
        for (bad, named) in [
            (json!({"options": ["bind", "noexce"]}), "noexce"),
            (json!({"options": ["bind,noexce"]}), "noexce"),
            (json!({"options": ["bind", "size=3"]}), "size=3"),
            (json!({"options": ["remount"]}), "remount"),
            (json!({"options": ["bind", "idmap"]}), "idmapped"),
            (json!({"type": "tmpfs", "options": ["mode=9z"]}), "mode=9z"),
            (json!({"type": "tmpfs", "options": ["size=x"]}), "size=x"),
            (json!({"type": "tmpfs", "options": ["uid=4294967295"]}), "uid="),
        ] {
            let found = judged(&bad, &[]);
            assert_eq!(found.len(), 1, "{bad}");
            assert_eq!(found[0].kind.code(), "bundle.unsupported");
            assert!(found[0].to_string().contains(named), "{}", found[0]);
        }
    }

    #[test]
    fn a_mapping_that_nobody_could_apply() {
        let map = json!([{"containerID": 0, "hostID": 7, "size": 2}]);
        let of = |mut patch: Value, types: &[NsType]| {
            let typ = patch.get("type").cloned().unwrap_or(json!("bind"));
            patch["type"] = typ;
            judged(&patch, types).is_empty()
        };
        let option = json!({"options": ["rbind", "ridmap"]});
        assert!(of(option.clone(), &[NsType::User]) && !of(option, &[]));
        let both = json!({"uidMappings": map, "gidMappings": map});
        assert!(of(both, &[]));
        assert!(!of(
            json!({"uidMappings": map, "gidMappings": map, "type": "tmpfs"}),
            &[]
        ));
        for half in ["uidMappings", "gidMappings"] {
            assert!(!of(json!({half: map, "options": ["idmap"]}), &[NsType::User]), "{half}");
        }
    }
}
