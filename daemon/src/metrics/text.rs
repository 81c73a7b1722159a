//! The text that Prometheus reads, version 0.0.4 of its exposition format.

use std::fmt::Write as _;

use super::Histogram;

/// What a number means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It goes up and down.
    Gauge,
    /// It grows; its name ends in `_total`.
    Counter,
}

/// Metrics as text. Each is told once, with all of its samples.
#[derive(Debug, Default)]
pub struct Text(String);

impl Text {
    /// The content type of the text.
    pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

    /// A metric with a sample for each set of labels.
    pub fn metric<'l>(
        &mut self,
        kind: Kind,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Vec<(&'l str, String)>, f64)>,
    ) {
        let kind = match kind {
            Kind::Gauge => "gauge",
            Kind::Counter => "counter",
        };
        self.head(name, help, kind);
        for (labels, value) in samples {
            self.sample(name, &labels, value);
        }
    }

    /// A metric of one number.
    pub fn number(&mut self, kind: Kind, name: &str, help: &str, value: f64) {
        self.metric(kind, name, help, [(Vec::new(), value)]);
    }

    /// A histogram; its name ends in the unit.
    pub fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) {
        self.head(name, help, "histogram");
        let mut below = 0;
        for (end, count) in histogram.buckets() {
            self.sample(&format!("{name}_bucket"), &[("le", end.to_string())], count as f64);
            below = count;
        }
        let count = histogram.count(below) as f64;
        self.sample(&format!("{name}_bucket"), &[("le", "+Inf".to_owned())], count);
        self.sample(&format!("{name}_sum"), &[], histogram.sum());
        self.sample(&format!("{name}_count"), &[], count);
    }

    /// The text so far.
    pub fn finish(self) -> String {
        self.0
    }

    fn head(&mut self, name: &str, help: &str, kind: &str) {
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        let _infallible = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, String)], value: f64) {
        self.0 += name;
        for (at, (label, value)) in labels.iter().enumerate() {
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let open = if at == 0 { '{' } else { ',' };
            let _infallible = write!(self.0, "{open}{label}=\"{value}\"");
        }
        if !labels.is_empty() {
            self.0.push('}');
        }
        let _infallible = writeln!(self.0, " {value}");
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_text_is_as_the_format_wants_it() {
        let mut text = Text::default();
        text.number(Kind::Gauge, "hgci_builds", "Builds in flight.", 3.0);
        let samples = [
            (vec![("pool", "a\"b\\c\nd".to_owned()), ("state", "free".to_owned())], 1.0),
            (vec![("pool", "here".to_owned()), ("state", "used".to_owned())], 0.5),
        ];
        text.metric(Kind::Gauge, "hgci_pool_slots", "Slots.", samples);
        let histogram = Histogram::default();
        histogram.took(Duration::from_secs(60));
        text.histogram("hgci_hint_seconds", "Hints.", &histogram);
        let text = text.finish();
        let start = "# HELP hgci_builds Builds in flight.\n# TYPE hgci_builds gauge\nhgci_builds 3\n\
             # HELP hgci_pool_slots Slots.\n# TYPE hgci_pool_slots gauge\n\
             hgci_pool_slots{pool=\"a\\\"b\\\\c\\nd\",state=\"free\"} 1\n\
             hgci_pool_slots{pool=\"here\",state=\"used\"} 0.5\n\
             # HELP hgci_hint_seconds Hints.\n# TYPE hgci_hint_seconds histogram\n\
             hgci_hint_seconds_bucket{le=\"0.0001\"} 0\n";
        assert!(text.starts_with(start), "{text}");
        let end = "hgci_hint_seconds_bucket{le=\"30\"} 0\nhgci_hint_seconds_bucket{le=\"+Inf\"} 1\n\
             hgci_hint_seconds_sum 60\nhgci_hint_seconds_count 1\n";
        assert!(text.ends_with(end), "{text}");
    }
}
