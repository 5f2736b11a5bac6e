//! QUERY events: their layout, and the texts that the server itself writes to bound and join transactions.

use super::body::{Body, Malformed};
use super::xa::Xid;

/// A statement as logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Query<'a> {
    /// The default database it ran in, empty for none.
    pub(super) database: &'a [u8],
    /// Its text, in the client's character set.
    pub(super) text: &'a [u8],
    /// `sql_mode` as bits, if the event says.
    pub(super) sql_mode: Option<u64>,
}

impl<'a> Query<'a> {
    /// A QUERY body.
    pub(super) fn parse(body: &'a [u8]) -> Result<Self, Malformed> {
        Self::parse_with(body, 0)
    }

    /// An EXECUTE_LOAD_QUERY body: the same, with the file's id, where its name stands in the text, and what to
    /// do with duplicates.
    pub(super) fn parse_load(body: &'a [u8]) -> Result<Self, Malformed> {
        Self::parse_with(body, 4 + 4 + 4 + 1)
    }

    fn parse_with(body: &'a [u8], more: usize) -> Result<Self, Malformed> {
        let mut body = Body(body);
        let _thread_and_duration = body.take(8)?;
        let database_length = body.length(1)?;
        let _error = body.u16()?;
        let variables_length = body.length(2)?;
        body.take(more)?;
        let sql_mode = sql_mode(body.take(variables_length)?);
        let database = body.take(database_length)?;
        if body.u8()? != 0 {
            return Err(Malformed("its database does not end where it should"));
        }
        Ok(Query {
            database,
            text: body.0,
            sql_mode,
        })
    }
}

/// `sql_mode` among the status variables. They have no lengths, so that it can only be found behind known ones;
/// servers write it second.
fn sql_mode(variables: &[u8]) -> Option<u64> {
    const FLAGS: u8 = 0;
    const SQL_MODE: u8 = 1;
    let mut variables = Body(variables);
    loop {
        match variables.u8().ok()? {
            FLAGS => {
                variables.take(4).ok()?;
            }
            SQL_MODE => return variables.number(8).ok(),
            _ => return None,
        }
    }
}

/// What a statement does to the group that it stands in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Control {
    /// BEGIN, or XA START: rows and statements follow.
    Begin,
    /// COMMIT: the group ends.
    Commit,
    /// ROLLBACK: the group ends; only what a table without transactions did remains.
    Rollback,
    /// ROLLBACK TO a savepoint: what came after it is undone.
    RollbackTo,
    /// SAVEPOINT, RELEASE SAVEPOINT, XA END: nothing.
    Nothing,
    /// XA COMMIT of what was prepared.
    XaCommit(Xid),
    /// XA ROLLBACK of what was prepared.
    XaRollback(Xid),
    /// A statement of a user.
    Statement,
}

impl Control {
    /// Reads a text. The server writes these itself, so they have no comments and only single spaces.
    pub(super) fn of(text: &[u8]) -> Result<Self, Malformed> {
        let text = text.trim_ascii();
        let (first, rest) = word(text);
        let is = |keyword: &str| first.eq_ignore_ascii_case(keyword.as_bytes());
        Ok(if is("BEGIN") && rest.is_empty() {
            Control::Begin
        } else if is("COMMIT") && rest.is_empty() {
            Control::Commit
        } else if is("ROLLBACK") && rest.is_empty() {
            Control::Rollback
        } else if is("ROLLBACK") && word(rest).0.eq_ignore_ascii_case(b"TO") {
            Control::RollbackTo
        } else if is("SAVEPOINT") || is("RELEASE") {
            Control::Nothing
        } else if is("XA") {
            Self::of_xa(rest)?
        } else {
            Control::Statement
        })
    }

    fn of_xa(text: &[u8]) -> Result<Self, Malformed> {
        let (verb, xid) = word(text);
        let is = |keyword: &str| verb.eq_ignore_ascii_case(keyword.as_bytes());
        if is("START") || is("BEGIN") {
            Ok(Control::Begin)
        } else if is("END") || is("PREPARE") {
            Ok(Control::Nothing)
        } else if is("COMMIT") {
            let (xid, rest) = Xid::parse(xid)?;
            match rest.trim_ascii() {
                b"" => Ok(Control::XaCommit(xid)),
                one_phase if one_phase.eq_ignore_ascii_case(b"ONE PHASE") => Ok(Control::Commit),
                _ => Err(Malformed("something unknown follows its XID")),
            }
        } else if is("ROLLBACK") {
            Ok(Control::XaRollback(Xid::parse(xid)?.0))
        } else {
            Err(Malformed("an unknown XA statement"))
        }
    }
}

fn word(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text
        .iter()
        .position(u8::is_ascii_whitespace)
        .unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    (word, rest.trim_ascii_start())
}
