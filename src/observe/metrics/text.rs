//! Prometheus's text format, version 0.0.4 (prometheus.io/docs/instrumenting/exposition_formats).
//!
//! Not a library: prometheus-client writes OpenMetrics, in which `promtool check metrics` finds
//! each counter without its `_total`.

use std::fmt::{Display, Write};

use crate::util::counters::Distribution;

/// The content type of the format.
pub(in crate::observe) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The text, as far as it is written.
#[derive(Debug, Default)]
pub(super) struct Text(pub(super) String);

/// The series of one metric. A metric without any is left out.
pub(super) struct Family<'a> {
    text: &'a mut String,
    name: &'a str,
    kind: &'static str,
    help: &'a str,
    begun: bool,
}

impl Text {
    pub(super) fn gauge<'a>(&'a mut self, name: &'a str, help: &'a str) -> Family<'a> {
        Family { text: &mut self.0, name, kind: "gauge", help, begun: false }
    }

    pub(super) fn counter<'a>(&'a mut self, name: &'a str, help: &'a str) -> Family<'a> {
        Family { text: &mut self.0, name, kind: "counter", help, begun: false }
    }

    pub(super) fn histogram<'a>(&'a mut self, name: &'a str, help: &'a str) -> Family<'a> {
        Family { text: &mut self.0, name, kind: "histogram", help, begun: false }
    }
}

impl Family<'_> {
    /// One value. A label with an empty value equals one that is absent, and is left out.
    pub(super) fn add(&mut self, labels: &[(&str, &str)], value: impl Display) {
        self.begin();
        self.series("", labels, None, value);
    }

    /// One value for each value of a label.
    pub(super) fn add_by<'v>(
        &mut self,
        label: &str,
        values: impl IntoIterator<Item = (&'v str, impl Display)>,
    ) {
        values.into_iter().for_each(|(of, value)| self.add(&[(label, of)], value));
    }

    /// One histogram.
    pub(super) fn distribution(&mut self, labels: &[(&str, &str)], of: &Distribution) {
        self.begin();
        for (bound, count) in &of.buckets {
            self.series("_bucket", labels, Some(&bound.to_string()), count);
        }
        self.series("_bucket", labels, Some("+Inf"), of.count);
        self.series("_sum", labels, None, of.sum);
        self.series("_count", labels, None, of.count);
    }

    fn begin(&mut self) {
        if !std::mem::replace(&mut self.begun, true) {
            let Self { text, name, kind, help, .. } = self;
            // Writing to a string cannot fail.
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        }
    }

    fn series(
        &mut self,
        suffix: &str,
        labels: &[(&str, &str)],
        bound: Option<&str>,
        value: impl Display,
    ) {
        let labels = labels.iter().copied().chain(bound.map(|bound| ("le", bound)));
        let labels: Vec<String> = labels
            .filter(|(_, value)| !value.is_empty())
            .map(|(label, value)| format!("{label}=\"{}\"", escaped(value)))
            .collect();
        let labels = match labels.is_empty() {
            true => String::new(),
            false => format!("{{{}}}", labels.join(",")),
        };
        let _ = writeln!(self.text, "{}{suffix}{labels} {value}", self.name);
    }
}

/// A value as a dashboard shows it, escaped once more for the format.
fn escaped(value: &str) -> String {
    status::escaped(value).replace('\\', "\\\\").replace('"', "\\\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_labels_are_escaped_and_empty_ones_left_out() {
        let mut text = Text::default();
        text.gauge("a", "What a is.").add(&[("b", "x\"y\\z\n\u{1b}"), ("c", ""), ("d", "1")], 2.5);
        text.counter("none_total", "Never there.");
        text.counter("b_total", "What b is.").add(&[], 3);
        let expected = "# HELP a What a is.\n# TYPE a gauge\n\
                        a{b=\"x\\\"y\\\\z\\\\n\\\\u{1b}\",d=\"1\"} 2.5\n\
                        # HELP b_total What b is.\n# TYPE b_total counter\nb_total 3\n";
        assert_eq!(text.0, expected);
    }

    #[test]
    fn a_histogram_is_cumulative_and_ends_at_infinity() {
        let mut text = Text::default();
        let of = Distribution { buckets: vec![(0.001, 1), (0.5, 3)], sum: 1.25, count: 4 };
        text.histogram("h_seconds", "How long.").distribution(&[("m", "x")], &of);
        let text = text.0;
        let lines: Vec<&str> = text.lines().skip(2).collect();
        assert_eq!(
            lines,
            [
                "h_seconds_bucket{m=\"x\",le=\"0.001\"} 1",
                "h_seconds_bucket{m=\"x\",le=\"0.5\"} 3",
                "h_seconds_bucket{m=\"x\",le=\"+Inf\"} 4",
                "h_seconds_sum{m=\"x\"} 1.25",
                "h_seconds_count{m=\"x\"} 4"
            ]
        );
    }
}
