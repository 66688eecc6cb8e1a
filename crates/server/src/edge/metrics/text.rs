//! The two formats of Prometheus: OpenMetrics, which the library writes, and the older text format, which every other
//! reader accepts.

use std::collections::HashSet;

/// The content type of OpenMetrics.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// The content type of the text format.
const PLAIN: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The format of the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TextFormat {
    /// For callers that request it.
    OpenMetrics,
    /// For all other callers.
    Plain,
}

impl TextFormat {
    /// The format that the `accept` header of a request prefers (RFC 9110 §12.5.1). A request that does not name OpenMetrics
    /// gets the text format.
    pub(crate) fn accepted(accept: Option<&str>) -> Self {
        let (mut open_metrics, mut plain) = (0.0_f32, 0.0_f32);
        for part in accept.unwrap_or_default().to_ascii_lowercase().split(',') {
            let mut parameters = part.split(';').map(str::trim);
            let kind = parameters.next().unwrap_or_default();
            let weight = parameters.find_map(|parameter| parameter.strip_prefix("q="));
            let weight = weight
                .and_then(|weight| weight.trim().parse().ok())
                .unwrap_or(1.0);
            match kind {
                "application/openmetrics-text" => open_metrics = weight,
                "text/plain" => plain = weight,
                _ => {}
            }
        }
        match open_metrics > 0.0 && open_metrics >= plain {
            true => Self::OpenMetrics,
            false => Self::Plain,
        }
    }

    /// The content type of an answer.
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => OPEN_METRICS,
            Self::Plain => PLAIN,
        }
    }

    /// Converts OpenMetrics text to this format.
    pub(super) fn written(self, open_metrics: String) -> String {
        match self {
            Self::OpenMetrics => open_metrics,
            Self::Plain => plain(&open_metrics),
        }
    }
}

/// In the text format a counter has the name of its sample, with `_total`, and there is neither an end marker nor a
/// unit.
fn plain(open_metrics: &str) -> String {
    let counters: HashSet<_> = open_metrics
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter"))
        .collect();
    let mut text = String::with_capacity(open_metrics.len());
    for line in open_metrics.lines() {
        if line == "# EOF" || line.starts_with("# UNIT ") {
            continue;
        }
        let named = ["# HELP ", "# TYPE "].into_iter().find_map(|kind| {
            let (name, rest) = line.strip_prefix(kind)?.split_once(' ')?;
            counters
                .contains(name)
                .then(|| format!("{kind}{name}_total {rest}"))
        });
        text.push_str(named.as_deref().unwrap_or(line));
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_metrics_is_for_those_who_ask_for_it() {
        let prometheus =
            "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        for (accept, expected) in [
            (None, TextFormat::Plain),
            (Some("*/*"), TextFormat::Plain),
            (Some("text/plain; version=0.0.4"), TextFormat::Plain),
            (Some(prometheus), TextFormat::OpenMetrics),
            (Some("Application/OpenMetrics-Text"), TextFormat::OpenMetrics),
            (Some("application/openmetrics-text; q=0"), TextFormat::Plain),
            (
                Some("application/openmetrics-text; q=0.0, text/plain"),
                TextFormat::Plain,
            ),
            (
                Some("text/plain;q=1, application/openmetrics-text;q=0.5"),
                TextFormat::Plain,
            ),
        ] {
            assert_eq!(TextFormat::accepted(accept), expected, "{accept:?}");
        }
    }

    #[test]
    fn a_counter_is_named_as_its_sample_in_the_text_format() {
        let open = "# HELP a A.\n# TYPE a counter\na_total{b=\"# EOF\"} 1\n# HELP c C.\n# TYPE c gauge\n# UNIT c seconds\nc 2\n# EOF\n";
        let expected = "# HELP a_total A.\n# TYPE a_total counter\na_total{b=\"# EOF\"} 1\n# HELP c C.\n# TYPE c gauge\nc 2\n";
        assert_eq!(TextFormat::Plain.written(open.to_owned()), expected);
        assert_eq!(TextFormat::OpenMetrics.written(open.to_owned()), open);
    }
}
