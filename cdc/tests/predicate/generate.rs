//! Random predicates, written in the many ways in which users write them.

use onair_model::column::ColumnType;
use rand::RngExt as _;
use rand::rngs::StdRng;

use super::table::{Spec, Table, quoted};

pub(super) struct Generator<'a> {
    table: &'a Table,
    /// The columns that it is about. Few of them let the server join ranges and carry constants over.
    columns: Vec<usize>,
    rng: &'a mut StdRng,
}

impl<'a> Generator<'a> {
    pub(super) fn new(table: &'a Table, rng: &'a mut StdRng) -> Self {
        let all = 0..table.columns.len();
        let columns = match rng.random_range(0..3) {
            0 => all.collect(),
            1 => vec![rng.random_range(all)],
            _ => (0..3).map(|_| rng.random_range(all.clone())).collect(),
        };
        Generator {
            table,
            columns,
            rng,
        }
    }

    pub(super) fn predicate(&mut self) -> String {
        let depth = self.rng.random_range(0..4);
        self.condition(depth)
    }

    fn one<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.rng.random_range(0..of.len())].clone()
    }

    fn often(&mut self, share: f64) -> bool {
        self.rng.random_bool(share)
    }

    /// Mostly a chain without parentheses, so that precedence is tried too.
    fn condition(&mut self, depth: u32) -> String {
        let operands = if depth == 0 {
            1
        } else {
            self.rng.random_range(1..4)
        };
        let mut out = String::new();
        for index in 0..operands {
            if index > 0 {
                out += &self.one(
                    &[" AND ", " OR ", " and\n", "\tOR ", ") AND (", ") OR ("].map(String::from),
                );
            }
            out += &self.operand(depth);
        }
        // Parentheses that the joints closed and opened.
        if out.contains(") AND (") || out.contains(") OR (") || self.often(0.2) {
            return format!("({out})");
        }
        out
    }

    fn operand(&mut self, depth: u32) -> String {
        let not = match self.rng.random_range(0..10) {
            0 | 1 => "NOT ",
            2 => "not not ",
            _ => "",
        };
        let (inner, closed) = if depth > 0 && self.often(0.5) {
            (format!("({})", self.condition(depth - 1)), true)
        } else {
            self.leaf()
        };
        let is = if closed && self.often(0.12) {
            let tests = [
                " IS TRUE",
                " is not true",
                " IS FALSE",
                " IS NOT FALSE",
                " IS NULL",
                " IS NOT UNKNOWN",
            ];
            self.one(&tests)
        } else {
            ""
        };
        format!("{not}{inner}{is}")
    }

    /// A comparison, and whether IS may follow it.
    fn leaf(&mut self) -> (String, bool) {
        if self.often(0.04) {
            return (
                self.one(&["TRUE", "false", "NULL", "(null)"]).to_owned(),
                true,
            );
        }
        let column = self.columns[self.rng.random_range(0..self.columns.len())];
        let spec = &self.table.columns[column];
        let name = self.name(spec);
        let kind = self.rng.random_range(0..100);
        let only_null = match &spec.column.ty {
            ColumnType::Set { .. } | ColumnType::Json => true,
            ColumnType::Text { collation } => !collation.is_binary(),
            _ => false,
        };
        if only_null || kind < 3 {
            // Refused as a test for the zero date.
            if !spec.column.nullable && spec.is_date() {
                return self.leaf();
            }
            return (
                format!("{name} IS {}", self.one(&["NULL", "NOT NULL", "not null"])),
                true,
            );
        }
        if kind < 12
            && let Some(other) = self.partner(spec)
        {
            return (format!("{name} {} {other}", self.operator(true)), true);
        }
        if kind < 20
            && matches!(
                spec.column.ty,
                ColumnType::Int { .. } | ColumnType::Bit { .. }
            )
        {
            return (name, true);
        }
        let ordered = !matches!(spec.column.ty, ColumnType::Enum { .. });
        if kind < 35 {
            let negated = self.one(&["", "NOT "]);
            let count = match self.rng.random_range(0..10) {
                0 => 40,
                _ => self.rng.random_range(1..6),
            };
            // NULL in a list of times is refused.
            let is_time = matches!(spec.column.ty, ColumnType::Time { .. });
            let list: Vec<_> = (0..count)
                .map(|_| {
                    if is_time {
                        self.value(spec)
                    } else {
                        self.literal(spec)
                    }
                })
                .collect();
            return (format!("{name} {negated}IN ({})", list.join(", ")), true);
        }
        if kind < 50 && ordered {
            let negated = self.one(&["", "NOT "]);
            let (low, high) = (self.value(spec), self.value(spec));
            return (format!("{name} {negated}BETWEEN {low} AND {high}"), true);
        }
        let (operator, literal) = (self.operator(ordered), self.literal(spec));
        // So is this one.
        let zero_test = !spec.column.nullable && spec.is_date() && operator == "<=>";
        let literal = if zero_test { self.value(spec) } else { literal };
        // Refused behind <=>.
        let hex = literal.starts_with(['x', 'X']) || literal.starts_with("0x");
        let operator = if hex && operator == "<=>" {
            "="
        } else {
            operator
        };
        let name = if self.often(0.1) {
            format!("({name})")
        } else {
            name
        };
        let text = match self.rng.random_range(0..10) {
            0 | 1 => format!("{literal} {operator} {name}"),
            2 => format!("{name}{operator}{literal}"),
            3 => format!("{name} {operator} ({literal})"),
            _ => format!("{name} {operator} {literal}"),
        };
        (text, true)
    }

    fn operator(&mut self, ordered: bool) -> &'static str {
        let all = ["=", "<>", "!=", "<=>", "<", "<=", ">", ">="];
        let end = if ordered { all.len() } else { 4 };
        all[self.rng.random_range(0..end)]
    }

    fn name(&mut self, spec: &Spec) -> String {
        let name = &*spec.column.name;
        let plain = name.chars().all(|c| c.is_alphanumeric() || c == '_')
            && !["blob", "long", "select", "set"].contains(&name);
        if !plain || self.often(0.3) {
            return quoted(name);
        }
        // Letters beyond ASCII must be written as declared.
        if name.is_ascii() && self.often(0.2) {
            name.to_uppercase()
        } else {
            name.to_owned()
        }
    }

    /// Another column that it may be compared with.
    fn partner(&mut self, spec: &Spec) -> Option<String> {
        let same = |a: &ColumnType, b: &ColumnType| {
            let comparable = matches!(
                a,
                ColumnType::Int { .. }
                    | ColumnType::Date
                    | ColumnType::DateTime { .. }
                    | ColumnType::Timestamp { .. }
                    | ColumnType::Time { .. }
            );
            comparable && std::mem::discriminant(a) == std::mem::discriminant(b)
        };
        let partners: Vec<_> = self
            .table
            .columns
            .iter()
            .filter(|c| same(&c.column.ty, &spec.column.ty))
            .collect();
        if partners.is_empty() {
            return None;
        }
        let other = partners[self.rng.random_range(0..partners.len())];
        Some(self.name(other))
    }

    fn literal(&mut self, spec: &Spec) -> String {
        if self.often(0.05) {
            return self.one(&["NULL", "null"]).to_owned();
        }
        self.value(spec)
    }

    fn value(&mut self, spec: &Spec) -> String {
        let value = self.one(&spec.pool);
        let text = String::from_utf8_lossy(&value).into_owned();
        match &spec.column.ty {
            ColumnType::Int { .. } => self.integer(&text),
            ColumnType::Year => text,
            ColumnType::Decimal { .. } => self.decimal(&text),
            ColumnType::Float | ColumnType::Double => self.floating(&text),
            ColumnType::Bit { .. } => match self.rng.random_range(0..3) {
                0 if text.parse::<i64>().is_ok() => {
                    format!("b'{:b}'", text.parse::<i64>().unwrap_or_default())
                }
                _ => text,
            },
            ColumnType::Date => self.temporal("DATE", &text),
            ColumnType::DateTime { .. } | ColumnType::Timestamp { .. } => {
                match text.strip_suffix(" 00:00:00") {
                    Some(day) if self.often(0.3) => self.quoted(day),
                    _ => self.temporal("TIMESTAMP", &text),
                }
            }
            ColumnType::Time { .. } => self.quoted(&text),
            ColumnType::Binary | ColumnType::FixedBinary { .. } => self.binary(&value),
            _ => self.quoted(&text),
        }
    }

    fn integer(&mut self, text: &str) -> String {
        match (text, self.rng.random_range(0..10)) {
            ("1", 0) => "TRUE".to_owned(),
            ("0", 0) => "false".to_owned(),
            (text, 1) if !text.starts_with('-') => format!("+{text}"),
            (text, 2) if !text.starts_with('-') => format!("00{text}"),
            (text, 3) => format!("{text}.0"),
            (text, 4) => text.replace('-', "- "),
            ("0", 5) => "-0".to_owned(),
            (text, _) => text.to_owned(),
        }
    }

    fn decimal(&mut self, text: &str) -> String {
        match self.rng.random_range(0..5) {
            0 => text.replacen("0.", ".", 1),
            1 if text.contains('.') => text.to_owned(),
            1 => format!("{text}.0"),
            2 if !text.starts_with('-') => format!("00{text}"),
            _ => text.to_owned(),
        }
    }

    fn floating(&mut self, text: &str) -> String {
        let value: f64 = text.parse().unwrap_or_default();
        match self.rng.random_range(0..4) {
            0 => format!("{value:e}"),
            1 if value.abs() < 1e15 => format!("{value:?}").replace("5e-324", "4.9e-324"),
            _ => text.to_owned(),
        }
    }

    fn temporal(&mut self, keyword: &str, text: &str) -> String {
        // The server refuses typed zero dates.
        if self.often(0.3) && !text.starts_with("0000") {
            return format!("{keyword} '{text}'");
        }
        self.quoted(text)
    }

    fn quoted(&mut self, text: &str) -> String {
        let quote = if self.often(0.2) { '"' } else { '\'' };
        let mut out = String::from(quote);
        for c in text.chars() {
            match c {
                c if c == quote && self.often(0.5) => out.extend([quote, quote]),
                c if c == quote => out.extend(['\\', c]),
                // Before % and _ a backslash stays one in either spelling.
                '\\' => out.push_str("\\\\"),
                '\0' if self.often(0.7) => out.push_str("\\0"),
                '\n' if self.often(0.5) => out.push_str("\\n"),
                '\t' if self.often(0.5) => out.push_str("\\t"),
                '\u{1a}' if self.often(0.5) => out.push_str("\\Z"),
                c @ ('a' | 'f' | 'x' | 'D' | '!' | 'é' | '😀') if self.often(0.2) => {
                    out.extend(['\\', c]);
                }
                c => out.push(c),
            }
            // The server joins strings that stand side by side.
            if self.often(0.03) {
                out.extend([quote, ' ', quote]);
            }
        }
        out.push(quote);
        out
    }

    fn binary(&mut self, value: &[u8]) -> String {
        let hex: String = value.iter().map(|byte| format!("{byte:02x}")).collect();
        match std::str::from_utf8(value) {
            Ok(text) if self.often(0.5) => self.quoted(text),
            _ if value.is_empty() || self.often(0.5) => format!("X'{hex}'"),
            _ if self.often(0.5) => format!("0x{}", hex.to_uppercase()),
            _ => format!("x'{hex}'"),
        }
    }
}
