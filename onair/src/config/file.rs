//! The TOML file: values with their lines, and everything that has no place in it.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::settings::{FEED_KEYS, SETTINGS, Secret, Setting};
use super::units::Kind;
use super::{ConfigError, FeedFlags, Origin, did_you_mean};

/// What a file says.
#[derive(Default)]
pub(super) struct Found {
    /// Settings with their text and line.
    pub(super) values: Vec<(&'static Setting, String, usize)>,
    pub(super) feeds: Vec<FeedTable>,
    pub(super) errors: Vec<ConfigError>,
}

/// A feed as written, each part with its place.
#[derive(Debug)]
pub(super) struct FeedTable {
    pub(super) origin: Origin,
    pub(super) name: Option<(String, Origin)>,
    pub(super) table: Option<(String, Origin)>,
    pub(super) live_when: Option<(String, Origin)>,
    pub(super) columns: Option<(Vec<String>, Origin)>,
    pub(super) buckets: Option<(String, Origin)>,
}

impl FeedTable {
    const fn at(origin: Origin) -> Self {
        FeedTable {
            origin,
            name: None,
            table: None,
            live_when: None,
            columns: None,
            buckets: None,
        }
    }

    pub(super) fn from_flags(flags: &FeedFlags) -> Self {
        let at = Origin::Flag;
        FeedTable {
            origin: at("--table"),
            name: flags.name.clone().map(|name| (name, at("--feed"))),
            table: Some((flags.table.clone(), at("--table"))),
            live_when: Some((flags.live_when.clone(), at("--live-when"))),
            columns: Some((flags.columns.clone(), at("--columns"))),
            buckets: flags
                .buckets
                .clone()
                .map(|buckets| (buckets, at("--buckets"))),
        }
    }
}

/// Sections that people look for and that are not needed.
const NOT_HERE: &[(&str, &str)] = &[(
    "store.redb",
    "the embedded store needs no section: data_dir says where its file stands",
)];

pub(super) fn read(file: &str, text: &str) -> Found {
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut reading = Reading {
        file,
        text,
        found: Found::default(),
    };
    for error in errors {
        let at = error.span().map_or(text.len(), |span| span.start);
        reading.wrong(at, format!("not TOML: {}", error.message()));
    }
    reading.table("", table.get_ref());
    reading.found
}

struct Reading<'a> {
    file: &'a str,
    text: &'a str,
    found: Found,
}

impl Reading<'_> {
    fn line(&self, at: usize) -> usize {
        1 + self.text[..at.min(self.text.len())].matches('\n').count()
    }

    fn origin(&self, at: usize) -> Origin {
        Origin::File(self.file.to_owned(), self.line(at))
    }

    fn wrong(&mut self, at: usize, text: impl Into<String>) {
        let origin = self.origin(at);
        self.found.errors.push(ConfigError {
            origin,
            text: text.into(),
        });
    }

    fn table(&mut self, section: &str, table: &DeTable<'_>) {
        for (key, value) in table {
            let at = key.span().start;
            let name = match section {
                "" => key.get_ref().to_string(),
                section => format!("{section}.{}", key.get_ref()),
            };
            if let Some((_, why)) = NOT_HERE.iter().find(|(unknown, _)| *unknown == name) {
                self.wrong(at, format!("[{name}]: {why}"));
            } else if name == "feed" {
                self.feeds(at, value);
            } else if let Some(setting) = SETTINGS.iter().find(|setting| setting.name == name) {
                self.value(at, setting, value);
            } else if let Some(inner) = value.get_ref().as_table().filter(|_| is_section(&name)) {
                self.table(&name, inner);
            } else {
                self.unknown(at, &name, value.get_ref().is_table());
            }
        }
    }

    fn unknown(&mut self, at: usize, name: &str, is_table: bool) {
        if is_section(name) {
            return self.wrong(at, format!("{name}: is a section: write [{name}]"));
        }
        if is_table {
            let sections: Vec<&str> = SETTINGS
                .iter()
                .map(|setting| setting.split().0)
                .filter(|section| !section.is_empty())
                .collect();
            let hint = did_you_mean(name, sections.into_iter());
            return self.wrong(at, format!("[{name}]: there is no such section{hint}"));
        }
        let hint = did_you_mean(name, SETTINGS.iter().map(|setting| setting.name));
        self.wrong(at, format!("{name}: there is no such setting{hint}"));
    }

    fn value(&mut self, at: usize, setting: &'static Setting, value: &Spanned<DeValue<'_>>) {
        let name = setting.name;
        if setting.secret == Secret::Whole {
            let text = format!(
                "{name}: may not stand in the file: set {} or {name}_file",
                setting.variable()
            );
            return self.wrong(at, text);
        }
        let text = match (setting.kind, value.get_ref()) {
            (Kind::List, DeValue::Array(items)) => items
                .iter()
                .map(|item| item.get_ref().as_str())
                .collect::<Option<Vec<_>>>()
                .map(|items| items.join(","))
                .ok_or_else(|| format!("{name}: takes a list of text, like [\"a:1\", \"b:1\"]")),
            (Kind::List, other) => Err(format!(
                "{name}: takes a list of text, like [\"a:1\"], not {}",
                other.type_str()
            )),
            (_, DeValue::String(text)) => Ok(text.to_string()),
            (Kind::Number | Kind::Share | Kind::Bytes | Kind::Limit, DeValue::Integer(number)) => {
                i64::from_str_radix(number.as_str(), number.radix())
                    .map(|number| number.to_string())
                    .map_err(|_| format!("{name}: the number is too large"))
            }
            (Kind::Share, DeValue::Float(number)) => Ok(number.as_str().to_owned()),
            (Kind::Duration | Kind::Period, DeValue::Integer(_) | DeValue::Float(_)) => {
                Err(format!(
                    "{name}: a duration has a unit: write it in quotes, like \"500ms\" or \"1s\""
                ))
            }
            (kind, other) => Err(format!(
                "{name}: takes {}, not {}",
                kind.describe(),
                other.type_str()
            )),
        };
        match text {
            Ok(text) => {
                let line = self.line(value.span().start);
                self.found.values.push((setting, text, line));
            }
            Err(why) => self.wrong(at, why),
        }
    }

    fn feeds(&mut self, at: usize, value: &Spanned<DeValue<'_>>) {
        let tables = value
            .get_ref()
            .as_array()
            .map(|array| array.iter().collect::<Vec<_>>());
        let Some(tables) = tables else {
            return self.wrong(
                at,
                "feed: there may be several: write [[feed]] with two brackets",
            );
        };
        for table in tables {
            match table.get_ref().as_table() {
                Some(inner) => {
                    let feed = self.feed(table.span().start, inner);
                    self.found.feeds.push(feed);
                }
                None => self.wrong(
                    table.span().start,
                    "feed: write [[feed]] and its keys below",
                ),
            }
        }
    }

    fn feed(&mut self, at: usize, table: &DeTable<'_>) -> FeedTable {
        let mut feed = FeedTable::at(self.origin(at));
        for (key, value) in table {
            let at = key.span().start;
            let origin = self.origin(at);
            let text = value
                .get_ref()
                .as_str()
                .map(|text| (text.to_owned(), origin.clone()));
            let kind = value.get_ref().type_str();
            match (&**key.get_ref(), text) {
                ("name", Some(text)) => feed.name = Some(text),
                ("table", Some(text)) => feed.table = Some(text),
                ("live_when", Some(text)) => feed.live_when = Some(text),
                (key @ ("name" | "table" | "live_when"), None) => {
                    self.wrong(at, format!("feed: {key}: takes text in quotes, not {kind}"));
                }
                ("buckets", _) => match value.get_ref() {
                    DeValue::Integer(number) => {
                        let number = i64::from_str_radix(number.as_str(), number.radix())
                            .unwrap_or(i64::MAX);
                        feed.buckets = Some((number.to_string(), origin));
                    }
                    _ => self.wrong(at, format!("feed: buckets: takes a number, not {kind}")),
                },
                ("columns", _) => {
                    let columns = value.get_ref().as_array().and_then(|array| {
                        array
                            .iter()
                            .map(|column| column.get_ref().as_str().map(str::to_owned))
                            .collect::<Option<Vec<_>>>()
                    });
                    match columns {
                        Some(columns) => feed.columns = Some((columns, origin)),
                        None => self.wrong(
                            at,
                            "feed: columns: takes a list of names, like [\"uid\", \"title\"]",
                        ),
                    }
                }
                (key, _) => {
                    let hint = did_you_mean(key, FEED_KEYS.iter().map(|(key, _, _)| *key));
                    self.wrong(at, format!("feed: {key}: there is no such key{hint}"));
                }
            }
        }
        feed
    }
}

fn is_section(name: &str) -> bool {
    SETTINGS.iter().any(|setting| {
        setting
            .name
            .strip_prefix(name)
            .is_some_and(|rest| rest.starts_with('.'))
    }) || name == "store"
}
