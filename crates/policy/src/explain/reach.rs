//! The roles that a subject has in one realm, and the path to each.

use std::collections::{HashMap, HashSet};

use tessera_core::RoleName;

use crate::{
    explain::role_step::{Given, RoleStep},
    roles::RoleGraph,
    rule::RoleEdge,
};

/// A subject's roles, found by a breadth-first walk.
pub(crate) struct Reach<'a> {
    subject: &'a str,
    /// By role, the edge that reached it first; `None` for an asserted role.
    edges: HashMap<&'a str, Option<&'a RoleEdge>>,
    /// In the order in which they were reached.
    roles: Vec<&'a str>,
}

impl<'a> Reach<'a> {
    /// Walks from `subject` and from the roles that count as if the subject had them.
    ///
    /// It checks every edge for each step away: chains are short, so this costs less than a graph.
    pub(crate) fn new(
        edges: &'a [RoleEdge],
        realm: &str,
        subject: &'a str,
        asserted: impl Iterator<Item = &'a str>,
    ) -> Self {
        Self::walk(subject, asserted, |members| {
            let members: HashSet<&str> = members.iter().copied().collect();
            edges
                .iter()
                .filter(|edge| members.contains(edge.member.as_ref()) && edge.realm.admits(realm))
                .collect()
        })
    }

    /// The same in an existing graph.
    pub(crate) fn in_graph(
        graph: &RoleGraph<'a>,
        subject: &'a str,
        asserted: impl Iterator<Item = &'a str>,
    ) -> Self {
        Self::walk(subject, asserted, |members| {
            let leaving = members.iter().flat_map(|name| graph.leaving(name));
            leaving.copied().collect()
        })
    }

    /// `leaving` returns the edges that leave some members.
    fn walk(
        subject: &'a str,
        asserted: impl Iterator<Item = &'a str>,
        leaving: impl Fn(&[&'a str]) -> Vec<&'a RoleEdge>,
    ) -> Self {
        let mut reach = Self {
            subject,
            edges: HashMap::new(),
            roles: Vec::new(),
        };
        let mut members = vec![subject];
        let mut next: Vec<&str> = asserted.filter(|role| reach.add(role, None)).collect();
        while !members.is_empty() {
            let edges = leaving(&members);
            let new = edges.into_iter().filter(|edge| reach.add(&edge.role, Some(edge)));
            next.extend(new.map(|edge| edge.role.as_ref()));
            members = std::mem::take(&mut next);
        }
        reach
    }

    /// Whether the subject is `holder`, or has it as a role.
    pub(crate) fn has(&self, holder: &str) -> bool {
        holder == self.subject || self.edges.contains_key(holder)
    }

    /// The roles, the nearest first.
    pub(crate) fn roles(&self) -> &[&'a str] {
        &self.roles
    }

    /// The edges from the subject to a holder, the last first. The first edge may be missing, as an asserted role has
    /// none.
    pub(crate) fn edges_to(&self, holder: &str) -> Vec<&'a RoleEdge> {
        let mut found = Vec::new();
        let mut name = holder;
        while let Some(Some(edge)) = self.edges.get(name) {
            found.push(*edge);
            name = &edge.member;
        }
        found
    }

    /// The steps from the subject to a holder; empty if the holder is the subject.
    pub(crate) fn path(&self, holder: &str) -> Vec<RoleStep> {
        let edges = self.edges_to(holder);
        let start = edges.last().map_or(holder, |edge| edge.member.as_ref());
        let asserted = self.edges.contains_key(start).then_some((start, Given::Asserted));
        let given = edges
            .iter()
            .rev()
            .map(|edge| (edge.role.as_ref(), Given::Rule(edge.at())));
        asserted
            .into_iter()
            .chain(given)
            .filter_map(|(role, given)| {
                let role = RoleName::parse(role).ok()?;
                Some(RoleStep { role, given })
            })
            .collect()
    }

    /// Adds a role, and returns whether it is new.
    fn add(&mut self, role: &'a str, edge: Option<&'a RoleEdge>) -> bool {
        if self.edges.contains_key(role) {
            return false;
        }
        self.edges.insert(role, edge);
        self.roles.push(role);
        true
    }
}
