//! How a table is cut into primary-key ranges: halved where the server estimates most rows, until there are
//! enough for the connections to share out. Each look costs one dive into the index.

use mysql_async::Row;

use super::key::{KeyColumns, KeyValues};
use crate::mysql::connect::Session;
use crate::source::SourceError;

/// Below this many estimated rows a range is not worth a round trip of its own.
const SMALLEST: u64 = 2_000;
/// Only a throttled scan of a very large table comes near it.
pub(super) const MOST: usize = 4_096;

/// A part of the table: the parts of one plan meet and cover all keys, also those made later.
#[derive(Debug)]
pub(super) struct Range {
    /// At or after this key.
    lower: Option<KeyValues>,
    /// Before this key.
    upper: Option<KeyValues>,
    /// The server's estimate.
    pub(super) rows: u64,
    /// Its first key, if it was looked for.
    first: Option<KeyValues>,
    /// Its last key or one after that, if it was looked for.
    last: Option<KeyValues>,
    /// Whether halving it has not failed.
    divisible: bool,
}

/// What to cut into how many.
pub(super) struct Plan<'a> {
    /// Quoted name of the table.
    pub(super) table: &'a str,
    pub(super) key: &'a KeyColumns,
    /// How many ranges are wanted, where there are rows enough.
    pub(super) wanted: usize,
    /// How many rows a range may have, by the throttle.
    pub(super) rows_max: Option<u64>,
}

impl Plan<'_> {
    /// The ranges, largest first.
    pub(super) async fn ranges(&self, session: &mut Session) -> Result<Vec<Range>, SourceError> {
        let mut whole = Range {
            lower: None,
            upper: None,
            rows: 0,
            first: None,
            last: None,
            divisible: true,
        };
        whole.rows = self.estimate(session, &whole).await?.rows;
        let mut ranges = vec![whole];
        while let Some(at) = self.next_to_halve(&ranges) {
            let range = ranges.swap_remove(at);
            self.halve(session, range, &mut ranges).await?;
        }
        ranges.sort_by_key(|range| std::cmp::Reverse(range.rows));
        Ok(ranges)
    }

    /// SQL that is true of the keys of a range.
    pub(super) fn condition(&self, range: &Range) -> String {
        let lower = range
            .lower
            .as_ref()
            .and_then(|key| self.key.at_or_after(key));
        let upper = range.upper.as_ref().and_then(|key| self.key.before(key));
        match (lower, upper) {
            (Some(lower), Some(upper)) => format!("{lower} AND {upper}"),
            (Some(one), None) | (None, Some(one)) => one,
            (None, None) => "TRUE".to_owned(),
        }
    }

    fn next_to_halve(&self, ranges: &[Range]) -> Option<usize> {
        if ranges.len() >= MOST {
            return None;
        }
        let (at, range) = ranges
            .iter()
            .enumerate()
            .filter(|(_, range)| range.divisible)
            .max_by_key(|(_, range)| range.rows)?;
        let too_large = self.rows_max.is_some_and(|max| range.rows > max);
        let too_few = ranges.len() < self.wanted;
        (range.rows > SMALLEST && (too_large || too_few)).then_some(at)
    }

    async fn halve(
        &self,
        session: &mut Session,
        mut range: Range,
        ranges: &mut Vec<Range>,
    ) -> Result<(), SourceError> {
        range.divisible = false;
        let boundary = self.boundary(session, &mut range).await?;
        let Some(boundary) = boundary else {
            ranges.push(range);
            return Ok(());
        };
        let mut halves = [
            Range {
                lower: range.lower.clone(),
                upper: Some(boundary.clone()),
                rows: 0,
                first: range.first.clone(),
                last: Some(boundary.clone()),
                divisible: true,
            },
            Range {
                lower: Some(boundary.clone()),
                upper: range.upper.clone(),
                rows: 0,
                first: Some(boundary),
                last: range.last.clone(),
                divisible: true,
            },
        ];
        for half in &mut halves {
            let estimate = self.estimate(session, half).await?;
            if !estimate.seeks {
                // Each half would read the whole table.
                ranges.push(range);
                return Ok(());
            }
            half.rows = estimate.rows;
        }
        ranges.extend(halves);
        Ok(())
    }

    /// A key inside the range, not its first, near its middle.
    async fn boundary(
        &self,
        session: &mut Session,
        range: &mut Range,
    ) -> Result<Option<KeyValues>, SourceError> {
        let condition = self.condition(range);
        if range.first.is_none() {
            range.first = self.edge(session, &condition, "ASC").await?;
        }
        if range.last.is_some()
            && let Some(found) = self.after_middle(session, range, &condition).await?
        {
            return Ok(Some(found));
        }
        // Unknown, or so far after the last one that there was nothing beyond the middle.
        range.last = self.edge(session, &condition, "DESC").await?;
        self.after_middle(session, range, &condition).await
    }

    async fn after_middle(
        &self,
        session: &mut Session,
        range: &Range,
        condition: &str,
    ) -> Result<Option<KeyValues>, SourceError> {
        let (Some(first), Some(last)) = (&range.first, &range.last) else {
            return Ok(None);
        };
        let guess = self.key.between(first, last);
        let Some(after) = guess.and_then(|guess| self.key.at_or_after(&guess)) else {
            return Ok(None);
        };
        let found = self
            .edge(session, &format!("{condition} AND {after}"), "ASC")
            .await?;
        // A boundary is written as a literal later on: one that cannot be is none.
        Ok(found.filter(|key| key != first && self.key.at_or_after(key).is_some()))
    }

    async fn edge(
        &self,
        session: &mut Session,
        condition: &str,
        direction: &str,
    ) -> Result<Option<KeyValues>, SourceError> {
        let sql = format!(
            "SELECT {} FROM {} FORCE INDEX (PRIMARY) WHERE {condition} ORDER BY {} LIMIT 1",
            self.key.selected(),
            self.table,
            self.key.order(direction),
        );
        let rows: Vec<Row> = session.exec(&sql).await?;
        Ok(rows.into_iter().next().map(Row::unwrap))
    }

    /// How many rows the server thinks are there, and how it would come to them.
    async fn estimate(
        &self,
        session: &mut Session,
        range: &Range,
    ) -> Result<Estimate, SourceError> {
        // USE, not FORCE: MySQL 9 estimates nothing where it is left no choice.
        let plan: Vec<Row> = session
            .rows(&format!(
                "EXPLAIN FORMAT=TRADITIONAL SELECT 1 FROM {} USE INDEX (PRIMARY) WHERE {}",
                self.table,
                self.condition(range)
            ))
            .await?;
        let text = |name: &str| {
            let row = plan.first()?;
            let columns = row.columns_ref();
            let at = columns
                .iter()
                .position(|column| column.name_str() == name)?;
            row.get_opt::<String, usize>(at)?.ok()
        };
        Ok(Estimate {
            // No number: it knows already that there are none.
            rows: text("rows").and_then(|rows| rows.parse().ok()).unwrap_or(0),
            seeks: !matches!(text("type").as_deref(), Some("ALL" | "index")),
        })
    }
}

struct Estimate {
    rows: u64,
    /// It goes to the range by the index instead of reading everything.
    seeks: bool,
}
