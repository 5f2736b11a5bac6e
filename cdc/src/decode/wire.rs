//! How a column stands in a row image: its type byte and metadata in the table map, and from them where it
//! ends and how it is read. Types: MySQL's `field_types.h`, MariaDB's compressed ones added.

use onair_model::column::{ColumnType, IntWidth};

use super::bytes::{Reader, Short};

/// The form of one column in row images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wire {
    Null,
    Int(IntWidth),
    Float,
    Double,
    Decimal {
        precision: u8,
        scale: u8,
    },
    Year,
    Date,
    /// Seconds, before MySQL 5.6.
    OldTimestamp,
    /// hhmmss as a number, before MySQL 5.6.
    OldTime,
    /// YYYYMMDDhhmmss as a number, before MySQL 5.6.
    OldDateTime,
    Timestamp {
        fsp: u8,
    },
    Time {
        fsp: u8,
    },
    DateTime {
        fsp: u8,
    },
    Bit {
        bits: u8,
    },
    Enum {
        bytes: u8,
    },
    Set {
        bytes: u8,
    },
    /// CHAR and BINARY, `max` in bytes.
    Char {
        max: u16,
    },
    /// VARCHAR and VARBINARY, `max` in bytes.
    VarChar {
        max: u16,
    },
    /// TEXT and BLOB.
    Blob {
        prefix: u8,
    },
    Json {
        prefix: u8,
    },
    Geometry {
        prefix: u8,
    },
    Vector {
        prefix: u8,
    },
    /// MariaDB's COMPRESSED columns: skipped only.
    Compressed {
        prefix: u8,
    },
}

/// How many bytes a value takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Space {
    Fixed(u32),
    /// A little-endian length of so many bytes stands before it.
    Prefixed(u8),
}

/// A type byte or metadata that this version does not know: nothing behind it can be found.
#[derive(Clone, Copy, Debug)]
pub(super) struct UnknownType(pub(super) u8);

/// Reads the metadata of one column of a table map.
pub(super) fn wire(
    type_byte: u8,
    meta: &mut Reader<'_>,
) -> Result<Result<Wire, UnknownType>, Short> {
    let fsp = |fsp: u8| fsp.min(6);
    Ok(Ok(match type_byte {
        1 => Wire::Int(IntWidth::Tiny),
        2 => Wire::Int(IntWidth::Small),
        3 => Wire::Int(IntWidth::Int),
        4 => {
            meta.u8()?;
            Wire::Float
        }
        5 => {
            meta.u8()?;
            Wire::Double
        }
        6 => Wire::Null,
        7 => Wire::OldTimestamp,
        8 => Wire::Int(IntWidth::Big),
        9 => Wire::Int(IntWidth::Medium),
        10 | 14 => Wire::Date,
        11 => Wire::OldTime,
        12 => Wire::OldDateTime,
        13 => Wire::Year,
        15 | 253 => Wire::VarChar {
            max: meta.uint(2)? as u16,
        },
        16 => {
            let (rest, whole) = (meta.u8()?, meta.u8()?);
            match u16::from(whole) * 8 + u16::from(rest) {
                bits @ 1..=64 => Wire::Bit { bits: bits as u8 },
                _ => return Ok(Err(UnknownType(type_byte))),
            }
        }
        17 => Wire::Timestamp {
            fsp: fsp(meta.u8()?),
        },
        18 => Wire::DateTime {
            fsp: fsp(meta.u8()?),
        },
        19 => Wire::Time {
            fsp: fsp(meta.u8()?),
        },
        140 => prefixed(meta, |prefix| Wire::Compressed { prefix })?,
        141 => Wire::Compressed {
            prefix: if meta.uint(2)? > 255 { 2 } else { 1 },
        },
        242 => prefixed(meta, |prefix| Wire::Vector { prefix })?,
        245 => prefixed(meta, |prefix| Wire::Json { prefix })?,
        246 => {
            let (precision, scale) = (meta.u8()?, meta.u8()?);
            if precision == 0 || precision > 65 || scale > precision || scale > 38 {
                return Ok(Err(UnknownType(type_byte)));
            }
            Wire::Decimal { precision, scale }
        }
        249..=252 => prefixed(meta, |prefix| Wire::Blob { prefix })?,
        255 => prefixed(meta, |prefix| Wire::Geometry { prefix })?,
        // ENUM and SET hide behind STRING; so do the high bits of a CHAR's length.
        247 | 248 | 254 => {
            let (real, len) = (meta.u8()?, meta.u8()?);
            match (real, len) {
                (247, 1..=2) => Wire::Enum { bytes: len },
                (248, 1..=8) => Wire::Set { bytes: len },
                _ if real | 0x30 == 254 || real == 0 => {
                    let high = if real == 0 {
                        0
                    } else {
                        u16::from(real & 0x30 ^ 0x30) << 4
                    };
                    Wire::Char {
                        max: high | u16::from(len),
                    }
                }
                _ => return Ok(Err(UnknownType(real))),
            }
        }
        unknown => return Ok(Err(UnknownType(unknown))),
    }))
}

fn prefixed(meta: &mut Reader<'_>, make: fn(u8) -> Wire) -> Result<Wire, Short> {
    match meta.u8()? {
        prefix @ 1..=4 => Ok(make(prefix)),
        _ => Err(Short),
    }
}

impl Wire {
    pub(super) fn space(self) -> Space {
        let fraction = |fsp: u8| u32::from(fsp.div_ceil(2));
        Space::Fixed(match self {
            Wire::Null => 0,
            Wire::Int(width) => width.bytes() as u32,
            Wire::Float | Wire::OldTimestamp => 4,
            Wire::Double | Wire::OldDateTime => 8,
            Wire::Decimal { precision, scale } => decimal_bytes(precision, scale),
            Wire::Year => 1,
            Wire::Date | Wire::OldTime => 3,
            Wire::Timestamp { fsp } => 4 + fraction(fsp),
            Wire::Time { fsp } => 3 + fraction(fsp),
            Wire::DateTime { fsp } => 5 + fraction(fsp),
            Wire::Bit { bits } => u32::from(bits.div_ceil(8)),
            Wire::Enum { bytes } | Wire::Set { bytes } => u32::from(bytes),
            Wire::Char { max } | Wire::VarChar { max } => {
                return Space::Prefixed(if max > 255 { 2 } else { 1 });
            }
            Wire::Blob { prefix }
            | Wire::Json { prefix }
            | Wire::Geometry { prefix }
            | Wire::Vector { prefix }
            | Wire::Compressed { prefix } => return Space::Prefixed(prefix),
        })
    }

    /// Whether a column declared as `ty` stands in row images like this.
    pub(super) fn carries(self, ty: &ColumnType) -> bool {
        match (ty, self) {
            (ColumnType::Int { width, .. }, Wire::Int(wire)) => *width == wire,
            (
                ColumnType::Decimal { precision, scale },
                Wire::Decimal {
                    precision: p,
                    scale: s,
                },
            ) => (*precision, *scale) == (p, s),
            (ColumnType::Bit { bits }, Wire::Bit { bits: wire }) => *bits == wire,
            (ColumnType::Time { fsp }, Wire::Time { fsp: wire })
            | (ColumnType::DateTime { fsp }, Wire::DateTime { fsp: wire })
            | (ColumnType::Timestamp { fsp }, Wire::Timestamp { fsp: wire }) => *fsp == wire,
            (ColumnType::Time { fsp: 0 }, Wire::OldTime)
            | (ColumnType::DateTime { fsp: 0 }, Wire::OldDateTime)
            | (ColumnType::Timestamp { fsp: 0 }, Wire::OldTimestamp)
            | (ColumnType::Float, Wire::Float)
            | (ColumnType::Double, Wire::Double)
            | (ColumnType::Year, Wire::Year)
            | (ColumnType::Date, Wire::Date)
            | (ColumnType::Json, Wire::Json { .. } | Wire::Blob { .. })
            | (ColumnType::Geometry, Wire::Geometry { .. } | Wire::Blob { .. })
            | (
                ColumnType::Vector,
                Wire::Vector { .. } | Wire::VarChar { .. } | Wire::Blob { .. },
            )
            | (
                ColumnType::Text { .. },
                Wire::Char { .. } | Wire::VarChar { .. } | Wire::Blob { .. },
            )
            | (ColumnType::Binary, Wire::VarChar { .. } | Wire::Blob { .. })
            | (ColumnType::Other { .. }, _) => true,
            (ColumnType::FixedBinary { len }, Wire::Char { max }) => *len == max,
            (ColumnType::Enum { labels }, Wire::Enum { bytes }) => {
                (labels.len() > 255) == (bytes == 2)
            }
            (ColumnType::Set { labels }, Wire::Set { bytes }) => {
                usize::from(bytes) == set_bytes(labels.len())
            }
            _ => false,
        }
    }

    /// Whether the table map tells a sign for it.
    pub(super) fn is_numeric(self) -> bool {
        matches!(
            self,
            Wire::Int(_) | Wire::Decimal { .. } | Wire::Float | Wire::Double | Wire::Year
        )
    }

    /// Whether the table map tells a collation for it; MariaDB does so for GEOMETRY, too.
    pub(super) fn is_character(self, geometry: bool) -> bool {
        match self {
            Wire::Char { .. }
            | Wire::VarChar { .. }
            | Wire::Blob { .. }
            | Wire::Compressed { .. } => true,
            Wire::Geometry { .. } => geometry,
            _ => false,
        }
    }
}

/// What SELECT would call it, for reasons.
impl std::fmt::Display for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Wire::Null => write!(f, "NULL"),
            Wire::Int(IntWidth::Tiny) => write!(f, "TINYINT"),
            Wire::Int(IntWidth::Small) => write!(f, "SMALLINT"),
            Wire::Int(IntWidth::Medium) => write!(f, "MEDIUMINT"),
            Wire::Int(IntWidth::Int) => write!(f, "INT"),
            Wire::Int(IntWidth::Big) => write!(f, "BIGINT"),
            Wire::Float => write!(f, "FLOAT"),
            Wire::Double => write!(f, "DOUBLE"),
            Wire::Decimal { precision, scale } => write!(f, "DECIMAL({precision},{scale})"),
            Wire::Year => write!(f, "YEAR"),
            Wire::Date => write!(f, "DATE"),
            Wire::OldTimestamp => write!(f, "TIMESTAMP of MySQL 5.5"),
            Wire::OldTime => write!(f, "TIME of MySQL 5.5"),
            Wire::OldDateTime => write!(f, "DATETIME of MySQL 5.5"),
            Wire::Timestamp { fsp } => write!(f, "TIMESTAMP({fsp})"),
            Wire::Time { fsp } => write!(f, "TIME({fsp})"),
            Wire::DateTime { fsp } => write!(f, "DATETIME({fsp})"),
            Wire::Bit { bits } => write!(f, "BIT({bits})"),
            Wire::Enum { bytes } => write!(f, "ENUM of {bytes} bytes"),
            Wire::Set { bytes } => write!(f, "SET of {bytes} bytes"),
            Wire::Char { max } => write!(f, "CHAR or BINARY of {max} bytes"),
            Wire::VarChar { max } => write!(f, "VARCHAR or VARBINARY of {max} bytes"),
            Wire::Blob { .. } => write!(f, "TEXT or BLOB"),
            Wire::Json { .. } => write!(f, "JSON"),
            Wire::Geometry { .. } => write!(f, "GEOMETRY"),
            Wire::Vector { .. } => write!(f, "VECTOR"),
            Wire::Compressed { .. } => write!(f, "a COMPRESSED column"),
        }
    }
}

/// Bytes that a group of 0 to 9 decimal digits takes.
pub(super) const DIGIT_BYTES: [u8; 10] = [0, 1, 1, 2, 2, 3, 3, 4, 4, 4];

fn decimal_bytes(precision: u8, scale: u8) -> u32 {
    let part = |digits: u8| u32::from(digits / 9 * 4 + DIGIT_BYTES[usize::from(digits % 9)]);
    part(precision - scale) + part(scale)
}

fn set_bytes(labels: usize) -> usize {
    match labels.div_ceil(8) {
        5..=8 => 8,
        few => few.max(1),
    }
}
