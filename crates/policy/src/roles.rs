//! The graph of `g` rules in one realm: which names have which roles.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use crate::{
    code,
    diagnostic::{Findings, Place},
    rule::{Realms, RoleEdge},
};

/// The longest chain of `g` rules.
///
/// Casbin walks nine edges from the subject and ignores the rest, even a `deny`. An asserted role is an additional
/// edge, so eight are left, and everything reachable counts.
pub(crate) const CHAIN_MAX: usize = 8;

/// The `g` rules of one realm.
pub(crate) struct RoleGraph<'a> {
    /// The edges that leave a name, in the order of the files.
    edges: HashMap<&'a str, Vec<&'a RoleEdge>>,
    /// Every name from which an edge leaves, after all names that it leads to; without names on a cycle, or above one.
    ordered: Vec<&'a str>,
}

impl<'a> RoleGraph<'a> {
    pub(crate) fn new(all: &'a [RoleEdge], realm: &str) -> Self {
        let mut edges: HashMap<&str, Vec<&RoleEdge>> = HashMap::new();
        let mut members: HashMap<&str, Vec<&str>> = HashMap::new();
        let mut names = Vec::new();
        for edge in all.iter().filter(|edge| edge.realm.admits(realm)) {
            let leaving = edges.entry(&edge.member).or_default();
            if leaving.is_empty() {
                names.push(edge.member.as_ref());
            }
            leaving.push(edge);
            members.entry(&edge.role).or_default().push(&edge.member);
        }
        let ordered = order(&names, &edges, &members);
        Self { edges, ordered }
    }

    /// Every name that has roles, with itself and all its roles, at any distance.
    ///
    /// A list begins with the name itself. The roles follow in the order of the edges, each with its own roles after it.
    pub(crate) fn closures(&self) -> HashMap<&'a str, Vec<&'a str>> {
        let mut closures: HashMap<&str, Vec<&str>> = HashMap::new();
        for name in &self.ordered {
            let mut closure = vec![*name];
            let mut seen: HashSet<&str> = HashSet::from([*name]);
            for edge in self.leaving(name) {
                let role = edge.role.as_ref();
                // A name without edges is only itself.
                let only_itself = [role];
                let reached = closures.get(role).map_or(only_itself.as_slice(), Vec::as_slice);
                closure.extend(reached.iter().filter(|name| seen.insert(name)));
            }
            closures.insert(name, closure);
        }
        closures
    }

    /// The edges that leave a name, in the order of the files.
    pub(crate) fn leaving(&self, name: &str) -> &[&'a RoleEdge] {
        self.edges.get(name).map(Vec::as_slice).unwrap_or_default()
    }

    fn find_cycle(&self) -> Option<Vec<&'a RoleEdge>> {
        let done: HashSet<&str> = self.ordered.iter().copied().collect();
        let is_open = |name: &str| self.edges.contains_key(name) && !done.contains(name);
        // The first in the files, so that the same files give the same finding.
        let start = self
            .edges
            .iter()
            .filter(|(name, _)| is_open(name))
            .filter_map(|(_, edges)| edges.first())
            .min_by_key(|edge| (Arc::clone(&edge.place.file), edge.place.line))?;
        let mut path: Vec<&RoleEdge> = Vec::new();
        let mut position: HashMap<&str, usize> = HashMap::new();
        let mut name: &str = &start.member;
        // Each open name has an edge to an open one, so the walk must return to itself.
        while position.insert(name, path.len()).is_none() {
            let edge = self.leaving(name).iter().find(|edge| is_open(&edge.role))?;
            path.push(edge);
            name = &edge.role;
            if let Some(begin) = position.get(name) {
                return Some(path.split_off(*begin));
            }
        }
        None
    }

    /// The chains that are too long, each as the edges of its first `CHAIN_MAX + 1` steps.
    fn long_chains(&self) -> Vec<Vec<&'a RoleEdge>> {
        let mut heights: HashMap<&str, usize> = HashMap::new();
        let mut next: HashMap<&str, &RoleEdge> = HashMap::new();
        let mut chains = Vec::new();
        for name in &self.ordered {
            let height_of = |edge: &RoleEdge| heights.get(edge.role.as_ref()).copied().unwrap_or(0) + 1;
            let Some(highest) = self.leaving(name).iter().rev().max_by_key(|edge| height_of(edge)) else {
                continue;
            };
            let height = height_of(highest);
            next.insert(name, highest);
            heights.insert(name, height);
            // The names above it are too long for the same reason.
            if height == CHAIN_MAX + 1 {
                let mut chain = vec![*highest];
                while let Some(edge) = chain.last().and_then(|edge| next.get(edge.role.as_ref())) {
                    chain.push(edge);
                }
                chains.push(chain);
            }
        }
        chains
    }
}

/// Names in an order in which closures can be built: roles before the names that have them.
fn order<'a>(
    names: &[&'a str],
    edges: &HashMap<&'a str, Vec<&'a RoleEdge>>,
    members: &HashMap<&'a str, Vec<&'a str>>,
) -> Vec<&'a str> {
    // How many of a name's roles are not ordered yet; roles without edges are ordered from the start.
    let open_roles = |name: &str| {
        edges
            .get(name)
            .into_iter()
            .flatten()
            .filter(|edge| edges.contains_key(edge.role.as_ref()))
            .count()
    };
    let mut open: HashMap<&str, usize> = names.iter().map(|name| (*name, open_roles(name))).collect();
    let mut ordered: Vec<&str> = names
        .iter()
        .copied()
        .filter(|name| open.get(name) == Some(&0))
        .collect();
    let mut position = 0;
    while let Some(name) = ordered.get(position).copied() {
        position += 1;
        for member in members.get(name).into_iter().flatten() {
            if let Some(count) = open.get_mut(member) {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    ordered.push(member);
                }
            }
        }
    }
    ordered
}

/// Finds cycles, and chains that Casbin would not walk to the end.
pub(crate) fn check(edges: &[RoleEdge], realms: &Realms, findings: &mut Findings) {
    // An edge for every realm would otherwise be found once for each realm.
    let mut seen: HashSet<(Arc<str>, u32)> = HashSet::new();
    let mut is_new = |place: &Place| seen.insert((Arc::clone(&place.file), place.line));
    for realm in realms {
        if findings.is_full() {
            return;
        }
        let graph = RoleGraph::new(edges, realm.as_str());
        if let Some(cycle) = graph.find_cycle()
            && let Some(last) = cycle.last()
            && is_new(&last.place)
        {
            let message = format!("roles form a cycle: {}", describe(&cycle));
            findings.add(code::ROLE_CYCLE, &last.place, message);
        }
        for chain in graph.long_chains() {
            if let Some(first) = chain.first()
                && is_new(&first.place)
            {
                let message = format!("a chain of more than {CHAIN_MAX} roles: {}", describe(&chain));
                findings.add(code::ROLE_CHAIN, &first.place, message);
            }
        }
    }
}

fn describe(path: &[&RoleEdge]) -> String {
    let members = path.iter().map(|edge| edge.member.as_ref());
    members
        .chain(path.last().map(|edge| edge.role.as_ref()))
        .collect::<Vec<_>>()
        .join(" → ")
}
