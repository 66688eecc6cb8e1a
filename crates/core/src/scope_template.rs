//! Scopes whose parameters come from the path of a request.

use std::{fmt, sync::Arc};

use crate::{
    name::NameError,
    path::{Part, PathParameters},
    scope::Scope,
};

/// A scope that may have parameters, such as `videos/{id}:play`: each is one whole segment of its resource.
#[derive(Clone, PartialEq, Eq)]
pub struct ScopeTemplate {
    text: Arc<str>,
    segments: Vec<Part>,
    action: String,
}

impl ScopeTemplate {
    /// Parses a template. A [`Scope`] is one without parameters.
    ///
    /// # Errors
    /// Fails where it is no scope even with its parameters filled in.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let (resource, action) = text.rsplit_once(':').unwrap_or((text, ""));
        let template = Self {
            text: Arc::from(text),
            segments: resource.split('/').map(Part::read).collect(),
            action: action.to_owned(),
        };
        template.filled(|_| Some("x"))?;
        Ok(template)
    }

    /// The template as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The names of its parameters.
    pub fn parameters(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().filter_map(|segment| match segment {
            Part::Literal(_) => None,
            Part::Parameter(name) => Some(name.as_str()),
        })
    }

    /// The scope for one path.
    ///
    /// # Errors
    /// Fails where a parameter is missing, or has what no scope can have: then no token has that scope.
    pub fn fill(&self, parameters: &PathParameters<'_>) -> Result<Scope, NameError> {
        self.filled(|name| parameters.get(name))
    }

    fn filled<'a>(&'a self, value: impl Fn(&str) -> Option<&'a str>) -> Result<Scope, NameError> {
        let segments = self.segments.iter().map(|segment| match segment {
            Part::Literal(text) => Some(text.as_str()),
            Part::Parameter(name) => value(name),
        });
        let segments: Option<Vec<&str>> = segments.collect();
        let segments =
            segments.ok_or_else(|| NameError::shape("scope", "made with parameters that the path has"))?;
        // A value is one segment: with a slash it would be another scope.
        if segments.iter().any(|segment| segment.contains('/')) {
            return Err(NameError::shape(
                "scope",
                "made with parameters that are one segment",
            ));
        }
        Scope::parse(&format!("{}:{}", segments.join("/"), self.action))
    }
}

impl fmt::Display for ScopeTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for ScopeTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::{CalledPath, PathPattern};

    fn filled(path: &str) -> Option<String> {
        let pattern = PathPattern::parse("/videos/{id}/play").unwrap();
        let path = CalledPath::parse(path).unwrap();
        let template = ScopeTemplate::parse("videos/{id}:play").unwrap();
        let scope = template.fill(&pattern.parameters(&path)?);
        scope.ok().map(|scope| scope.to_string())
    }

    #[test]
    fn a_parameter_is_the_segment_of_the_path() {
        assert_eq!(filled("/videos/v1/play").as_deref(), Some("videos/v1:play"));
        assert_eq!(filled("/videos/%761/play").as_deref(), Some("videos/v1:play"));
        // The action is that of the template, whatever the path says.
        assert_eq!(filled("/videos/a:b/play").as_deref(), Some("videos/a:b:play"));
        for none in [
            "/videos/a%20b/play",
            "/videos/*/play",
            "/videos/%7Bid%7D/play",
            "/videos/%C3%BC/play",
        ] {
            assert_eq!(filled(none), None, "{none}");
        }
    }

    #[test]
    fn what_is_no_scope_is_no_template() {
        assert_eq!(
            ScopeTemplate::parse("videos/{id}:play")
                .unwrap()
                .parameters()
                .count(),
            1
        );
        assert_eq!(
            ScopeTemplate::parse("videos:read").unwrap().parameters().count(),
            0
        );
        for text in [
            "",
            "videos",
            "videos/{id}",
            "videos/{id}:",
            "videos/a{id}:play",
            "videos:{action}",
            "videos/{}:x",
        ] {
            assert!(ScopeTemplate::parse(text).is_err(), "{text}");
        }
    }
}
