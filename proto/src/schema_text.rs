//! A feed's row as .proto text, for people who generate code from it.

use std::fmt::Write as _;

use onair_model::schema::{FieldKind, Schema};

/// The .proto file of a feed's row message.
pub fn proto(schema: &Schema) -> String {
    let mut text = String::new();
    let key: Vec<&str> = schema.key.iter().map(|field| &*field.column).collect();
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "// Rows of feed {}, table {}, key ({}).",
        schema.feed,
        schema.table,
        key.join(", ")
    );
    let _ = writeln!(text, "// A field that is absent is NULL.");
    let _ = writeln!(
        text,
        "syntax = \"proto3\";\n\npackage onair.feed;\n\nmessage {} {{",
        message(&schema.feed)
    );
    for field in &schema.columns {
        let ty = proto_type(field.kind);
        let _ = writeln!(text, "  optional {ty} {} = {};", field.name, field.number);
    }
    text.push_str("}\n");
    text
}

/// The message's name: the feed's in camel case.
pub fn message(feed: &str) -> String {
    let mut name = String::new();
    for part in feed
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|part| !part.is_empty())
    {
        let mut letters = part.chars();
        name.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        name.push_str(letters.as_str());
    }
    if name.starts_with(|c: char| c.is_ascii_alphabetic()) {
        name
    } else {
        format!("Feed{name}")
    }
}

/// The protobuf type of a kind.
pub fn proto_type(kind: FieldKind) -> &'static str {
    match kind {
        FieldKind::Int => "sint64",
        FieldKind::UInt | FieldKind::Bit => "uint64",
        FieldKind::Year => "uint32",
        FieldKind::Float => "float",
        FieldKind::Double => "double",
        FieldKind::Binary | FieldKind::Vector | FieldKind::Geometry => "bytes",
        FieldKind::Decimal
        | FieldKind::Date
        | FieldKind::Time
        | FieldKind::DateTime
        | FieldKind::Timestamp
        | FieldKind::Text
        | FieldKind::Enum
        | FieldKind::Set
        | FieldKind::Json => "string",
    }
}
