//! The tables: made by [`init`], looked at by [`check`] at every start.

use std::collections::{BTreeMap, BTreeSet};

use ::scylla::client::session::Session;
use ::scylla::deserialize::row::DeserializeRow;
use ::scylla::errors::{DbError, ExecutionError, RequestAttemptError};
use ::scylla::serialize::row::SerializeRow;
use ::scylla::statement::unprepared::Statement;

use super::answer::{Answer, answer};
use super::errors::{self, INIT, Intent};
use super::settings::{Replication, Scope, Settings};
use crate::StoreError;

/// The version of everything in the keyspace. It stands in the table `meta`, row `onair`.
const VERSION: i32 = 1;

/// A table: name, columns with their types, how many of the first are the partition's key and how many more the
/// clustering key.
struct Table {
    name: &'static str,
    columns: &'static [(&'static str, &'static str)],
    partition: usize,
    clustering: usize,
}

/// Each with its reasons in docs/scylla.md.
const TABLES: [Table; 6] = [
    Table {
        name: "meta",
        columns: &[("id", "text"), ("version", "int")],
        partition: 1,
        clustering: 0,
    },
    Table {
        name: "cells",
        columns: &[
            ("kind", "text"),
            ("first", "text"),
            ("second", "text"),
            ("attempt", "blob"),
            ("value", "blob"),
        ],
        partition: 3,
        clustering: 0,
    },
    Table {
        name: "names",
        columns: &[
            ("kind", "text"),
            ("first", "text"),
            ("second", "text"),
            ("noted", "boolean"),
        ],
        partition: 2,
        clustering: 1,
    },
    Table {
        name: "segments",
        columns: &[
            ("feed", "text"),
            ("id", "blob"),
            ("part", "int"),
            ("bytes", "blob"),
        ],
        partition: 3,
        clustering: 0,
    },
    Table {
        name: "windows",
        columns: &[("feed", "text"), ("window", "bigint"), ("noted", "boolean")],
        partition: 1,
        clustering: 1,
    },
    Table {
        name: "history",
        columns: &[
            ("feed", "text"),
            ("window", "bigint"),
            ("at", "bigint"),
            ("id", "blob"),
            ("value", "blob"),
        ],
        partition: 2,
        clustering: 2,
    },
];

impl Table {
    fn create(&self, keyspace: &str) -> String {
        let quoted = |columns: &[(&str, &str)]| {
            let names = columns.iter().map(|(name, _)| format!("\"{name}\""));
            names.collect::<Vec<_>>().join(", ")
        };
        let (partition, rest) = self.columns.split_at(self.partition);
        let columns = self.columns.iter();
        let columns: Vec<_> = columns
            .map(|(name, kind)| format!("\"{name}\" {kind}"))
            .collect();
        let mut key = format!("({})", quoted(partition));
        if self.clustering > 0 {
            key = format!("{key}, {}", quoted(&rest[..self.clustering]));
        }
        format!(
            "CREATE TABLE IF NOT EXISTS {keyspace}.{} ({}, PRIMARY KEY ({key})) WITH default_time_to_live = 0",
            self.name,
            columns.join(", "),
        )
    }

    /// Kind and type of each column, as the server's own tables say them.
    fn expected(&self) -> BTreeMap<&'static str, (String, &'static str)> {
        let columns = self.columns.iter().enumerate();
        columns
            .map(|(at, (name, of))| {
                let kind = if at < self.partition {
                    format!("partition_key {at}")
                } else if at < self.partition + self.clustering {
                    format!("clustering {}", at - self.partition)
                } else {
                    "regular".to_owned()
                };
                (*name, (kind, *of))
            })
            .collect()
    }
}

/// Makes keyspace and tables; what is there already is left as it is, and checked.
pub(super) async fn init(session: &Session, settings: &Settings) -> Result<(), StoreError> {
    let keyspace = settings.checked_keyspace()?;
    let place = settings.place();
    let failed = |err: ExecutionError| errors::request(&place, Intent::Read, &err);
    let ddl = async |text: String| session.query_unpaged(text, ()).await.map_err(failed);
    ddl(create_keyspace(keyspace, settings)).await?;
    // Before anything is made in a keyspace that is not ours, or of another release.
    let found = look(session, settings).await?;
    if found.tables.contains_key("meta")
        && let Some(version) = version(session, settings).await?
    {
        check_version(settings, Some(version))?;
    }
    check_scope(settings, &found)?;
    for table in TABLES {
        ddl(table.create(keyspace)).await?;
    }
    write_version(session, settings).await?;
    check(session, settings).await
}

/// Looks at keyspace and tables: what is wrong is an error with its remedy. Changes nothing.
pub(super) async fn check(session: &Session, settings: &Settings) -> Result<(), StoreError> {
    settings.checked_keyspace()?;
    let found = look(session, settings).await?;
    check_scope(settings, &found)?;
    if !found.tables.contains_key("meta") {
        return Err(wrong(settings, "there are no tables of OnAir in it", INIT));
    }
    check_version(settings, version(session, settings).await?)?;
    check_tables(settings, &found)
}

fn create_keyspace(keyspace: &str, settings: &Settings) -> String {
    let copies = match &settings.replication {
        Replication::Everywhere(copies) => format!("'replication_factor': {copies}"),
        Replication::Datacenters(copies) => {
            let each = copies.iter();
            let each =
                each.map(|(name, copies)| format!("'{}': {copies}", name.replace('\'', "''")));
            each.collect::<Vec<_>>().join(", ")
        }
    };
    let tablets = match settings.tablets {
        Some(enabled) => format!(" AND tablets = {{'enabled': {enabled}}}"),
        None => String::new(),
    };
    format!(
        "CREATE KEYSPACE IF NOT EXISTS {keyspace} WITH replication = \
         {{'class': 'NetworkTopologyStrategy', {copies}}} AND durable_writes = true{tablets}"
    )
}

/// What the server says of the keyspace.
#[derive(Debug, Default)]
struct Found {
    /// Class and options.
    replication: BTreeMap<String, String>,
    /// Those of all nodes.
    datacenters: BTreeSet<String>,
    /// Each table's default time to live.
    tables: BTreeMap<String, i32>,
    /// Table and column to kind and type.
    columns: BTreeMap<(String, String), (String, String)>,
}

async fn look(session: &Session, settings: &Settings) -> Result<Found, StoreError> {
    let keyspace = settings.keyspace.as_str();
    let rows = Rows { session, settings };
    let mut found = Found::default();
    let keyspaces: Vec<(BTreeMap<String, String>,)> = rows
        .of(
            "SELECT replication FROM system_schema.keyspaces WHERE keyspace_name = ?",
            (keyspace,),
        )
        .await?;
    let Some((replication,)) = keyspaces.into_iter().next() else {
        return Err(wrong(settings, "there is no such keyspace", INIT));
    };
    found.replication = replication;
    for table in ["system.local", "system.peers"] {
        let query = format!("SELECT data_center FROM {table}");
        let named: Vec<(Option<String>,)> = rows.of(&query, ()).await?;
        found
            .datacenters
            .extend(named.into_iter().filter_map(|(name,)| name));
    }
    let tables: Vec<(String, Option<i32>)> = rows
        .of(
            "SELECT table_name, default_time_to_live FROM system_schema.tables WHERE keyspace_name = ?",
            (keyspace,),
        )
        .await?;
    let tables = tables
        .into_iter()
        .map(|(name, ttl)| (name, ttl.unwrap_or(0)));
    found.tables = tables.collect();
    let columns: Vec<(String, String, String, i32, String)> = rows
        .of(
            "SELECT table_name, column_name, kind, position, type FROM system_schema.columns WHERE keyspace_name = ?",
            (keyspace,),
        )
        .await?;
    for (table, column, kind, position, of) in columns {
        let kind = match kind.as_str() {
            "partition_key" | "clustering" => format!("{kind} {position}"),
            _ => kind,
        };
        found.columns.insert((table, column), (kind, of));
    }
    Ok(found)
}

struct Rows<'a> {
    session: &'a Session,
    settings: &'a Settings,
}

impl Rows<'_> {
    async fn of<T: for<'f, 'm> DeserializeRow<'f, 'm>>(
        &self,
        query: &str,
        values: impl SerializeRow,
    ) -> Result<Vec<T>, StoreError> {
        let place = self.settings.place();
        let unreadable = |reason: String| StoreError::Unavailable {
            reason: format!("{place}: `{query}`: {reason}"),
        };
        let result = self
            .session
            .query_unpaged(query, values)
            .await
            .map_err(|err| errors::request(&place, Intent::Read, &err))?
            .into_rows_result()
            .map_err(|err| unreadable(err.to_string()))?;
        let rows = result
            .rows::<T>()
            .map_err(|err| unreadable(err.to_string()))?;
        rows.collect::<Result<_, _>>()
            .map_err(|err| unreadable(err.to_string()))
    }
}

/// The version, read as cells are: that nodes in reach can do lightweight transactions is seen by it too.
async fn version(session: &Session, settings: &Settings) -> Result<Option<i32>, StoreError> {
    let query = format!(
        "SELECT version FROM {}.meta WHERE id = 'onair'",
        settings.keyspace
    );
    let place = settings.place();
    let mut statement = Statement::new(query);
    statement.set_consistency(settings.scope.serial_read());
    let result = session
        .query_unpaged(statement, ())
        .await
        .map_err(|err| errors::request(&place, Intent::Read, &err))?;
    let unreadable = |reason: String| wrong(settings, &reason, INIT);
    let rows = result
        .into_rows_result()
        .map_err(|err| unreadable(err.to_string()))?;
    let row = rows
        .maybe_first_row::<(Option<i32>,)>()
        .map_err(|err| unreadable(err.to_string()))?;
    Ok(row.and_then(|(version,)| version))
}

async fn write_version(session: &Session, settings: &Settings) -> Result<(), StoreError> {
    let query = format!(
        "INSERT INTO {}.meta (id, version) VALUES ('onair', {VERSION}) IF NOT EXISTS",
        settings.keyspace
    );
    let place = settings.place();
    let done = session.query_unpaged(query, ()).await;
    let result = done.map_err(|err| match &err {
        ExecutionError::LastAttemptError(RequestAttemptError::DbError(DbError::Invalid, _)) => {
            StoreError::Unreadable {
                place: place.clone(),
                reason: err.to_string(),
                remedy: "lightweight transactions are needed; ScyllaDB up to 2025.3 has none in a keyspace with \
                         tablets: drop the keyspace, set store.scylla.tablets = false and make it again"
                    .to_owned(),
            }
        }
        _ => errors::request(&place, Intent::Read, &err),
    })?;
    // Whatever it is that stands there, the check that follows looks at it.
    answer(result)
        .map(|_: Answer| ())
        .map_err(|reason| wrong(settings, &reason, INIT))
}

fn check_version(settings: &Settings, version: Option<i32>) -> Result<(), StoreError> {
    match version {
        Some(VERSION) => Ok(()),
        Some(other) => Err(wrong(
            settings,
            &format!("its tables have version {other}, this release knows {VERSION}"),
            "use the release that made them, or another keyspace (everything is then scanned again)",
        )),
        None => Err(wrong(settings, "its tables have no version", INIT)),
    }
}

/// Whether one quorum decides. In one datacenter of several each would have its own.
fn check_scope(settings: &Settings, found: &Found) -> Result<(), StoreError> {
    if settings.scope == Scope::Keyspace {
        return Ok(());
    }
    let is_everywhere = found
        .replication
        .get("class")
        .is_some_and(|class| class.ends_with("SimpleStrategy"));
    let copied: Vec<_> = if is_everywhere {
        found.datacenters.iter().collect()
    } else {
        let options = found.replication.iter();
        options
            .filter(|(name, copies)| *name != "class" && *copies != "0")
            .map(|(name, _)| name)
            .collect()
    };
    if copied.len() > 1 {
        let names = copied.iter().map(|name| name.as_str()).collect::<Vec<_>>();
        return Err(wrong(
            settings,
            &format!(
                "it is copied to the datacenters {}, and each would decide by itself who won a bucket",
                names.join(", ")
            ),
            "set store.scylla.serial = \"global\", or give each datacenter a keyspace and an OnAir of its own",
        ));
    }
    match (&settings.datacenter, copied.first()) {
        (None, Some(only)) if found.datacenters.len() > 1 => Err(wrong(
            settings,
            &format!("the cluster has more than one datacenter, and the keyspace is in {only}"),
            &format!("set store.scylla.datacenter = \"{only}\""),
        )),
        (Some(set), Some(only)) if set != *only => Err(wrong(
            settings,
            &format!("it is in datacenter {only}, and {set} is to be asked"),
            &format!("set store.scylla.datacenter = \"{only}\""),
        )),
        _ => Ok(()),
    }
}

fn check_tables(settings: &Settings, found: &Found) -> Result<(), StoreError> {
    for table in TABLES {
        let name = table.name;
        let Some(ttl) = found.tables.get(name) else {
            return Err(wrong(settings, &format!("there is no table {name}"), INIT));
        };
        if *ttl != 0 {
            return Err(wrong(
                settings,
                &format!(
                    "the rows of table {name} end by themselves after {ttl} s (default_time_to_live)"
                ),
                &format!(
                    "ALTER TABLE {}.{name} WITH default_time_to_live = 0; what was written since it was set ends all \
                     the same, so use another keyspace then (everything is scanned again)",
                    settings.keyspace
                ),
            ));
        }
        let ours = found.columns.iter().filter(|((of, _), _)| of == name);
        let mut there: BTreeMap<&str, (&str, &str)> = ours
            .map(|((_, column), (kind, of))| (column.as_str(), (kind.as_str(), of.as_str())))
            .collect();
        for (column, (kind, of)) in table.expected() {
            let is = there.remove(column);
            if is != Some((kind.as_str(), of)) {
                let is = is.map_or("not there".to_owned(), |(kind, of)| format!("{kind}, {of}"));
                return Err(of_another(
                    settings,
                    &format!("column {name}.{column} should be {kind}, {of}, and is {is}"),
                ));
            }
        }
        if let Some((column, (kind, _))) = there.iter().find(|(_, (kind, _))| *kind != "regular") {
            return Err(of_another(
                settings,
                &format!("table {name} has a {kind} column {column} that is not OnAir's"),
            ));
        }
    }
    Ok(())
}

fn of_another(settings: &Settings, reason: &str) -> StoreError {
    let remedy = "use a keyspace of OnAir's own: set store.scylla.keyspace to a new name, then run \
                  `onair store init --config onair.toml`";
    wrong(settings, reason, remedy)
}

fn wrong(settings: &Settings, reason: &str, remedy: &str) -> StoreError {
    StoreError::Unreadable {
        place: settings.place(),
        reason: reason.to_owned(),
        remedy: remedy.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU16;

    use super::*;

    fn settings() -> Settings {
        Settings::new(vec!["a:9042".into()], "onair")
    }

    #[test]
    fn a_keyspace_is_made_as_the_settings_say() {
        let check = |settings: &Settings, expected: &str| {
            let made = create_keyspace("onair", settings);
            let options = made.split_once("NetworkTopologyStrategy', ").unwrap().1;
            assert_eq!(options, expected);
        };
        let mut settings = settings();
        check(
            &settings,
            "'replication_factor': 3} AND durable_writes = true",
        );
        let copies = [("dc1", 3), ("d'2", 1)];
        let copies = copies.map(|(name, copies)| (name.into(), NonZeroU16::new(copies).unwrap()));
        settings.replication = Replication::Datacenters(copies.into());
        settings.tablets = Some(false);
        check(
            &settings,
            "'d''2': 1, 'dc1': 3} AND durable_writes = true AND tablets = {'enabled': false}",
        );
    }

    #[test]
    fn one_quorum_decides_or_it_is_refused() {
        let check = |scope: Scope, set: Option<&str>, copies: &[(&str, &str)], all: &[&str]| {
            let settings = Settings {
                scope,
                datacenter: set.map(str::to_owned),
                ..settings()
            };
            let of = |(name, copies): &(&str, &str)| ((*name).to_owned(), (*copies).to_owned());
            let found = Found {
                replication: copies.iter().map(of).collect(),
                datacenters: all.iter().map(|name| (*name).to_owned()).collect(),
                ..Found::default()
            };
            check_scope(&settings, &found).map_err(|error| error.to_string())
        };
        use Scope::{Datacenter, Keyspace};
        let topology = (
            "class",
            "org.apache.cassandra.locator.NetworkTopologyStrategy",
        );
        let simple = [
            ("class", "org.apache.cassandra.locator.SimpleStrategy"),
            ("replication_factor", "3"),
        ];
        let one = [topology, ("a", "3"), ("b", "0")];
        let two = [topology, ("a", "3"), ("b", "3")];
        assert_eq!(check(Datacenter, None, &one, &["a"]), Ok(()));
        assert_eq!(check(Datacenter, Some("a"), &one, &["a", "b"]), Ok(()));
        assert_eq!(check(Datacenter, None, &simple, &["a"]), Ok(()));
        for set in [None, Some("a")] {
            let error = check(Datacenter, set, &two, &["a", "b"]).unwrap_err();
            assert!(
                error.contains("datacenters a, b,") && error.contains("global"),
                "{error}"
            );
            assert_eq!(check(Keyspace, set, &two, &["a", "b"]), Ok(()));
            assert!(check(Datacenter, set, &simple, &["a", "b"]).is_err());
        }
        for set in [None, Some("b")] {
            let error = check(Datacenter, set, &one, &["a", "b"]).unwrap_err();
            assert!(
                error.ends_with("set store.scylla.datacenter = \"a\""),
                "{error}"
            );
        }
    }
}
