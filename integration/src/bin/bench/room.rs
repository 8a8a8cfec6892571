//! A bundle whose runtimes keep their state in memory, as on a node, where /run is a tmpfs.

use crate::cases::Profile;
use integration::Bundle;
use nix::mount::{MsFlags, mount, umount};
use std::ops::{Deref, DerefMut};

pub(crate) struct Room(Bundle);

impl Room {
    pub(crate) fn new(name: &str, profile: Profile) -> Self {
        let mut room = Self(Bundle::new(name));
        let state = room.state();
        mount(
            Some("state"),
            &state,
            Some("tmpfs"),
            MsFlags::empty(),
            Some("mode=0700"),
        )
        .expect("a tmpfs");
        profile.set(&mut room);
        room
    }
}

impl Deref for Room {
    type Target = Bundle;

    fn deref(&self) -> &Bundle {
        &self.0
    }
}

impl DerefMut for Room {
    fn deref_mut(&mut self) -> &mut Bundle {
        &mut self.0
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        umount(&self.0.state()).expect("the tmpfs of the state");
    }
}
