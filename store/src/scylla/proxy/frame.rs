//! CQL's frames, as far as the proxy has to know them.
//!
//! Format: native_protocol_v4.spec of Apache Cassandra. A frame that cannot be read is passed on as it is.

use std::collections::HashMap;

use tokio::io::AsyncReadExt as _;
use tokio::net::tcp::OwnedReadHalf;

const HEADER: usize = 9;

/// A larger frame ends the connection: nothing of ours comes near it.
const BODY_MAX: usize = 32 * 1024 * 1024;

const RESULT: u8 = 0x08;
const PREPARE: u8 = 0x09;
const EXECUTE: u8 = 0x0a;

/// Of a RESULT.
const ROWS: i32 = 2;
const PREPARED: i32 = 4;

/// The flag of an EXECUTE that has values.
const WITH_VALUES: u8 = 0x01;

/// Statements by the id that the node gave them.
pub(super) type Statements = HashMap<Vec<u8>, String>;

/// A request or an answer, whole.
#[derive(Debug)]
pub(super) struct Frame(Vec<u8>);

impl Frame {
    /// The next one, `None` at the end of the connection.
    pub(super) async fn read(from: &mut OwnedReadHalf) -> Option<Self> {
        let mut frame = vec![0; HEADER];
        from.read_exact(&mut frame).await.ok()?;
        let (_, len) = frame.split_last_chunk()?;
        let len = u32::from_be_bytes(*len) as usize;
        if len > BODY_MAX {
            return None;
        }
        frame.resize(HEADER + len, 0);
        from.read_exact(&mut frame[HEADER..]).await.ok()?;
        Some(Frame(frame))
    }

    /// An ERROR answer.
    pub(super) fn error(stream: [u8; 2], code: u32, details: &[u8]) -> Self {
        let message = b"forged";
        let mut body = code.to_be_bytes().to_vec();
        body.extend((message.len() as u16).to_be_bytes());
        body.extend(message);
        body.extend(details);
        let mut frame = vec![0x84, 0, stream[0], stream[1], 0];
        frame.extend((body.len() as u32).to_be_bytes());
        frame.extend(body);
        Frame(frame)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// What ties an answer to its request on one connection.
    pub(super) fn stream(&self) -> [u8; 2] {
        [self.0[2], self.0[3]]
    }

    fn body(&self, opcode: u8) -> Option<Fields<'_>> {
        (self.0[4] == opcode).then(|| Fields(&self.0[HEADER..]))
    }

    /// The text that is to be prepared.
    pub(super) fn prepares(&self) -> Option<String> {
        let mut body = self.body(PREPARE)?;
        let len = body.int()?;
        let text = body.take(usize::try_from(len).ok()?)?;
        String::from_utf8(text.to_vec()).ok()
    }

    /// The id of what was prepared.
    pub(super) fn prepared(&self) -> Option<Vec<u8>> {
        let mut body = self.body(RESULT)?;
        (body.int()? == PREPARED).then_some(())?;
        let len = body.short()?;
        body.take(usize::from(len)).map(<[u8]>::to_vec)
    }

    /// What is to be executed.
    pub(super) fn executes<'a>(&'a self, statements: &'a Statements) -> Option<Request<'a>> {
        let mut body = self.body(EXECUTE)?;
        let len = body.short()?;
        let statement = statements.get(body.take(usize::from(len))?)?;
        let _consistency = body.short()?;
        let [flags] = *body.take(1)? else { return None };
        let mut values = Vec::new();
        if flags & WITH_VALUES != 0 {
            for _ in 0..body.short()? {
                // Negative: null.
                let len = body.int()?;
                values.push(body.take(usize::try_from(len).unwrap_or(0))?);
            }
        }
        Some(Request { statement, values })
    }

    /// Whether it says that a lightweight transaction was applied. Cassandra's form: the outcome is all that it says.
    pub(super) fn is_applied(&self) -> bool {
        let says = || {
            let mut body = self.body(RESULT)?;
            let (kind, _flags, columns) = (body.int()?, body.int()?, body.int()?);
            // One row, of one byte, which is true.
            let ends = body.0.ends_with(&[0, 0, 0, 1, 0, 0, 0, 1, 1]);
            Some(kind == ROWS && columns == 1 && ends)
        };
        says() == Some(true)
    }
}

/// A prepared statement that is executed.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// Its text.
    pub statement: &'a str,
    values: Vec<&'a [u8]>,
}

impl Request<'_> {
    /// Whether it is a lightweight transaction.
    pub fn is_cas(&self) -> bool {
        self.statement.contains(" IF ")
    }

    /// Whether it is the compare-and-set of a cell of this kind, as it stands in the table: `head`, `cuts`.
    pub fn moves(&self, kind: &str) -> bool {
        // An UPDATE names what is written first.
        let at = match self.statement.starts_with("UPDATE") {
            true => 2,
            false => 0,
        };
        self.is_cas() && self.values.get(at) == Some(&kind.as_bytes())
    }
}

/// The rest of a body.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn short(&mut self) -> Option<u16> {
        let bytes = self.take(2)?.try_into().ok()?;
        Some(u16::from_be_bytes(bytes))
    }

    fn int(&mut self) -> Option<i32> {
        let bytes = self.take(4)?.try_into().ok()?;
        Some(i32::from_be_bytes(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(opcode: u8, body: &[u8]) -> Frame {
        let mut frame = vec![4, 0, 1, 2, opcode];
        frame.extend((body.len() as u32).to_be_bytes());
        frame.extend(body);
        Frame(frame)
    }

    #[test]
    fn requests_are_known_by_what_was_prepared() {
        let text = "UPDATE k.cells SET attempt = ?, value = ? WHERE kind = ? IF attempt = ?";
        let prepare = [&(text.len() as u32).to_be_bytes()[..], text.as_bytes()].concat();
        let prepare = frame(PREPARE, &prepare);
        assert_eq!(prepare.prepares().as_deref(), Some(text));
        let prepared = frame(RESULT, &[0, 0, 0, 4, 0, 2, 7, 7, 0]);
        let id = prepared.prepared().expect("an id");
        assert_eq!(id, [7, 7]);
        let statements = Statements::from([(id, text.to_owned())]);
        let mut execute = vec![0, 2, 7, 7, 0, 6, WITH_VALUES, 0, 4];
        for value in [&b"token"[..], b"bytes", b"head", b"before"] {
            execute.extend((value.len() as u32).to_be_bytes());
            execute.extend(value);
        }
        let whole = frame(EXECUTE, &execute);
        let request = whole.executes(&statements).expect("a request");
        assert!(request.is_cas() && request.moves("head") && !request.moves("cuts"));
        assert!(whole.executes(&Statements::new()).is_none());
        for cut in 0..execute.len() {
            let torn = frame(EXECUTE, &execute[..cut]);
            assert!(torn.executes(&statements).is_none(), "{cut}");
        }
    }

    #[test]
    fn an_answer_is_applied_or_not() {
        let rows = |columns: u8, row: &[u8]| {
            let mut body = vec![0, 0, 0, 2, 0, 0, 0, 4, 0, 0, 0, columns, 0, 0, 0, 1];
            body.extend(row);
            frame(RESULT, &body).is_applied()
        };
        assert!(rows(1, &[0, 0, 0, 1, 1]));
        assert!(!rows(1, &[0, 0, 0, 1, 0]));
        assert!(!rows(2, &[0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 1, 1]));
        assert!(!Frame::error([0, 1], 0x1000, b"").is_applied());
    }
}
