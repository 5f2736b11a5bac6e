//! The demo's table: `live.room`, its columns, and a row as values and as a row image.

use std::sync::Arc;

use onair_model::column::{Collation, Column, ColumnType, IntWidth};
use onair_model::value::{DateTime, Value};

use crate::feed::{Table, TableName};

/// Characters that `title` holds at most.
pub const TITLE_MAX: usize = 120;

/// How many columns the table has.
pub(super) const COLUMNS: usize = 7;

/// One row of `live.room`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Room {
    /// `id BIGINT UNSIGNED NOT NULL PRIMARY KEY`
    pub id: u64,
    /// `uid BIGINT UNSIGNED`
    pub uid: Option<u64>,
    /// `area_id INT`
    pub area_id: Option<i32>,
    /// `title VARCHAR(120) COLLATE utf8mb4_0900_ai_ci`
    pub title: Option<Arc<str>>,
    /// `live_status TINYINT NOT NULL`
    pub live_status: i8,
    /// `live_time DATETIME(6)`
    pub live_time: Option<DateTime>,
    /// `online INT`
    pub online: Option<i32>,
}

/// `live.room` as the information schema would give it.
pub(super) fn table() -> Table {
    let int = |width, unsigned| ColumnType::Int { width, unsigned };
    let column = |name: &str, ty, nullable| Column {
        name: name.into(),
        ty,
        nullable,
    };
    Table {
        name: TableName {
            database: "live".into(),
            table: "room".into(),
        },
        columns: vec![
            column("id", int(IntWidth::Big, true), false),
            column("uid", int(IntWidth::Big, true), true),
            column("area_id", int(IntWidth::Int, false), true),
            column(
                "title",
                ColumnType::Text {
                    collation: Collation::new("utf8mb4_0900_ai_ci"),
                },
                true,
            ),
            column("live_status", int(IntWidth::Tiny, false), false),
            column("live_time", ColumnType::DateTime { fsp: 6 }, true),
            column("online", int(IntWidth::Int, false), true),
        ],
        primary_key: vec![0],
    }
}

impl Room {
    /// A room off air with nothing but its id.
    pub fn new(id: u64) -> Self {
        Room {
            id,
            uid: None,
            area_id: None,
            title: None,
            live_status: 0,
            live_time: None,
            online: None,
        }
    }

    /// All columns in table order.
    pub fn values(&self) -> [Value<'_>; COLUMNS] {
        fn or_null<'a, T>(value: Option<T>, some: impl FnOnce(T) -> Value<'a>) -> Value<'a> {
            value.map_or(Value::Null, some)
        }
        [
            Value::UInt(self.id),
            or_null(self.uid, Value::UInt),
            or_null(self.area_id, |n| Value::Int(n.into())),
            or_null(self.title.as_deref(), |text| Value::Bytes(text.as_bytes())),
            Value::Int(self.live_status.into()),
            or_null(self.live_time, Value::DateTime),
            or_null(self.online, |n| Value::Int(n.into())),
        ]
    }

    /// Appends the row image: the bitmap of NULLs, then the columns that are not NULL.
    pub(super) fn image(&self, out: &mut Vec<u8>) {
        let nulls = self
            .values()
            .iter()
            .enumerate()
            .filter(|(_, value)| **value == Value::Null)
            .fold(0u8, |bits, (at, _)| bits | 1 << at);
        out.push(nulls);
        out.extend(self.id.to_le_bytes());
        if let Some(uid) = self.uid {
            out.extend(uid.to_le_bytes());
        }
        if let Some(area) = self.area_id {
            out.extend(area.to_le_bytes());
        }
        if let Some(title) = &self.title {
            // 120 characters of utf8mb4 may take 480 bytes: the length has two.
            out.extend((title.len() as u16).to_le_bytes());
            out.extend(title.as_bytes());
        }
        out.extend(self.live_status.to_le_bytes());
        if let Some(time) = self.live_time {
            datetime6(time, out);
        }
        if let Some(online) = self.online {
            out.extend(online.to_le_bytes());
        }
    }
}

/// DATETIME(6): 5 bytes big-endian of packed date and time with the sign bit set, 3 bytes of microseconds.
pub(super) fn datetime6(time: DateTime, out: &mut Vec<u8>) {
    let months = u64::from(time.year) * 13 + u64::from(time.month);
    let date = months << 5 | u64::from(time.day);
    let clock = u64::from(time.hour) << 12 | u64::from(time.minute) << 6 | u64::from(time.second);
    let packed = (date << 17 | clock) | 1 << 39;
    out.extend(&packed.to_be_bytes()[3..]);
    out.extend(&time.micros.to_be_bytes()[1..]);
}

/// Microseconds since 1970 as a date and time in UTC (Howard Hinnant's `civil_from_days`).
pub(super) fn datetime(unix_micros: i64) -> DateTime {
    const DAY: i64 = 86_400_000_000;
    let days = unix_micros.div_euclid(DAY) + 719_468;
    let rest = unix_micros.rem_euclid(DAY);
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let month_from_january = if month < 10 { month + 3 } else { month - 9 };
    let seconds = rest / 1_000_000;
    DateTime {
        year: (year_of_era + era * 400 + i64::from(month_from_january <= 2)) as u16,
        month: month_from_january as u8,
        day: (day_of_year - (153 * month + 2) / 5 + 1) as u8,
        hour: (seconds / 3_600) as u8,
        minute: (seconds / 60 % 60) as u8,
        second: (seconds % 60) as u8,
        micros: (rest % 1_000_000) as u32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn microseconds_become_civil_time() {
        let known = |micros, year, month, day, hour, minute, second, fraction| {
            assert_eq!(
                datetime(micros),
                DateTime {
                    year,
                    month,
                    day,
                    hour,
                    minute,
                    second,
                    micros: fraction
                }
            );
        };
        known(0, 1970, 1, 1, 0, 0, 0, 0);
        known(951_827_696_789_012, 2000, 2, 29, 12, 34, 56, 789_012);
        known(1_735_689_599_999_999, 2024, 12, 31, 23, 59, 59, 999_999);
        known(1_772_323_200_000_000, 2026, 3, 1, 0, 0, 0, 0);
    }
}
