//! Reading what the bus answers: never trusted to be as long as it says.

use std::io;

pub(super) const RETURN: u8 = 2;
pub(super) const ERROR: u8 = 3;

/// Fields of a header.
pub(super) const ERROR_NAME: u8 = 4;
pub(super) const REPLY_SERIAL: u8 = 5;
pub(super) const SIGNATURE: u8 = 8;

/// What the other side says instead of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// A name like an interface's, `org.freedesktop.systemd1.NoSuchUnit`.
    pub(crate) name: String,
    /// For people.
    pub(crate) text: String,
}

pub(super) fn malformed() -> io::Error {
    io::Error::from(io::ErrorKind::InvalidData)
}

/// What a message answers, and how.
pub(super) struct Answer {
    /// The serial of the call that it answers; none for a signal.
    pub(super) to: Option<u32>,
    pub(super) result: Result<(), Fault>,
}

impl Answer {
    pub(super) fn parse(kind: u8, fields: &[u8], body: &[u8]) -> io::Result<Self> {
        let mut read = Reader { bytes: fields, at: 0 };
        let (mut to, mut name, mut signature) = (None, String::new(), String::new());
        loop {
            read.align(8);
            if read.at >= fields.len() {
                break;
            }
            let code = read.byte()?;
            let value = read.variant()?;
            match (code, value) {
                (REPLY_SERIAL, Field::Number(serial)) => to = Some(serial),
                (ERROR_NAME, Field::Text(text)) => name = text,
                (SIGNATURE, Field::Text(text)) => signature = text,
                _ => {}
            }
        }
        let to = to.filter(|_| kind == RETURN || kind == ERROR);
        if kind != ERROR {
            return Ok(Self { to, result: Ok(()) });
        }
        let mut read = Reader { bytes: body, at: 0 };
        let text = if signature.starts_with('s') {
            read.text()?
        } else {
            String::new()
        };
        Ok(Self {
            to,
            result: Err(Fault { name, text }),
        })
    }
}

enum Field {
    Number(u32),
    Text(String),
}

/// What came, and how far it has been read.
pub(super) struct Reader<'b> {
    pub(super) bytes: &'b [u8],
    pub(super) at: usize,
}

impl Reader<'_> {
    pub(super) fn align(&mut self, to: usize) {
        self.at = self.at.next_multiple_of(to);
    }

    fn take(&mut self, count: usize) -> io::Result<&[u8]> {
        let end = self.at.checked_add(count).ok_or_else(malformed)?;
        let taken = self.bytes.get(self.at..end).ok_or_else(malformed)?;
        self.at = end;
        Ok(taken)
    }

    fn byte(&mut self) -> io::Result<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    pub(super) fn u32(&mut self) -> io::Result<u32> {
        self.align(4);
        let bytes = self.take(4)?.try_into().map_err(|_| malformed())?;
        Ok(u32::from_le_bytes(bytes))
    }

    pub(super) fn size(&mut self) -> io::Result<usize> {
        usize::try_from(self.u32()?).map_err(|_| malformed())
    }

    fn string(&mut self, length: usize) -> io::Result<String> {
        let text = String::from_utf8(self.take(length)?.to_vec()).map_err(|_| malformed())?;
        self.take(1)?;
        Ok(text)
    }

    fn text(&mut self) -> io::Result<String> {
        let length = self.size()?;
        self.string(length)
    }

    /// Headers have no other types.
    fn variant(&mut self) -> io::Result<Field> {
        let length = self.byte()?.into();
        match self.string(length)?.as_str() {
            "u" => self.u32().map(Field::Number),
            "s" | "o" => self.text().map(Field::Text),
            "g" => {
                let length = self.byte()?.into();
                self.string(length).map(Field::Text)
            }
            _ => Err(malformed()),
        }
    }
}
