//! An error with its sources.

use std::error::Error;
use std::fmt;

/// Displays an error with its sources in one line, separated by colons. What an error says that is
/// said already is left out: many repeat their source.
#[derive(Debug, Clone, Copy)]
pub struct ErrorChain<'a>(pub &'a (dyn Error + 'a));

impl fmt::Display for ErrorChain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = self.0.to_string();
        let mut source = self.0.source();
        while let Some(error) = source {
            let text = error.to_string();
            if !line.contains(&text) {
                line = format!("{line}: {text}");
            }
            source = error.source();
        }
        f.write_str(&line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot connect")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn every_source_is_in_the_line() {
        let error = Outer(std::io::Error::other("no such host"));
        assert_eq!(ErrorChain(&error).to_string(), "cannot connect: no such host");
        assert_eq!(ErrorChain(&std::io::Error::other("alone")).to_string(), "alone");
    }

    #[test]
    fn what_is_said_already_is_not_said_again() {
        // As hyper and tonic have it: the same text at each level.
        #[derive(Debug, thiserror::Error)]
        #[error("transport error: refused (os error 111)")]
        struct Transport(#[source] std::io::Error);
        let refused = std::io::Error::other("refused (os error 111)");
        let error = Outer(std::io::Error::other(Transport(refused)));
        assert_eq!(
            ErrorChain(&error).to_string(),
            "cannot connect: transport error: refused (os error 111)"
        );
    }
}
