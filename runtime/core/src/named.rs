//! The name that an engine gives a container, its image, and its pod: what a person reads and types.
//!
//! All of it is the engine's word, or that of whoever wrote the bundle. Nothing is decided by it. A text of theirs comes out of here cut and
//! without signs that act on a terminal, so that whoever shows it need not think of that.

use std::path::{Path, PathBuf};

use oci_spec::runtime::Spec;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::printable::{one_line, within};
use crate::request::{CRI_NAMESPACE, is_build_step, is_dockers_task, task_namespace};

/// The most bytes of one text: a reference of an image may have a digest behind its name.
const LONGEST: usize = 256;

/// A text of somebody else's, fit to be shown in one line.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "String")]
pub struct Shown(String);

impl Shown {
    /// Gives the text as it may be shown.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Shown {
    fn from(text: &str) -> Self {
        Self(one_line(&within(text, LONGEST)))
    }
}

impl From<String> for Shown {
    fn from(text: String) -> Self {
        text.as_str().into()
    }
}

impl std::fmt::Display for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who made the container, as its bundle's place and its annotations say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Engine {
    Docker,
    Podman,
    Buildah,
    /// `ctr`, or whoever else asks containerd itself.
    Containerd,
    Nerdctl,
    /// containerd's CRI plugin, or CRI-O.
    Kubernetes,
}

impl Engine {
    /// Gives the name as a person writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Podman => "podman",
            Self::Buildah => "buildah",
            Self::Containerd => "containerd",
            Self::Nerdctl => "nerdctl",
            Self::Kubernetes => "kubernetes",
        }
    }
}

/// The place of a container in a pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InPod {
    pub namespace: Shown,
    pub pod: Shown,
    /// None: the pod's sandbox.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<Shown>,
}

/// What an engine calls a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    pub engine: Engine,
    /// The name that the engine's own commands take; of a pod `namespace/pod/container`, or `namespace/pod` of its sandbox.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Shown>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<Shown>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<InPod>,
}

/// A file in which an engine has the rest, and how it is read. It is the engine's own: it is opened as such, or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Docker's directories of containers; this one's is below.
    Dockers(Vec<PathBuf>),
    /// The lists of containers/storage: podman's.
    Storage(Vec<PathBuf>),
    /// All that is known was said.
    None,
}

impl Named {
    /// Reads what the bundle itself says, and where more stands. None: it was made by nobody that is known.
    pub fn of(id: &str, bundle: &Path, spec: &Spec) -> Option<(Self, Source)> {
        let annotation = |key: &str| {
            spec.annotations()
                .as_ref()
                .and_then(|all| all.get(key))
                .map(String::as_str)
        };
        if is_build_step(id, bundle) {
            return Some((Self::by(Engine::Buildah), Source::None));
        }
        if is_dockers_task(id, bundle) {
            return Some((Self::by(Engine::Docker), Source::Dockers(dockers(id, spec))));
        }
        match task_namespace(id, bundle) {
            Some(CRI_NAMESPACE) => return Some((Self::of_cri(annotation), Source::None)),
            Some(_) => return Some((Self::of_containerd(id, annotation), Source::None)),
            None => {}
        }
        let lists = storage(id, bundle, spec)?;
        if annotation("io.kubernetes.cri-o.ContainerType").is_some() && annotation(MANAGER) != Some("libpod") {
            return Some((Self::of_cri_o(annotation), Source::None));
        }
        Some((Self::by(Engine::Podman), Source::Storage(lists)))
    }

    const fn by(engine: Engine) -> Self {
        Self {
            engine,
            name: None,
            image: None,
            pod: None,
        }
    }

    fn of_cri<'a>(annotation: impl Fn(&str) -> Option<&'a str>) -> Self {
        let get = |name: &str| annotation(&format!("io.kubernetes.cri.{name}")).map(Shown::from);
        // containerd writes these of a container after the pod's own; of a sandbox they would be the pod's word.
        let of_container = annotation("io.kubernetes.cri.container-type") == Some("container");
        let (container, image) = (get("container-name"), get("image-name"));
        let (namespace, pod) = (get("sandbox-namespace"), get("sandbox-name"));
        Self::in_pod(namespace, pod, container.filter(|_| of_container)).with_image(image.filter(|_| of_container))
    }

    fn of_cri_o<'a>(annotation: impl Fn(&str) -> Option<&'a str>) -> Self {
        let get = |name: &str| annotation(&format!("io.kubernetes.{name}")).map(Shown::from);
        let of_container = annotation("io.kubernetes.cri-o.ContainerType") == Some("container");
        let (container, image) = (get("container.name"), get("cri-o.ImageName"));
        Self::in_pod(
            get("pod.namespace"),
            get("pod.name"),
            container.filter(|_| of_container),
        )
        .with_image(image)
    }

    fn in_pod(namespace: Option<Shown>, pod: Option<Shown>, container: Option<Shown>) -> Self {
        let mut named = Self::by(Engine::Kubernetes);
        if let (Some(namespace), Some(pod)) = (namespace, pod) {
            let of = container.as_ref().map(|name| format!("/{name}")).unwrap_or_default();
            named.name = Some(Shown(format!("{namespace}/{pod}{of}")));
            named.pod = Some(InPod {
                namespace,
                pod,
                container,
            });
        }
        named
    }

    fn with_image(self, image: Option<Shown>) -> Self {
        Self { image, ..self }
    }

    fn of_containerd<'a>(id: &str, annotation: impl Fn(&str) -> Option<&'a str>) -> Self {
        match annotation("nerdctl/name") {
            Some(name) => Self {
                name: Some(name.into()),
                ..Self::by(Engine::Nerdctl)
            },
            None => Self {
                // containerd knows a container by its id alone.
                name: Some(id.into()),
                ..Self::by(Engine::Containerd)
            },
        }
    }

    /// Adds what Docker's `config.v2.json` of this container says. One of another container says nothing.
    pub fn told_by_docker(&mut self, id: &str, text: &[u8]) {
        let Ok(told) = serde_json::from_slice::<Value>(text) else {
            return;
        };
        if told.get("ID").and_then(Value::as_str) != Some(id) {
            return;
        }
        let name = told.get("Name").and_then(Value::as_str);
        self.name = name.map(|name| name.strip_prefix('/').unwrap_or(name).into());
        self.image = told.pointer("/Config/Image").and_then(Value::as_str).map(Shown::from);
    }

    /// Tells whether a person who types `text` means this container. The parts of a pod's name count from behind: `pod/container` and
    /// `container` are enough, where no other has them.
    pub fn is_called(&self, text: &str) -> bool {
        if text.is_empty() {
            return false;
        }
        let is = |name: &Shown| name.as_str() == text;
        let Some(in_pod) = &self.pod else {
            return self.name.as_ref().is_some_and(is);
        };
        let Some(container) = &in_pod.container else {
            return self.name.as_ref().is_some_and(is);
        };
        self.name.as_ref().is_some_and(is) || is(container) || text == format!("{}/{container}", in_pod.pod)
    }
}

/// Where podman, and CRI-O with another word, says that it is the one.
const MANAGER: &str = "io.container.manager";

/// What stands in a list of containers/storage: the name and image of each container.
pub fn storage_list(text: &[u8]) -> Vec<(String, Option<Shown>, Option<Shown>)> {
    let Ok(Value::Array(all)) = serde_json::from_slice::<Value>(text) else {
        return Vec::new();
    };
    let read = |entry: &Value| {
        let id = entry.get("id")?.as_str()?.to_owned();
        let name = entry.pointer("/names/0").and_then(Value::as_str).map(Shown::from);
        let metadata = entry.get("metadata").and_then(Value::as_str).unwrap_or_default();
        let metadata: Value = serde_json::from_str(metadata).unwrap_or_default();
        let image = metadata.get("image-name").and_then(Value::as_str);
        Some((id, name, image.filter(|image| !image.is_empty()).map(Shown::from)))
    };
    all.iter().filter_map(read).collect()
}

/// Docker's directories of containers, by the files of this one that are mounted into it.
fn dockers(id: &str, spec: &Spec) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for source in sources(spec) {
        let own = source
            .ancestors()
            .find(|dir| dir.ends_with(Path::new("containers").join(id)));
        if let Some(all) = own.and_then(Path::parent)
            && !found.iter().any(|known| known == all)
        {
            found.push(all.to_owned());
        }
    }
    found
}

/// The lists of containers/storage, by the place of the bundle, `…/<driver>-containers/<id>/userdata`, and by files of this container that are
/// mounted into it. None: the bundle does not lie there.
fn storage(id: &str, bundle: &Path, spec: &Spec) -> Option<Vec<PathBuf>> {
    let own = |path: &Path| {
        let dir = path
            .ancestors()
            .find(|dir| dir.ends_with(Path::new(id).join("userdata")))?;
        let all = dir.parent()?.parent()?;
        let is_list = all.file_name()?.to_str()?.ends_with("-containers");
        is_list.then(|| all.to_owned())
    };
    let mut dirs = vec![own(bundle)?];
    for dir in sources(spec).filter_map(own) {
        if !dirs.contains(&dir) {
            dirs.push(dir);
        }
    }
    let lists = |dir: &PathBuf| ["containers.json", "volatile-containers.json"].map(|name| dir.join(name));
    Some(dirs.iter().flat_map(lists).collect())
}

fn sources(spec: &Spec) -> impl Iterator<Item = &Path> {
    spec.mounts()
        .iter()
        .flatten()
        .filter_map(|mount| mount.source().as_deref())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const ID: &str = "4f5c1b2d3e4f5a6b7c8d9e0f1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d";

    fn spec(annotations: Value, sources: &[String]) -> Spec {
        let mounts: Vec<Value> = sources
            .iter()
            .map(|source| json!({"destination": "/x", "type": "bind", "source": source}))
            .collect();
        serde_json::from_value(json!({"ociVersion": "1.0.2", "annotations": annotations, "mounts": mounts})).unwrap()
    }

    fn of(bundle: &str, annotations: Value, sources: &[&str]) -> Option<(Named, Source)> {
        let own = |text: &str| text.replace("ID", ID);
        let sources: Vec<String> = sources.iter().map(|s| own(s)).collect();
        Named::of(ID, Path::new(&own(bundle)), &spec(annotations, &sources))
    }

    fn task(namespace: &str) -> String {
        format!("/run/containerd/io.containerd.runtime.v2.task/{namespace}/ID")
    }

    #[test]
    fn dockers_file_is_found_by_what_is_mounted_and_believed_of_its_own_id_alone() {
        let source = "/srv/d/containers/ID/hostname";
        for namespace in ["moby", "moby-231072.231072"] {
            let (named, source) = of(&task(namespace), json!({}), &[source, source]).unwrap();
            assert_eq!((named.engine, named.name), (Engine::Docker, None));
            assert_eq!(source, Source::Dockers(vec!["/srv/d/containers".into()]));
        }
        let mut named = Named::by(Engine::Docker);
        let told = |id: &str| json!({"ID": id, "Name": "/web\u{1b}[2J", "Config": {"Image": "busybox"}}).to_string();
        named.told_by_docker(ID, told("other").as_bytes());
        named.told_by_docker(ID, b"{");
        assert_eq!(named, Named::by(Engine::Docker));
        named.told_by_docker(ID, told(ID).as_bytes());
        assert_eq!(named.name.unwrap().as_str(), "web\\u{1b}[2J");
        assert_eq!(named.image.unwrap().as_str(), "busybox");
    }

    #[test]
    fn podmans_lists_are_found_by_the_bundle_and_read() {
        let bundle = "/g/overlay-containers/ID/userdata";
        let podman = json!({"io.container.manager": "libpod"});
        let (named, source) = of(bundle, podman.clone(), &["/r/overlay-containers/ID/userdata/hosts"]).unwrap();
        assert_eq!(named, Named::by(Engine::Podman));
        let Source::Storage(lists) = source else { panic!() };
        assert_eq!(lists[0], Path::new("/g/overlay-containers/containers.json"));
        assert!(lists.contains(&"/r/overlay-containers/volatile-containers.json".into()));
        // The annotation alone names nobody: a bundle elsewhere may have it.
        assert_eq!(of("/srv/b", podman, &[]), None);
        let list = json!([{"id": ID, "names": ["web", "other"], "metadata": "{\"image-name\":\"localhost/bb:1\"}"},
            {"id": "b", "names": [], "metadata": "{"}, {"names": ["none"]}, 7]);
        let text = |text: &str| Some(Shown::from(text));
        assert_eq!(
            storage_list(list.to_string().as_bytes()),
            [
                (ID.to_owned(), text("web"), text("localhost/bb:1")),
                ("b".to_owned(), None, None)
            ]
        );
        assert!(storage_list(b"{}").is_empty() && storage_list(b"[").is_empty());
    }

    fn pod(kind: &str) -> Value {
        json!({"io.kubernetes.cri.container-type": kind, "io.kubernetes.cri.sandbox-namespace": "shop",
            "io.kubernetes.cri.sandbox-name": "web-0", "io.kubernetes.cri.container-name": "nginx",
            "io.kubernetes.cri.image-name": "docker.io/library/nginx:1.27"})
    }

    #[test]
    fn a_pods_parts_name_its_container() {
        let (named, source) = of(&task("k8s.io"), pod("container"), &[]).unwrap();
        assert_eq!((named.engine, source), (Engine::Kubernetes, Source::None));
        assert_eq!(named.image.as_ref().unwrap().as_str(), "docker.io/library/nginx:1.27");
        for (text, means) in [
            ("shop/web-0/nginx", true),
            ("web-0/nginx", true),
            ("nginx", true),
            ("shop/web-0", false),
            ("web-0", false),
            ("", false),
        ] {
            assert_eq!(named.is_called(text), means, "{text}");
        }
        let (sandbox, _) = of(&task("k8s.io"), pod("sandbox"), &[]).unwrap();
        assert!(sandbox.is_called("shop/web-0") && !sandbox.is_called("nginx") && sandbox.image.is_none());
        // Whoever else writes them is no pod.
        let (named, _) = of(&task("default"), pod("container"), &[]).unwrap();
        assert_eq!((named.engine, named.pod), (Engine::Containerd, None));
        assert_eq!(of("/srv/b", pod("container"), &[]), None);
    }

    #[test]
    fn the_other_engines() {
        let cri_o = json!({"io.kubernetes.cri-o.ContainerType": "container", "io.kubernetes.pod.namespace": "a",
            "io.kubernetes.pod.name": "b", "io.kubernetes.container.name": "c", "io.container.manager": "cri-o"});
        let (named, _) = of("/r/overlay-containers/ID/userdata", cri_o, &[]).unwrap();
        assert_eq!(
            (named.engine, named.name.unwrap().as_str()),
            (Engine::Kubernetes, "a/b/c")
        );
        let (named, _) = of(&task("default"), json!({"nerdctl/name": "web"}), &[]).unwrap();
        assert_eq!((named.engine, named.is_called("web")), (Engine::Nerdctl, true));
        let (named, _) = of(&task("default"), json!({}), &[]).unwrap();
        assert_eq!((named.engine, named.is_called(ID)), (Engine::Containerd, true));
        let build = Named::of("buildah-buildah12", Path::new("/t/buildah12"), &spec(json!({}), &[])).unwrap();
        assert_eq!(build.0.engine, Engine::Buildah);
    }

    #[test]
    fn a_text_is_cut_and_acts_on_nothing() {
        let shown = Shown::from(format!("a\u{202e}\n{}", "b".repeat(5000)).as_str());
        assert!(shown.as_str().starts_with("a\\u{202e} b") && shown.as_str().len() < 300);
        let read: Shown = serde_json::from_str(r#""a\u001bb""#).unwrap();
        assert_eq!(read.as_str(), "a\\u{1b}b");
    }
}
