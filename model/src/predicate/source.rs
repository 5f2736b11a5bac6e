//! The text of a predicate with its tokens: its limits, and pieces of it for error messages.

use sqlparser::ast::Spanned;
use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::{Location, Span, Token, TokenWithSpan};

use super::{PredicateError, lex};

/// Longest text read, in bytes. An IN list of thousands of numbers fits.
pub(super) const MAX_BYTES: usize = 64 * 1024;

/// Most words and operators that join or compare: sqlparser's tree is as deep as a chain of them is long, and it
/// is dropped by recursion.
pub(super) const MAX_TERMS: usize = 500;

/// Longest piece of the text that an error repeats, in characters.
const EXCERPT: usize = 60;

/// The text and its tokens.
pub(super) struct Source<'a> {
    text: &'a str,
    tokens: Vec<TokenWithSpan>,
}

impl<'a> Source<'a> {
    pub(super) fn read(text: &'a str) -> Result<Source<'a>, PredicateError> {
        if text.len() > MAX_BYTES {
            return Err(PredicateError::TooLong { bytes: text.len() });
        }
        let tokens = lex::tokens(text)?;
        if tokens.is_empty() {
            return Err(PredicateError::Empty);
        }
        let source = Source { text, tokens };
        source.check_terms()?;
        Ok(source)
    }

    pub(super) fn tokens(&self) -> Vec<TokenWithSpan> {
        self.tokens.clone()
    }

    /// The user's own text of a piece of the tree, with its sign and its closing parentheses.
    pub(super) fn excerpt(&self, piece: &impl Spanned) -> String {
        self.slice(piece.span())
    }

    fn slice(&self, span: Span) -> String {
        let (start, end) = (offset(span.start), offset(span.end));
        let inside = |t: &TokenWithSpan| {
            start.is_some_and(|start| offset(t.span.start) >= Some(start))
                && end.is_some_and(|end| offset(t.span.end) <= Some(end))
        };
        let Some(mut first) = self.tokens.iter().position(inside) else {
            return shorten(self.text);
        };
        let mut last = self.tokens.iter().rposition(inside).unwrap_or(first);
        // sqlparser's spans leave out signs, the parentheses of calls, and those at either end.
        if first > 0 && matches!(self.tokens[first - 1].token, Token::Minus | Token::Plus) {
            first -= 1;
        }
        let is = |at: usize, token: &Token| self.tokens.get(at).is_some_and(|t| t.token == *token);
        if matches!(self.tokens[last].token, Token::Word(_)) && is(last + 1, &Token::LParen) {
            last += 1;
        }
        let (mut open, mut unopened) = (0, 0);
        for token in &self.tokens[first..=last] {
            match token.token {
                Token::LParen => open += 1,
                Token::RParen if open == 0 => unopened += 1,
                Token::RParen => open -= 1,
                _ => {}
            }
        }
        while unopened > 0 && first > 0 && is(first - 1, &Token::LParen) {
            (first, unopened) = (first - 1, unopened - 1);
        }
        while open > 0 && last + 1 < self.tokens.len() {
            last += 1;
            match self.tokens[last].token {
                Token::LParen => open += 1,
                Token::RParen => open -= 1,
                _ => {}
            }
        }
        let from = offset(self.tokens[first].span.start).unwrap_or(0);
        let to = offset(self.tokens[last].span.end).unwrap_or(self.text.len());
        shorten(&self.text[from..to])
    }

    /// The text from a place on.
    pub(super) fn rest(&self, from: Location) -> String {
        shorten(&self.text[offset(from).unwrap_or(0).min(self.text.len())..])
    }

    /// The same of a piece whose span may be that of its arguments alone, like CAST's.
    pub(super) fn excerpt_call(&self, piece: &impl Spanned) -> String {
        let span = piece.span();
        let first = self.tokens.iter().position(|t| t.span.start == span.start);
        let is_open = |at: usize| {
            self.tokens
                .get(at)
                .is_some_and(|t| t.token == Token::LParen)
        };
        let Some(first) = first.filter(|first| !is_open(first + 1)) else {
            return self.slice(span);
        };
        let mut closed = 0;
        for (at, token) in self.tokens[..first].iter().enumerate().rev() {
            match token.token {
                Token::RParen => closed += 1,
                Token::LParen if closed > 0 => closed -= 1,
                Token::LParen => match self.tokens[..at].last() {
                    Some(name) if keyword(&name.token).is_some_and(calls) => {
                        return self.slice(name.span.union(&span));
                    }
                    _ => break,
                },
                _ => {}
            }
        }
        self.slice(span)
    }

    /// Long chains are refused before they become a deep tree; so is `a NOT NULL`, which sqlparser reads as
    /// `a IS NOT NULL` and MySQL does not read at all.
    fn check_terms(&self) -> Result<(), PredicateError> {
        let mut terms = 0;
        let mut before: Option<&Token> = None;
        for (index, token) in self.tokens.iter().enumerate() {
            terms += usize::from(is_term(&token.token));
            let not_null = keyword(&token.token) == Some(Keyword::NOT)
                && self.tokens.get(index + 1).and_then(|t| keyword(&t.token))
                    == Some(Keyword::NULL);
            if not_null && before.is_some_and(ends_operand) {
                return Err(PredicateError::Syntax {
                    at: format!("`{}`", self.rest(token.span.start)),
                    detail: "IS is missing before NOT NULL".to_owned(),
                });
            }
            before = Some(&token.token);
        }
        if terms > MAX_TERMS {
            return Err(PredicateError::TooManyTerms);
        }
        Ok(())
    }
}

fn keyword(token: &Token) -> Option<Keyword> {
    match token {
        Token::Word(word) if word.quote_style.is_none() => Some(word.keyword),
        _ => None,
    }
}

/// Whether a word before a parenthesis is no operator.
fn calls(keyword: Keyword) -> bool {
    !matches!(
        keyword,
        Keyword::AND | Keyword::OR | Keyword::NOT | Keyword::IN | Keyword::BETWEEN
    )
}

fn ends_operand(token: &Token) -> bool {
    match token {
        Token::Word(word) => {
            word.quote_style.is_some()
                || !matches!(
                    word.keyword,
                    Keyword::AND | Keyword::OR | Keyword::NOT | Keyword::IS | Keyword::XOR
                )
        }
        Token::RParen | Token::Number(..) | Token::SingleQuotedString(_) => true,
        _ => false,
    }
}

/// Whether a token adds a level to sqlparser's tree. Commas, literals and parentheses do not, or are limited
/// otherwise.
fn is_term(token: &Token) -> bool {
    match token {
        Token::Word(word) => word.keyword != Keyword::NoKeyword,
        Token::Number(..)
        | Token::SingleQuotedString(_)
        | Token::HexStringLiteral(_)
        | Token::SingleQuotedByteStringLiteral(_)
        | Token::Comma
        | Token::LParen
        | Token::RParen => false,
        // Signs of literals stand in lists.
        Token::Minus | Token::Plus => false,
        _ => true,
    }
}

/// Byte offset of a place; tokens carry it as the column of line 1.
fn offset(location: Location) -> Option<usize> {
    (location.line == 1).then(|| {
        usize::try_from(location.column)
            .unwrap_or(0)
            .saturating_sub(1)
    })
}

pub(super) fn location(offset: usize) -> Location {
    Location::new(1, offset as u64 + 1)
}

/// Text for an error message: bounded, and in one line.
pub(super) fn shorten(text: &str) -> String {
    let mut out: String = text
        .trim()
        .chars()
        .take(EXCERPT)
        .flat_map(|c| {
            if c.is_control() {
                c.escape_default().collect::<Vec<_>>()
            } else {
                vec![c]
            }
        })
        .collect();
    if text.trim().chars().nth(EXCERPT).is_some() {
        out.push_str("..");
    }
    out
}
