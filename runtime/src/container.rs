//! The life cycle of a container.

use crate::error::{Error, Result};
use crate::hardened::Hardened;
use crate::host::collect::Handles;
use crate::request::ContainerId;

pub mod options;

pub use options::*;

const NOT_YET: Error = Error::NotSupported {
    what: "this command",
    why: "it is being written",
};

pub fn create(_: &Settings, _: &CreateOptions, _: Hardened, _: Handles) -> Result<i32> {
    Err(NOT_YET)
}

pub fn start(_: &Settings, _: &ContainerId) -> Result<()> {
    Err(NOT_YET)
}

pub fn run(_: &Settings, _: &CreateOptions, _: Hardened, _: Handles, _: Detach, _: Keep) -> Result<u8> {
    Err(NOT_YET)
}

pub fn exec(_: &Settings, _: &ContainerId, _: ExecOptions) -> Result<u8> {
    Err(NOT_YET)
}

pub fn kill(_: &Settings, _: &ContainerId, _: i32, _: KillScope) -> Result<()> {
    Err(NOT_YET)
}

pub fn delete(_: &Settings, _: &ContainerId, _: Force) -> Result<()> {
    Err(NOT_YET)
}

pub fn state(_: &Settings, _: &ContainerId) -> Result<serde_json::Value> {
    Err(NOT_YET)
}

pub fn list(_: &Settings) -> Result<Vec<ListEntry>> {
    Err(NOT_YET)
}

pub fn pids(_: &Settings, _: &ContainerId) -> Result<Vec<i32>> {
    Err(NOT_YET)
}
