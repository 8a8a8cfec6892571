use serde_json::json;

use super::*;
use crate::testing::Case;

fn map(text: &str) -> IdMap {
    IdMap::parse(text).unwrap()
}

fn one(map: &IdMap, id: u32) -> Option<u32> {
    let all: Vec<u32> = map.outside(id).collect();
    assert!(all.len() <= 1, "{id}: {all:?}");
    all.first().copied()
}

#[allow(clippy::unnecessary_wraps, reason = "as the field has it")]
fn both(text: &str) -> Option<Maps> {
    Some(Maps {
        uids: map(text),
        gids: map(text),
    })
}

fn ids(here: &str, own: &str, root: Option<u32>) -> ContainerIds {
    ContainerIds {
        here: both(here),
        own: OwnIds {
            maps: both(own),
            root_user: root,
            root_group: root,
        },
    }
}

#[test]
fn ids_are_mapped_as_the_kernel_does() {
    let map = map("0 100000 1000\n5000 7 1\n");
    let told = [
        (0, Some(100_000)),
        (999, Some(100_999)),
        (1000, None),
        (5000, Some(7)),
        (5001, None),
    ];
    for (inside, outside) in told {
        assert_eq!(one(&map, inside), outside, "{inside}");
    }
    assert_eq!(map.inside(7).collect::<Vec<_>>(), [5000]);
    assert_eq!(map.inside(8).next(), None);
}

#[test]
fn a_map_that_says_nothing_or_something_else_is_none() {
    for text in [
        "",
        "\n",
        "0 0",
        "0 0 1 1",
        "0 0 0",
        "0 4294967295 1",
        "0 100000 65536\n1 x 1",
        "0 0 4294967296",
        "-1 0 1",
    ] {
        assert_eq!(IdMap::parse(text), None, "{text:?}");
    }
    assert_eq!(IdMap::parse("         0          0 4294967295\n"), Some(IdMap::whole()));
}

#[test]
fn the_last_of_all_ids_is_none() {
    // Nothing wraps around: neither to 0 nor to what stands for no id.
    let huge = map("0 4294967290 4294967295");
    assert_eq!(one(&huge, 4), Some(4_294_967_294));
    assert_eq!(one(&huge, 5), None);
    assert_eq!(one(&huge, 6), None);
    assert_eq!(one(&huge, u32::MAX), None);
    assert_eq!(one(&IdMap::whole(), u32::MAX), None);
    assert_eq!(one(&IdMap::whole(), u32::MAX - 1), Some(u32::MAX - 1));
}

#[test]
fn maps_are_composed_line_by_line() {
    let inner = map("0 100 50\n1000 0 1\n2000 140 20");
    let outer = map("0 1000 1\n90 5000 30\n130 9000 4294967000");
    let both = inner.through(&outer);
    for (id, outside) in [
        // 0 to 19 are 100 to 119, in the second line of the outer map.
        (0, Some(5010)),
        (19, Some(5029)),
        // A gap of the outer map: 120 to 129.
        (20, None),
        (29, None),
        (30, Some(9000)),
        (49, Some(9019)),
        (50, None),
        (1000, Some(1000)),
        (2000, Some(9010)),
        (2019, Some(9029)),
        (2020, None),
    ] {
        assert_eq!(one(&both, id), outside, "{id}");
    }
    assert_eq!(inner.through(&IdMap::whole()), inner);
    assert_eq!(IdMap::whole().through(&inner), inner);
}

#[test]
fn composing_huge_maps_overflows_nothing() {
    let huge = map("4294967294 4294967294 4294967295");
    assert_eq!(
        huge.through(&huge).outside(u32::MAX - 1).collect::<Vec<_>>(),
        [u32::MAX - 1]
    );
    let late = map("0 4294967000 4294967295");
    assert_eq!(one(&late.through(&map("4294967001 0 4294967295")), 1), Some(0));
    assert_eq!(map("0 1 1").through(&map("7 0 4294967295")), IdMap(Vec::new()));
}

#[test]
fn lines_that_overlap_all_count() {
    let twice = ids("0 100000 1000\n500 0 1", "0 0 4294967295", Some(0));
    assert_eq!(twice.on_host(Kind::User, 500), OnHost::Root);
    assert_eq!(twice.on_host(Kind::User, 501), OnHost::NotRoot);
}

#[test]
fn root_is_told_by_the_maps_and_not_by_the_number() {
    let host = "0 0 4294967295";
    for (here, own, root, id, told) in [
        (host, host, Some(0), 0, OnHost::Root),
        (host, host, Some(0), 1000, OnHost::NotRoot),
        ("0 100000 1000\n1000 0 1", host, Some(0), 1000, OnHost::Root),
        ("0 100000 1000\n1000 0 1", host, Some(0), 0, OnHost::NotRoot),
        // gabion in a user namespace: root of one that maps root to itself is root.
        (host, "0 0 1", Some(0), 0, OnHost::Root),
        (host, "0 0 65536", Some(0), 0, OnHost::Root),
        (host, "0 1000 1\n1 100000 65536", None, 0, OnHost::NotRoot),
        // The second line counts as the first does.
        (host, "0 1000 1\n1 100000 10\n77 0 1", Some(77), 77, OnHost::Root),
        ("0 77 1", "0 1000 1\n77 0 1", Some(77), 0, OnHost::Root),
        // Two namespaces around ours: only root's own files tell.
        (host, "0 1000 1", Some(0), 0, OnHost::Root),
        ("5 0 1", "0 1000 1", Some(0), 5, OnHost::Root),
        // An id that is not mapped is nobody's: no process can have it.
        ("0 100000 10", host, Some(0), 11, OnHost::NotRoot),
    ] {
        let ids = ids(here, own, root);
        for kind in [Kind::User, Kind::Group] {
            assert_eq!(ids.on_host(kind, id), told, "{here:?} {own:?} {id}");
            let reached = ids.reaches_root(kind);
            assert!(told != OnHost::Root || reached == OnHost::Root, "{here:?} {own:?}");
        }
    }
}

#[test]
fn what_is_unknown_is_not_taken_for_nobody() {
    let unknown = ContainerIds {
        here: None,
        own: OwnIds::default(),
    };
    assert_eq!(unknown.on_host(Kind::User, 1000), OnHost::Unknown);
    assert_eq!(unknown.reaches_root(Kind::User), OnHost::Unknown);
    let blind = ContainerIds {
        here: Some(Maps::whole()),
        own: OwnIds {
            maps: None,
            root_user: None,
            root_group: None,
        },
    };
    assert_eq!(blind.on_host(Kind::Group, 1000), OnHost::Unknown);
    assert_eq!(blind.reaches_root(Kind::Group), OnHost::Unknown);
}

#[test]
fn users_and_groups_have_a_map_each() {
    let mixed = ContainerIds {
        here: Some(Maps {
            uids: map("0 100000 65536"),
            gids: map("0 100000 1000\n1000 0 1"),
        }),
        own: OwnIds::default(),
    };
    assert_eq!(mixed.reaches_root(Kind::User), OnHost::NotRoot);
    assert_eq!(mixed.reaches_root(Kind::Group), OnHost::Root);
    assert_eq!(mixed.on_host(Kind::Group, 1000), OnHost::Root);
    assert_eq!(mixed.on_host(Kind::User, 1000), OnHost::NotRoot);
}

#[test]
fn what_a_spec_claims_of_a_namespace_that_it_joins_is_not_believed() {
    let path = "/proc/7/ns/user";
    let mut case = Case::new()
        .with("/linux/namespaces", json!([{"type": "user", "path": path}]))
        .with(
            "/linux/uidMappings",
            json!([{"containerID": 0, "hostID": 100_000, "size": 9}]),
        )
        .with(
            "/linux/gidMappings",
            json!([{"containerID": 0, "hostID": 100_000, "size": 9}]),
        );
    let planned = |case: &Case| ContainerIds::planned(&case.request().spec, &case.host);
    assert_eq!(planned(&case).on_host(Kind::User, 0), OnHost::Unknown);
    let joined = JoinedUsers {
        maps: both("0 0 1").unwrap(),
        set_groups: SetGroups::Denied,
    };
    case.host.joined_users.insert(path.into(), joined);
    assert_eq!(planned(&case).on_host(Kind::User, 0), OnHost::Root);
}

#[test]
fn the_number_that_is_no_id_is_found_in_every_field() {
    let user = |value| serde_json::from_value::<User>(value).unwrap();
    for (value, field) in [
        (json!({"uid": NO_ID, "gid": 0}), Some("user.uid")),
        (json!({"uid": 0, "gid": NO_ID}), Some("user.gid")),
        (
            json!({"uid": 0, "gid": 0, "additionalGids": [7, NO_ID]}),
            Some("user.additionalGids[1]"),
        ),
        (json!({"uid": NO_ID - 1, "gid": NO_ID - 1}), None),
    ] {
        assert_eq!(no_id_of(&user(value)).as_deref(), field);
    }
    let maps = |value| serde_json::from_value::<Vec<LinuxIdMapping>>(value).unwrap();
    let line = |inside: u32, outside: u32, size: u32| json!({"containerID": inside, "hostID": outside, "size": size});
    for (list, field) in [
        (json!([line(0, 0, NO_ID)]), None),
        (json!([line(1, 0, NO_ID)]), Some("[0].containerID")),
        (json!([line(0, 1, 1), line(5, NO_ID, 1)]), Some("[1].hostID")),
        (json!([line(NO_ID, 0, 0)]), Some("[0].containerID")),
        (json!([line(7, NO_ID - 1, 2)]), Some("[0].hostID")),
        (json!([line(7, NO_ID - 1, 1)]), None),
    ] {
        assert_eq!(no_id_in(&maps(list)).as_deref(), field);
    }
}
