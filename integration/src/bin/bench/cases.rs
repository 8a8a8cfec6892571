//! What is measured: each runtime with each way of asking for a seccomp filter.

use integration::Bundle;
use std::path::PathBuf;

/// A profile in the spec, as an engine sends it, or none: then gabion installs its own, and runc and crun nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    None,
    Podman,
    RuntimeDefault,
}

/// Whether the runtime may keep what it compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cache {
    Warm,
    Cold,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Case {
    pub profile: Profile,
    pub cache: Cache,
}

impl Case {
    pub(crate) const ALL: [Self; 4] = [
        Self::warm(Profile::RuntimeDefault),
        Self {
            profile: Profile::RuntimeDefault,
            cache: Cache::Cold,
        },
        Self::warm(Profile::Podman),
        Self::warm(Profile::None),
    ];

    const fn warm(profile: Profile) -> Self {
        Self {
            profile,
            cache: Cache::Warm,
        }
    }

    pub(crate) const fn title(self) -> &'static str {
        match (self.profile, self.cache) {
            (Profile::None, _) => "no profile in the spec (gabion: its own; runc and crun: none)",
            (Profile::Podman, _) => "podman's default profile, caches warm",
            (Profile::RuntimeDefault, Cache::Warm) => "containerd's RuntimeDefault, caches warm",
            (Profile::RuntimeDefault, Cache::Cold) => "containerd's RuntimeDefault, caches cold",
        }
    }
}

impl Profile {
    /// Puts it into the bundle's config.
    pub(crate) fn set(self, bundle: &mut Bundle) {
        let name = match self {
            Self::None => return,
            Self::Podman => "podman-seccomp.json",
            Self::RuntimeDefault => "containerd-seccomp.json",
        };
        let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/data")).join(name);
        let text = std::fs::read_to_string(path).expect("the seccomp profile");
        bundle
            .config
            .set("/linux/seccomp", serde_json::from_str(&text).expect("JSON"));
        // Without it, a runtime needs CAP_SYS_ADMIN for the filter and does its steps in another order.
        bundle.config.set("/process/noNewPrivileges", true.into());
    }
}
