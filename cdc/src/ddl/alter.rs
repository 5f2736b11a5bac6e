//! ALTER TABLE: which of its actions leave the rows that we keep as they are.

use super::lex::Token;

/// The first word of an action that may change what we keep of the table's rows, if there is one. `needed` are the
/// names of the columns that a feed reads; `actions` is what follows the table's name.
///
/// What is let through here is answered by the next table map: the decoder compares names, types, signs, character
/// sets and labels of the needed columns with what it knew.
pub(super) fn content_change<'t>(
    actions: &'t [Token<'_>],
    needed: impl Fn(&str) -> bool,
) -> Option<&'t str> {
    // Needs no comma before it.
    if actions.iter().any(|token| token.is_word("PARTITION")) {
        return Some("PARTITION");
    }
    let action = split(actions).find(|action| !is_harmless(action, &needed))?;
    Some(action.first().and_then(Token::name).unwrap_or("?"))
}

/// Whether any action of an ALTER TABLE of another table may touch a table named in it.
pub(super) fn reaches_out(actions: &[Token<'_>], captured: impl Fn(&[Token<'_>]) -> bool) -> bool {
    split(actions).any(|action| {
        let own = match action {
            [first, second, ..] if first.is_word("RENAME") => ["COLUMN", "INDEX", "KEY"]
                .iter()
                .any(|word| second.is_word(word)),
            [first, ..] => [
                "ADD", "DROP", "MODIFY", "CHANGE", "ALTER", "COMMENT", "ORDER",
            ]
            .iter()
            .any(|word| first.is_word(word)),
            [] => true,
        };
        !own && captured(action)
    })
}

/// The actions: what stands between the commas outside of parentheses.
fn split<'t, 'a>(actions: &'t [Token<'a>]) -> impl Iterator<Item = &'t [Token<'a>]> {
    let mut depth = 0_usize;
    actions.split(move |token| {
        match token {
            Token::Symbol('(') => depth += 1,
            Token::Symbol(')') => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth == 0 && token.is_symbol(',')
    })
}

fn is_harmless(action: &[Token<'_>], needed: &impl Fn(&str) -> bool) -> bool {
    let Some((first, rest)) = action.split_first() else {
        return true;
    };
    if first.is_word("ADD") {
        adds_harmlessly(rest)
    } else if first.is_word("DROP") {
        drops_harmlessly(rest, needed)
    } else if first.is_word("ALTER") {
        alters_harmlessly(rest)
    } else if first.is_word("RENAME") {
        matches!(rest, [what, ..] if what.is_word("INDEX") || what.is_word("KEY"))
    } else {
        is_options(action)
    }
}

/// A column that is new, or an index that is not the primary key.
fn adds_harmlessly(what: &[Token<'_>]) -> bool {
    const NOT: [&str; 6] = [
        "PRIMARY",
        "FOREIGN",
        "REFERENCES",
        "PERIOD",
        "SYSTEM",
        "PARTITION",
    ];
    if what
        .iter()
        .any(|token| NOT.iter().any(|word| token.is_word(word)))
    {
        return false;
    }
    // KEY alone, in a column's definition, is PRIMARY KEY.
    let is_index = what.first().is_some_and(|first| {
        [
            "INDEX",
            "KEY",
            "UNIQUE",
            "FULLTEXT",
            "SPATIAL",
            "CONSTRAINT",
            "CHECK",
        ]
        .iter()
        .any(|word| first.is_word(word))
    });
    is_index
        || what
            .iter()
            .enumerate()
            .all(|(at, token)| !token.is_word("KEY") || (at > 0 && what[at - 1].is_word("UNIQUE")))
}

fn drops_harmlessly(what: &[Token<'_>], needed: &impl Fn(&str) -> bool) -> bool {
    const NOT: [&str; 4] = ["PRIMARY", "PARTITION", "SYSTEM", "PERIOD"];
    let Some((first, rest)) = what.split_first() else {
        return false;
    };
    if NOT.iter().any(|word| first.is_word(word)) {
        return false;
    }
    let is_key = ["INDEX", "KEY", "CONSTRAINT", "CHECK", "FOREIGN"]
        .iter()
        .any(|word| first.is_word(word));
    let rest = if is_key || first.is_word("COLUMN") {
        rest
    } else {
        what
    };
    let rest = match rest {
        [r#if, exists, rest @ ..] if r#if.is_word("IF") && exists.is_word("EXISTS") => rest,
        _ => rest,
    };
    match rest.first().and_then(Token::name) {
        Some(name) if is_key => !name.eq_ignore_ascii_case("PRIMARY"),
        Some(name) => !needed(name),
        None => false,
    }
}

/// A default is for rows to come; visibility is for `SELECT *`.
fn alters_harmlessly(what: &[Token<'_>]) -> bool {
    match what {
        [first, ..] if first.is_word("INDEX") => true,
        [.., r#do, what] if r#do.is_word("DROP") && what.is_word("DEFAULT") => true,
        [.., set, what] if set.is_word("SET") => {
            what.is_word("VISIBLE") || what.is_word("INVISIBLE")
        }
        _ => {
            let set = what.iter().position(|token| token.is_word("SET"));
            set.and_then(|at| what.get(at + 1))
                .is_some_and(|token| token.is_word("DEFAULT"))
        }
    }
}

/// Table options of which none touches a row: `NAME [=] value` each.
fn is_options(mut options: &[Token<'_>]) -> bool {
    const VALUES: [&str; 10] = [
        "COMMENT",
        "AUTO_INCREMENT",
        "ALGORITHM",
        "LOCK",
        "STATS_PERSISTENT",
        "STATS_AUTO_RECALC",
        "STATS_SAMPLE_PAGES",
        "ROW_FORMAT",
        "KEY_BLOCK_SIZE",
        "ENGINE",
    ];
    while let Some((name, rest)) = options.split_first() {
        if name.is_word("FORCE") {
            options = rest;
            continue;
        }
        let rest = match rest {
            [equals, rest @ ..] if equals.is_symbol('=') => rest,
            _ => rest,
        };
        let Some((value, rest)) = rest.split_first() else {
            return false;
        };
        // Another engine keeps the rows, but may not keep what we rely on: transactions, first of all.
        let known = VALUES.iter().any(|word| name.is_word(word))
            && (!name.is_word("ENGINE")
                || value
                    .name()
                    .is_some_and(|engine| engine.eq_ignore_ascii_case("InnoDB")));
        if !known || matches!(value, Token::Symbol(_)) {
            return false;
        }
        options = rest;
    }
    true
}
