//! Every folder of tests/cases is one case; all that fail are told, not the first.

#[test]
fn golden_cases() {
    let cases = golden::cases().unwrap_or_default();
    assert!(!cases.is_empty(), "no cases found");
    let home = golden::home();
    let mut failed = Vec::new();
    for case in &cases {
        if let Err(why) = golden::run(case) {
            let name = case.strip_prefix(home.join("cases")).unwrap_or(case).display();
            failed.push(format!("{name}:\n    {why}"));
        }
    }
    assert!(
        failed.is_empty(),
        "{} of {} cases:\n{}",
        failed.len(),
        cases.len(),
        failed.join("\n")
    );
}
