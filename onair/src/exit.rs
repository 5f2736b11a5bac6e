//! How a command ends: an exit code that scripts can rely on, and for people what, where, why and what to do.

use std::fmt;

/// Exit codes. They are part of the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// Failed.
    Failed = 1,
    /// The command line, the configuration or a name makes no sense.
    Usage = 2,
    /// Something was looked for and is absent or different.
    Different = 3,
    /// A server or a source cannot be reached.
    Unreachable = 4,
    /// Refused for safety; nothing was changed.
    Refused = 5,
    /// Ctrl-C came before the answer; 128 and the signal's number, as a shell says it.
    Interrupted = 130,
    /// The same of SIGTERM.
    Terminated = 143,
}

/// Why a command did not do what it was asked to.
#[derive(Debug)]
pub struct Failure {
    /// The process's exit code.
    pub exit: Exit,
    /// One or more lines for people. Empty: everything is said already.
    pub text: String,
}

impl Failure {
    /// A failure with this text.
    pub fn new(exit: Exit, text: impl Into<String>) -> Self {
        Failure {
            exit,
            text: text.into(),
        }
    }

    /// Ends with this code; all is said already.
    pub const fn silent(exit: Exit) -> Self {
        Failure {
            exit,
            text: String::new(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// An error with all its causes in one line, none of them twice.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let words = cause.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        next = cause.source();
    }
    text
}
