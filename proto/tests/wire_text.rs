//! Encoded messages read by the descriptor set alone: neither generated code nor prost's decoder is asked.

use std::collections::BTreeMap;

use prost_types::field_descriptor_proto::Type;
use prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorSet};

/// The messages of the package by name; one inside another is `Outer.Inner`.
pub(crate) struct Messages {
    messages: BTreeMap<String, DescriptorProto>,
    /// Each enum's values by number, the unspecified 0 left out.
    enums: BTreeMap<String, BTreeMap<u64, String>>,
    methods: Vec<String>,
}

/// A field met in encoded bytes.
pub(crate) struct Met {
    pub(crate) number: u64,
    pub(crate) name: String,
    pub(crate) kind: Type,
    pub(crate) is_enum: bool,
    pub(crate) value: String,
}

const PACKAGE: &str = ".onair.v1.";

impl Messages {
    pub(crate) fn of(files: &FileDescriptorSet) -> Self {
        let mut all = Self {
            messages: BTreeMap::new(),
            enums: BTreeMap::new(),
            methods: Vec::new(),
        };
        for file in files
            .file
            .iter()
            .filter(|file| file.package() == "onair.v1")
        {
            for message in &file.message_type {
                all.add("", message);
            }
            for values in &file.enum_type {
                all.add_enum("", values);
            }
            for service in &file.service {
                for method in &service.method {
                    let stream = |is: bool| if is { "stream " } else { "" };
                    all.methods.push(format!(
                        "/onair.v1.{}/{}: {}{} -> {}{}",
                        service.name(),
                        method.name(),
                        stream(method.client_streaming()),
                        short(method.input_type()),
                        stream(method.server_streaming()),
                        short(method.output_type()),
                    ));
                }
            }
        }
        all
    }

    fn add(&mut self, outer: &str, message: &DescriptorProto) {
        let name = format!("{outer}{}", message.name());
        let inner = format!("{name}.");
        for nested in &message.nested_type {
            self.add(&inner, nested);
        }
        for values in &message.enum_type {
            self.add_enum(&inner, values);
        }
        self.messages.insert(name, message.clone());
    }

    fn add_enum(&mut self, outer: &str, values: &prost_types::EnumDescriptorProto) {
        let named = values.value.iter().filter(|value| value.number() != 0);
        self.enums.insert(
            format!("{outer}{}", values.name()),
            named
                .map(|value| {
                    (
                        u64::try_from(value.number()).unwrap(),
                        value.name().to_owned(),
                    )
                })
                .collect(),
        );
    }

    pub(crate) fn methods(&self) -> &[String] {
        &self.methods
    }

    /// What needs an example: `Message`, `Message.field` and `Message.field = VALUE`. The entry of a map is shown by
    /// the map's field.
    pub(crate) fn everything(&self) -> Vec<String> {
        let mut all = Vec::new();
        for (name, message) in &self.messages {
            if message
                .options
                .as_ref()
                .is_some_and(|options| options.map_entry())
            {
                continue;
            }
            all.push(name.clone());
            for field in &message.field {
                all.push(format!("{name}.{}", field.name()));
                if field.r#type() == Type::Enum {
                    for value in self.enums[short(field.type_name())].values() {
                        all.push(format!("{name}.{} = {value}", field.name()));
                    }
                }
            }
        }
        all
    }

    /// A message's fields, and whether each is a variant of a oneof.
    pub(crate) fn fields(&self, message: &str) -> Vec<(String, bool)> {
        let fields = self.messages[message].field.iter();
        fields
            .map(|field| (field.name().to_owned(), field.oneof_index.is_some()))
            .collect()
    }

    /// The fields of an encoded message, in their order.
    pub(crate) fn read(&self, message: &str, bytes: &[u8]) -> Vec<Met> {
        let known = &self
            .messages
            .get(message)
            .unwrap_or_else(|| panic!("no message {message}"))
            .field;
        let mut at = bytes;
        let mut fields = Vec::new();
        while !at.is_empty() {
            let tag = varint(&mut at);
            let number = tag >> 3;
            let field = known
                .iter()
                .find(|field| u64::try_from(field.number()).unwrap() == number)
                .unwrap_or_else(|| panic!("{message} has no field {number}"));
            fields.push(Met {
                number,
                name: field.name().to_owned(),
                kind: field.r#type(),
                is_enum: field.r#type() == Type::Enum,
                value: self.value(field, tag & 7, &mut at),
            });
        }
        fields
    }

    /// As `{name number: value, ..}`.
    pub(crate) fn text(&self, message: &str, bytes: &[u8]) -> String {
        let fields: Vec<String> = self
            .read(message, bytes)
            .into_iter()
            .map(|field| format!("{} {}: {}", field.name, field.number, field.value))
            .collect();
        format!("{{{}}}", fields.join(", "))
    }

    fn value(&self, field: &FieldDescriptorProto, wire_type: u64, at: &mut &[u8]) -> String {
        let kind = field.r#type();
        match (wire_type, kind) {
            (0, Type::Uint32 | Type::Uint64) => varint(at).to_string(),
            (0, Type::Sint64) => {
                let zigzag = varint(at);
                let half = i64::try_from(zigzag >> 1).unwrap();
                (half ^ -i64::from(zigzag & 1 == 1)).to_string()
            }
            (0, Type::Bool) => (varint(at) == 1).to_string(),
            (0, Type::Enum) => self.enums[short(field.type_name())][&varint(at)].clone(),
            (1, Type::Fixed64) => {
                format!("{:#x}", u64::from_le_bytes(take(at, 8).try_into().unwrap()))
            }
            (5, Type::Fixed32) => {
                format!("{:#x}", u32::from_le_bytes(take(at, 4).try_into().unwrap()))
            }
            (2, Type::String | Type::Bytes | Type::Message) => {
                let length = usize::try_from(varint(at)).unwrap();
                let bytes = take(at, length);
                match kind {
                    Type::String => format!("{:?}", std::str::from_utf8(bytes).unwrap()),
                    Type::Bytes => hex(bytes),
                    _ => self.text(short(field.type_name()), bytes),
                }
            }
            (wire_type, kind) => panic!("{}: {kind:?} as wire type {wire_type}", field.name()),
        }
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn short(name: &str) -> &str {
    name.strip_prefix(PACKAGE).unwrap()
}

fn varint(at: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = take(at, 1)[0];
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return value;
        }
    }
    panic!("a varint of more than ten bytes")
}

fn take<'a>(at: &mut &'a [u8], length: usize) -> &'a [u8] {
    let (taken, rest) = at.split_at(length);
    *at = rest;
    taken
}
