//! Stock services of Debian's packages, run by podman as docs/RECIPES.md says: they do their work at `hardened`, and fail where
//! any one of the holes and options of their row is missing.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test code: a panic is how a test fails"
)]

mod data;
mod document;
mod learn;
mod programs;
mod recipes;
mod stand;
mod table;
mod web;

/// A test for each, and the list that the document is held to.
macro_rules! services {
    ($($name:ident: $rows:path),+ $(,)?) => {
        const SERVICES: &[&[table::Service]] = &[$($rows),+];
        $(#[test]
        fn $name() {
            $rows.iter().for_each(stand::check);
        })+

        /// Each of them, by `gabion learn`.
        mod learned {
            use super::{data, programs, web};
            $(#[test]
            fn $name() {
                $rows.iter().for_each(super::learn::check);
            })+
        }
    };
}

services! {
    nginx: web::NGINX,
    apache: web::APACHE,
    redis: data::REDIS,
    memcached: data::MEMCACHED,
    mariadb: data::MARIADB,
    postgresql: data::POSTGRESQL,
    python: programs::PYTHON,
    node: programs::NODE,
    java: programs::JAVA,
    haproxy: web::HAPROXY,
}
