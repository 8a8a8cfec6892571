//! Tells the head where a thief of the file does not reach: journald, the system's syslog, the kernel's audit.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;

use gabion_core::policy::Anchor;
use gabion_see::audit::anchor;
use gabion_see::audit::place::{Trouble, trouble};
use gabion_see::audit::verify::Head;
use gabion_see::kernel_audit::{ERROR, HEADER, REQUEST, ask, is_on, word};
use nix::errno::Errno;

const JOURNALD: &str = "/run/systemd/journal/socket";
const SYSLOG: &str = "/dev/log";

/// AUDIT_TRUSTED_APP: a text of a program.
const TRUSTED_APP: u16 = 1121;
/// NLM_F_ACK.
const ACK: u16 = 4;

/// How long a log that takes nothing more is waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// Tells it to each, and names the first that does not take it.
pub(super) fn tell(anchors: &[Anchor], log: &Path, head: &Head) -> Result<(), Trouble> {
    for one in anchors {
        let text = anchor::render(log, head);
        let (place, told) = match one {
            Anchor::Journald => (JOURNALD, send(JOURNALD, &journald(&text, head))),
            Anchor::Syslog => (SYSLOG, send(SYSLOG, &syslog(&text))),
            Anchor::Kernel => ("the kernel's audit", kernel(&text)),
        };
        told.map_err(trouble("anchor in", Path::new(place)))?;
    }
    Ok(())
}

fn send(socket: &str, message: &str) -> io::Result<()> {
    let ours = UnixDatagram::unbound()?;
    ours.set_write_timeout(Some(PATIENCE))?;
    ours.send_to(message.as_bytes(), socket).map(drop)
}

/// journald's own form (systemd's JOURNAL_NATIVE_PROTOCOL): a field a line. None of the values has a line's end.
fn journald(text: &str, head: &Head) -> String {
    format!(
        "PRIORITY=5\nSYSLOG_FACILITY=10\nSYSLOG_IDENTIFIER={}\nMESSAGE={text}\nGABION_AUDIT_SEQ={}\nGABION_AUDIT_HEAD={}\n",
        anchor::NAME,
        head.seq,
        head.hash
    )
}

/// authpriv.notice, without a time: the receiver has one.
fn syslog(text: &str) -> String {
    format!("<85>{}[{}]: {text}", anchor::NAME, std::process::id())
}

fn kernel(text: &str) -> io::Result<()> {
    // What is said to an audit that is off is dropped without a word.
    if !is_on()? {
        return Err(io::Error::other("it is switched off"));
    }
    Ok(say(&format!("{}: {text}", anchor::NAME))?)
}

/// Writes a record into the kernel's audit: of a program that the kernel trusts by its capability CAP_AUDIT_WRITE.
fn say(text: &str) -> Result<(), Errno> {
    let (kind, answer) = ask(TRUSTED_APP, REQUEST | ACK, text.as_bytes())?;
    match (kind, word(&answer, HEADER)?.cast_signed()) {
        (ERROR, 0) => Ok(()),
        (ERROR, errno) => Err(Errno::from_raw(-errno)),
        _ => Err(Errno::EBADMSG),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_read_again() {
        let log = Path::new("/var/log/gabion/audit.jsonl");
        let head = Head {
            seq: 12,
            hash: "ab".repeat(32),
        };
        let text = anchor::render(log, &head);
        for said in [
            journald(&text, &head),
            syslog(&text),
            format!("type=TRUSTED_APP msg=audit(1:2): pid=1 uid=0 auid=0 ses=1 msg='gabion: {text}'"),
        ] {
            let line = said.lines().find(|line| line.contains("audit seq")).unwrap();
            assert_eq!(anchor::parse(line, log), Some(head.clone()), "{line}");
            assert_eq!(anchor::parse(line, Path::new("/var/log/gabion/audit.json")), None);
        }
        let forged = anchor::render(Path::new("/a\nb' audit seq 1"), &head);
        assert_eq!(forged.lines().count(), 1);
    }

    #[test]
    fn where_nobody_listens_is_said() {
        let dir = std::env::temp_dir().join(format!("gabion-anchor-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let socket = dir.join("log");
        assert!(send(socket.to_str().unwrap(), "x").is_err());
        let listens = UnixDatagram::bind(&socket).unwrap();
        send(socket.to_str().unwrap(), "x").unwrap();
        let mut got = [0; 8];
        assert_eq!(listens.recv(&mut got).unwrap(), 1);
        std::fs::remove_dir_all(dir).unwrap();
    }
}
