//! The requests of a route, and those that other routes leave to it.
//!
//! A question about all requests is answered with a few examples. A part of a request that a route leaves open can be
//! replaced by a value that no route names: every route that matches the new request matched the old one, too. So what
//! holds for these examples, one for each length of a path and each method that is named, holds for all.
//! holds for these examples, one for each length of a path and each method that is named, holds for all.

use std::borrow::Cow;

use tessera_core::{CalledPath, PathPattern};

use super::{host::HostPattern, route::Route};

/// Requests with a common property: those of a route, or of several.
#[derive(Clone, Debug)]
pub(crate) struct Region {
    pub(crate) host: HostPattern,
    /// `None`: every method.
    pub(crate) methods: Option<Vec<String>>,
    pub(crate) path: PathPattern,
}

/// One request that represents all requests that the routes can't distinguish from it.
#[derive(Debug)]
pub(crate) struct Example<'a> {
    host: String,
    pub(crate) method: Cow<'a, str>,
    /// Whether a route names the method.
    pub(crate) is_named: bool,
    pub(crate) path: CalledPath,
}

/// Values that no route names.
#[derive(Debug)]
pub(crate) struct Unnamed {
    label: String,
    method: String,
    length_max: usize,
}

impl Unnamed {
    /// Values that none of these routes names.
    pub(crate) fn by<'a>(routes: impl Iterator<Item = &'a Route> + Clone) -> Self {
        let texts = routes.clone().flat_map(|route| {
            let literals = route.path.literals().map(Cow::Borrowed);
            literals.chain([Cow::Owned(route.host.to_string())])
        });
        let texts: Vec<Cow<'_, str>> = texts.collect();
        let labels = (0_usize..).map(|number| format!("v{number}x"));
        let label = labels.into_iter().find(|label| {
            !texts
                .iter()
                .any(|text| text.trim_start_matches("*.").starts_with(label.as_str()))
        });
        let methods: Vec<&String> = routes
            .clone()
            .filter_map(|route| route.methods.as_ref())
            .flatten()
            .collect();
        let mut method = "X".to_owned();
        while methods.contains(&&method) {
            method.push('X');
        }
        Self {
            label: label.unwrap_or_default(),
            method,
            length_max: routes.map(|route| route.path.segment_count()).max().unwrap_or(0),
        }
    }
}

impl Region {
    pub(crate) fn of(route: &Route) -> Self {
        Self {
            host: route.host.clone(),
            methods: route.methods.clone(),
            path: route.path.clone(),
        }
    }

    /// Every request.
    pub(crate) fn everything() -> Option<Self> {
        Some(Self {
            host: HostPattern::Any,
            methods: None,
            path: PathPattern::parse("/*").ok()?,
        })
    }

    /// The common requests of two regions, with this region's parameter names.
    pub(crate) fn intersection(&self, other: &Self) -> Option<Self> {
        let host = self.host.intersection(&other.host)?;
        let path = self.path.intersection(&other.path)?;
        let methods = match (&self.methods, &other.methods) {
            (None, methods) | (methods, None) => methods.clone(),
            (Some(own), Some(others)) => {
                let both: Vec<String> = own
                    .iter()
                    .filter(|method| others.contains(method))
                    .cloned()
                    .collect();
                (!both.is_empty()).then_some(both).map(Some)?
            }
        };
        Some(Self { host, methods, path })
    }

    /// Whether both have the same requests.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let is_within = |one: &Self, other: &Self| match (&one.methods, &other.methods) {
            (_, None) => true,
            (None, Some(_)) => false,
            (Some(one), Some(other)) => one.iter().all(|method| other.contains(method)),
        };
        self.host == other.host
            && self.path.covers(&other.path)
            && other.path.covers(&self.path)
            && is_within(self, other)
            && is_within(other, self)
    }

    /// Requests of the region, one for all that routes can't distinguish from it.
    pub(crate) fn examples<'a>(&'a self, unnamed: &'a Unnamed) -> impl Iterator<Item = Example<'a>> {
        let methods: Vec<&String> = self
            .methods
            .as_ref()
            .map_or_else(|| vec![&unnamed.method], |some| some.iter().collect());
        let is_named = self.methods.is_some();
        let more_max = if self.path.has_more() {
            // One more than the longest route.
            (unnamed.length_max + 1).saturating_sub(self.path.segment_count())
        } else {
            0
        };
        methods.into_iter().flat_map(move |method| {
            (0..=more_max).map(move |more| Example {
                host: self.host.example(&unnamed.label),
                method: Cow::Borrowed(method.as_str()),
                is_named,
                path: self
                    .path
                    .example(|position| format!("{}{position}", unnamed.label), more),
            })
        })
    }
}

impl Route {
    /// Whether a request is in this region.
    pub(crate) fn matches(&self, example: &Example<'_>) -> bool {
        let methods = self.methods.as_ref();
        methods.is_none_or(|methods| methods.iter().any(|method| *method == example.method))
            && self.host.matches(&example.host)
            && self.path.parameters(&example.path).is_some()
    }
}
