//! What `config show`, `config schema` and the table in docs/configuration.md say.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::units::Kind;
use super::{Config, FEED_KEYS, Loaded, Origin, SETTINGS, Secret};

/// One line of `config show`.
#[derive(Debug)]
pub struct Line {
    /// The setting.
    pub name: String,
    /// Its effective value, secrets as `***`; empty: not set.
    pub value: String,
    /// Where it came from.
    pub origin: Origin,
}

/// The effective configuration, setting by setting.
pub fn lines(loaded: &Loaded) -> Vec<Line> {
    let config = &loaded.config;
    let mut lines: Vec<Line> = SETTINGS
        .iter()
        .map(|setting| Line {
            name: setting.name.to_owned(),
            value: setting.shown(config),
            origin: loaded
                .origins
                .get(setting.name)
                .cloned()
                .unwrap_or(Origin::Default),
        })
        .collect();
    for (feed, origin) in config.feeds.iter().zip(&loaded.feed_origins) {
        let mut line = |key: &str, value: String| {
            lines.push(Line {
                name: format!("feed.{}.{key}", feed.name),
                value,
                origin: origin.clone(),
            });
        };
        line("table", feed.table.to_string());
        line("live_when", feed.live_when.clone());
        line("columns", feed.columns.join(", "));
        line("buckets", feed.buckets.count().to_string());
    }
    lines
}

/// A JSON Schema (2020-12) of the file, for editors.
pub fn schema() -> Value {
    let config = Config::default();
    let mut root = section();
    for setting in SETTINGS
        .iter()
        .filter(|setting| setting.secret != Secret::Whole)
    {
        let mut at = &mut root;
        let (path, key) = setting.split();
        for part in path.split('.').filter(|part| !part.is_empty()) {
            let inner = properties(at).entry(part).or_insert_with(section);
            at = inner;
        }
        let mut value = of_kind(setting.kind);
        if let Value::Object(value) = &mut value {
            value.insert("description".into(), setting.doc.into());
            let default = setting.shown(&config);
            if !default.is_empty() {
                value.insert("default".into(), default.into());
            }
        }
        properties(at).insert(key.to_owned(), value);
    }
    let mut feed = section();
    for (key, kind, doc) in FEED_KEYS {
        let mut value = match *kind {
            "number" => json!({"type": "integer", "minimum": 1, "maximum": 1024}),
            "text" => json!({"type": "string"}),
            _ => json!({"type": "array", "items": {"type": "string"}, "minItems": 1}),
        };
        value["description"] = (*doc).into();
        properties(&mut feed).insert((*key).to_owned(), value);
    }
    feed["required"] = json!(["table", "live_when", "columns"]);
    properties(&mut root).insert("feed".to_owned(), json!({"type": "array", "items": feed}));
    let mut schema = Map::new();
    schema.insert(
        "$schema".into(),
        "https://json-schema.org/draft/2020-12/schema".into(),
    );
    schema.insert("title".into(), "onair.toml".into());
    if let Value::Object(root) = root {
        schema.extend(root);
    }
    Value::Object(schema)
}

fn section() -> Value {
    json!({"type": "object", "properties": {}, "additionalProperties": false})
}

fn properties(at: &mut Value) -> &mut Map<String, Value> {
    match at.get_mut("properties") {
        Some(Value::Object(properties)) => properties,
        _ => unreachable!("sections are made with properties"),
    }
}

fn of_kind(kind: Kind) -> Value {
    match kind {
        Kind::Text | Kind::File => json!({"type": "string"}),
        Kind::List => json!({"type": "array", "items": {"type": "string"}, "minItems": 1}),
        Kind::Choice(words) => json!({"enum": words}),
        Kind::Number => json!({"type": "integer", "minimum": 0}),
        Kind::Share => json!({"type": "number", "minimum": 0}),
        Kind::Duration => json!({"type": "string", "pattern": "^([0-9]+(d|h|m|s|ms|us|ns))+$"}),
        Kind::Period => json!({"type": "string", "pattern": "^(off|([0-9]+(d|h|m|s|ms|us|ns))+)$"}),
        Kind::Bytes => {
            json!({"type": ["string", "integer"], "pattern": "^[0-9]+ ?([KMGT]iB|[kMGT]?B)?$", "minimum": 1})
        }
        Kind::Limit => json!({"type": ["string", "integer"], "pattern": "^off$", "minimum": 1}),
    }
}

/// The table of settings in docs/configuration.md.
pub fn markdown() -> String {
    let config = Config::default();
    let mut text =
        String::from("| setting | value | default | what it is for |\n|---|---|---|---|\n");
    for setting in SETTINGS {
        let default = match setting.shown(&config) {
            empty if empty.is_empty() => String::new(),
            default => format!("`{default}`"),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "| `{}` | {} | {default} | {} |",
            setting.name,
            setting.kind.describe(),
            setting.doc
        );
    }
    for (key, kind, doc) in FEED_KEYS {
        let _ = writeln!(text, "| `feed.{key}` | {kind} | | {doc} |");
    }
    text
}
