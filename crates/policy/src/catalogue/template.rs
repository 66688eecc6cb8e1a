//! A scope of a catalogue, which may have parameters, and the look-up of a scope.

use std::{collections::BTreeMap, ops::Bound};

use crate::rule::Star;

/// A scope of the catalogue, which may have parameters: `videos/{id}:play`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template {
    pub(crate) text: String,
    pub(crate) segments: Vec<Segment>,
    pub(crate) action: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Segment {
    Literal(String),
    Parameter,
}

/// The templates by path segment, so that a look-up does not grow with their number.
#[derive(Clone, Debug, Default)]
pub(super) struct Node {
    pub(super) literals: BTreeMap<String, Node>,
    pub(super) parameter: Option<Box<Node>>,
    pub(super) actions: Vec<String>,
}

impl Template {
    /// Whether each scope of `other` is a scope of this template.
    pub(super) fn admits(&self, other: &Self) -> bool {
        self.action == other.action
            && self.segments.len() == other.segments.len()
            && self
                .segments
                .iter()
                .zip(&other.segments)
                .all(|(own, other)| *own == Segment::Parameter || own == other)
    }
}

impl Node {
    /// Whether a scope has the rest of a path, if any is left.
    pub(super) fn has(&self, path: Option<&str>, action: &str) -> bool {
        let Some(path) = path else {
            return self.actions.iter().any(|known| known == action);
        };
        let (first, rest) = match path.split_once('/') {
            Some((first, rest)) => (first, Some(rest)),
            None => (path, None),
        };
        self.literals
            .get(first)
            .is_some_and(|node| node.has(rest, action))
            || self.parameter.as_ref().is_some_and(|node| node.has(rest, action))
    }

    /// Whether some scope here has these segments, the last of which may be only the beginning of a segment.
    pub(super) fn meets(&self, segments: &[&str], is_prefix: bool, action: &Star) -> bool {
        match segments {
            [] => self.actions.iter().any(|known| action.admits(known)),
            [start] if is_prefix => self.children_from(start).any(|node| node.reaches(action)),
            [first, rest @ ..] => {
                let is_segment = !matches!(*first, "" | "." | "..");
                self.literals
                    .get(*first)
                    .is_some_and(|node| node.meets(rest, is_prefix, action))
                    || (is_segment
                        && self
                            .parameter
                            .as_ref()
                            .is_some_and(|node| node.meets(rest, is_prefix, action)))
            }
        }
    }

    /// The nodes whose segment begins with `start`. The value of a parameter may begin with anything.
    fn children_from<'a>(&'a self, start: &'a str) -> impl Iterator<Item = &'a Node> {
        let from = (Bound::Included(start), Bound::Unbounded);
        let literals = self
            .literals
            .range::<str, _>(from)
            .take_while(move |(text, _)| text.starts_with(start));
        literals.map(|(_, node)| node).chain(self.parameter.as_deref())
    }

    /// Whether any scope here or below has the action.
    fn reaches(&self, action: &Star) -> bool {
        self.meets(&[], false, action) || self.children_from("").any(|node| node.reaches(action))
    }
}
