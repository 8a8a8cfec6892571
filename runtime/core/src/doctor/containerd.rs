//! containerd's configuration, as far as it says who runs pods: handlers, the default one, and which annotations reach them.

use std::path::Path;

use serde_json::Value;

/// Where distributions have it.
pub const CONFIG: &str = "/etc/containerd/config.toml";

/// The runtime type of gabion's shim.
const GABION: &str = "io.containerd.gabion.v2";

/// The program that the type means.
pub const SHIM: &str = "containerd-shim-gabion-v2";

/// A handler that leads to gabion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handler {
    pub name: String,
    pub annotations: Vec<String>,
    /// A shim that is named by its path.
    pub shim: Option<String>,
}

impl Handler {
    /// Whether the annotations of gabion's own reach it.
    pub(super) fn passes_annotations(&self) -> bool {
        let passes = |glob: &str| matches!(glob, "*" | "dev.*" | "dev.gabion*" | "dev.gabion.*");
        self.annotations.iter().any(|glob| passes(glob))
    }
}

/// What one file, or all of them, say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    pub handlers: Vec<Handler>,
    /// The names of all handlers.
    pub all: Vec<String>,
    pub default: Option<String>,
}

/// The containerd's CRI plugin by its names of versions 1, 2 and 3.
const PLUGINS: [&str; 3] = ["cri", "io.containerd.grpc.v1.cri", "io.containerd.cri.v1.runtime"];

/// Gives the files that a file imports, as it names them: paths, or globs.
///
/// # Errors
/// It is no TOML.
pub fn imports(text: &str) -> Result<Vec<String>, String> {
    let root = parse(text)?;
    let list = root.get("imports").and_then(Value::as_array);
    Ok(list
        .into_iter()
        .flatten()
        .filter_map(|one| one.as_str().map(str::to_owned))
        .collect())
}

fn parse(text: &str) -> Result<Value, String> {
    toml::from_str::<Value>(text).map_err(|error| error.message().replace('\n', " "))
}

/// Reads the configuration off its files, in the order in which containerd reads them: a later word counts.
///
/// # Errors
/// One of them is no TOML.
pub fn read<'a>(files: impl Iterator<Item = (&'a Path, &'a str)>) -> Result<Config, String> {
    let mut config = Config::default();
    for (path, text) in files {
        let root = parse(text).map_err(|why| format!("{}: {why}", path.display()))?;
        for plugin in PLUGINS {
            let Some(section) = root
                .get("plugins")
                .and_then(|plugins| plugins.get(plugin)?.get("containerd"))
            else {
                continue;
            };
            if let Some(name) = section.get("default_runtime_name").and_then(Value::as_str) {
                config.default = Some(name.to_owned());
            }
            for (name, runtime) in section.get("runtimes").and_then(Value::as_object).into_iter().flatten() {
                add(&mut config, name, runtime);
            }
        }
    }
    Ok(config)
}

fn add(config: &mut Config, name: &str, runtime: &Value) {
    let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
    config.all.retain(|one| one != name);
    config.all.push(name.to_owned());
    config.handlers.retain(|one| one.name != name);
    let shim = text(runtime.get("runtime_path")).filter(|path| !path.is_empty());
    let binary = text(runtime.pointer("/options/BinaryName"));
    let named = |path: &Option<String>| {
        path.as_deref()
            .and_then(|path| Path::new(path).file_name()?.to_str())
            .is_some_and(|name| name == SHIM || name == "gabion" || name.starts_with("gabion-"))
    };
    let typed = runtime.get("runtime_type").and_then(Value::as_str) == Some(GABION);
    if !typed && !named(&shim) && !named(&binary) {
        return;
    }
    let annotations = runtime.get("pod_annotations").and_then(Value::as_array);
    config.handlers.push(Handler {
        name: name.to_owned(),
        annotations: annotations
            .into_iter()
            .flatten()
            .filter_map(|one| one.as_str().map(str::to_owned))
            .collect(),
        shim: shim.filter(|path| path.starts_with('/') && path.ends_with(SHIM)),
    });
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn config(files: &[&str]) -> Config {
        read(files.iter().map(|text| (Path::new("/c"), *text))).unwrap()
    }

    #[test]
    fn handlers_are_known_by_type_path_and_binary() {
        let text = r#"
            version = 2
            [plugins."io.containerd.grpc.v1.cri".containerd]
            default_runtime_name = "a"
            [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.a]
            runtime_type = "io.containerd.gabion.v2"
            pod_annotations = ["dev.gabion.*"]
            [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.b]
            runtime_type = "io.containerd.runc.v2"
            [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.b.options]
            BinaryName = "/usr/local/bin/gabion"
            [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.c]
            runtime_type = "io.containerd.runc.v2"
            runtime_path = "/opt/bin/containerd-shim-gabion-v2"
            [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
            runtime_type = "io.containerd.runc.v2"
        "#;
        let config = config(&[text]);
        assert_eq!(config.default.as_deref(), Some("a"));
        assert_eq!(config.all.len(), 4);
        let names: Vec<_> = config
            .handlers
            .iter()
            .map(|one| (one.name.as_str(), one.passes_annotations()))
            .collect();
        assert_eq!(names, [("a", true), ("b", false), ("c", false)]);
        assert_eq!(
            config.handlers[2].shim.as_deref(),
            Some("/opt/bin/containerd-shim-gabion-v2")
        );
    }

    #[test]
    fn a_later_file_counts() {
        let of = |kind: &str| {
            format!(
                "[plugins.\"io.containerd.cri.v1.runtime\".containerd.runtimes.x]\nruntime_type = \"io.containerd.{kind}.v2\"\n"
            )
        };
        assert_eq!(config(&[&of("gabion"), &of("runc")]).handlers, []);
        assert_eq!(config(&[&of("runc"), &of("gabion")]).handlers.len(), 1);
    }

    #[test]
    fn what_is_no_toml_is_an_error() {
        assert!(
            read([(Path::new("/c"), "= 1")].into_iter())
                .unwrap_err()
                .starts_with("/c: ")
        );
        assert_eq!(
            imports("imports = [\"/etc/containerd/conf.d/*.toml\"]").unwrap(),
            ["/etc/containerd/conf.d/*.toml"]
        );
        assert!(imports("imports").is_err());
    }
}
