//! The standard variables of OpenTelemetry. An empty one counts as not set.

use std::{env, path::PathBuf, time::Duration};

use crate::{
    collector::Collector,
    config::{CollectorUrl, Ratio, TelemetryConfig},
};

/// How long the collector may take for one request.
const TIME_MAX: Duration = Duration::from_secs(10);

/// How spans are sent.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) collector: Collector,
    pub(super) time_max: Duration,
    pub(super) service_name: String,
    /// Whether the environment says which calls are traced.
    pub(super) has_sampler: bool,
    /// Whether the environment has headers, which the library reads.
    pub(super) has_headers: bool,
}

/// Variables by their names.
pub(super) struct Environment(Box<Lookup>);

type Lookup = dyn Fn(&str) -> Option<String>;

impl Environment {
    pub(super) fn of_process() -> Self {
        Self(Box::new(|name| env::var(name).ok()))
    }

    fn get(&self, name: &str) -> Option<String> {
        let value = (self.0)(name)?.trim().to_owned();
        (!value.is_empty()).then_some(value)
    }

    /// The variable for traces, or the one for all signals; with its name.
    fn of_exporter(&self, name: &str) -> Option<(String, String)> {
        let names = [
            format!("OTEL_EXPORTER_OTLP_TRACES_{name}"),
            format!("OTEL_EXPORTER_OTLP_{name}"),
        ];
        names.into_iter().find_map(|name| {
            let value = self.get(&name)?;
            Some((name, value))
        })
    }
}

impl Settings {
    /// `None` if nothing should be sent.
    pub(super) fn of(config: &TelemetryConfig, environment: &Environment) -> Result<Option<Self>, String> {
        let is_disabled = environment
            .get("OTEL_SDK_DISABLED")
            .is_some_and(|value| value.eq_ignore_ascii_case("true"));
        let exporter = environment.get("OTEL_TRACES_EXPORTER");
        if is_disabled || exporter.as_deref() == Some("none") {
            return Ok(None);
        }
        let Some(url) = url(config, environment)? else {
            return Ok(None);
        };
        if let Some(exporter) = exporter.filter(|exporter| exporter != "otlp") {
            return Err(format!(
                "OTEL_TRACES_EXPORTER is `{exporter}`: only `otlp` and `none` are known here"
            ));
        }
        if let Some((name, protocol)) = environment.of_exporter("PROTOCOL").filter(|(_, it)| it != "grpc") {
            return Err(format!(
                "{name} is `{protocol}`: only `grpc` is spoken here; set it to `grpc`, and name the collector's port for that, \
                 often 4317"
            ));
        }
        let ca = environment
            .of_exporter("CERTIFICATE")
            .map(|(_, path)| PathBuf::from(path));
        Ok(Some(Self {
            collector: Collector {
                url,
                headers_file: config.headers_file.clone(),
                ca: ca.or_else(|| config.ca.clone()),
            },
            time_max: time_max(environment)?,
            service_name: service_name(config, environment),
            has_sampler: has_sampler(environment)?,
            has_headers: environment.of_exporter("HEADERS").is_some(),
        }))
    }
}

fn url(config: &TelemetryConfig, environment: &Environment) -> Result<Option<CollectorUrl>, String> {
    let Some((name, text)) = environment.of_exporter("ENDPOINT") else {
        return Ok(config.endpoint.clone());
    };
    let url = text.parse().map_err(|problem| format!("{name}: {problem}"))?;
    Ok(Some(url))
}

fn time_max(environment: &Environment) -> Result<Duration, String> {
    let Some((name, text)) = environment.of_exporter("TIMEOUT") else {
        return Ok(TIME_MAX);
    };
    let milliseconds = text
        .parse()
        .ok()
        .filter(|number| (1..=3_600_000).contains(number));
    milliseconds
        .map(Duration::from_millis)
        .ok_or_else(|| format!("{name}: expected milliseconds, such as 10000"))
}

pub(super) fn service_name(config: &TelemetryConfig, environment: &Environment) -> String {
    let attributes = environment.get("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default();
    let mut attributes = attributes.split(',').filter_map(|pair| pair.split_once('='));
    let of_attributes = attributes.find(|(name, _)| name.trim() == "service.name");
    environment
        .get("OTEL_SERVICE_NAME")
        .or_else(|| of_attributes.map(|(_, name)| name.trim().to_owned()))
        .unwrap_or_else(|| config.service_name.clone())
}

/// Whether there is a sampler, which the library reads; a name that the library would misread is refused.
fn has_sampler(environment: &Environment) -> Result<bool, String> {
    let Some(sampler) = environment.get("OTEL_TRACES_SAMPLER") else {
        return Ok(false);
    };
    match sampler.as_str() {
        "always_on" | "always_off" | "parentbased_always_on" | "parentbased_always_off" => Ok(true),
        "traceidratio" | "parentbased_traceidratio" => {
            let ratio = environment
                .get("OTEL_TRACES_SAMPLER_ARG")
                .unwrap_or_else(|| "1".to_owned());
            let ratio = ratio.parse::<Ratio>();
            ratio
                .map(|_| true)
                .map_err(|problem| format!("OTEL_TRACES_SAMPLER_ARG: {problem}"))
        }
        _ => Err(format!(
            "OTEL_TRACES_SAMPLER is `{sampler}`: expected always_on, always_off, traceidratio, or one of these after \
             `parentbased_`"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(config: &str, variables: &[(&str, &str)]) -> Result<Option<Settings>, String> {
        let variables: Vec<_> = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let environment = Environment(Box::new(move |asked| {
            let found = variables.iter().find(|(name, _)| name == asked);
            found.map(|(_, value)| value.clone())
        }));
        Settings::of(&toml::from_str(config).unwrap(), &environment)
    }

    const ENDPOINT: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4317");

    #[test]
    fn nothing_is_traced_unless_a_collector_is_named() {
        assert!(settings("", &[]).unwrap().is_none());
        assert!(
            settings("", &[("OTEL_EXPORTER_OTLP_ENDPOINT", "")])
                .unwrap()
                .is_none()
        );
        assert!(settings("", &[ENDPOINT]).unwrap().is_some());
        assert!(settings("endpoint = 'http://c:1'", &[]).unwrap().is_some());
        for off in [("OTEL_SDK_DISABLED", "TRUE"), ("OTEL_TRACES_EXPORTER", "none")] {
            assert!(
                settings("endpoint = 'http://c:1'", &[ENDPOINT, off])
                    .unwrap()
                    .is_none()
            );
        }
    }

    #[test]
    fn the_environment_takes_precedence_and_what_is_for_traces_over_that() {
        let config = "endpoint = 'http://file:1'\nca = 'file.pem'\nservice_name = 'of the file'";
        let of_file = settings(config, &[]).unwrap().unwrap();
        assert_eq!(of_file.collector.url.host(), "file");
        assert_eq!(of_file.service_name, "of the file");
        assert_eq!(of_file.collector.ca.unwrap(), PathBuf::from("file.pem"));
        assert!(!of_file.has_sampler && !of_file.has_headers);
        let variables = [
            ENDPOINT,
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://traces:2"),
            ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/ca.pem"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "250"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer x"),
            ("OTEL_RESOURCE_ATTRIBUTES", "a=b, service.name=attribute"),
            ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"),
            ("OTEL_TRACES_SAMPLER_ARG", "0.5"),
        ];
        let of_environment = settings(config, &variables).unwrap().unwrap();
        assert_eq!(of_environment.collector.url.host(), "traces");
        assert_eq!(of_environment.collector.ca.unwrap(), PathBuf::from("/ca.pem"));
        assert_eq!(of_environment.time_max, Duration::from_millis(250));
        assert_eq!(of_environment.service_name, "attribute");
        assert!(of_environment.has_sampler && of_environment.has_headers);
        let named = settings(config, &[variables[5], ("OTEL_SERVICE_NAME", "name")]);
        assert_eq!(named.unwrap().unwrap().service_name, "name");
    }

    #[test]
    fn what_cannot_be_done_is_said_and_not_taken_for_something_else() {
        for (name, value) in [
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "collector:4317"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s"),
            ("OTEL_TRACES_EXPORTER", "zipkin"),
            ("OTEL_TRACES_SAMPLER", "jaeger_remote"),
        ] {
            let said = settings("", &[ENDPOINT, (name, value)]).unwrap_err();
            assert!(said.contains(name), "{said}");
        }
        let ratio = [
            ENDPOINT,
            ("OTEL_TRACES_SAMPLER", "traceidratio"),
            ("OTEL_TRACES_SAMPLER_ARG", "2"),
        ];
        assert!(
            settings("", &ratio)
                .unwrap_err()
                .contains("OTEL_TRACES_SAMPLER_ARG")
        );
    }
}
