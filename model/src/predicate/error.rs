//! Why a predicate was refused: what, where, why, and what to write instead.

use super::source::{MAX_BYTES, MAX_TERMS};

/// Why a predicate was refused. Texts name the piece of the predicate, the reason and the remedy; the setting
/// that the predicate came from is the caller's to add.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PredicateError {
    /// Nothing but spaces.
    #[error(
        "the predicate is empty: write a condition over the columns of the row, e.g. live_status = 1, or TRUE for all rows"
    )]
    Empty,
    /// More text than is read.
    #[error("the predicate is too long: {bytes} bytes, and {max} are read; shorten its lists, or keep the outcome in a flag column", max = MAX_BYTES)]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// More comparisons than are read.
    #[error("the predicate is too large: more than {max} operators and keywords; use IN (..) for chains of OR, or keep the outcome in a flag column", max = MAX_TERMS)]
    TooManyTerms,
    /// Parentheses or NOTs too deep.
    #[error(
        "the predicate is nested too deeply: flatten its parentheses (AND and OR take any number of operands)"
    )]
    TooDeep,
    /// A comment.
    #[error(
        "a comment in the predicate, `{at}`: servers execute some comments, so none is read; leave it out"
    )]
    Comment {
        /// The text from there on.
        at: String,
    },
    /// A character that has no meaning in a predicate.
    #[error(
        "{character:?} has no meaning in a predicate, at `{at}`: write names with other characters than letters, digits, _ and $ in backticks, text in quotes, and one condition without variables or placeholders"
    )]
    Character {
        /// Which.
        character: char,
        /// The text from there on.
        at: String,
    },
    /// A string or name without its end.
    #[error("no closing {quote} for `{at}`: close it, and write a {quote} inside it twice")]
    Unterminated {
        /// The text from the opening quote on.
        at: String,
        /// The quote that opened it.
        quote: char,
    },
    /// `N'..'` and `_charset'..'`.
    #[error(
        "`{at}` names a character set: write the text alone, it is converted to the column's own set without loss or refused"
    )]
    Introducer {
        /// The literal.
        at: String,
    },
    /// `TIME '..'`.
    #[error(
        "`{at}` is a typed TIME literal, which MySQL 8.0 compares wrongly in a list: write the text alone, e.g. '10:00:00'"
    )]
    TypedTime {
        /// The literal.
        at: String,
    },
    /// `BETWEEN NULL AND ..`, or NULL in a list of times.
    #[error(
        "NULL is an operand of `{at}`, and servers differ in the outcome by type and version: leave it out, and write IS NULL or IS NOT NULL beside it where that is meant"
    )]
    NullOperand {
        /// The comparison.
        at: String,
    },
    /// Digits that run into something else.
    #[error(
        "`{at}` starts with neither a number nor a name: put a space behind a number, and backticks around a name that starts with a digit"
    )]
    Number {
        /// The text from there on.
        at: String,
    },
    /// Not the grammar of a condition.
    #[error(
        "the predicate cannot be read at {at}: {detail}; write one condition, e.g. live_status = 1 AND area_id IN (1, 2)"
    )]
    Syntax {
        /// The text from there on in backticks, or `its end`.
        at: String,
        /// What was expected.
        detail: String,
    },
    /// An operator that a predicate does not have.
    #[error("{operator} in `{at}` is not supported in a predicate; {instead}")]
    Operator {
        /// The piece of the text.
        at: String,
        /// The operator.
        operator: String,
        /// What to do.
        instead: &'static str,
    },
    /// A function, or what MySQL evaluates as one.
    #[error(
        "`{at}` is a function: a predicate depends on the columns of one row and on nothing else, or its outcome could change without a change of the row; keep what it computes in a column (a flag that the application sets, or for a function of the row a STORED generated column) and compare that"
    )]
    Function {
        /// The call.
        at: String,
    },
    /// A subquery, or a comparison with one.
    #[error(
        "`{at}` reads other rows: a predicate depends on one row of one table, because no event tells of the others; keep the outcome in a column of this table"
    )]
    Subquery {
        /// The subquery.
        at: String,
    },
    /// `table.column`.
    #[error(
        "`{at}` is a qualified name: a predicate reads the columns of its own table only; write the column alone, `{column}`"
    )]
    Qualified {
        /// The name as written.
        at: String,
        /// Its last part.
        column: String,
    },
    /// Anything else that is SQL.
    #[error(
        "`{at}` is not supported in a predicate: write comparisons of columns with literals, joined by AND, OR and NOT"
    )]
    Unsupported {
        /// The piece of the text.
        at: String,
    },
    /// No such column.
    #[error("the table has no column `{name}`{}", did_you_mean(similar))]
    UnknownColumn {
        /// As written.
        name: String,
        /// The closest that the table has.
        similar: Option<String>,
    },
    /// A value where a condition is needed.
    #[error("`{at}` is not a condition: {instead}")]
    NotACondition {
        /// The piece of the text.
        at: String,
        /// What to write.
        instead: String,
    },
    /// A comparison of something else than a column.
    #[error(
        "`{at}` does not compare a column with a literal: write the column on one side and a literal or a column on the other, and for BETWEEN and IN the column first and literals behind it (a >= b AND a <= c compares columns; join conditions with AND, OR and IS TRUE)"
    )]
    Operands {
        /// The comparison.
        at: String,
    },
    /// Text whose collation is not its bytes.
    #[error(
        "column `{column}` compares by {collation}, under which different texts are equal, by rules of the server's version: compare an integer flag or an ENUM instead, or add a column with a *_bin collation, e.g. a STORED generated copy"
    )]
    Collation {
        /// The column.
        column: String,
        /// Its collation.
        collation: String,
    },
    /// Text in a character set that literals are not converted to.
    #[error(
        "column `{column}` is in {collation}, and literals are converted without loss to utf8mb4, utf8mb3, latin1 and ascii only: add a column in one of these with a *_bin collation, e.g. a STORED generated copy, or an integer flag"
    )]
    Charset {
        /// The column.
        column: String,
        /// Its collation.
        collation: String,
    },
    /// A type that is not compared.
    #[error(
        "column `{column}` is {declared}, which a predicate can only test with IS NULL: keep what matters of it in a column of its own (a flag, or a STORED generated column) and compare that"
    )]
    Type {
        /// The column.
        column: String,
        /// Its type.
        declared: String,
    },
    /// An ENUM in an ordering comparison.
    #[error(
        "column `{column}` is an ENUM, whose labels servers compare as text and sort by index: list the labels that are meant with IN (..)"
    )]
    EnumOrder {
        /// The column.
        column: String,
    },
    /// Two columns whose types do not compare exactly.
    #[error(
        "columns `{left}` ({left_type}) and `{right}` ({right_type}) are not compared: only two integers, or two columns of the same date or time type, compare without conversion; keep the outcome in a flag column"
    )]
    ColumnPair {
        /// The one.
        left: String,
        /// Its type.
        left_type: String,
        /// The other.
        right: String,
        /// Its type.
        right_type: String,
    },
    /// A test for NULL on a NOT NULL DATE or DATETIME.
    #[error(
        "column `{column}` is NOT NULL, and servers take a test for NULL of such a date in a WHERE for one for '0000-00-00': compare with the zero date if that is meant, or leave the test out"
    )]
    ZeroDateIsNull {
        /// The column.
        column: String,
    },
    /// A literal that does not fit its column.
    #[error("{literal} does not fit column `{column}` ({declared}): {problem}")]
    Literal {
        /// As written.
        literal: String,
        /// The column.
        column: String,
        /// Its type.
        declared: String,
        /// Why.
        problem: LiteralProblem,
    },
}

/// Why a literal does not fit its column.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LiteralProblem {
    /// Not a literal of the column's kind.
    #[error("the server would convert one of the two; write {write}")]
    Kind {
        /// What to write.
        write: &'static str,
    },
    /// Beyond what the column holds.
    #[error(
        "the column holds {least} to {most}, so every row would compare the same; write a value within, or IS NOT NULL if any will do"
    )]
    OutOfRange {
        /// Least value.
        least: String,
        /// Greatest value.
        most: String,
    },
    /// A fraction for an integer.
    #[error("the column holds whole numbers and never equals it; write a whole number")]
    Fraction,
    /// `1e3` for an exact number.
    #[error(
        "with an exponent it is a floating-point number, and the server would compare rounded; write its digits out"
    )]
    Exponent,
    /// More digits than the column has.
    #[error(
        "it has more digits after the point than the {scale} of the column, which never equals it; write at most {scale}"
    )]
    Scale {
        /// The column's.
        scale: u8,
    },
    /// Not a double.
    #[error("a DOUBLE does not hold it, and the server would compare with {nearest}; write that")]
    Rounded {
        /// What the server would take.
        nearest: String,
    },
    /// Not a float.
    #[error(
        "a FLOAT does not hold it and never equals it (the server compares both as DOUBLE); write the nearest FLOAT, {nearest}, or make the column DOUBLE or DECIMAL"
    )]
    RoundedFloat {
        /// The nearest that it holds.
        nearest: String,
    },
    /// Not a date or time, or not in the one form that is read.
    #[error("it is not a date or time in the form {form}; write that")]
    Date {
        /// The form.
        form: &'static str,
    },
    /// More fractional digits than the column.
    #[error(
        "it has more digits after the point than the column keeps of a second ({fsp}), which never equals it; write at most {fsp}"
    )]
    FractionDigits {
        /// The column's.
        fsp: u8,
    },
    /// A character that the column cannot hold.
    #[error(
        "the column's character set {charset} has no {character:?}, so no value equals it; write text that the column can hold"
    )]
    Unencodable {
        /// Which.
        character: char,
        /// The column's set.
        charset: String,
    },
    /// An odd number of digits.
    #[error("it is not made of pairs of hexadecimal digits; write two for each byte")]
    HexDigits,
    /// A hexadecimal literal behind `<=>`.
    #[error(
        "MySQL 8.0 may compare it with others as a number after <=>; write = instead, or text in quotes"
    )]
    HexSame,
    /// Not the length of a BINARY(n).
    #[error(
        "every value of the column is {len} bytes long and the literal is {given}; write all {len}, zero bytes at its end included, e.g. as x'..'"
    )]
    Length {
        /// The column's.
        len: u16,
        /// The literal's.
        given: usize,
    },
    /// Not a label of the ENUM.
    #[error("it is none of the labels in exactly their letters; write one of {labels}")]
    Label {
        /// Some of them.
        labels: String,
    },
    /// Two labels that the server may take for one.
    #[error(
        "another label differs from it in case only, and the server may take them for one; use an integer flag"
    )]
    AlikeLabels,
    /// '' where it is a label too.
    #[error(
        "'' is a label and also what the server shows for an invalid value; use an integer flag"
    )]
    EmptyLabel,
}

fn did_you_mean(similar: &Option<String>) -> String {
    match similar {
        Some(similar) => format!(": did you mean `{similar}`?"),
        None => ": write one of its columns".to_owned(),
    }
}
