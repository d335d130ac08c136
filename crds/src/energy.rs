//! Energy: limits in whole kilowatt-hours, readings in whole millijoules.

use std::{borrow::Cow, fmt};

use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use strum::{Display, IntoStaticStr, VariantArray};

/// The calendar period of an energy limit, in the site's time zone.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    JsonSchema,
    Display,
    IntoStaticStr,
    VariantArray,
)]
pub enum EnergyPeriod {
    /// From midnight to midnight.
    Day,
    /// From Monday to Sunday.
    Week,
    /// A calendar month.
    Month,
    /// A calendar year.
    Year,
}

/// A limit on energy over a calendar period.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct EnergyLimit {
    /// Maximum energy in one period, in kilowatt-hours, measured at the GPU boards.
    #[schemars(range(min = 0, max = 1_000_000_000))]
    pub kwh: u64,
    /// The calendar period: Day, Week (from Monday), Month or Year. It is in the time zone of the
    /// pools' site, or in UTC without pools.
    pub period: EnergyPeriod,
}

/// Energy in thousandths of a joule, the unit of the devices' counters.
///
/// A decimal string in JSON, since such totals exceed 2^53, above which JSON numbers lose digits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Millijoules(pub u64);

impl Millijoules {
    /// One kilowatt-hour.
    pub const KILOWATT_HOUR: Self = Self(3_600_000_000);
}

impl fmt::Display for Millijoules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Millijoules {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Millijoules {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        text.parse()
            .map(Self)
            .map_err(|_| D::Error::custom(format!("{text:?} is not a whole number of millijoules")))
    }
}

impl JsonSchema for Millijoules {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Millijoules".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "maxLength": 19,
            "x-kubernetes-validations": [{
                "rule": "self.matches('^(0|[1-9][0-9]{0,18})$')",
                "message": "must be a whole number of millijoules in quotes, such as \"3600000000\" (1 kWh)",
            }],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn millijoules_are_decimal_strings() {
        let total = Millijoules(9_007_199_254_740_993);
        let json = serde_json::to_string(&total).unwrap();
        assert_eq!(json, "\"9007199254740993\"");
        assert_eq!(serde_json::from_str::<Millijoules>(&json).unwrap(), total);
        assert!(serde_json::from_str::<Millijoules>("\"1.5\"").is_err());
    }
}
