//! Statement text to tokens, as MySQL and MariaDB read it.
//!
//! A comment that only some versions execute (`/*!80013 .. */`, `/*M!100301 .. */`) is read in both ways by the
//! caller, who takes the worse outcome: which of them the source did is not known here.

use std::borrow::Cow;

/// A token. White space, comments and the contents of string literals are gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// A keyword, name or number, as written.
    Word(&'a str),
    /// A quoted name. `"..."` is one, too, though it is a string in most SQL modes.
    Quoted(Cow<'a, str>),
    /// A string literal.
    Literal,
    /// One character of everything else.
    Symbol(char),
}

impl<'a> Token<'a> {
    pub(super) fn is_word(&self, word: &str) -> bool {
        matches!(self, Token::Word(text) if text.eq_ignore_ascii_case(word))
    }

    pub(super) fn is_symbol(&self, symbol: char) -> bool {
        *self == Token::Symbol(symbol)
    }

    /// What it names, if it may be a name.
    pub(super) fn name(&self) -> Option<&str> {
        match self {
            Token::Word(text) => Some(text),
            Token::Quoted(text) => Some(text),
            Token::Literal | Token::Symbol(_) => None,
        }
    }
}

/// How the text is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mode {
    /// `ANSI_QUOTES`: backslashes in `"..."` are themselves.
    pub(super) ansi_quotes: bool,
    /// `NO_BACKSLASH_ESCAPES`: backslashes in `'...'` are themselves.
    pub(super) plain_backslashes: bool,
    /// Whether comments that only some versions execute are executed.
    pub(super) execute: bool,
}

impl Mode {
    /// From `sql_mode` as bits.
    pub(super) fn new(sql_mode: u64, execute: bool) -> Self {
        const ANSI_QUOTES: u64 = 1 << 2;
        const NO_BACKSLASH_ESCAPES: u64 = 1 << 20;
        Mode {
            ansi_quotes: sql_mode & ANSI_QUOTES != 0,
            plain_backslashes: sql_mode & NO_BACKSLASH_ESCAPES != 0,
            execute,
        }
    }
}

/// Reads tokens one after the other, without allocating but for names with doubled quotes.
#[derive(Clone, Debug)]
pub(super) struct Lexer<'a> {
    rest: &'a str,
    mode: Mode,
    /// How many executed comments are open.
    open: usize,
    /// Whether a comment was seen that only some versions execute.
    pub(super) depends_on_version: bool,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str, mode: Mode) -> Self {
        Lexer {
            rest: text,
            mode,
            open: 0,
            depends_on_version: false,
        }
    }

    fn skip(&mut self, bytes: usize) {
        self.rest = self.rest.get(bytes..).unwrap_or_default();
    }

    fn skip_past(&mut self, end: &str) {
        let at = self.rest.find(end).map(|at| at + end.len());
        self.skip(at.unwrap_or(self.rest.len()));
    }

    /// White space, comments, and the bounds of executed comments.
    fn skip_blank(&mut self) {
        loop {
            self.rest = self
                .rest
                .trim_start_matches(|c: char| c.is_ascii_whitespace() || c == '\x0b' || c == '\0');
            let rest = self.rest.as_bytes();
            match rest {
                [b'#', ..] => self.skip_past("\n"),
                [b'-', b'-'] => self.skip(2),
                [b'-', b'-', c, ..] if c.is_ascii_whitespace() || c.is_ascii_control() => {
                    self.skip_past("\n");
                }
                [b'/', b'*', b'!', ..] => self.conditional(3),
                [b'/', b'*', b'M' | b'm', b'!', ..] => self.conditional(4),
                [b'/', b'*', ..] => {
                    self.skip(2);
                    self.skip_past("*/");
                }
                [b'*', b'/', ..] if self.open > 0 => {
                    self.open -= 1;
                    self.skip(2);
                }
                _ => return,
            }
        }
    }

    /// A comment that is executed from some version on, `prefix` bytes before its version number.
    fn conditional(&mut self, prefix: usize) {
        /// MariaDB leaves out what is for MySQL from 5.7 on; everything before is in all of our sources.
        const EVERYWHERE_BELOW: u32 = 50_700;

        self.skip(prefix);
        let digits = self.rest.bytes().take_while(u8::is_ascii_digit).count();
        // Five or six digits; fewer are none, and belong to the text.
        let digits = if digits < 5 { 0 } else { digits.min(6) };
        let version = self.rest[..digits].parse().unwrap_or(0);
        self.skip(digits);
        let everywhere = prefix == 3 && version < EVERYWHERE_BELOW;
        self.depends_on_version |= !everywhere;
        if everywhere || self.mode.execute {
            self.open += 1;
            return;
        }
        let mut depth = 1;
        while depth > 0 && !self.rest.is_empty() {
            match (self.rest.find("/*"), self.rest.find("*/")) {
                (Some(open), Some(close)) if open < close => {
                    depth += 1;
                    self.skip(open + 2);
                }
                (_, Some(close)) => {
                    depth -= 1;
                    self.skip(close + 2);
                }
                _ => self.rest = "",
            }
        }
    }

    /// What stands in quotes, behind the opening one, with doubled quotes undoubled.
    fn quoted(&mut self, quote: char, backslashes: bool) -> Cow<'a, str> {
        let text = self.rest;
        let mut chars = text.char_indices();
        let mut doubled = false;
        let mut end = text.len();
        let mut after = text.len();
        while let Some((at, c)) = chars.next() {
            if c == '\\' && backslashes {
                chars.next();
            } else if c == quote {
                let next = at + quote.len_utf8();
                if text[next..].starts_with(quote) {
                    doubled = true;
                    chars.next();
                } else {
                    (end, after) = (at, next);
                    break;
                }
            }
        }
        self.skip(after);
        let inner = &text[..end];
        if doubled {
            let twice: String = [quote, quote].iter().collect();
            Cow::Owned(inner.replace(&twice, quote.encode_utf8(&mut [0; 4])))
        } else {
            Cow::Borrowed(inner)
        }
    }
}

impl<'a> Iterator for Lexer<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        self.skip_blank();
        let first = self.rest.chars().next()?;
        let word = self
            .rest
            .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '$' || !c.is_ascii()))
            .unwrap_or(self.rest.len());
        if word > 0 {
            let (word, rest) = self.rest.split_at(word);
            self.rest = rest;
            return Some(Token::Word(word));
        }
        self.skip(first.len_utf8());
        Some(match first {
            '`' => Token::Quoted(self.quoted('`', false)),
            '"' => {
                let backslashes = !self.mode.ansi_quotes && !self.mode.plain_backslashes;
                Token::Quoted(self.quoted('"', backslashes))
            }
            '\'' => {
                self.quoted('\'', !self.mode.plain_backslashes);
                Token::Literal
            }
            symbol => Token::Symbol(symbol),
        })
    }
}
