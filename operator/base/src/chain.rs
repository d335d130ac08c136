//! Errors as one line of text.

use std::error::Error;

/// Returns an error and its causes in one line. A cause that the text before it contains is left
/// out.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        // Many errors repeat their cause in their own text.
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::{fmt, io};

    use super::*;

    /// An error with a cause, which its own text repeats or not.
    #[derive(Debug)]
    struct Layer(&'static str, Box<dyn Error + 'static>);

    impl fmt::Display for Layer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl Error for Layer {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&*self.1)
        }
    }

    #[test]
    fn a_chain_names_each_cause_once() {
        let disk = Layer("disk failed: no space left", io::Error::other("no space left").into());
        let error = Layer("cannot read the journal", disk.into());
        assert_eq!(chain(&error), "cannot read the journal: disk failed: no space left");
        assert_eq!(chain(&io::Error::other("one")), "one");
    }
}
