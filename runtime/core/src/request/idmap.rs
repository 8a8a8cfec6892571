//! What a mount says of ids: the options `idmap` and `ridmap`, `uidMappings` and `gidMappings` (runtime-spec, config.md, Mounts).

use oci_spec::runtime::{LinuxIdMapping, Mount, Spec};

use super::mount_options::{MountOptions, Reach};

/// Whose mapping is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdMap {
    /// That of the container's user namespace.
    Container,
    /// The mount's own: lines for uid_map and gid_map (user_namespaces(7)).
    Own { uids: String, gids: String },
}

/// A mapping that cannot be one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HalfMapped;

/// What this mount asks for; None where its files keep their owners.
///
/// # Errors
/// Users are mapped and groups are not, or the other way round.
pub fn asked(mount: &Mount) -> Result<Option<IdMap>, HalfMapped> {
    let lines = |list: &Option<Vec<LinuxIdMapping>>| list.as_deref().map(lines).filter(|text| !text.is_empty());
    match (lines(mount.uid_mappings()), lines(mount.gid_mappings())) {
        (Some(uids), Some(gids)) => Ok(Some(IdMap::Own { uids, gids })),
        (None, None) => Ok(MountOptions::of(mount).idmap.map(|_| IdMap::Container)),
        _ => Err(HalfMapped),
    }
}

/// Whether its files have other owners inside. Half a mapping counts: it must not pass for none.
pub fn is_idmapped(mount: &Mount) -> bool {
    asked(mount) != Ok(None)
}

/// Whether the mounts below it are mapped too: only where `ridmap` says so.
pub fn is_recursive(mount: &Mount) -> bool {
    MountOptions::of(mount).idmap == Some(Reach::Tree)
}

/// The container's own mapping, as `linux` writes it.
pub fn of_container(spec: &Spec) -> Option<IdMap> {
    let linux = spec.linux().as_ref()?;
    let uids = lines(linux.uid_mappings().as_deref()?);
    let gids = lines(linux.gid_mappings().as_deref()?);
    (!uids.is_empty() && !gids.is_empty()).then_some(IdMap::Own { uids, gids })
}

fn lines(mappings: &[LinuxIdMapping]) -> String {
    mappings
        .iter()
        .map(|m| format!("{} {} {}\n", m.container_id(), m.host_id(), m.size()))
        .collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn mount(patch: Value) -> Mount {
        let mut mount = json!({"destination": "/d", "source": "/s", "type": "bind"});
        let Value::Object(more) = patch else {
            return Mount::default();
        };
        mount.as_object_mut().unwrap().extend(more);
        serde_json::from_value(mount).unwrap()
    }

    #[test]
    fn options_and_mappings() {
        let map = json!([{"containerID": 0, "hostID": 7, "size": 2}, {"containerID": 9, "hostID": 20, "size": 1}]);
        assert_eq!(asked(&mount(json!({"options": ["bind"]}))), Ok(None));
        assert_eq!(asked(&mount(json!({"uidMappings": [], "gidMappings": []}))), Ok(None));
        for option in ["idmap", "ridmap"] {
            let one = mount(json!({"options": ["rbind", option]}));
            assert_eq!(asked(&one), Ok(Some(IdMap::Container)));
            assert_eq!(is_recursive(&one), option == "ridmap");
        }
        let own = asked(&mount(
            json!({"uidMappings": map, "gidMappings": [{"containerID": 0, "hostID": 1, "size": 1}]}),
        ));
        let uids = "0 7 2\n9 20 1\n".to_owned();
        assert_eq!(
            own,
            Ok(Some(IdMap::Own {
                uids,
                gids: "0 1 1\n".to_owned()
            }))
        );
        let half = mount(json!({"uidMappings": map, "options": ["idmap"]}));
        assert_eq!(asked(&half), Err(HalfMapped));
        assert!(is_idmapped(&half));
    }
}
