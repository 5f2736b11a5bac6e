//! Error texts that users meet, with what they mean: each crate's examples stand in its `tests/golden/errors.txt`, and
//! docs/errors.md is made of these files.
//!
//! In: examples, by [`error_texts!`](crate::error_texts), which does not compile while a variant has none. Out: the
//! golden file, compared, or written when `ONAIR_BLESS` is set.

use std::error::Error;
use std::fmt::Write as _;
use std::path::Path;

/// The examples of one crate.
#[derive(Debug, Default)]
pub struct Texts {
    examples: Vec<Example>,
}

/// A text and what it means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    /// `Type::Variant`.
    pub name: String,
    /// What is said, with its causes.
    pub text: String,
    /// What it means.
    pub means: String,
    /// What to do.
    pub remedy: String,
}

impl Texts {
    /// No examples yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the example of an error, its causes behind it.
    pub fn error(&mut self, name: &str, error: &dyn Error, means: &str, remedy: &str) {
        self.text(name, &chain(error), means, remedy);
    }

    /// Adds a text that is not an error's.
    pub fn text(&mut self, name: &str, text: &str, means: &str, remedy: &str) {
        let one_line = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        self.examples.push(Example {
            name: name.to_owned(),
            text: text.to_owned(),
            means: one_line(means),
            remedy: one_line(remedy),
        });
    }

    /// Compares with `tests/golden/errors.txt` of the crate whose folder it is.
    pub fn check(&self, crate_dir: &str) {
        let path = Path::new(crate_dir).join("tests/golden/errors.txt");
        golden(&path, &print(&self.examples));
    }
}

/// Compares a text with a file of the repository, or writes it there when `ONAIR_BLESS` is set.
pub fn golden(path: &Path, text: &str) {
    if std::env::var_os("ONAIR_BLESS").is_some() {
        let written = path
            .parent()
            .map_or(Ok(()), std::fs::create_dir_all)
            .and_then(|()| std::fs::write(path, text));
        if let Err(error) = written {
            panic!("{}: {error}", path.display());
        }
        return;
    }
    let golden = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        text == golden,
        "{} differs; if it should, run with ONAIR_BLESS=1 and look at the difference.\n--- now\n{text}\n--- there\n{golden}",
        path.display()
    );
}

/// An error with its causes in one line, none of them twice: as `onair` says it.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let words = cause.to_string();
        if !text.contains(&words) {
            let _ = write!(text, ": {words}");
        }
        next = cause.source();
    }
    text
}

/// A golden file: `# name`, the text's lines behind four spaces, `means:` and `do:`.
fn print(examples: &[Example]) -> String {
    let mut out = String::new();
    for example in examples {
        let _ = writeln!(out, "# {}", example.name);
        for line in example.text.lines() {
            let _ = writeln!(out, "    {line}");
        }
        let _ = writeln!(out, "means: {}\ndo: {}\n", example.means, example.remedy);
    }
    out
}

/// The examples of a golden file.
pub fn parse(text: &str) -> Vec<Example> {
    let mut examples: Vec<Example> = Vec::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("# ") {
            examples.push(Example {
                name: name.to_owned(),
                text: String::new(),
                means: String::new(),
                remedy: String::new(),
            });
            continue;
        }
        let Some(example) = examples.last_mut() else {
            continue;
        };
        if let Some(said) = line.strip_prefix("    ") {
            if !example.text.is_empty() {
                example.text.push('\n');
            }
            example.text.push_str(said);
        } else if let Some(means) = line.strip_prefix("means: ") {
            means.clone_into(&mut example.means);
        } else if let Some(remedy) = line.strip_prefix("do: ") {
            remedy.clone_into(&mut example.remedy);
        }
    }
    examples
}

/// Adds examples of an error enum: `variant = value => "what it means", "what to do";` for each variant, also several
/// for one. A variant without an example does not compile.
#[macro_export]
macro_rules! error_texts {
    ($texts:expr, $type:ident: $($variant:ident = $value:expr => $means:expr, $remedy:expr;)+) => {{
        // No wildcard: a new variant needs an example.
        #[allow(unreachable_patterns, reason = "a variant may have several examples")]
        let name = |error: &$type| match error {
            $($type::$variant { .. } => concat!(stringify!($type), "::", stringify!($variant)),)+
        };
        $(
            let error: $type = $value;
            let said = concat!(stringify!($type), "::", stringify!($variant));
            assert_eq!(name(&error), said, "an example under another variant's name");
            $texts.error(said, &error, $means, $remedy);
        )+
    }};
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_golden_file_is_read_back() {
        let mut texts = Texts::new();
        texts.text("A::B", "one\ntwo", "three\n   four", "five");
        texts.text("A::C", "six", "seven", "eight");
        assert_eq!(parse(&print(&texts.examples)), texts.examples);
        assert_eq!(texts.examples[0].means, "three four");
    }
}
