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

    #[derive(Debug)]
    struct Layer(&'static str, Option<Box<Self>>);

    impl fmt::Display for Layer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl Error for Layer {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            self.1.as_deref().map(|source| source as &dyn Error)
        }
    }

    #[test]
    fn every_source_is_in_the_line_and_what_is_said_already_is_not_said_again() {
        let cases: [(&[&str], &str); 4] = [
            (&["alone"], "alone"),
            (&["cannot connect", "no such host"], "cannot connect: no such host"),
            (&["a", "b", "c"], "a: b: c"),
            // As hyper and tonic have it: the same text at each level.
            (
                &["cannot connect", "transport error: refused", "refused"],
                "cannot connect: transport error: refused",
            ),
        ];
        for (layers, expected) in cases {
            let chain =
                layers.iter().rev().fold(None, |source, text| Some(Box::new(Layer(text, source))));
            assert_eq!(ErrorChain(&*chain.unwrap()).to_string(), expected);
        }
    }
}
