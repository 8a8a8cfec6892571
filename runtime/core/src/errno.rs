//! Names of error numbers, as people look them up (errno(3)). Opening a file gives few of them.

/// Gives the name of an error number: `ENOENT`. A rare one is named by its number.
pub fn name(errno: i32) -> String {
    let name = match errno {
        1 => "EPERM",
        2 => "ENOENT",
        5 => "EIO",
        6 => "ENXIO",
        12 => "ENOMEM",
        13 => "EACCES",
        16 => "EBUSY",
        18 => "EXDEV",
        19 => "ENODEV",
        20 => "ENOTDIR",
        22 => "EINVAL",
        23 => "ENFILE",
        24 => "EMFILE",
        36 => "ENAMETOOLONG",
        40 => "ELOOP",
        116 => "ESTALE",
        other => return format!("error {other}"),
    };
    name.to_owned()
}
