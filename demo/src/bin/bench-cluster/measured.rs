//! Measurements and their rows.

use std::time::Duration;

/// How fast Kubernetes' own controllers and scheduler may send requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rates {
    /// The defaults of Kubernetes: 20 a second for each controller, 50 for the scheduler.
    Stock,
    /// High enough to be no limit.
    High,
}

impl Rates {
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Stock => "stock",
            Self::High => "high",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Kubernetes,
    Client,
    Daylight,
}

impl Side {
    pub(crate) const ALL: [Self; 3] = [Self::Kubernetes, Self::Client, Self::Daylight];

    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Kubernetes => "(a) bare Kubernetes",
            Self::Client => "(b) bare client",
            Self::Daylight => "(c) Daylight",
        }
    }

    pub(crate) fn letter(self) -> &'static str {
        match self {
            Self::Kubernetes => "a",
            Self::Client => "b",
            Self::Daylight => "c",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Fill,
    Pod,
    Job,
    AiJob,
    EvictThenJob,
}

impl What {
    pub(crate) fn text(self, pods: usize) -> String {
        match self {
            Self::Fill => format!("fill {pods} GPUs"),
            Self::Pod => "one plain pod".to_owned(),
            Self::Job => format!("plain Job of {pods}"),
            Self::AiJob => format!("AIJob of {pods}"),
            Self::EvictThenJob => format!("evict {pods}, then a Job"),
        }
    }
}

/// One measurement, or several of the same.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub what: What,
    /// The number of pods that had to run.
    pub pods: usize,
    /// The time until they ran; empty if they did not in time.
    pub times: Vec<Duration>,
    /// Filling pods that began to stop meanwhile.
    pub displaced: usize,
    /// Those of them that Daylight stopped, where it runs.
    pub evicted: Option<usize>,
    /// The time from the removal until all GPUs were filled again.
    pub refilled: Option<Duration>,
    /// The events of the measurement, in seconds from its start.
    pub timeline: String,
    /// CPU seconds by process.
    pub cpu: String,
}

impl Row {
    /// This measurement and one more of the same; the timeline is the last one's.
    pub(crate) fn and(mut self, other: Self) -> Self {
        self.times.extend(other.times);
        self.displaced += other.displaced;
        let evicted = self.evicted.zip(other.evicted).map(|(before, more)| before + more);
        Self { times: self.times, displaced: self.displaced, evicted, ..other }
    }

    pub(crate) fn median(&self) -> Option<f64> {
        let mut times = self.times.clone();
        times.sort_unstable();
        times.get(times.len() / 2).map(Duration::as_secs_f64)
    }

    pub(crate) fn slowest(&self) -> Option<f64> {
        self.times.iter().max().map(Duration::as_secs_f64)
    }

    /// "3.41 s (64 displaced)".
    pub(crate) fn text(&self) -> String {
        let displaced = match self.evicted {
            Some(evicted) if evicted != self.displaced => {
                format!("{} displaced, {evicted} by Daylight", self.displaced)
            }
            _ => format!("{} displaced", self.displaced),
        };
        let Some(median) = self.median() else {
            return format!("not in time ({displaced})");
        };
        if self.what == What::Fill {
            return format!("{median:.1} s ({:.0}/s)", self.pods as f64 / median);
        }
        let (low, high) = (self.times.iter().min(), self.times.iter().max());
        match (low, high, self.times.len()) {
            (Some(low), Some(high), count) if count > 1 => format!(
                "{median:.2} s ({:.2} to {:.2}, {count} times; {displaced} in total)",
                low.as_secs_f64(),
                high.as_secs_f64(),
            ),
            _ => format!("{median:.2} s ({displaced})"),
        }
    }
}

/// The sides of one comparison.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub rates: Rates,
    pub drain: u64,
    pub rows: Vec<(Side, Row)>,
    pub notes: Vec<String>,
    pub memory: Option<u64>,
}

impl Run {
    pub(crate) fn row(&self, side: Side, what: What, pods: usize) -> Option<&Row> {
        let rows = self.rows.iter().filter(|(of, _)| *of == side).map(|(_, row)| row);
        rows.into_iter().find(|row| row.what == what && row.pods == pods)
    }
}

/// The rows of one side; each is printed when it is added.
pub(crate) struct Rows<'a> {
    pub side: Side,
    pub run: &'a mut Run,
}

impl Rows<'_> {
    pub(crate) fn push(&mut self, row: Row) {
        println!("  {:<26} {}", row.what.text(row.pods), row.text());
        println!("  {:<26}   {}", "", row.timeline);
        println!("  {:<26}   CPU-s: {}", "", row.cpu);
        if let Some(refilled) = row.refilled {
            let refilled = refilled.as_secs_f64();
            println!("  {:<26}   all filled again {refilled:.1} s after its removal", "");
        }
        self.run.rows.push((self.side, row));
    }

    pub(crate) fn memory(&mut self, bytes: Option<u64>) {
        self.run.memory = bytes;
    }

    pub(crate) fn most_on_a_node(&mut self, gpus: usize) {
        let side = self.side.text();
        self.run.notes.push(format!("{side}: at most {gpus} GPUs of a node were held at once."));
    }
}
