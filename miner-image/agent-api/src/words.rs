//! Display and parsing by the words that serde uses, so that each word is spelled once.

use std::fmt;
use std::str::FromStr;

use serde::de::value::{Error, StrDeserializer};
use serde::{Deserialize, Serialize};

use crate::{Evidence, NotReady, Outcome};

macro_rules! words {
    ($($word:ty),*) => {$(
        impl fmt::Display for $word {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.serialize(f)
            }
        }

        impl FromStr for $word {
            type Err = Error;

            fn from_str(word: &str) -> Result<Self, Error> {
                Self::deserialize(StrDeserializer::new(word))
            }
        }
    )*};
}

words!(Evidence, NotReady, Outcome);
