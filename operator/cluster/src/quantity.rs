//! Kubernetes quantities: `500m`, `4`, `16Gi`, `1e3`.

use std::cmp::Ordering;

/// An exact amount in billionths of its unit, the finest resolution of Kubernetes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Quantity(i128);

/// A text that is not a quantity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a quantity; write a number such as 4, 500m or 16Gi")]
pub struct InvalidQuantity(String);

const NANOS: i128 = 1_000_000_000;
/// Kubernetes caps every quantity here, in whole units.
const LARGEST: i128 = i64::MAX as i128 * NANOS;

impl Quantity {
    /// No amount.
    pub const ZERO: Self = Self(0);

    /// Creates a whole number of units.
    pub const fn whole(units: i64) -> Self {
        Self(units as i128 * NANOS)
    }

    /// Returns thousandths, rounded up as by kube-scheduler; zero if negative.
    pub fn milli(self) -> u64 {
        ceil(self.0, NANOS / 1000)
    }

    /// Returns whole units, rounded up as by kube-scheduler; zero if negative.
    pub fn units(self) -> u64 {
        ceil(self.0, NANOS)
    }

    /// Returns the sum, capped as in Kubernetes.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self((self.0 + other.0).clamp(-LARGEST, LARGEST))
    }
}

fn ceil(nanos: i128, unit: i128) -> u64 {
    let nanos = nanos.max(0);
    let whole = nanos / unit + i128::from(nanos % unit != 0);
    u64::try_from(whole).unwrap_or(u64::MAX)
}

impl std::str::FromStr for Quantity {
    type Err = InvalidQuantity;

    /// Reads `<sign><digits>.<digits><suffix>`, as apimachinery's `ParseQuantity` does. The suffix
    /// is decimal (n, u, m, k, M, G, T, P, E), binary (Ki, Mi, Gi, Ti, Pi, Ei) or an exponent (e3,
    /// E-2). Amounts finer than a billionth are rounded away from zero.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).ok_or_else(|| InvalidQuantity(text.to_owned()))
    }
}

fn parse(text: &str) -> Option<Quantity> {
    let (negative, rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
    let (number, suffix) = rest.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
        return None;
    }
    let scale = Scale::of(suffix)?;

    // 27 digits hold every value below the cap to the billionth. Further digits change only the
    // exponent.
    let mut digits: i128 = 0;
    let mut exponent = -i32::try_from(fraction.len()).ok()?;
    for digit in whole.bytes().chain(fraction.bytes()) {
        if digits < 1_000_000_000_000_000_000_000_000_000 {
            digits = digits * 10 + i128::from(digit - b'0');
        } else {
            exponent += 1;
        }
    }
    let nanos = match scale {
        Scale::Decimal(power) => scaled(digits, exponent.checked_add(power)?.checked_add(9)?),
        Scale::Binary(shift) => match digits.checked_mul(1_i128 << shift) {
            Some(digits) => scaled(digits, exponent + 9),
            None => scaled(digits, exponent + 9 + i32::try_from(shift).ok()?),
        },
    };
    Some(Quantity(if negative { -nanos } else { nanos }))
}

/// Returns `digits` times ten to the `exponent`, rounded up and capped.
fn scaled(digits: i128, exponent: i32) -> i128 {
    match exponent.cmp(&0) {
        Ordering::Equal => digits.min(LARGEST),
        Ordering::Greater => {
            let mut value = digits;
            for _ in 0..exponent.min(64) {
                value = value.saturating_mul(10);
                if value > LARGEST {
                    return LARGEST;
                }
            }
            value
        }
        Ordering::Less => {
            let mut value = digits;
            let mut rest = false;
            for _ in 0..exponent.unsigned_abs().min(64) {
                rest |= value % 10 != 0;
                value /= 10;
            }
            (value + i128::from(rest)).min(LARGEST)
        }
    }
}

enum Scale {
    /// A power of ten.
    Decimal(i32),
    /// A power of two.
    Binary(u32),
}

impl Scale {
    fn of(suffix: &str) -> Option<Self> {
        Some(match suffix {
            "n" => Self::Decimal(-9),
            "u" => Self::Decimal(-6),
            "m" => Self::Decimal(-3),
            "" => Self::Decimal(0),
            "k" => Self::Decimal(3),
            "M" => Self::Decimal(6),
            "G" => Self::Decimal(9),
            "T" => Self::Decimal(12),
            "P" => Self::Decimal(15),
            "E" => Self::Decimal(18),
            "Ki" => Self::Binary(10),
            "Mi" => Self::Binary(20),
            "Gi" => Self::Binary(30),
            "Ti" => Self::Binary(40),
            "Pi" => Self::Binary(50),
            "Ei" => Self::Binary(60),
            _ => {
                let exponent = suffix.strip_prefix(['e', 'E'])?;
                Self::Decimal(exponent.parse::<i16>().ok()?.into())
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_kubernetes_reads() {
        for (text, milli, units) in [
            ("0", 0, 0),
            ("4", 4_000, 4),
            ("+4", 4_000, 4),
            ("500m", 500, 1),
            ("1.5", 1_500, 2),
            (".5", 500, 1),
            ("1.", 1_000, 1),
            ("0.1", 100, 1),
            ("1n", 1, 1),
            ("1u", 1, 1),
            ("999u", 1, 1),
            ("1001u", 2, 1),
            ("0.0001", 1, 1),
            ("0.00000000001", 1, 1),
            ("1k", 1_000_000, 1_000),
            ("1Ki", 1_024_000, 1_024),
            ("1.5Ki", 1_536_000, 1_536),
            ("0.5Gi", 536_870_912_000, 536_870_912),
            ("1M", 1_000_000_000, 1_000_000),
            ("1G", 1_000_000_000_000, 1_000_000_000),
            ("2Ti", 2_199_023_255_552_000, 2_199_023_255_552),
            ("1E", u64::MAX, 1_000_000_000_000_000_000),
            ("1e3", 1_000_000, 1_000),
            ("1E3", 1_000_000, 1_000),
            ("1e+3", 1_000_000, 1_000),
            ("15e-1", 1_500, 2),
            ("-1", 0, 0),
            ("00012", 12_000, 12),
            ("128974848000m", 128_974_848_000, 128_974_848),
        ] {
            let quantity: Quantity = text.parse().unwrap();
            assert_eq!(quantity.units(), units, "{text}");
            if units < 1_000_000_000_000_000 {
                assert_eq!(quantity.milli(), milli, "{text}");
            }
        }
    }

    #[test]
    fn caps_large_amounts() {
        for text in ["8Ei", "9.3E", "1e300", "99999999999999999999999999999999999999999"] {
            let quantity: Quantity = text.parse().unwrap();
            assert_eq!(quantity.units(), i64::MAX.unsigned_abs(), "{text}");
        }
    }

    #[test]
    fn refuses_other_texts() {
        for text in [
            "", "-", "+", ".", "m", "1K", "1ki", "1KI", "1mi", "1x", "1 Gi", "1.2.3", "1e",
            "1e1.5", "--1", "1,5", "Ki", "１",
        ] {
            assert!(text.parse::<Quantity>().is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn agrees_with_another_parser() {
        for number in ["0", "1", "3.25", "0.001", "1024", "7.999"] {
            for suffix in ["", "m", "k", "M", "G", "Ki", "Mi", "Gi", "e2"] {
                let text = format!("{number}{suffix}");
                let Ok(theirs) = kube_quantity::ParsedQuantity::try_from(text.as_str()) else {
                    continue;
                };
                let ours: Quantity = text.parse().unwrap();
                let theirs = theirs.to_bytes_f64().unwrap_or_default();
                assert!((ours.0 as f64 / 1e9 - theirs).abs() <= theirs * 1e-9, "{text}");
            }
        }
    }
}
