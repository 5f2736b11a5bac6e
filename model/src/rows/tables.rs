//! Tables that hold many rows together: their number and size are chosen so that few places stay free.
//!
//! A hash table has a power of two of places. One for 125,000 rows has 262,144, of which half are never used; five
//! of 32,768 hold them as well.

use super::Table;

/// Of five places four are meant to be taken: a table doubles when more than seven in eight are.
const TAKEN: usize = 4;
const OF: usize = 5;
/// Tables of fewer rows than this would differ too much in how many they get.
const ROWS_MIN: usize = 512;
const TABLES_MAX: usize = 16;

/// So many tables, each with so many places.
#[derive(Clone, Copy, Debug)]
struct Shape {
    tables: usize,
    places: usize,
}

impl Shape {
    /// The one with the fewest places in all for so many rows; of equals the one with the fewest tables.
    fn of(rows: usize) -> Self {
        let places = rows * OF / TAKEN;
        let shape = |tables| Shape {
            tables,
            places: places.div_ceil(tables).next_power_of_two(),
        };
        let shapes = (1..=(rows / ROWS_MIN).clamp(1, TABLES_MAX)).map(shape);
        shapes.min_by_key(Shape::all).unwrap_or(shape(1))
    }

    const fn all(&self) -> usize {
        self.tables * self.places
    }
}

/// Empty ones for this many rows.
pub(super) fn with_capacity<V>(rows: usize) -> Vec<Table<V>> {
    let shape = Shape::of(rows);
    // One in eight is never taken.
    let each = shape.places - shape.places.div_ceil(8);
    (0..shape.tables)
        .map(|_| Table::with_capacity(each))
        .collect()
}

/// Whether so many rows want about as many places as these tables have.
pub(super) fn suit<V>(tables: &[Table<V>], rows: usize) -> bool {
    let places: usize = tables.iter().map(Table::num_buckets).sum();
    let wanted = Shape::of(rows).all();
    places * OF >= wanted * TAKEN && places * TAKEN <= wanted * OF
}

/// The table of the keys with this bucket hash.
#[inline]
pub(super) fn of<V>(tables: &[Table<V>], hash: u64) -> &Table<V> {
    &tables[at(tables.len(), hash)]
}

/// The same, to be changed.
pub(super) fn of_mut<V>(tables: &mut [Table<V>], hash: u64) -> &mut Table<V> {
    &mut tables[at(tables.len(), hash)]
}

/// By the highest bits, which neither buckets nor tables nor leaves use.
#[inline]
const fn at(tables: usize, hash: u64) -> usize {
    (((hash >> 32) * tables as u64) >> 32) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_in_five_places_are_taken_at_least_and_no_table_must_grow() {
        for rows in (4_000..300_000).step_by(977) {
            let shape = Shape::of(rows);
            assert!(shape.all() * 3 <= rows * 5, "{rows} rows: {shape:?}");
            assert!(
                shape.all() * TAKEN >= rows * OF - OF,
                "{rows} rows: {shape:?}"
            );
        }
    }

    #[test]
    fn few_rows_have_one_table() {
        for (rows, places) in [(0, 1), (1, 1), (10, 16), (1000, 2048)] {
            let shape = Shape::of(rows);
            assert_eq!((shape.tables, shape.places), (1, places), "{rows} rows");
        }
    }
}
