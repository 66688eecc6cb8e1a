//! Scopes whose parameters come from the path of a request.

use std::{fmt, sync::Arc};

use crate::{
    name::NameError,
    path::{CalledPath, Part, PathError, PathParameters, PathPattern},
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
    /// Parses a template. A [`Scope`] is a template without parameters.
    ///
    /// # Errors
    /// Fails if it is not a scope even with its parameters filled in.
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
    /// Fails if a parameter is missing, or has a value that no scope can have: then no token has that scope.
    pub fn fill(&self, parameters: &PathParameters<'_>) -> Result<Scope, NameError> {
        self.filled(|name| parameters.get(name))
    }

    /// The scope with these values of its parameters.
    ///
    /// # Errors
    /// As [`ScopeTemplate::fill`].
    pub fn fill_with(&self, parameters: &[(&str, &str)]) -> Result<Scope, NameError> {
        let value = |name: &str| parameters.iter().find(|(known, _)| *known == name);
        self.filled(|name| value(name).map(|(_, value)| *value))
    }

    fn filled<'a>(&self, value: impl Fn(&str) -> Option<&'a str>) -> Result<Scope, NameError> {
        let segments = self.segments.iter().map(|segment| match segment {
            Part::Literal(text) => Some(text.as_str()),
            Part::Parameter(name) => value(name),
        });
        let segments: Option<Vec<&str>> = segments.collect();
        let segments =
            segments.ok_or_else(|| NameError::shape("scope", "made with parameters that the path has"))?;
        // A value is one segment: with a slash it would make another scope.
        if segments.iter().any(|segment| segment.contains('/')) {
            return Err(NameError::shape(
                "scope",
                "made with parameters that are one segment",
            ));
        }
        Scope::parse(&format!("{}:{}", segments.join("/"), self.action))
    }
}

/// A scope with parameters, and the pattern of the path that contains them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScopeFromPath {
    path: PathPattern,
    scope: ScopeTemplate,
}

/// Why a request has no scope of a [`ScopeFromPath`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoScopeError {
    /// The path can be read in more than one way.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The path does not match.
    #[error("the path is not one of `{0}`")]
    OtherPath(PathPattern),
    /// The path contains text that can't be in a scope, so no token has that scope.
    #[error("no scope can have what the path says: {0}")]
    Scope(NameError),
}

impl ScopeFromPath {
    /// Parses both, such as `/videos/{id}/play` and `videos/{id}:play`.
    ///
    /// # Errors
    /// Fails if either is wrong, or if the scope has a parameter that the path does not have.
    pub fn parse(path: &str, scope: &str) -> Result<Self, NameError> {
        let path = PathPattern::parse(path)?;
        let scope = ScopeTemplate::parse(scope)?;
        let has_all = scope.parameters().all(|name| path.has_parameter(name));
        if has_all {
            Ok(Self { path, scope })
        } else {
            Err(NameError::shape(
                "scope",
                "made with parameters that the path has",
            ))
        }
    }

    /// The scope for a request to `target`, a path with an optional query.
    ///
    /// # Errors
    /// Fails if the path does not match, or can be read in more than one way.
    pub fn scope(&self, target: &str) -> Result<Scope, NoScopeError> {
        let path = CalledPath::parse(target)?;
        let parameters = self.path.parameters(&path);
        let parameters = parameters.ok_or_else(|| NoScopeError::OtherPath(self.path.clone()))?;
        self.scope.fill(&parameters).map_err(NoScopeError::Scope)
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

    fn filled(path: &str) -> Option<String> {
        let play = ScopeFromPath::parse("/videos/{id}/play", "videos/{id}:play").unwrap();
        play.scope(path).ok().map(|scope| scope.to_string())
    }

    #[test]
    fn a_scope_has_only_parameters_of_its_path() {
        assert!(ScopeFromPath::parse("/videos/{name}/play", "videos/{id}:play").is_err());
        assert!(ScopeFromPath::parse("/videos/{id}", "videos:read").is_ok());
        let play = ScopeFromPath::parse("/videos/{id}", "videos/{id}:play").unwrap();
        assert!(matches!(play.scope("/videos"), Err(NoScopeError::OtherPath(_))));
        let dots = play.scope("/videos/..");
        assert_eq!(dots, Err(NoScopeError::Path(PathError::DotSegment)));
    }

    #[test]
    fn a_parameter_is_the_segment_of_the_path() {
        assert_eq!(filled("/videos/v1/play").as_deref(), Some("videos/v1:play"));
        assert_eq!(filled("/videos/%761/play").as_deref(), Some("videos/v1:play"));
        // The action is that of the template, with any path.
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
