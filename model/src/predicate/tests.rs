//! What is read, what it evaluates to and how it is printed; and every refusal with its text.
//!
//! That servers agree is the differential test's part (crate cdc, `tests/predicate`).

use std::collections::BTreeMap;
use std::sync::Arc;

use onair_xtask::texts::Texts;

use super::*;
use crate::column::{Collation, ColumnType, IntWidth};
use crate::value::{DateTime, Decimal};

fn column(name: &str, ty: ColumnType) -> Column {
    Column {
        name: name.into(),
        ty,
        nullable: true,
    }
}

fn text(collation: &str) -> ColumnType {
    ColumnType::Text {
        collation: Collation::new(collation),
    }
}

fn labels(labels: &[&str]) -> Arc<[Arc<str>]> {
    labels.iter().map(|label| Arc::from(*label)).collect()
}

/// One column of each type; `not_null` variants at the end.
pub(super) fn columns() -> Vec<Column> {
    let int = |width, unsigned| ColumnType::Int { width, unsigned };
    let mut columns = vec![
        column("id", int(IntWidth::Big, true)),
        column("live_status", int(IntWidth::Tiny, false)),
        column("big", int(IntWidth::Big, false)),
        column(
            "price",
            ColumnType::Decimal {
                precision: 10,
                scale: 2,
            },
        ),
        column("fl", ColumnType::Float),
        column("do", ColumnType::Double),
        column("bits", ColumnType::Bit { bits: 8 }),
        column("year", ColumnType::Year),
        column("day", ColumnType::Date),
        column("dt", ColumnType::DateTime { fsp: 0 }),
        column("dt3", ColumnType::DateTime { fsp: 3 }),
        column("ts", ColumnType::Timestamp { fsp: 6 }),
        column("tm", ColumnType::Time { fsp: 1 }),
        column("title", text("utf8mb4_bin")),
        column("nopad", text("utf8mb4_0900_bin")),
        column("latin", text("latin1_bin")),
        column("three", text("utf8_bin")),
        column("plain", text("ascii_bin")),
        column("folded", text("utf8mb4_0900_ai_ci")),
        column("chinese", text("gbk_bin")),
        column("fixed", ColumnType::FixedBinary { len: 4 }),
        column("vary", ColumnType::Binary),
        column(
            "state",
            ColumnType::Enum {
                labels: labels(&["off", "on"]),
            },
        ),
        column(
            "odd",
            ColumnType::Enum {
                labels: labels(&["a", "A", ""]),
            },
        ),
        column(
            "flags",
            ColumnType::Set {
                labels: labels(&["a"]),
            },
        ),
        column("doc", ColumnType::Json),
        column("place", ColumnType::Geometry),
        column("vector", ColumnType::Vector),
        column("we`ird na\"me", int(IntWidth::Int, false)),
    ];
    for (name, ty) in [
        ("must", int(IntWidth::Int, false)),
        ("must_day", ColumnType::Date),
        ("must_dt", ColumnType::DateTime { fsp: 0 }),
    ] {
        columns.push(Column {
            nullable: false,
            ..column(name, ty)
        });
    }
    columns
}

fn parse(sql: &str) -> Predicate {
    Predicate::parse(sql, &columns()).unwrap_or_else(|err| panic!("{sql}: {err}"))
}

/// The one value that the predicate reads, and the outcome.
fn check(sql: &str, outcomes: &[(Value<'_>, Truth)]) {
    let predicate = parse(sql);
    for (value, truth) in outcomes {
        assert_eq!(predicate.eval(&[*value]), *truth, "{sql} of {value:?}");
    }
}

const T: Truth = Truth::True;
const F: Truth = Truth::False;
const N: Truth = Truth::Null;

fn day(year: u16, month: u8, day: u8) -> DateTime {
    DateTime {
        year,
        month,
        day,
        ..DateTime::ZERO
    }
}

fn cents(cents: i64) -> Value<'static> {
    Value::Decimal(Decimal {
        negative: cents < 0,
        magnitude: [cents.unsigned_abs(), 0, 0, 0],
        scale: 2,
    })
}

#[test]
fn comparisons_of_each_type() {
    use Value::{Bytes, Double, Float, Int, Null, Time, UInt};
    check("live_status = 1", &[(Int(1), T), (Int(0), F), (Null, N)]);
    check("live_status", &[(Int(-1), T), (Int(0), F), (Null, N)]);
    check("1 < live_status", &[(Int(2), T), (Int(1), F)]);
    check("live_status <=> 1", &[(Int(1), T), (Int(0), F), (Null, F)]);
    check("live_status <=> NULL", &[(Int(1), F), (Null, T)]);
    check("live_status = TRUE", &[(Int(1), T), (Int(2), F)]);
    check("live_status >= -128", &[(Int(-128), T)]);
    check(
        "id = 18446744073709551615",
        &[(UInt(u64::MAX), T), (UInt(0), F)],
    );
    check(
        "big > -9223372036854775808",
        &[(Int(i64::MIN), F), (Int(i64::MAX), T)],
    );
    check("big = 1.00", &[(Int(1), T)]);
    check(
        "price = 1.5",
        &[(cents(150), T), (cents(-150), F), (cents(151), F)],
    );
    check(
        "price < -.01",
        &[(cents(-2), T), (cents(-1), F), (cents(5), F)],
    );
    check("price = -0", &[(cents(0), T)]);
    check(
        "fl = 0.5",
        &[(Float(0.5), T), (Float(0.1), F), (Float(-0.5), F)],
    );
    check("do = 0.1", &[(Double(0.1), T), (Double(0.1_f32.into()), F)]);
    check("do = 0", &[(Double(-0.0), T), (Double(5e-324), F)]);
    check(
        "bits IN (b'101', 7)",
        &[(UInt(5), T), (UInt(7), T), (UInt(6), F), (Null, N)],
    );
    check("bits", &[(UInt(5), T), (UInt(0), F)]);
    check(
        "year BETWEEN 2000 AND 2026",
        &[(UInt(2026), T), (UInt(0), F), (Null, N)],
    );
    check(
        "day = '2026-11-22'",
        &[(Value::DateTime(day(2026, 11, 22)), T)],
    );
    check(
        "day < '2026-11-22'",
        &[
            (Value::DateTime(DateTime::ZERO), T),
            (Value::DateTime(day(2026, 0, 0)), T),
        ],
    );
    check(
        "day = '0000-00-00'",
        &[(Value::DateTime(DateTime::ZERO), T)],
    );
    check(
        "dt = '2026-11-22'",
        &[(Value::DateTime(day(2026, 11, 22)), T)],
    );
    check(
        "tm >= '-00:00:00.5'",
        &[(Time(-500_000), T), (Time(-500_001), F), (Time(0), T)],
    );
    check("tm = '838:59:59'", &[(Time(3_020_399_000_000), T)]);
    check(
        "state = 'on'",
        &[(UInt(2), T), (UInt(1), F), (UInt(0), F), (Null, N)],
    );
    check("state = ''", &[(UInt(0), T), (UInt(1), F)]);
    check(
        "title = 'a'",
        &[
            (Bytes(b"a"), T),
            (Bytes(b"a  "), T),
            (Bytes(b"A"), F),
            (Bytes(b"a\0"), F),
        ],
    );
    check(
        "title < 'a'",
        &[(Bytes(b"a\x1f"), T), (Bytes(b"a "), F), (Bytes(b"a!"), F)],
    );
    check(
        "title > ''",
        &[(Bytes(b"\x1f"), F), (Bytes(b" "), F), (Bytes(b"!"), T)],
    );
    check("nopad = 'a'", &[(Bytes(b"a"), T), (Bytes(b"a "), F)]);
    check(
        "latin IN ('é', '€')",
        &[(Bytes(b"\xe9"), T), (Bytes(b"\x80"), T), (Bytes(b"e"), F)],
    );
    check("three = 'ａ'", &[(Bytes("ａ".as_bytes()), T)]);
    check(
        "fixed = 'a\\0\\0\\0'",
        &[
            (Bytes(b"a\0\0\0"), T),
            (Bytes(b"a"), T),
            (Bytes(b"a\0b"), F),
        ],
    );
    check(
        "fixed > x'61000000'",
        &[(Bytes(b"a\0b"), T), (Bytes(b"a"), F), (Bytes(b""), F)],
    );
    check("vary = 0x6100", &[(Bytes(b"a\0"), T), (Bytes(b"a"), F)]);
    check(
        "vary < 'a '",
        &[(Bytes(b"a"), T), (Bytes(b"a\x1f"), T), (Bytes(b"a "), F)],
    );
    check("doc IS NULL", &[(Null, T), (Bytes(b"null"), F)]);
}

#[test]
fn three_values() {
    use Value::{Int, Null};
    let values = [(Int(1), T), (Int(0), F), (Null, N)];
    for (left, a) in &values {
        for (right, b) in &values {
            let two = |sql: &str| parse(sql).eval(&[*left, *right]);
            let and = match (*a, *b) {
                (F, _) | (_, F) => F,
                (T, T) => T,
                _ => N,
            };
            assert_eq!(two("live_status AND big"), and);
            assert_eq!(two("NOT (NOT live_status OR NOT big)"), and);
            let same = left == right;
            assert_eq!(two("live_status <=> big"), Truth::from(same));
        }
        let one = |sql: &str| parse(sql).eval(&[*left]);
        assert_eq!(one("live_status IS TRUE"), Truth::from(*a == T));
        assert_eq!(one("live_status = 1 IS NOT FALSE"), Truth::from(*a != F));
        assert_eq!(one("live_status > 0 IS UNKNOWN"), Truth::from(*a == N));
        assert_eq!(one("live_status IS NOT NULL"), Truth::from(*a != N));
        assert_eq!(one("live_status IN (1, NULL)"), if *a == T { T } else { N });
        assert_eq!(
            one("live_status NOT IN (1, NULL)"),
            if *a == T { F } else { N }
        );
        assert_eq!(one("NOT NOT live_status"), *a);
    }
    assert_eq!(parse("NULL").eval(&[]), N);
    assert_eq!(parse("live_status = NULL").eval(&[]), N);
    assert_eq!(parse("must IS NULL").eval(&[]), F);
    assert_eq!(parse("TRUE AND NOT FALSE").eval(&[]), T);
}

#[test]
fn integers_of_either_sign_compare() {
    let predicate = parse("big < id");
    assert_eq!(predicate.columns(), [0, 2]);
    for (id, big, truth) in [
        (0, -1, T),
        (u64::MAX, -1, T),
        (u64::MAX, i64::MAX, T),
        (1, 1, F),
    ] {
        assert_eq!(predicate.eval(&[Value::UInt(id), Value::Int(big)]), truth);
    }
}

#[test]
fn a_value_of_another_type_is_a_bug() {
    let outcome = std::panic::catch_unwind(|| parse("live_status = 1").eval(&[Value::Double(1.0)]));
    assert!(outcome.is_err());
}

#[test]
fn printed() {
    for (sql, printed) in [
        ("live_status = 1", "(`live_status` = 1)"),
        ("LIVE_STATUS", "(`live_status` <> 0)"),
        (
            "live_status = 1 OR big <> -5 AND NOT id IS NULL",
            "((`live_status` = 1) OR ((`big` <> -5) AND (NOT (`id` IS NULL))))",
        ),
        (
            "NOT live_status <=> 1 IS TRUE",
            "(NOT ((`live_status` <=> 1) IS TRUE))",
        ),
        ("`we``ird na\"me` != 0", "(`we``ird na\"me` <> 0)"),
        ("price IN (1, .5, 1.0)", "(`price` IN (0.50, 1.00))"),
        ("price = -99999999.99", "(`price` = -99999999.99)"),
        ("do >= -0.1", "((`do` + 0e0) >= -1e-1)"),
        ("fl IS NULL", "(`fl` IS NULL)"),
        ("year = 2026", "(`year` = 2026)"),
        ("bits = b'0101'", "(`bits` = 5)"),
        ("day > DATE '2026-11-22'", "(`day` > '2026-11-22')"),
        ("day = '0000-00-00'", "(`day` = 0)"),
        (
            "day IN ('0000-00-00', '2026-11-22', NULL)",
            "((`day` = 0) OR (`day` IN ('2026-11-22', NULL)))",
        ),
        ("day IN ('0000-00-00')", "(`day` = 0)"),
        ("dt = '2026-11-22'", "(`dt` = '2026-11-22 00:00:00')"),
        (
            "dt3 = TIMESTAMP'2026-11-22 10:11:12.5'",
            "(`dt3` = '2026-11-22 10:11:12.500')",
        ),
        (
            "ts BETWEEN '1970-01-01 00:00:01' AND '2038-01-19 03:14:07.999999'",
            "((`ts` >= '1970-01-01 00:00:01.000000') AND (`ts` <= '2038-01-19 03:14:07.999999'))",
        ),
        ("tm = '-838:59:59'", "(`tm` = '-838:59:59.0')"),
        (
            "title = 'it''s \\'\\\\'",
            "((`title` = _utf8mb4 X'6974277320275c') + 0)",
        ),
        ("title = ''", "((`title` = _utf8mb4 X'') + 0)"),
        ("title = 'a  '", "((`title` = _utf8mb4 X'61') + 0)"),
        (
            "title = 'a' OR title > 'b'",
            "(((`title` = _utf8mb4 X'61') + 0) OR ((`title` > _utf8mb4 X'62') + 0))",
        ),
        (
            "title IN ('a', NULL)",
            "((`title` IN (_utf8mb4 X'61', NULL)) + 0)",
        ),
        ("nopad > 'b'", "((`nopad` > _utf8mb4 X'62') + 0)"),
        ("nopad = 'a  '", "((`nopad` = _utf8mb4 X'612020') + 0)"),
        ("latin = 'é'", "((`latin` = _latin1 X'e9') + 0)"),
        ("three = \"é\"", "((`three` = _utf8mb3 X'c3a9') + 0)"),
        ("vary = 'é'", "(`vary` = _binary X'c3a9')"),
        ("fixed = 'a\\0\\0\\0'", "(`fixed` = _binary X'61000000')"),
        ("state NOT IN ('on', 'off')", "(NOT (`state` IN (1, 2)))"),
        ("ts = NULL", "NULL"),
        ("must IS NOT NULL", "(NOT FALSE)"),
        ("dt <= dt3", "(`dt` <= `dt3`)"),
    ] {
        let predicate = parse(sql);
        assert_eq!(predicate.to_sql(), printed, "{sql}");
    }
}

/// Every refusal that a user can meet, with its whole text. A variant that is not met here fails.
#[test]
fn refusals() {
    let long = format!("live_status IN ({}1)", "1, ".repeat(30_000));
    let many = format!("live_status{}", " OR live_status = 1".repeat(300));
    let deep = format!("{}live_status{}", "(".repeat(60), ")".repeat(60));
    #[rustfmt::skip]
    let table: [(&str, &str); 4] = [
        (" \n", "the predicate is empty: write a condition over the columns of the row, e.g. live_status = 1, or TRUE for all rows"),
        (&long, "the predicate is too long: 90018 bytes, and 65536 are read; shorten its lists, or keep the outcome in a flag column"),
        (&many, "the predicate is too large: more than 500 operators and keywords; use IN (..) for chains of OR, or keep the outcome in a flag column"),
        (&deep, "the predicate is nested too deeply: flatten its parentheses (AND and OR take any number of operands)"),
    ];
    let golden = include_str!("refusals.txt");
    let lines: Vec<_> = golden
        .lines()
        .filter(|line| !line.starts_with('#'))
        .collect();
    let golden = lines.chunks(2).map(|pair| (pair[0], pair[1].trim_start()));
    let mut met = BTreeMap::new();
    for (sql, expected) in table.into_iter().chain(golden) {
        let err = match Predicate::parse(sql, &columns()) {
            Err(err) => err,
            Ok(predicate) => panic!("{sql:.80} was taken as {}", predicate.to_sql()),
        };
        assert_eq!(err.to_string(), expected, "{sql:.80}");
        let name = match &err {
            PredicateError::Literal { problem, .. } => {
                format!("LiteralProblem::{}", problem_name(problem))
            }
            other => format!("PredicateError::{}", error_name(other)),
        };
        met.entry(name).or_insert((sql, expected));
    }
    let mut texts = Texts::new();
    let errors = ERRORS.iter().filter(|name| **name != "Literal");
    let names = errors.map(|name| format!("PredicateError::{name}")).chain(
        PROBLEMS
            .iter()
            .map(|name| format!("LiteralProblem::{name}")),
    );
    for name in names {
        let (sql, text) = met
            .remove(&name)
            .unwrap_or_else(|| panic!("{name} is not met"));
        let means = match sql.len() {
            0..100 => format!("live_when is {sql:?}."),
            _ => "live_when is too much of it.".to_owned(),
        };
        texts.text(
            &name,
            text,
            &means,
            "As the text says; docs/live-when.md says what may stand there.",
        );
    }
    texts.check(env!("CARGO_MANIFEST_DIR"));
}

/// The names of an enum's variants, and the name of a value's; the compiler sees to it that none is missing.
macro_rules! kinds {
    ($all:ident, $name:ident, $ty:ident: $($variant:ident)*) => {
        const $all: &[&str] = &[$(stringify!($variant)),*];

        fn $name(value: &$ty) -> &'static str {
            match value {
                $($ty::$variant { .. } => stringify!($variant)),*
            }
        }
    };
}

kinds!(ERRORS, error_name, PredicateError:
    Empty TooLong TooManyTerms TooDeep Comment Character Unterminated Introducer TypedTime NullOperand
    Number Syntax Operator Function Subquery Qualified Unsupported UnknownColumn NotACondition Operands
    Collation Charset Type EnumOrder ColumnPair ZeroDateIsNull Literal);

kinds!(PROBLEMS, problem_name, LiteralProblem:
    Kind OutOfRange Fraction Exponent Scale Rounded RoundedFloat Date FractionDigits Unencodable HexDigits
    HexSame Length Label AlikeLabels EmptyLabel);

/// Whatever the text, it is refused or taken at once, in a small stack: neither the parser nor the tree that it
/// makes may grow with the text.
#[test]
fn hostile_text() {
    let shapes = [
        "(",
        "NOT ",
        "- ",
        "live_status AND ",
        "live_status = ",
        "CASE WHEN ",
        "IF(",
        "a.",
        "((",
        ")",
        "'",
        "\"",
        "`",
        "\\",
        "live_status IN (",
        "live_status IS NULL ",
        "INTERVAL ",
        "CAST(",
        "DATE ",
        "x'",
        "0x",
        "1e",
        ".",
        "live_status BETWEEN 1 AND ",
        "EXISTS (SELECT ",
        "1,",
        "BINARY ",
        "-(",
        "NOT (",
        "current_time(",
    ];
    let parse_all = move || {
        for shape in shapes {
            for times in [20, 49, 200, 60_000 / shape.len()] {
                let tail = ["", "live_status", "1)"];
                for tail in tail {
                    let text = shape.repeat(times) + tail;
                    if let Ok(predicate) = Predicate::parse(&text, &columns()) {
                        let _ = predicate.to_sql();
                    }
                }
            }
        }
    };
    let started = std::time::Instant::now();
    let small = std::thread::Builder::new().stack_size(1 << 20);
    small
        .spawn(parse_all)
        .expect("a thread")
        .join()
        .expect("no panic");
    let elapsed = started.elapsed();
    assert!(elapsed.as_secs() < 20, "{elapsed:?}");
}

/// Words in any order: nothing panics, and what is taken can be evaluated and printed.
#[test]
fn word_soup() {
    use rand::rngs::StdRng;
    use rand::{RngExt as _, SeedableRng as _};

    let words = [
        "live_status",
        "price",
        "title",
        "day",
        "bits",
        "(",
        ")",
        "(",
        ")",
        "AND",
        "OR",
        "NOT",
        "=",
        "<",
        "<=>",
        "<>",
        "IN",
        "BETWEEN",
        "IS",
        "NULL",
        "TRUE",
        "1",
        "-",
        "2.5",
        "'on'",
        "'2026-11-22'",
        "x'61'",
        "b'1'",
        ",",
        ",",
        "DATE",
        "NOW()",
        ".",
        "+",
        "*",
        "CASE",
        "END",
        "SELECT",
        "AS",
        "LIKE",
        "\"",
        "@",
        "INTERVAL",
        "ANY",
    ];
    let seed = 3;
    let mut rng = StdRng::seed_from_u64(seed);
    let mut taken = 0;
    for _ in 0..30_000 {
        let count = rng.random_range(1..9);
        let text: Vec<_> = (0..count)
            .map(|_| words[rng.random_range(0..words.len())])
            .collect();
        let text = text.join(" ");
        if let Ok(predicate) = Predicate::parse(&text, &columns()) {
            taken += 1;
            let nulls = vec![Value::Null; predicate.columns().len()];
            predicate.eval(&nulls);
            assert!(!predicate.to_sql().is_empty(), "{text}");
        }
    }
    assert!(taken > 100, "{taken} were taken");
}

/// What docs/live-when.md promises of sizes.
#[test]
fn sizes() {
    let is_taken = |text: String| Predicate::parse(&text, &columns()).is_ok();
    let nested = |levels| {
        format!(
            "{}live_status = 1{}",
            "(".repeat(levels),
            ")".repeat(levels)
        )
    };
    assert!(is_taken(nested(20)));
    assert!(!is_taken(nested(60)));
    let chain = |terms| vec!["live_status = 1"; terms].join(" OR ");
    assert!(is_taken(chain(200)));
    assert!(!is_taken(chain(300)));
    let listed = |numbers| format!("id IN ({})", vec!["12345"; numbers].join(", "));
    assert!(is_taken(listed(9_000)));
    assert!(!is_taken(listed(10_000)));
}
