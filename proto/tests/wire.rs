//! The wire format against tests/golden/wire.txt: every message of the .proto files with every field set, every variant
//! of a oneof and every value of an enum.
//!
//! What stands in that file is out there in logs, stores and clients: a line of it may be added, not changed.
//! `ONAIR_BLESS=1` writes it anew; look at the difference before you commit it.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::examples::{Example, examples};
use crate::wire_text::{Messages, hex};
use prost::Message as _;
use prost_types::FileDescriptorSet;
use prost_types::field_descriptor_proto::Type;

fn messages() -> Messages {
    Messages::of(&FileDescriptorSet::decode(onair_proto::DESCRIPTOR).unwrap())
}

#[test]
fn the_wire_format_stands() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/wire.txt");
    let text = golden_text(&messages(), &examples());
    if std::env::var_os("ONAIR_BLESS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        text, golden,
        "the wire format differs from wire.txt: a field number or type that is out there must not change; \
         if something was only added, run with ONAIR_BLESS=1"
    );
    let mut lines = golden.lines();
    for example in examples() {
        lines.find(|line| *line == example.name).unwrap();
        let bytes = bytes(lines.nth(1).unwrap().trim());
        assert!((example.reads_back)(&bytes), "{}", example.name);
    }
}

#[test]
fn every_message_field_variant_and_enum_value_has_an_example() {
    let messages = messages();
    let mut have = BTreeSet::new();
    for example in examples() {
        let message = example.message();
        have.insert(message.to_owned());
        let fields = messages.read(message, &example.bytes);
        for (at, field) in fields.iter().enumerate() {
            let twin = fields[..at].iter().find(|other| {
                // Flags have no value each of their own; wire.txt shows their names.
                field.kind != Type::Bool
                    && other.number != field.number
                    && other.kind == field.kind
                    && other.value == field.value
            });
            if let Some(twin) = twin {
                panic!(
                    "{}: {} and {} have one value: a swap would not show",
                    example.name, field.name, twin.name
                );
            }
            have.insert(format!("{message}.{}", field.name));
            if field.is_enum {
                have.insert(format!("{message}.{} = {}", field.name, field.value));
            }
        }
        for (name, in_oneof) in messages.fields(message) {
            let is_set = fields.iter().any(|field| field.name == name);
            assert!(is_set || in_oneof, "{}: {name} is not set", example.name);
        }
    }
    let missing: Vec<String> = messages
        .everything()
        .into_iter()
        .filter(|what| !have.contains(what))
        .collect();
    assert!(
        missing.is_empty(),
        "without an example in tests/examples.rs: {missing:#?}"
    );
}

/// Methods, then each example as its name, the bytes as a person reads them, and in hex.
fn golden_text(messages: &Messages, examples: &[Example]) -> String {
    let mut text = String::from(
        "What encoded messages look like: name, fields as `name number: value`, bytes in hex.\n\
         Written by proto/tests/wire.rs; lines may be added, not changed.\n\n",
    );
    for method in messages.methods() {
        let _ = writeln!(text, "{method}");
    }
    for example in examples {
        let readable = messages.text(example.message(), &example.bytes);
        let hex = hex(&example.bytes);
        let _ = write!(text, "\n{}\n  {readable}\n  {hex}\n", example.name);
    }
    text
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
        .collect()
}
