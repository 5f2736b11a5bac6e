//! `get`: rows by their keys, all at one version.

use std::io::Write as _;

use base64::Engine as _;
use onair_proto::convert;
use onair_proto::entries::Entries;
use onair_sdk::{Field, FieldKind, Key, Raw, Schema};

use super::{damaged, pairs};
use crate::cli::GetArgs;
use crate::client::Server;
use crate::exit::{Exit, Failure};
use crate::json::{self, HeaderForm, KeyRow};
use crate::output::{Output, Tone};

pub(crate) async fn run(args: GetArgs, out: &mut Output) -> Result<(), Failure> {
    let server = Server::connect(&args.read.server, &args.read.tls).await?;
    let (schema, _) = server.schema(&args.feed).await?;
    let keys = args
        .keys
        .iter()
        .map(|text| parse_key(&schema, text))
        .collect::<Result<Vec<_>, _>>();
    let keys = keys.map_err(|why| Failure::new(Exit::Usage, why))?;
    let response = server.get(&args.feed, &keys).await?;
    let seal = response
        .seal
        .ok_or_else(|| server.nonsense("rows without a version"))?;
    let seal =
        convert::seal_from_wire(seal).map_err(|error| server.nonsense(&error.to_string()))?;
    let mut rows = Vec::with_capacity(keys.len());
    for entry in Entries::new(response.entries) {
        let (key, row) = entry.map_err(|error| server.nonsense(&error.to_string()))?;
        rows.push((
            key,
            row.map(|row| Raw::new(row.bytes().clone(), schema.clone())),
        ));
    }
    let absent = rows.iter().filter(|(_, row)| row.is_none()).count();
    if args.read.json {
        let header = HeaderForm {
            feed: &args.feed,
            version: seal.version,
            gtid: seal.gtid.as_ref(),
            commit_time: seal.commit_time,
            count: seal.count,
            digest: seal.digest,
            proven: seal.proven.map(Into::into),
        };
        json::write_line(out, &header)?;
        for (key, row) in &rows {
            json::write_line(out, &KeyRow::new(&schema, key, row.as_ref()))?;
        }
    } else {
        for (key, row) in &rows {
            let key = onair_sdk::raw::key_text(&schema, key);
            let text = match row {
                Some(row) => pairs(row).map_err(|error| damaged(&error))?,
                None => out.tone(Tone::Bad, "not live"),
            };
            let key = out.tone(Tone::Strong, &key);
            out.line(&format!("{key}  {text}"))?;
        }
    }
    out.flush()?;
    match absent {
        0 => Ok(()),
        // It stands in the output.
        _ => Err(Failure::silent(Exit::Different)),
    }
}

/// A key from its text: columns separated by commas, or a JSON array when a text has commas of its own.
pub(crate) fn parse_key(schema: &Schema, text: &str) -> Result<Key, String> {
    let columns: Vec<&str> = schema.key.iter().map(|field| &*field.column).collect();
    let parts: Vec<String> = if schema.key.len() == 1 {
        vec![text.to_owned()]
    } else if text.starts_with('[') {
        let parts: Vec<serde_json::Value> = serde_json::from_str(text)
            .map_err(|error| format!("key {text}: not a JSON array: {error}"))?;
        parts
            .into_iter()
            .map(|part| {
                part.as_str()
                    .map_or_else(|| part.to_string(), str::to_owned)
            })
            .collect()
    } else {
        text.split(',').map(str::to_owned).collect()
    };
    if parts.len() != schema.key.len() {
        return Err(format!(
            "key {text}: has {} parts, but a key of {} is {}: write them with commas between, like {}",
            parts.len(),
            schema.feed,
            columns.join(", "),
            columns.join(",")
        ));
    }
    let mut bytes = Vec::new();
    let mut writer = onair_model::key::KeyWriter::new(&mut bytes, schema.key.len());
    for (field, part) in schema.key.iter().zip(&parts) {
        write_part(field, part, &mut writer)
            .map_err(|why| format!("key {text}: {}: {part:?} is not {why}", field.column))?;
    }
    Ok(Key::copy_from(&bytes))
}

fn write_part(
    field: &Field,
    part: &str,
    writer: &mut onair_model::key::KeyWriter<'_>,
) -> Result<(), &'static str> {
    match field.kind {
        FieldKind::Int => writer.signed(part.parse().map_err(|_| "a whole number")?),
        FieldKind::UInt | FieldKind::Bit | FieldKind::Year => {
            writer.unsigned(part.parse().map_err(|_| "a whole number of 0 or more")?);
        }
        FieldKind::Binary | FieldKind::Vector | FieldKind::Geometry => {
            let bytes = base64::engine::general_purpose::STANDARD
                .decode(part)
                .map_err(|_| "base64")?;
            writer.bytes(&bytes);
        }
        _ => writer.bytes(part.as_bytes()),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(kinds: &[FieldKind]) -> Schema {
        let field = |(at, kind): (usize, &FieldKind)| Field {
            column: format!("k{at}").into(),
            name: format!("k{at}").into(),
            number: 0,
            kind: *kind,
        };
        Schema {
            feed: "seats".into(),
            table: "live.seats".into(),
            key: kinds.iter().enumerate().map(field).collect(),
            columns: Vec::new(),
        }
    }

    #[test]
    fn keys_of_one_column_are_taken_whole() {
        assert_eq!(
            parse_key(&schema(&[FieldKind::UInt]), "42"),
            Ok(Key::from_u64(42))
        );
        assert_eq!(
            parse_key(&schema(&[FieldKind::Int]), "-1"),
            Ok(Key::from_i64(-1))
        );
        assert_eq!(
            parse_key(&schema(&[FieldKind::Text]), "a,[b"),
            Ok(Key::copy_from(b"a,[b"))
        );
        assert_eq!(
            parse_key(&schema(&[FieldKind::Binary]), "AP8="),
            Ok(Key::copy_from(b"\x00\xff"))
        );
    }

    #[test]
    fn keys_of_two_columns_are_split() {
        let both = schema(&[FieldKind::Text, FieldKind::Int]);
        let plain = parse_key(&both, "eu,7").unwrap();
        assert_eq!(parse_key(&both, r#"["eu",7]"#), Ok(plain.clone()));
        assert_ne!(parse_key(&both, r#"["eu,eu",7]"#), Ok(plain));
    }

    #[test]
    fn what_is_no_key_is_said() {
        let both = schema(&[FieldKind::Text, FieldKind::Int]);
        assert_eq!(
            parse_key(&both, "eu").unwrap_err(),
            "key eu: has 1 parts, but a key of seats is k0, k1: write them with commas between, like k0,k1"
        );
        assert_eq!(
            parse_key(&both, "eu,x").unwrap_err(),
            "key eu,x: k1: \"x\" is not a whole number"
        );
        assert_eq!(
            parse_key(&schema(&[FieldKind::UInt]), "-1").unwrap_err(),
            "key -1: k0: \"-1\" is not a whole number of 0 or more"
        );
        assert!(
            parse_key(&both, "[1")
                .unwrap_err()
                .contains("not a JSON array")
        );
        assert!(
            parse_key(&schema(&[FieldKind::Binary]), "%")
                .unwrap_err()
                .contains("base64")
        );
    }
}
