//! Policy files for tests.

use std::collections::BTreeMap;

/// `level` and `[controls]`; what a policy can say besides goes into `more`.
#[derive(Debug, Clone)]
pub struct Policy {
    level: &'static str,
    controls: BTreeMap<String, &'static str>,
    more: String,
}

impl Policy {
    pub fn level(level: &'static str) -> Self {
        Self {
            level,
            controls: BTreeMap::new(),
            more: String::new(),
        }
    }

    /// Nothing is enforced but what `enforce` names.
    pub fn permissive() -> Self {
        Self::level("permissive")
    }

    /// Everything is enforced but what `observe` names.
    pub fn hardened() -> Self {
        Self::level("hardened")
    }

    #[must_use]
    pub fn enforce(self, control: &str) -> Self {
        self.with(control, "enforce")
    }

    #[must_use]
    pub fn observe(self, control: &str) -> Self {
        self.with(control, "observe")
    }

    /// Further lines of TOML, before the tables.
    #[must_use]
    pub fn line(mut self, line: &str) -> Self {
        self.more.push_str(line);
        self.more.push('\n');
        self
    }

    fn with(mut self, control: &str, mode: &'static str) -> Self {
        self.controls.insert(control.to_owned(), mode);
        self
    }

    pub fn to_toml(&self) -> String {
        let controls: Vec<String> = self
            .controls
            .iter()
            .map(|(id, mode)| format!("{id} = \"{mode}\"\n"))
            .collect();
        format!(
            "level = \"{}\"\n{}\n[controls]\n{}",
            self.level,
            self.more,
            controls.concat()
        )
    }
}
