//! Amounts of resources, as in `requests`, `limits` and `allocatable`.

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::fmt;

use crate::quantity::Quantity;

/// Amounts by resource name, in the order in which they were written.
#[derive(Clone, Debug, Default)]
pub struct Amounts(pub Vec<(Box<str>, Quantity)>);

impl Amounts {
    /// Returns the amount of a resource, which is added as zero if it is missing.
    pub fn get_mut(&mut self, resource: &str) -> &mut Quantity {
        let at = if let Some(at) = self.0.iter().position(|(name, _)| **name == *resource) {
            at
        } else {
            self.0.push((resource.into(), Quantity::ZERO));
            self.0.len() - 1
        };
        &mut self.0[at].1
    }

    /// Adds each amount of `other`.
    pub fn add(&mut self, other: &Self) {
        for (resource, amount) in &other.0 {
            let sum = self.get_mut(resource);
            *sum = sum.plus(*amount);
        }
    }

    /// Raises each amount to that in `other`, if that is larger.
    pub fn raise_to(&mut self, other: &Self) {
        for (resource, amount) in &other.0 {
            let most = self.get_mut(resource);
            *most = (*most).max(*amount);
        }
    }
}

impl<'de> Deserialize<'de> for Amounts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;

        impl<'de> Visitor<'de> for Read {
            type Value = Amounts;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of quantities")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut amounts = Amounts::default();
                while let Some((resource, Amount(amount))) = map.next_entry::<Box<str>, _>()? {
                    amounts.0.push((resource, amount));
                }
                Ok(amounts)
            }

            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Amounts::default())
            }
        }

        deserializer.deserialize_any(Read)
    }
}

/// A quantity in JSON: a string, or a whole number.
struct Amount(Quantity);

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;

        impl Visitor<'_> for Read {
            type Value = Amount;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a quantity")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
                text.parse().map(Amount).map_err(E::custom)
            }

            fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
                Ok(Amount(Quantity::whole(i64::try_from(number).unwrap_or(i64::MAX))))
            }

            fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
                Ok(Amount(Quantity::whole(number)))
            }
        }

        deserializer.deserialize_any(Read)
    }
}
