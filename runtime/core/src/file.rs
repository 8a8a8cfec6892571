//! What is known of a file, whoever looked: the host's own and those that CDI names.

/// What kind of file something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    Directory,
    Regular,
    /// Major and minor number.
    CharDevice(u64, u64),
    BlockDevice(u64, u64),
    Socket,
    Fifo,
    Symlink,
}

/// Who can write to the directories above a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Above {
    /// Its owner alone, root or the caller.
    Closed,
    Open,
}
