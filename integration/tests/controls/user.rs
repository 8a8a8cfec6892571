//! `user`: root is warned of at hardened, refused at restricted.

use crate::hardens;
use integration::{Bundle, Container, Policy};

#[test]
fn root_runs_at_hardened_and_not_at_restricted() {
    if !hardens() {
        return;
    }
    Container::new(Bundle::new("user-hardened"))
        .policy(&Policy::hardened())
        .acts(&["id"])
        .ok("id");
    let restricted = Container::new(Bundle::new("user-restricted")).policy(&Policy::level("restricted"));
    restricted.run().fails_with(1).says(&["refused [", "user."]);
}

#[test]
fn an_ordinary_user_runs_at_restricted() {
    if !hardens() {
        return;
    }
    let mut bundle = Bundle::new("user-1000");
    bundle.config.user(1000).capabilities(&[]);
    let outcome = Container::new(bundle)
        .policy(&Policy::level("restricted"))
        .acts(&["id", "caps"]);
    assert!(
        outcome.ok("id").starts_with("Uid=1000,1000,1000,1000 Gid=1000"),
        "{outcome:?}"
    );
    let zero = "0000000000000000";
    assert_eq!(
        outcome.ok("caps"),
        format!("CapInh={zero} CapPrm={zero} CapEff={zero} CapBnd={zero} CapAmb={zero}")
    );
}
