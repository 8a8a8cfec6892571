//! Engines: what is known against their versions, and how containerd hands pods to gabion.

use super::containerd::{self, Config};
use super::node::{Engine, Node, Seen};
use super::{Check, Found};

pub(super) static CHECKS: &[Check] = &[
    Check {
        id: "engine-version",
        reason: "the engine acts as root for its containers before and beside the runtime: what is wrong there no runtime holds back",
        refs: &["NIST SP 800-190 4.4.1", "CIS Docker 1.1.2"],
        remedy: "update the engine; where a distribution's package has the mend under an older number, its security tracker says so",
        look: versions,
    },
    Check {
        id: "containerd-handler",
        reason: "pods run under gabion only where a handler of containerd's CRI plugin leads to it",
        refs: &["docs/INSTALL.md#containerd"],
        remedy: "hack/install --containerd, then restart containerd",
        look: handler,
    },
    Check {
        id: "containerd-default",
        reason: "a pod that names no RuntimeClass runs by the default handler: unhardened, where that is another runtime",
        refs: &["docs/INSTALL.md#containerd", "docs/POLICY.md"],
        remedy: "default_runtime_name = \"gabion\" in containerd's configuration, with runtime/policy/kubeadm.toml for the node's own pods; or an admission policy that names a RuntimeClass",
        look: default,
    },
    Check {
        id: "containerd-annotations",
        reason: "a pod that asks for more (dev.gabion.level: restricted) is not heard, and runs at the policy's level",
        refs: &["docs/POLICY.md#annotations"],
        remedy: "pod_annotations = [\"dev.gabion.*\"] in each handler of gabion's",
        look: annotations,
    },
];

/// Something that is known against an engine, and the first version of each line in which it is mended; lines that are older than all of these
/// never were.
struct Known {
    engine: Engine,
    what: &'static str,
    since: (u32, u32, u32),
    mended: &'static [(u32, u32, u32)],
}

/// What reaches the host from a container or an image by the engine itself.
static KNOWN: [Known; 4] = [
    Known {
        engine: Engine::Containerd,
        what: "CVE-2026-53488 (a label of an image runs a command on the host)",
        since: (0, 0, 0),
        mended: &[(1, 7, 33), (2, 0, 10), (2, 1, 9), (2, 2, 5), (2, 3, 2)],
    },
    Known {
        engine: Engine::Docker,
        what: "CVE-2024-41110 (a request goes past authorization plugins)",
        since: (0, 0, 0),
        mended: &[(23, 0, 15), (25, 0, 6), (26, 1, 5), (27, 1, 1)],
    },
    Known {
        engine: Engine::Podman,
        what: "CVE-2026-55686 (an image's working directory makes directories on the host)",
        since: (3, 0, 0),
        mended: &[(5, 7, 1)],
    },
    Known {
        engine: Engine::CriO,
        what: "CVE-2024-5154 (an image's /etc/mtab makes files on the host)",
        since: (1, 28, 6),
        mended: &[(1, 28, 7), (1, 29, 5), (1, 30, 1)],
    },
];

impl Known {
    fn is_in(&self, version: (u32, u32, u32)) -> bool {
        let (major, minor, patch) = version;
        if version < self.since {
            return false;
        }
        match self.mended.iter().find(|(a, b, _)| (*a, *b) == (major, minor)) {
            Some((_, _, first)) => patch < *first,
            None => self.mended.last().is_some_and(|newest| version < *newest),
        }
    }
}

/// Gives the first version in what a program says of itself, and whether it is a distribution's own build.
fn version(said: &str) -> Option<((u32, u32, u32), &str)> {
    said.split([' ', ',', '\n']).find_map(|word| {
        let bare = word.trim().trim_start_matches('v');
        let end = bare
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(bare.len());
        let mut parts = bare[..end].split('.').map(|part| part.parse().ok());
        match (parts.next()??, parts.next()??, parts.next()) {
            (major, minor, Some(Some(patch))) => Some(((major, minor, patch), bare)),
            _ => None,
        }
    })
}

fn versions(node: &Node) -> Found {
    let each = node.engines.iter().filter_map(|(engine, said)| {
        let program = engine.program();
        match said {
            Seen::Absent => None,
            Seen::Unknown(why) => Some(Found::unknown(format!("{program}: {why}"))),
            Seen::Is(said) => Some(judged(*engine, said)),
        }
    });
    Found::gravest(each.collect(), Found::absent("no engine is here"))
}

fn judged(engine: Engine, said: &str) -> Found {
    let program = engine.program();
    let Some((number, shown)) = version(said) else {
        return Found::unknown(format!("{program} says no version that gabion understands"));
    };
    let against: Vec<&str> = KNOWN
        .iter()
        .filter(|known| known.engine == engine && known.is_in(number))
        .map(|known| known.what)
        .collect();
    match against.as_slice() {
        [] => Found::good(format!("{program} {shown}: gabion knows nothing against it")),
        // Debian's `1.6.20~ds1`, `20.10.24+dfsg1`.
        all if shown.contains(['~', '+']) => Found::unknown(format!(
            "{program} {shown} is a distribution's build of a version with {}: whether that is mended the number does not say",
            all.join(", ")
        ))
        .remedy("look the package up in the distribution's security tracker"),
        all => Found::weak(format!("{program} {shown}: {}", all.join(", "))),
    }
}

/// Gives containerd's configuration, or the line's end.
fn config(node: &Node) -> Result<Config, Found> {
    let nobody = Found::absent("there is no containerd");
    let here = node.engines.get(&Engine::Containerd);
    match &node.containerd {
        Seen::Unknown(why) => Err(Found::unknown(why.clone())),
        Seen::Absent => match here {
            Some(Seen::Is(_) | Seen::Unknown(_)) => Ok(Config::default()),
            _ => Err(nobody),
        },
        Seen::Is(files) => {
            containerd::read(files.iter().map(|(path, text)| (path.as_path(), text.as_str()))).map_err(Found::unknown)
        }
    }
}

fn handler(node: &Node) -> Found {
    let config = match config(node) {
        Ok(config) => config,
        Err(found) => return found,
    };
    let names: Vec<&str> = config.handlers.iter().map(|one| one.name.as_str()).collect();
    if names.is_empty() {
        return Found::advice("no handler leads to gabion");
    }
    Found::good(names.join(", "))
}

fn default(node: &Node) -> Found {
    let config = match config(node) {
        Ok(config) => config,
        Err(found) => return found,
    };
    if config.handlers.is_empty() {
        return Found::absent("no handler leads to gabion");
    }
    let name = config.default.as_deref().unwrap_or("runc");
    if config.handlers.iter().any(|one| one.name == name) {
        Found::good(name)
    } else {
        Found::advice(name)
    }
}

fn annotations(node: &Node) -> Found {
    let config = match config(node) {
        Ok(config) => config,
        Err(found) => return found,
    };
    let deaf: Vec<&str> = config
        .handlers
        .iter()
        .filter(|one| !one.passes_annotations())
        .map(|one| one.name.as_str())
        .collect();
    match (config.handlers.is_empty(), deaf.as_slice()) {
        (true, _) => Found::absent("no handler leads to gabion"),
        (false, []) => Found::good("each handler passes dev.gabion.*"),
        (false, deaf) => Found::weak(format!("dev.gabion.* does not reach {}", deaf.join(", "))),
    }
}
