//! Stock services of Debian's packages, run by podman as docs/RECIPES.md says: they do their work at `hardened`, and fail where
//! any one of the holes and options of their row is missing.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test code: a panic is how a test fails"
)]

mod document;
mod recipes;
mod stand;
mod table;

/// A test for each, and the list that the document is held to.
macro_rules! services {
    ($($name:ident: $rows:path),+ $(,)?) => {
        const SERVICES: &[&[table::Service]] = &[$($rows),+];
        $(#[test]
        fn $name() {
            $rows.iter().for_each(stand::check);
        })+
    };
}

services! {
    nginx: table::NGINX,
    apache: table::APACHE,
    redis: table::REDIS,
    memcached: table::MEMCACHED,
    mariadb: table::MARIADB,
    postgresql: table::POSTGRESQL,
    python: table::PYTHON,
    node: table::NODE,
    java: table::JAVA,
    haproxy: table::HAPROXY,
}
