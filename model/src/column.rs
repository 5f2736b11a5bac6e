//! A column as MySQL declares it: what the decoder, the predicate and the schema all need to know.

use std::sync::Arc;

/// One column of a source table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Name as declared, case kept.
    pub name: Arc<str>,
    /// Declared type.
    pub ty: ColumnType,
    /// Whether NULL may be stored.
    pub nullable: bool,
}

/// Storage width of an integer column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IntWidth {
    /// TINYINT, 1 byte.
    Tiny,
    /// SMALLINT, 2 bytes.
    Small,
    /// MEDIUMINT, 3 bytes.
    Medium,
    /// INT, 4 bytes.
    Int,
    /// BIGINT, 8 bytes.
    Big,
}

impl IntWidth {
    /// Bytes in a row image.
    pub fn bytes(self) -> usize {
        match self {
            IntWidth::Tiny => 1,
            IntWidth::Small => 2,
            IntWidth::Medium => 3,
            IntWidth::Int => 4,
            IntWidth::Big => 8,
        }
    }
}

/// A MySQL or MariaDB column type, with everything that changes how its bytes are read, compared or printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ColumnType {
    /// TINYINT to BIGINT.
    Int {
        /// Storage width.
        width: IntWidth,
        /// UNSIGNED (ZEROFILL implies it).
        unsigned: bool,
    },
    /// DECIMAL(precision, scale).
    Decimal {
        /// Digits in all, 1 to 65.
        precision: u8,
        /// Digits after the point, 0 to 30.
        scale: u8,
    },
    /// FLOAT, 4 bytes.
    Float,
    /// DOUBLE, 8 bytes.
    Double,
    /// BIT(bits), 1 to 64.
    Bit {
        /// Declared width.
        bits: u8,
    },
    /// YEAR: 0 or 1901 to 2155.
    Year,
    /// DATE.
    Date,
    /// TIME(fsp), -838:59:59 to 838:59:59.
    Time {
        /// Fractional digits, 0 to 6.
        fsp: u8,
    },
    /// DATETIME(fsp).
    DateTime {
        /// Fractional digits, 0 to 6.
        fsp: u8,
    },
    /// TIMESTAMP(fsp), stored in UTC and shown in UTC.
    Timestamp {
        /// Fractional digits, 0 to 6.
        fsp: u8,
    },
    /// CHAR, VARCHAR and the TEXT family.
    Text {
        /// Character set and comparison rule.
        collation: Collation,
    },
    /// BINARY(n): row images drop trailing zero bytes, SELECT does not.
    FixedBinary {
        /// Declared length in bytes.
        len: u16,
    },
    /// VARBINARY and the BLOB family.
    Binary,
    /// ENUM: stored as an index from 1; 0 is the invalid value, shown as ''.
    Enum {
        /// Labels in UTF-8, in declaration order.
        labels: Arc<[Arc<str>]>,
    },
    /// SET: stored as a bit mask.
    Set {
        /// Labels in UTF-8, in declaration order.
        labels: Arc<[Arc<str>]>,
    },
    /// JSON: MySQL's binary form; MariaDB stores text.
    Json,
    /// VECTOR (MySQL 9, MariaDB 11.7): little-endian floats, opaque here.
    Vector,
    /// GEOMETRY and its kinds: SRID and WKB, opaque here.
    Geometry,
    /// A type that OnAir skips but cannot read (MariaDB's UUID, INET6, COMPRESSED columns): never key,
    /// predicate or exported column.
    Other {
        /// As the server declares it.
        declared: Arc<str>,
    },
}

/// A collation by its name, e.g. `utf8mb4_0900_ai_ci`; the character set is derived from it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Collation(Arc<str>);

impl Collation {
    /// Wraps the server's name for the collation.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Collation(name.into())
    }

    /// The server's name for it.
    pub fn name(&self) -> &str {
        &self.0
    }

    /// The character set's name: what stands before the first underscore (`binary` alone is its own).
    /// MariaDB's `uca1400_*` short names say nothing of the set and must be given with it.
    pub fn charset(&self) -> &str {
        self.0.split('_').next().unwrap_or(&self.0)
    }

    /// Whether two strings are equal only when their bytes are (trailing spaces apart, see
    /// [`Collation::pads`]): `binary` and every `*_bin`.
    pub fn is_binary(&self) -> bool {
        &*self.0 == "binary" || self.0.ends_with("_bin")
    }

    /// Whether comparison ignores trailing spaces. MySQL's `*_0900_bin` and MariaDB's `*_nopad_bin` do not.
    pub fn pads(&self) -> bool {
        &*self.0 != "binary" && !self.0.contains("_0900_") && !self.0.contains("_nopad_")
    }
}
