//! SQL text to tokens by MySQL's own rules, in its default mode.
//!
//! sqlparser's tokenizer is not used: it reads `\a` and `\f` as control characters where MySQL reads a plain
//! letter, takes `@x` for a column, skips comments that MySQL executes (`/*! .. */`) and takes any Unicode space
//! for a space. Here a text is either read as MySQL reads it, or refused.
//!
//! Rules: MySQL reference manual, "String Literals", "Numeric Literals", "Schema Object Names".
//! The default mode means: no ANSI_QUOTES (`"x"` is a string), no NO_BACKSLASH_ESCAPES, no HIGH_NOT_PRECEDENCE.

use sqlparser::tokenizer::{Span, Token, TokenWithSpan};

use super::PredicateError;
use super::source::{location, shorten};

/// All tokens of a text, each with its place.
pub(super) fn tokens(text: &str) -> Result<Vec<TokenWithSpan>, PredicateError> {
    let mut lexer = Lexer { text, at: 0 };
    let mut tokens = Vec::new();
    while let Some(token) = lexer.next()? {
        tokens.push(token);
    }
    Ok(tokens)
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Lexer<'a> {
    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn next(&mut self) -> Result<Option<TokenWithSpan>, PredicateError> {
        // MySQL's form feed and vertical tab are refused with the other control characters.
        while self
            .peek()
            .is_some_and(|c| matches!(c, ' ' | '\t' | '\n' | '\r'))
        {
            self.at += 1;
        }
        let start = self.at;
        let Some(first) = self.peek() else {
            return Ok(None);
        };
        let token = match first {
            '\'' | '"' => Token::SingleQuotedString(self.string(first)?),
            '`' => Token::make_word(&self.quoted_name()?, Some('`')),
            'x' | 'X' if self.rest()[1..].starts_with('\'') => {
                Token::HexStringLiteral(self.prefixed()?)
            }
            'b' | 'B' if self.rest()[1..].starts_with('\'') => {
                Token::SingleQuotedByteStringLiteral(self.prefixed()?)
            }
            'n' | 'N' if self.rest()[1..].starts_with('\'') => {
                return Err(PredicateError::Introducer {
                    at: shorten(self.rest()),
                });
            }
            '0'..='9' => self.number()?,
            '.' if self.rest()[1..].starts_with(|c: char| c.is_ascii_digit()) => self.number()?,
            c if starts_name(c) => {
                let end = self
                    .rest()
                    .find(|c: char| !continues_name(c))
                    .unwrap_or(self.rest().len());
                self.at += end;
                Token::make_word(&self.text[start..self.at], None)
            }
            _ => self.operator()?,
        };
        Ok(Some(TokenWithSpan {
            token,
            span: Span::new(location(start), location(self.at)),
        }))
    }

    /// The operators and punctuation that a predicate may hold, and the arithmetic ones, which get their own
    /// refusal from the parser. Everything else is refused here.
    fn operator(&mut self) -> Result<Token, PredicateError> {
        let rest = self.rest();
        for (comment, ends) in [("#", ""), ("/*", ""), ("--", " \t\n\r")] {
            let tail = rest.strip_prefix(comment);
            // MySQL takes `--` for a comment only before a space, a control character or the end.
            if tail.is_some_and(|t| {
                ends.is_empty() || t.is_empty() || t.starts_with(|c: char| ends.contains(c))
            }) {
                return Err(PredicateError::Comment { at: shorten(rest) });
            }
        }
        for (text, instead) in [
            ("&&", "write AND"),
            (
                "||",
                "write OR (by sql_mode the server reads || as OR or as concatenation)",
            ),
            (":=", "write ="),
            ("==", "write ="),
        ] {
            if rest.starts_with(text) {
                return Err(PredicateError::Operator {
                    at: shorten(rest),
                    operator: text.to_owned(),
                    instead,
                });
            }
        }
        let (token, length) = match rest.as_bytes() {
            [b'<', b'=', b'>', ..] => (Token::Spaceship, 3),
            [b'<', b'>', ..] | [b'!', b'=', ..] => (Token::Neq, 2),
            [b'<', b'=', ..] => (Token::LtEq, 2),
            [b'>', b'=', ..] => (Token::GtEq, 2),
            [b'<', b'<', ..] => (Token::ShiftLeft, 2),
            [b'>', b'>', ..] => (Token::ShiftRight, 2),
            [b'-', b'>', b'>', ..] => (Token::LongArrow, 3),
            [b'-', b'>', ..] => (Token::Arrow, 2),
            [b'<', ..] => (Token::Lt, 1),
            [b'>', ..] => (Token::Gt, 1),
            [b'=', ..] => (Token::Eq, 1),
            [b'(', ..] => (Token::LParen, 1),
            [b')', ..] => (Token::RParen, 1),
            [b',', ..] => (Token::Comma, 1),
            [b'.', ..] => (Token::Period, 1),
            [b'-', ..] => (Token::Minus, 1),
            [b'+', ..] => (Token::Plus, 1),
            [b'*', ..] => (Token::Mul, 1),
            [b'/', ..] => (Token::Div, 1),
            [b'%', ..] => (Token::Mod, 1),
            [b'&', ..] => (Token::Ampersand, 1),
            [b'|', ..] => (Token::Pipe, 1),
            [b'^', ..] => (Token::Caret, 1),
            [b'~', ..] => (Token::Tilde, 1),
            [b'!', ..] => {
                return Err(PredicateError::Operator {
                    at: shorten(rest),
                    operator: "!".to_owned(),
                    instead: "write NOT (..) with parentheses (`!` binds tighter than NOT)",
                });
            }
            _ => {
                return Err(PredicateError::Character {
                    character: self.peek().unwrap_or_default(),
                    at: shorten(rest),
                });
            }
        };
        self.at += length;
        Ok(token)
    }

    /// A string in either kind of quotes, its escapes resolved.
    fn string(&mut self, quote: char) -> Result<String, PredicateError> {
        let start = self.at;
        let mut chars = self.text[start..].char_indices().skip(1).peekable();
        let mut out = String::new();
        while let Some((index, c)) = chars.next() {
            match c {
                '\\' => match chars.next() {
                    Some((_, escaped)) => unescape(escaped, &mut out),
                    None => break,
                },
                c if c == quote => {
                    if chars.next_if(|&(_, next)| next == quote).is_none() {
                        self.at = start + index + 1;
                        return Ok(out);
                    }
                    out.push(quote);
                }
                c => out.push(c),
            }
        }
        Err(PredicateError::Unterminated {
            at: shorten(&self.text[start..]),
            quote,
        })
    }

    /// `` `name` ``, a doubled backtick standing for one.
    fn quoted_name(&mut self) -> Result<String, PredicateError> {
        let start = self.at;
        let mut chars = self.text[start..].char_indices().skip(1).peekable();
        let mut out = String::new();
        while let Some((index, c)) = chars.next() {
            if c == '`' && chars.next_if(|&(_, next)| next == '`').is_none() {
                self.at = start + index + 1;
                return Ok(out);
            }
            out.push(c);
        }
        Err(PredicateError::Unterminated {
            at: shorten(&self.text[start..]),
            quote: '`',
        })
    }

    /// What stands between the quotes of `x'..'` or `b'..'`; the digits are checked where they are used.
    fn prefixed(&mut self) -> Result<String, PredicateError> {
        let body = &self.text[self.at + 2..];
        match body.find('\'') {
            Some(end) => {
                self.at += end + 3;
                Ok(body[..end].to_owned())
            }
            None => Err(PredicateError::Unterminated {
                at: shorten(self.rest()),
                quote: '\'',
            }),
        }
    }

    /// `1`, `1.5`, `.5`, `1.`, `1e5`, `0x1F`. A letter right behind is refused: MySQL reads `1and` as a name,
    /// and `1.5and` as two words.
    fn number(&mut self) -> Result<Token, PredicateError> {
        let start = self.at;
        let digits = |at: usize| {
            self.text[at..]
                .find(|c: char| !c.is_ascii_digit())
                .map_or(self.text.len(), |n| at + n)
        };
        let text = self.rest();
        let mut end;
        let hex = text.starts_with("0x");
        if hex {
            end = self.text[start + 2..]
                .find(|c: char| !c.is_ascii_hexdigit())
                .map_or(self.text.len(), |n| start + 2 + n);
        } else {
            end = digits(start);
            if self.text[end..].starts_with('.') {
                end = digits(end + 1);
            }
            if let Some(exponent) = self.text[end..].strip_prefix(['e', 'E']) {
                let sign = usize::from(exponent.starts_with(['+', '-']));
                if exponent[sign..].starts_with(|c: char| c.is_ascii_digit()) {
                    end = digits(end + 1 + sign);
                }
            }
        }
        let runs_on = self.text[end..].starts_with(continues_name) || (hex && end == start + 2);
        if runs_on || (self.text[end..].starts_with('.')) {
            return Err(PredicateError::Number { at: shorten(text) });
        }
        self.at = end;
        Ok(if hex {
            Token::HexStringLiteral(self.text[start + 2..end].to_owned())
        } else {
            Token::Number(self.text[start..end].to_owned(), false)
        })
    }
}

/// MySQL's escapes; any other character stands for itself. `\%` and `\_` keep their backslash outside of
/// patterns.
fn unescape(c: char, out: &mut String) {
    match c {
        '0' => out.push('\0'),
        'b' => out.push('\u{8}'),
        'n' => out.push('\n'),
        'r' => out.push('\r'),
        't' => out.push('\t'),
        'Z' => out.push('\u{1a}'),
        '%' | '_' => out.extend(['\\', c]),
        c => out.push(c),
    }
}

fn starts_name(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_' || c == '$' || is_name_beyond_ascii(c)
}

fn continues_name(c: char) -> bool {
    starts_name(c) || c.is_ascii_digit()
}

/// MySQL takes all of U+0080 to U+FFFF in a bare name, spaces and invisible characters too. Letters and digits
/// are enough here; the rest can be written in backticks.
fn is_name_beyond_ascii(c: char) -> bool {
    !c.is_ascii() && c <= '\u{ffff}' && c.is_alphanumeric()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[Token]) {
        let tokens = super::tokens(text).unwrap_or_else(|err| panic!("{text}: {err}"));
        let tokens: Vec<_> = tokens.into_iter().map(|t| t.token).collect();
        assert_eq!(tokens, expected, "{text}");
    }

    fn word(text: &str) -> Token {
        Token::make_word(text, None)
    }

    fn string(text: &str) -> Token {
        Token::SingleQuotedString(text.to_owned())
    }

    fn number(text: &str) -> Token {
        Token::Number(text.to_owned(), false)
    }

    #[test]
    fn strings_are_read_as_mysql_reads_them() {
        check(r"'a\0\b\n\r\t\Z'", &[string("a\0\u{8}\n\r\t\u{1a}")]);
        check(r"'\a\f\v\x41\u0041'", &[string("afvx41u0041")]);
        check(r"'\%\_\\%'", &[string(r"\%\_\%")]);
        check(r#"'it''s \' ""'"#, &[string(r#"it's ' """#)]);
        check(r#""it's "" \"""#, &[string(r#"it's " ""#)]);
        check("'é😀\u{a0}'", &[string("é😀\u{a0}")]);
        check(
            "'/* not */ -- a # comment'",
            &[string("/* not */ -- a # comment")],
        );
    }

    #[test]
    fn names_and_numbers() {
        check("`a``b`", &[Token::make_word("a`b", Some('`'))]);
        check("$a_1 été", &[word("$a_1"), word("été")]);
        check(
            "1 1.5 .5 1. 1e5 1.5E-3",
            &[
                number("1"),
                number("1.5"),
                number(".5"),
                number("1."),
                number("1e5"),
                number("1.5E-3"),
            ],
        );
        let hex = |s: &str| Token::HexStringLiteral(s.to_owned());
        check("0x1F x'00ff' X''", &[hex("1F"), hex("00ff"), hex("")]);
        check(
            "b'101'",
            &[Token::SingleQuotedByteStringLiteral("101".to_owned())],
        );
    }

    #[test]
    fn operators() {
        check(
            "a<=>b<>c!=d<=e>=f<g>h=-1",
            &[
                word("a"),
                Token::Spaceship,
                word("b"),
                Token::Neq,
                word("c"),
                Token::Neq,
                word("d"),
                Token::LtEq,
                word("e"),
                Token::GtEq,
                word("f"),
                Token::Lt,
                word("g"),
                Token::Gt,
                word("h"),
                Token::Eq,
                Token::Minus,
                number("1"),
            ],
        );
        check(
            "1--1",
            &[number("1"), Token::Minus, Token::Minus, number("1")],
        );
    }

    #[test]
    fn what_mysql_reads_otherwise_is_refused() {
        for text in [
            "a = 1 -- x",
            "a = 1 --",
            "a = 1 # x",
            "a = /*! 2 */ 1",
            "a\u{a0}= 1",
            "a\u{3000}= 1",
            "a\u{b}= 1",
            "a = @b",
            "a = ?",
            "a = :b",
            "a = 1; b",
            "a = {d '2026-01-01'}",
            "a[1]",
            "a = 1and b",
            "a = 1.5and b",
            "a = 0x",
            "a = 0xZ",
            "a = 1.2.3",
            "a && b",
            "a || b",
            "!a",
            "a = N'x'",
            "'open",
            "`open",
            "x'open",
            r"'open\'",
            "a = \0",
        ] {
            assert!(super::tokens(text).is_err(), "{text}");
        }
    }
}
