//! What pods need other than GPUs.

use std::ops::{AddAssign, Sub, SubAssign};

use crate::model::{Pod, Shape};

/// CPU, memory, huge pages and pod slots: the needs of a pod other than GPUs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Amounts {
    pub(crate) cpu_milli: i64,
    pub(crate) memory: i64,
    pub(crate) huge_pages: [i64; 2],
    pub(crate) pods: i64,
}

impl Amounts {
    /// Returns the needs of `count` pods of a shape.
    pub(crate) fn of(shape: &Shape, count: u32) -> Self {
        let count = i64::from(count);
        Self {
            cpu_milli: shape.cpu_milli.cast_signed().saturating_mul(count),
            memory: shape.memory.cast_signed().saturating_mul(count),
            huge_pages: shape.huge_pages.map(|bytes| bytes.cast_signed().saturating_mul(count)),
            pods: count,
        }
    }

    /// Returns the needs of one pod.
    pub(crate) fn of_pod(pod: &Pod) -> Self {
        let shape = Shape {
            gpus: 0,
            cpu_milli: pod.cpu_milli,
            memory: pod.memory,
            huge_pages: pod.huge_pages,
        };
        Self::of(&shape, 1)
    }

    /// Returns what is missing where the amounts are negative, together with `gpus`.
    pub(crate) fn missing(&self, gpus: u32) -> Shape {
        let missing = |amount: i64| (-amount).max(0).cast_unsigned();
        Shape {
            gpus,
            cpu_milli: missing(self.cpu_milli),
            memory: missing(self.memory),
            huge_pages: self.huge_pages.map(missing),
        }
    }

    /// Returns how many pods of a shape the amounts suffice for.
    pub(crate) fn pods_of(&self, shape: &Shape) -> u32 {
        let by = |have: i64, need: u64| match need {
            0 => u32::MAX,
            need => u32::try_from(have.max(0).cast_unsigned() / need).unwrap_or(u32::MAX),
        };
        let huge_pages = self.huge_pages.into_iter().zip(shape.huge_pages);
        huge_pages
            .map(|(have, need)| by(have, need))
            .chain([by(self.cpu_milli, shape.cpu_milli), by(self.memory, shape.memory)])
            .chain([by(self.pods, 1)])
            .min()
            .unwrap_or_default()
    }

    pub(crate) fn covers(&self, other: &Self) -> bool {
        let mut huge_pages = self.huge_pages.into_iter().zip(other.huge_pages);
        self.cpu_milli >= other.cpu_milli
            && self.memory >= other.memory
            && huge_pages.all(|(have, need)| have >= need)
            && self.pods >= other.pods
    }
}

impl AddAssign for Amounts {
    fn add_assign(&mut self, other: Self) {
        self.cpu_milli += other.cpu_milli;
        self.memory += other.memory;
        self.huge_pages[0] += other.huge_pages[0];
        self.huge_pages[1] += other.huge_pages[1];
        self.pods += other.pods;
    }
}

impl SubAssign for Amounts {
    fn sub_assign(&mut self, other: Self) {
        self.cpu_milli -= other.cpu_milli;
        self.memory -= other.memory;
        self.huge_pages[0] -= other.huge_pages[0];
        self.huge_pages[1] -= other.huge_pages[1];
        self.pods -= other.pods;
    }
}

impl Sub for Amounts {
    type Output = Self;

    fn sub(mut self, other: Self) -> Self {
        self -= other;
        self
    }
}
