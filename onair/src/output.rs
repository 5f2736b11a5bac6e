//! What goes to people: colours and columns on a terminal, plain text elsewhere.

use std::io::{self, IsTerminal as _, Write};
use std::time::Duration;

use crate::exit::{Exit, Failure};

/// Widest column of a table on a terminal; the rest of a value is cut.
const WIDTH_MAX: usize = 40;

impl From<io::Error> for Failure {
    /// A reader that has gone, like `| head`, is no failure: there is nobody left to write for.
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::silent(Exit::Done),
            _ => Failure::new(
                Exit::Failed,
                format!(
                    "standard output cannot be written to: {error}; make room there, or send it elsewhere"
                ),
            ),
        }
    }
}

/// Standard output, and how to write to it.
#[derive(Debug)]
pub(crate) struct Output {
    to: io::BufWriter<io::Stdout>,
    /// Whether a person looks at it.
    pub(crate) terminal: bool,
    /// Whether colours are wanted.
    pub(crate) colour: bool,
}

/// What a word means, by its colour.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Tone {
    /// On, ready, all is well.
    Good,
    /// Changed, take care.
    Notice,
    /// Off, failed.
    Bad,
    /// Beside the point.
    Faint,
    /// A heading.
    Strong,
}

impl Output {
    /// Standard output as it is. `no_color`: the user's wish.
    pub(crate) fn new(no_color: bool) -> Self {
        let terminal = io::stdout().is_terminal();
        Output {
            to: io::BufWriter::with_capacity(64 << 10, io::stdout()),
            terminal,
            colour: terminal && !no_color,
        }
    }

    /// The word in its colour.
    pub(crate) fn tone(&self, tone: Tone, word: &str) -> String {
        if !self.colour {
            return word.to_owned();
        }
        let code = match tone {
            Tone::Good => "32",
            Tone::Notice => "33",
            Tone::Bad => "31",
            Tone::Faint => "2",
            Tone::Strong => "1",
        };
        format!("\x1b[{code}m{word}\x1b[0m")
    }

    /// A line.
    pub(crate) fn line(&mut self, line: &str) -> io::Result<()> {
        writeln!(self.to, "{line}")
    }

    /// A table: aligned on a terminal, fields separated by tabs elsewhere.
    pub(crate) fn table(&mut self, head: &[&str], rows: &[Vec<String>]) -> io::Result<()> {
        if !self.terminal {
            writeln!(self.to, "{}", head.join("\t"))?;
            for row in rows {
                writeln!(self.to, "{}", row.join("\t"))?;
            }
            return Ok(());
        }
        let width = |at: usize| {
            let cells = rows
                .iter()
                .filter_map(|row| row.get(at))
                .map(|cell| cell.chars().count());
            cells
                .chain([head[at].chars().count()])
                .max()
                .unwrap_or(0)
                .min(WIDTH_MAX)
        };
        let widths: Vec<usize> = (0..head.len()).map(width).collect();
        let heading = aligned(head.iter().copied(), &widths);
        writeln!(self.to, "{}", self.tone(Tone::Strong, &heading))?;
        for row in rows {
            writeln!(
                self.to,
                "{}",
                aligned(row.iter().map(String::as_str), &widths)
            )?;
        }
        Ok(())
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.to.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

fn aligned<'a>(cells: impl Iterator<Item = &'a str>, widths: &[usize]) -> String {
    let mut line = String::new();
    for (cell, width) in cells.zip(widths) {
        if !line.is_empty() {
            line.push_str("  ");
        }
        let count = cell.chars().count();
        if count > *width {
            line.extend(cell.chars().take(width.saturating_sub(1)));
            line.push('…');
        } else {
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', width - count));
        }
    }
    line.trim_end().to_owned()
}

/// `98,214`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1.2 MB`: for people.
pub(crate) fn bytes(bytes: u64) -> String {
    match bytes {
        0..10_000 => format!("{} bytes", grouped(bytes)),
        10_000..10_000_000 => format!("{} kB", grouped(bytes / 1000)),
        bytes => format!("{:.1} MB", bytes as f64 / 1e6),
    }
}

/// `0.8 s`, `3 min`: for people.
pub(crate) fn ago(duration: Duration) -> String {
    match duration.as_secs() {
        _ if duration == Duration::MAX => "unknown".to_owned(),
        0 => format!("{} ms", duration.as_millis()),
        1..=99 => format!("{:.1} s", duration.as_secs_f64()),
        seconds @ 100..=5_999 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3600),
    }
}

/// Text that keeps to one line of a table.
pub(crate) fn one_line(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_read_numbers_in_groups() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (98_214, "98,214"),
            (1_234_567, "1,234,567"),
        ] {
            assert_eq!(grouped(number), text);
        }
        assert_eq!(ago(Duration::from_millis(20)), "20 ms");
        assert_eq!(ago(Duration::from_millis(1500)), "1.5 s");
        assert_eq!(ago(Duration::from_secs(180)), "3 min");
    }

    #[test]
    fn columns_line_up() {
        assert_eq!(aligned(["a", "bcd"].into_iter(), &[3, 3]), "a    bcd");
        assert_eq!(aligned(["abcdef", "x"].into_iter(), &[4, 1]), "abc…  x");
    }
}
