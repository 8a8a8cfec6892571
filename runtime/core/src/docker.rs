//! What Docker's own files of a container tell of it.

use serde_json::Value;

/// Whether a container is a step of an image build.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Build {
    #[default]
    No,
    /// Of Docker's builder of old, whose steps are containers of dockerd's. BuildKit runs its own, with runc.
    Step,
}

/// Tells whether the builder of old made a container, by `config.v2.json` and `hostconfig.json`. It marks its containers by no name; but it alone names
/// an image by its whole id, takes the log away and takes the health check away, all at once.
pub fn build(id: &str, config: &[u8], host_config: &[u8]) -> Build {
    let json = |text| serde_json::from_slice::<Value>(text).unwrap_or_default();
    let (config, host_config) = (json(config), json(host_config));
    let text = |value: &Value, pointer: &str| value.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    let image = text(&config, "/Config/Image");
    let by_id = image.as_ref().is_some_and(|image| image.starts_with("sha256:"));
    let step = text(&config, "/ID").as_deref() == Some(id)
        && by_id
        && image == text(&config, "/Image")
        && text(&config, "/Config/Healthcheck/Test/0").as_deref() == Some("NONE")
        && text(&host_config, "/LogConfig/Type").as_deref() == Some("none");
    if step { Build::Step } else { Build::No }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_step_is_known_by_all_marks_together() {
        let image = "sha256:f7d5956972c6eb4f1f5f907d547052ff5075f764ac995432f364c4cca22dcd9e";
        let config = json!({"ID": "a", "Image": image, "Config": {"Image": image, "Healthcheck": {"Test": ["NONE"]}}});
        let host = json!({"LogConfig": {"Type": "none", "Config": {}}});
        let judged =
            |config: &Value, host: &Value| build("a", config.to_string().as_bytes(), host.to_string().as_bytes());
        assert_eq!(judged(&config, &host), Build::Step);
        for (pointer, value) in [
            ("/ID", json!("b")),
            ("/Config/Image", json!("busybox")),
            ("/Config/Healthcheck", json!(null)),
            ("/Config/Healthcheck/Test/0", json!("CMD")),
            ("/Image", json!("sha256:0")),
        ] {
            let mut other = config.clone();
            *other.pointer_mut(pointer).unwrap() = value;
            assert_eq!(judged(&other, &host), Build::No, "{pointer}");
        }
        assert_eq!(judged(&config, &json!({"LogConfig": {"Type": "json-file"}})), Build::No);
        assert_eq!(build("a", b"{", b""), Build::No);
    }
}
