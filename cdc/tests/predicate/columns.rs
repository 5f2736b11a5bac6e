//! The columns of the differential test: every type that a predicate compares, each with values at its edges and
//! some at random.

use std::ops::RangeInclusive;
use std::sync::Arc;

use onair_model::column::{Collation, Column, ColumnType, IntWidth};
use rand::RngExt as _;
use rand::rngs::StdRng;

use super::table::{Spec, quoted};

/// Values of each column that are made at random, beside those at the edges.
const RANDOM: usize = 4;

pub(super) fn all(mariadb: bool, rng: &mut StdRng) -> Vec<Spec> {
    let mut columns = integers();
    columns.extend(numbers());
    columns.extend(dates());
    columns.extend(texts(mariadb));
    columns.extend(others());
    for spec in &mut columns {
        // Asked in the user's text for more digits than such a column has, MariaDB rounds them by an index.
        if spec.declared.ends_with(",2)") && spec.is_floating() {
            continue;
        }
        let many = if matches!(spec.column.ty, ColumnType::Text { .. }) {
            3 * RANDOM
        } else {
            RANDOM
        };
        let random: Vec<_> = (0..many)
            .filter_map(|_| random(&spec.column.ty, rng))
            .collect();
        spec.pool.extend(random);
    }
    columns
}

impl Spec {
    fn new(name: &str, declared: &str, ty: ColumnType, pool: Vec<Vec<u8>>) -> Spec {
        Spec {
            selected: quoted(name),
            column: column(name, ty, true),
            declared: declared.to_owned(),
            index: Some(""),
            pool,
            unsaid: Vec::new(),
        }
    }

    fn not_null(mut self) -> Spec {
        self.column.nullable = false;
        self
    }

    fn with_index(mut self, index: Option<&'static str>) -> Spec {
        self.index = index;
        self
    }

    fn with_unsaid(mut self, values: &[&str]) -> Spec {
        self.unsaid = strings(values);
        self
    }
}

fn column(name: &str, ty: ColumnType, nullable: bool) -> Column {
    Column {
        name: name.into(),
        ty,
        nullable,
    }
}

fn int(width: IntWidth, unsigned: bool) -> ColumnType {
    ColumnType::Int { width, unsigned }
}

fn strings(values: &[&str]) -> Vec<Vec<u8>> {
    values.iter().map(|v| v.as_bytes().to_vec()).collect()
}

/// A value as the server reads it from a string; none for types that are not compared.
fn random(ty: &ColumnType, rng: &mut StdRng) -> Option<Vec<u8>> {
    let text = match ty {
        ColumnType::Int { width, unsigned } => {
            let bits = 8 * width.bytes() as u32;
            let value = rng.random::<u64>() >> (64 - bits) >> rng.random_range(0..bits);
            match unsigned {
                true => value.to_string(),
                false if rng.random() => format!("-{}", value / 2),
                false => (value / 2).to_string(),
            }
        }
        ColumnType::Decimal { precision, scale } => {
            let mut digits = |most: u8| -> String {
                let count = rng.random_range(0..=most);
                (0..count)
                    .map(|_| char::from(b'0' + rng.random_range(0..10)))
                    .collect()
            };
            let (whole, fraction) = (digits(precision - scale - 1), digits(*scale));
            let sign = if rng.random() { "-" } else { "" };
            match fraction.as_str() {
                "" => format!("{sign}{whole}0").replace("00", "0"),
                fraction => format!("{sign}{whole}.{fraction}"),
            }
        }
        ColumnType::Float => {
            let value = f32::from_bits(rng.random());
            let value = f64::from(if value.is_finite() { value } else { 1.0 });
            format!("{value:e}")
        }
        ColumnType::Double => {
            let value = f64::from_bits(rng.random());
            format!("{:e}", if value.is_finite() { value } else { 1.0 })
        }
        ColumnType::Bit { bits } => {
            let value = rng.random::<u64>() >> (64 - bits);
            value.to_string()
        }
        ColumnType::Year => rng.random_range(1901..=2155).to_string(),
        ColumnType::Date => day(rng, 1000..=9999),
        ColumnType::DateTime { fsp } => {
            format!("{} {}", day(rng, 1000..=9999), clock(rng, 0..=23, *fsp))
        }
        ColumnType::Timestamp { fsp } => {
            format!("{} {}", day(rng, 1971..=2037), clock(rng, 0..=23, *fsp))
        }
        ColumnType::Time { fsp } => {
            let sign = if rng.random() { "-" } else { "" };
            format!("{sign}{}", clock(rng, 0..=837, *fsp))
        }
        ColumnType::Text { .. } => {
            let letters = ["a", "A", " ", " ", "\0", "\t", "\u{1f}", "!", "'", "\\"];
            let length = rng.random_range(1..5);
            (0..length)
                .map(|_| letters[rng.random_range(0..letters.len())])
                .collect()
        }
        ColumnType::Binary => {
            let len = rng.random_range(0..8);
            return Some(
                (0..len)
                    .map(|_| rng.random::<u8>() & rng.random::<u8>())
                    .collect(),
            );
        }
        ColumnType::FixedBinary { len } => {
            return Some(
                (0..*len)
                    .map(|_| rng.random::<u8>() & rng.random::<u8>())
                    .collect(),
            );
        }
        _ => return None,
    };
    Some(text.into_bytes())
}

fn day(rng: &mut StdRng, years: RangeInclusive<u16>) -> String {
    let (year, month, day) = (
        rng.random_range(years),
        rng.random_range(1..=12),
        rng.random_range(1..=28),
    );
    format!("{year:04}-{month:02}-{day:02}")
}

fn clock(rng: &mut StdRng, hours: RangeInclusive<u16>, fsp: u8) -> String {
    let (hour, minute, second) = (
        rng.random_range(hours),
        rng.random_range(0..60),
        rng.random_range(0..60),
    );
    let micros = format!("{:06}", rng.random_range(0..1_000_000));
    let point = if fsp == 0 { "" } else { "." };
    format!(
        "{hour:02}:{minute:02}:{second:02}{point}{}",
        &micros[..usize::from(fsp)]
    )
}

fn integers() -> Vec<Spec> {
    let widths = [
        ("ti", "TINYINT", IntWidth::Tiny),
        ("si", "SMALLINT", IntWidth::Small),
        ("mi", "MEDIUMINT", IntWidth::Medium),
        ("select", "INT", IntWidth::Int),
        ("bi", "BIGINT", IntWidth::Big),
    ];
    let id = Spec::new(
        "id",
        "INT",
        int(IntWidth::Int, false),
        pool(&[0, 1, 7, 100, 249]),
    );
    let mut out = vec![id.not_null().with_index(None)];
    for (name, declared, width) in widths {
        let bits = 8 * width.bytes();
        let most = (1_i128 << (bits - 1)) - 1;
        let values = [-most - 1, -most, -2, -1, 0, 0, 1, 1, 2, 99, most - 1, most];
        out.push(Spec::new(name, declared, int(width, false), pool(&values)));
        let most = (1_i128 << bits) - 1;
        let values = [0, 0, 1, 1, 2, 99, most / 2, most / 2 + 1, most - 1, most];
        let unsigned = format!("{declared} UNSIGNED");
        let name = format!("{name} u`");
        out.push(Spec::new(&name, &unsigned, int(width, true), pool(&values)));
    }
    out.push(Spec::new(
        "zf",
        "INT ZEROFILL",
        int(IntWidth::Int, true),
        pool(&[0, 1, 99]),
    ));
    out.push(Spec::new(
        "live_status",
        "BOOLEAN",
        int(IntWidth::Tiny, false),
        pool(&[0, 1]),
    ));
    out.push(Spec::new("set", "INT", int(IntWidth::Int, false), pool(&[0, 1, -5])).not_null());
    out
}

fn pool(values: &[i128]) -> Vec<Vec<u8>> {
    values.iter().map(|v| v.to_string().into_bytes()).collect()
}

fn numbers() -> Vec<Spec> {
    let nines = format!("{}.{}", "9".repeat(35), "9".repeat(30));
    let decimals = |precision, scale| ColumnType::Decimal { precision, scale };
    let tiny = format!("0.{}1", "0".repeat(29));
    let double = [
        "0",
        "1.5",
        "-1.5",
        "0.1",
        "100",
        "1e22",
        "-1.7976931348623157e308",
        "5e-324",
    ];
    let float = [
        "0",
        "1.5",
        "-1.5",
        "0.25",
        "16777216",
        "3.4028234663852886e38",
        "1e3",
    ];
    vec![
        Spec::new(
            "price",
            "DECIMAL(10,2)",
            decimals(10, 2),
            strings(&[
                "0.00",
                "-0.01",
                "0.01",
                "1",
                "1.5",
                "-1.5",
                "99999999.99",
                "-99999999.99",
            ]),
        ),
        Spec::new(
            "wide",
            "DECIMAL(65,30)",
            decimals(65, 30),
            strings(&[&nines, &format!("-{nines}"), "0", &tiny, "1", "0.1"]),
        ),
        Spec::new(
            "whole",
            "DECIMAL(20)",
            decimals(20, 0),
            strings(&["0", "-1", "1", "99999999999999999999"]),
        ),
        Spec::new("do", "DOUBLE", ColumnType::Double, strings(&double))
            .with_unsaid(&["-0.0", "9007199254740993"]),
        Spec::new("fl", "FLOAT", ColumnType::Float, strings(&float)).with_unsaid(&["0.1", "-0.0"]),
        // Stored rounded to two digits, and compared by some servers with a tolerance.
        Spec::new(
            "fl2",
            "FLOAT(7,2)",
            ColumnType::Float,
            strings(&["0", "1.5", "-1.25", "100", "0.5"]),
        )
        .with_unsaid(&["0.1", "0.29", "65535.01"]),
        Spec::new(
            "do2",
            "DOUBLE(10,2)",
            ColumnType::Double,
            strings(&["0", "1.5", "0.1", "0.29", "-1.25"]),
        ),
        Spec::new("b1", "BIT(1)", ColumnType::Bit { bits: 1 }, pool(&[0, 1])),
        Spec::new(
            "b20",
            "BIT(20)",
            ColumnType::Bit { bits: 20 },
            pool(&[0, 1, 5, 255, 256, 1_048_575]),
        ),
        Spec::new(
            "b64",
            "BIT(64)",
            ColumnType::Bit { bits: 64 },
            pool(&[0, 1, 1 << 63, (1 << 64) - 1]),
        ),
    ]
}

fn dates() -> Vec<Spec> {
    let days = [
        "0000-00-00",
        "1000-01-01",
        "1970-01-01",
        "2000-02-29",
        "2026-11-22",
        "9999-12-31",
    ];
    let moments = [
        "0000-00-00 00:00:00",
        "1000-01-01 00:00:00",
        "2026-11-22 00:00:00",
        "2026-11-22 10:11:12",
        "2026-03-29 02:30:00",
        "9999-12-31 23:59:59",
    ];
    let fine = [
        "0000-00-00 00:00:00",
        "2026-11-22 00:00:00",
        "2026-11-22 00:00:00.000001",
        "2026-11-22 10:11:12.5",
        "9999-12-31 23:59:59.999999",
    ];
    let stamps = [
        "0000-00-00 00:00:00",
        "1970-01-01 00:00:01",
        "2026-11-22 00:00:00",
        "2026-03-29 02:30:00",
        "2038-01-19 03:14:07",
    ];
    let times = [
        "00:00:00",
        "-00:00:01",
        "10:11:12",
        "-10:11:12",
        "99:00:00",
        "838:59:59",
        "-838:59:59",
    ];
    let fine_times = [
        "00:00:00",
        "-00:00:00.000001",
        "00:00:00.000001",
        "10:11:12.5",
        "-838:59:59",
        "838:59:59",
    ];
    let partly = ["2026-00-00", "2026-11-00", "2000-00-10"];
    vec![
        Spec::new(
            "year",
            "YEAR",
            ColumnType::Year,
            pool(&[0, 1901, 1970, 2000, 2026, 2155]),
        ),
        Spec::new("date", "DATE", ColumnType::Date, strings(&days)).with_unsaid(&partly),
        Spec::new("day", "DATE", ColumnType::Date, strings(&days)).not_null(),
        Spec::new(
            "dt",
            "DATETIME",
            ColumnType::DateTime { fsp: 0 },
            strings(&moments),
        )
        .with_unsaid(&partly),
        Spec::new(
            "dt_full",
            "DATETIME",
            ColumnType::DateTime { fsp: 0 },
            strings(&moments),
        )
        .not_null(),
        Spec::new(
            "dt6",
            "DATETIME(6)",
            ColumnType::DateTime { fsp: 6 },
            strings(&fine),
        ),
        Spec::new(
            "dt3",
            "DATETIME(3)",
            ColumnType::DateTime { fsp: 3 },
            strings(&[
                "2026-11-22 10:11:12.5",
                "2026-11-22 10:11:12.001",
                "0000-00-00 00:00:00",
            ]),
        ),
        Spec::new(
            "ts",
            "TIMESTAMP",
            ColumnType::Timestamp { fsp: 0 },
            strings(&stamps),
        ),
        Spec::new(
            "ts3",
            "TIMESTAMP(3)",
            ColumnType::Timestamp { fsp: 3 },
            strings(&[
                "0000-00-00 00:00:00",
                "1970-01-01 00:00:01.001",
                "2026-11-22 00:00:00",
                "2038-01-19 03:14:07.999",
            ]),
        ),
        Spec::new("tm", "TIME", ColumnType::Time { fsp: 0 }, strings(&times)),
        Spec::new(
            "tm6",
            "TIME(6)",
            ColumnType::Time { fsp: 6 },
            strings(&fine_times),
        ),
    ]
}

fn texts(mariadb: bool) -> Vec<Spec> {
    let ascii = [
        "",
        " ",
        "a",
        "a ",
        "a  ",
        "A",
        "a\0",
        "a\u{1}",
        "\0",
        "ab",
        "it's",
        "\"",
        "\\",
        "\\\\",
        "%",
        "\\%",
        "_",
        "a\nb",
        "a\tb",
        "\u{1a}",
        "0",
        "1",
        "0x41",
        "NULL",
        "'; DROP TABLE t; --",
        "\u{1f} ",
        "a!",
    ];
    let with = |more: &[&'static str]| strings(&[&ascii[..], more].concat());
    let latin = ["é", "E\u{301}", "ß", "€", "ÿ", "\u{a0}"];
    let three = [
        "é", "e\u{301}", "ß", "ss", "\u{ffff}", "ａ", "\u{fffd}", "\u{200b}",
    ];
    let four = [
        "é",
        "e\u{301}",
        "ß",
        "😀",
        "😀 ",
        "\u{10ffff}",
        "\u{ffff}",
        "ａ",
    ];
    let text = |collation: &str| ColumnType::Text {
        collation: Collation::new(collation),
    };
    let spec = |name: &str, declared: &str, collation: &str, pool| {
        let (charset, _) = collation.split_once('_').unwrap_or((collation, ""));
        let declared = format!("{declared} CHARACTER SET {charset} COLLATE {collation}");
        Spec::new(name, &declared, text(collation), pool)
    };
    let nopad = if mariadb {
        "utf8mb4_nopad_bin"
    } else {
        "utf8mb4_0900_bin"
    };
    let utf8 = if mariadb {
        "utf8mb3_nopad_bin"
    } else {
        "utf8mb3_bin"
    };
    let latin: Vec<_> = latin.into_iter().filter(|t| *t != "E\u{301}").collect();
    vec![
        spec("Größe", "VARCHAR(30)", "utf8mb4_bin", with(&four)),
        spec("nopad", "VARCHAR(30)", nopad, with(&four)),
        spec("chars", "CHAR(30)", "utf8mb4_bin", with(&four)),
        spec("chars_nopad", "CHAR(30)", nopad, with(&four)),
        spec("three", "VARCHAR(30)", utf8, with(&three)),
        spec("latin", "VARCHAR(30)", "latin1_bin", with(&latin)),
        spec("plain", "VARCHAR(30)", "ascii_bin", with(&[])),
        spec("long", "TEXT", "utf8mb4_bin", with(&four)).with_index(Some("(2)")),
        spec("folded", "VARCHAR(30)", "utf8mb4_general_ci", with(&four)),
    ]
}

fn others() -> Vec<Spec> {
    let bytes: Vec<Vec<u8>> = vec![
        vec![],
        vec![0],
        vec![0, 0],
        b"a".to_vec(),
        b"a ".to_vec(),
        b"a\0".to_vec(),
        vec![0xff],
        vec![0xff, 0],
        vec![0x80, 0x27, 0x5c, 0x22],
        "é😀".as_bytes().to_vec(),
        b"123".to_vec(),
    ];
    let four: Vec<Vec<u8>> = vec![
        vec![0; 4],
        b"a\0\0\0".to_vec(),
        b"a\0b\0".to_vec(),
        b"abcd".to_vec(),
        vec![0xff; 4],
        vec![0x80, 0x27, 0x5c, 0],
        "😀".as_bytes().to_vec(),
        vec![0, 0, 0, 1],
    ];
    let labels = ["off", "on", "it's", "é\\", "1", "2"];
    let label_list: Vec<_> = labels
        .iter()
        .map(|label| format!("'{}'", label.replace('\\', "\\\\").replace('\'', "''")))
        .collect();
    let labels: Arc<[Arc<str>]> = labels.iter().map(|label| Arc::from(*label)).collect();
    let choice = |name: &str, collation: &str| {
        let declared = format!("ENUM({}) COLLATE {collation}", label_list.join(", "));
        let pool = labels
            .iter()
            .map(|label| label.as_bytes().to_vec())
            .chain([vec![]])
            .collect();
        let mut spec = Spec::new(
            name,
            &declared,
            ColumnType::Enum {
                labels: labels.clone(),
            },
            pool,
        );
        spec.selected = format!("{} + 0", quoted(name));
        spec
    };
    vec![
        Spec::new(
            "fixed",
            "BINARY(4)",
            ColumnType::FixedBinary { len: 4 },
            four,
        ),
        Spec::new("vary", "VARBINARY(30)", ColumnType::Binary, bytes.clone()),
        Spec::new("blob", "BLOB", ColumnType::Binary, bytes).with_index(Some("(2)")),
        choice("state", "utf8mb4_general_ci"),
        choice("state_bin", "utf8mb4_bin"),
        Spec::new(
            "doc",
            "JSON",
            ColumnType::Json,
            strings(&["{}", "null", "[1]"]),
        )
        .with_index(None),
        Spec::new(
            "flags",
            "SET('a','b')",
            ColumnType::Set {
                labels: ["a", "b"].map(Arc::from).into(),
            },
            strings(&["", "a", "a,b"]),
        ),
    ]
}
