//! `dev.gabion.holes`: `PATH[:key=value]…,PATH…` with the keys `size` and `mode`. Blanks part entries as commas do: podman 4 cuts
//! what follows `--annotation` at every comma. So no hole's path has a blank in it.

use std::path::{Path, PathBuf};

use crate::size::Size;

/// A hole that the annotation asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) path: PathBuf,
    pub(super) size: Option<Size>,
    pub(super) mode: Option<u32>,
}

/// Every entry of the annotation, or what is wrong with it.
pub(super) fn parse(text: &str) -> Vec<Result<Asked, String>> {
    let entries = text
        .split(|c: char| c == ',' || c.is_whitespace())
        .filter(|entry| !entry.is_empty());
    entries.map(entry).collect()
}

fn entry(text: &str) -> Result<Asked, String> {
    let mut parts = text.split(':');
    let path = Path::new(parts.next().unwrap_or_default());
    let plain = |p: &Path| p.components().all(|c| !matches!(c, std::path::Component::ParentDir));
    if !path.is_absolute() || !plain(path) {
        return Err(format!("{text:?} does not begin with an absolute path without `..`"));
    }
    let mut asked = Asked {
        path: crate::request::normalize(path),
        size: None,
        mode: None,
    };
    for part in parts {
        match part.split_once('=') {
            Some(("size", size)) => {
                let size: Size = size.parse().map_err(|e| format!("in {text:?}, {e}"))?;
                // To tmpfs, 0 means without limit (tmpfs(5)).
                if size.0 == 0 {
                    return Err(format!("in {text:?}, size 0 would mean without limit"));
                }
                asked.size = Some(size);
            }
            Some(("mode", mode)) => {
                let bits = u32::from_str_radix(mode, 8).ok().filter(|bits| bits & !0o1777 == 0);
                asked.mode = Some(bits.ok_or_else(|| format!("in {text:?}, {mode:?} is not a mode from 0 to 1777"))?);
            }
            _ => return Err(format!("in {text:?}, {part:?} is not size=… or mode=…")),
        }
    }
    Ok(asked)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_the_documentation_shows() {
        let asked: Vec<Asked> = parse("/var/lib/nginx:size=16m /var/log/nginx, /x/:size=1k:mode=0700")
            .into_iter()
            .map(Result::unwrap)
            .collect();
        assert_eq!(asked.len(), 3);
        assert_eq!(asked[0].path, Path::new("/var/lib/nginx"));
        assert_eq!(asked[0].size, Some(Size(16 << 20)));
        assert_eq!(asked[1].size, None);
        assert_eq!((asked[2].path.as_path(), asked[2].mode), (Path::new("/x"), Some(0o700)));
    }

    #[test]
    fn what_is_wrong_is_told() {
        for bad in [
            "var/lib",
            "/a/../etc",
            "/a:size=0",
            "/a:size=lots",
            "/a:mode=4755",
            "/a:mode=rwx",
            "/a:exec",
            "/a:nosuch=1",
            ":size=1m",
        ] {
            assert!(parse(bad)[0].is_err(), "{bad}");
        }
    }
}
