//! Other readers of the binlog that show our server id.

use mysql_async::Row;

use super::connect::Session;
use super::errors::{explain, is_denied, is_unknown};
use crate::source::{Dialect, SourceError};

/// The reader with our server id that is not us, as the server describes it. Nothing when there is none or the
/// account may not ask (MariaDB wants REPLICATION MASTER ADMIN for it).
pub(super) async fn other(
    session: &mut Session,
    dialect: Dialect,
    server_id: u32,
    reader_uuid: &str,
) -> Result<Option<String>, SourceError> {
    let statements: &[&str] = match dialect {
        Dialect::Mysql => &["SHOW REPLICAS", "SHOW SLAVE HOSTS"],
        Dialect::Mariadb => &["SHOW SLAVE HOSTS"],
    };
    for statement in statements {
        match session.try_rows::<Row>(statement).await? {
            Ok(rows) => {
                let mut others = rows.iter().map(Reader::of);
                let same = |reader: &Reader| {
                    reader.server_id == server_id.to_string() && reader.uuid != reader_uuid
                };
                return Ok(others.find(same).map(|reader| reader.name()));
            }
            Err(err) if is_denied(&err) => return Ok(None),
            Err(err) if is_unknown(&err) => {}
            Err(err) => return Err(explain(session.address(), &err)),
        }
    }
    Ok(None)
}

/// One line of the list; the columns' names differ by version.
struct Reader {
    server_id: String,
    host: String,
    uuid: String,
}

impl Reader {
    fn of(row: &Row) -> Self {
        let text = |names: &[&str]| {
            let at = row.columns_ref().iter().position(|column| {
                let name = column.name_str();
                names.iter().any(|wanted| name.eq_ignore_ascii_case(wanted))
            });
            at.and_then(|at| row.get_opt::<String, usize>(at)?.ok())
                .unwrap_or_default()
        };
        Reader {
            server_id: text(&["Server_Id"]),
            host: text(&["Host"]),
            uuid: text(&["Replica_UUID", "Slave_UUID"]),
        }
    }

    fn name(&self) -> String {
        let host = if self.host.is_empty() {
            "a reader"
        } else {
            &self.host
        };
        match self.uuid.as_str() {
            "" => host.to_owned(),
            uuid => format!("{host} (uuid {uuid})"),
        }
    }
}
