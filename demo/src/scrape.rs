//! Metrics of a program or an exporter, in Prometheus' text format.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// All metrics at one moment.
#[derive(Clone, Debug)]
pub struct Scrape(String);

impl Scrape {
    pub(super) fn new(text: String) -> Self {
        Self(text)
    }

    /// The series of a metric: their labels in their text form, and their values.
    pub fn series<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (&'a str, f64)> + 'a {
        self.0.lines().filter_map(move |line| {
            let rest = line.strip_prefix(name)?;
            let (labels, value) = match rest.strip_prefix('{') {
                Some(labelled) => labelled.rsplit_once("} ")?,
                None => ("", rest.strip_prefix(' ')?),
            };
            Some((labels, value.trim().parse().ok()?))
        })
    }

    /// The sum of the series that have all of these labels, each in the form `name="value"`.
    pub fn sum(&self, name: &str, labels: &[&str]) -> f64 {
        let has_all = |of: &str| labels.iter().all(|label| of.split(',').any(|one| one == *label));
        let values = self.series(name).filter(|(of, _)| has_all(of)).map(|(_, value)| value);
        values.fold(0.0, |sum, value| sum + value)
    }
}

/// Sends a GET over plain HTTP/1.0, and returns the whole response with its headers.
pub(super) async fn get(address: &str, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    Some(answer)
}

#[cfg(test)]
mod tests {
    use super::Scrape;

    #[test]
    fn a_sum_is_of_the_metric_and_the_labels_that_are_named() {
        let text = "# HELP up x\nup 1\nups 5\nj{pool=\"a\",use=\"lease\"} 2.5\nj{pool=\"b\",use=\"idle\"} 4\n";
        let scrape = Scrape::new(text.to_owned());
        let sum = |name: &str, labels: &[&str]| scrape.sum(name, labels).to_string();
        assert_eq!((sum("up", &[]), sum("j", &[])), ("1".into(), "6.5".into()));
        assert_eq!(sum("j", &["use=\"lease\""]), "2.5");
        assert_eq!(sum("j", &["use=\"le\""]), "0");
    }
}
