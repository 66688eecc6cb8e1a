//! The effect of a change of routes: which requests need more after it than before, and which need less.

use tessera_core::{Audience, NameError, RealmName, ScopeSet};

use super::{
    region::{Example, Region, Unnamed},
    route::{Needs, Route},
    table::Routes,
};
use crate::{catalogue::Catalogue, policy::Policy, rule::RuleAt, work::Work};

/// How many changes are kept.
const CHANGES_MAX: usize = 10_000;

/// Requests whose needs change, or that have a separate route only after, or only before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteChange {
    /// The host; it may begin with `*.`. `None`: every host without a route for it.
    pub host: Option<String>,
    /// The methods. Empty: every method without a route for it.
    pub methods: Vec<String>,
    /// The path, in the form of a route.
    pub path: String,
    /// The requests' needs before.
    pub before: Demand,
    /// Their needs after.
    pub after: Demand,
    /// The route that decides before.
    pub old: Option<RuleAt>,
    /// The route that decides after.
    pub new: Option<RuleAt>,
    /// Whether some caller is admitted only after.
    pub gains: bool,
    /// Whether some caller is admitted only before.
    pub loses: bool,
    /// Whether the route before needed a token, and none of its requests has a route after.
    pub is_gone: bool,
}

/// What the policy requires for requests behind a proxy that names no scope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Demand {
    /// The policy has no `routes.toml`: Envoy's questions are refused, and `/forward-auth` requires any valid token.
    Unsaid,
    /// No route matches: no caller is admitted.
    Refused,
    /// Every caller is admitted.
    Open,
    /// A valid token.
    Token {
        /// The scopes, in the form of the route; all of them are needed. Empty: any valid token.
        scopes: Vec<String>,
        /// The audience, if the route names one.
        audience: Option<Audience>,
        /// The realm, if the route names one.
        realm: Option<RealmName>,
    },
}

/// All changes of routes; if there are very many, the first ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteChanges {
    /// The changes in the order in which the new routes are checked, then what is refused after; the first 10,000.
    pub changes: Vec<RouteChange>,
    /// How many there are, kept or not.
    pub total: usize,
    /// How many [count as gains](RouteChange::is_gain), kept or not.
    pub gained: usize,
    /// How many are losses, kept or not.
    pub lost: usize,
}

impl RouteChange {
    /// Whether a person should review it before it is put in force: some caller is admitted only after, or a route that
    /// needed a token is gone.
    #[must_use]
    pub fn is_gain(&self) -> bool {
        self.gains || self.is_gone
    }

    /// Whether neither side names a realm other than this one.
    #[must_use]
    pub fn names_only(&self, realm: &RealmName) -> bool {
        [&self.before, &self.after]
            .into_iter()
            .all(|demand| match demand {
                Demand::Token { realm: named, .. } => named.as_ref().is_none_or(|named| named == realm),
                Demand::Unsaid | Demand::Refused | Demand::Open => true,
            })
    }
}

impl RouteChanges {
    /// How many changes were found beyond those that are kept.
    #[must_use]
    pub fn left_out(&self) -> usize {
        self.total.saturating_sub(self.changes.len())
    }

    fn add(&mut self, change: RouteChange) {
        self.total += 1;
        self.gained += usize::from(change.is_gain());
        self.lost += usize::from(change.loses);
        if self.changes.len() < CHANGES_MAX {
            self.changes.push(change);
        }
    }
}

/// Compares the routes of two policies. If the work is stopped, some are missing.
pub(crate) fn compare(old: &Policy, new: &Policy, work: &Work) -> RouteChanges {
    let mut changes = RouteChanges::default();
    if old.revision() == new.revision() || (old.routes().is_none() && new.routes().is_none()) {
        return changes;
    }
    let (Some(old), Some(new)) = (Side::new(old), Side::new(new)) else {
        return changes;
    };
    let routes = old.routes().iter().chain(new.routes());
    let comparison = Comparison {
        unnamed: Unnamed::by(routes),
        old,
        new,
    };
    comparison.run(work, &mut changes);
    changes
}

// === what decides ===

/// The routes of one policy.
struct Side<'a> {
    routes: Option<&'a Routes>,
    catalogue: &'a Catalogue,
    /// The requests of each route; the last entry has all requests.
    regions: Vec<Region>,
}

impl<'a> Side<'a> {
    fn new(policy: &'a Policy) -> Option<Self> {
        let mut side = Self {
            routes: policy.routes(),
            catalogue: policy.catalogue(),
            regions: Vec::new(),
        };
        side.regions = side
            .routes()
            .iter()
            .map(Region::of)
            .chain([Region::everything()?])
            .collect();
        Some(side)
    }

    fn routes(&self) -> &'a [Route] {
        self.routes.map_or(&[], |routes| &routes.0)
    }

    /// The number of the route that decides a request, or the number after the last route.
    fn decides(&self, example: &Example<'_>) -> usize {
        let routes = self.routes();
        routes
            .iter()
            .position(|route| route.matches(example))
            .unwrap_or(routes.len())
    }

    fn demand(&self, number: usize) -> Demand {
        match (self.routes().get(number), self.routes) {
            (Some(route), _) => route.needs.demand(),
            (None, Some(_)) => Demand::Refused,
            (None, None) => Demand::Unsaid,
        }
    }

    fn at(&self, number: usize) -> Option<RuleAt> {
        let route = self.routes().get(number)?;
        Some(route.at())
    }

    /// Which callers are admitted, with one of the requests that a route decides.
    fn endpoints(&self, number: usize, example: &Example<'_>) -> Vec<Endpoint<'a>> {
        let any_token = Endpoint::Token {
            scopes: ScopeSet::default(),
            audience: None,
            realm: None,
        };
        match (self.routes().get(number), self.routes) {
            (Some(route), _) => vec![route.endpoint(example)],
            (None, Some(_)) => vec![Endpoint::Closed],
            // Envoy, and `/forward-auth`.
            (None, None) => vec![Endpoint::Closed, any_token],
        }
    }

    /// The audience that a token needs if no audience is named, if the catalogue alone determines it.
    fn default_audience(&self) -> Option<&'a Audience> {
        let audiences = self.catalogue.audiences();
        let only = if let [only] = audiences { Some(only) } else { None };
        audiences
            .iter()
            .find(|audience| audience.as_str() == "api")
            .or(only)
    }

    /// The realm if none is named, if the catalogue alone determines it.
    fn default_realm(&self) -> Option<&'a RealmName> {
        match self.catalogue.realms() {
            [only] => Some(only),
            _ => None,
        }
    }
}

/// Which callers are admitted with one request.
enum Endpoint<'a> {
    Closed,
    Open,
    Token {
        scopes: ScopeSet,
        audience: Option<&'a Audience>,
        realm: Option<&'a RealmName>,
    },
}

impl Route {
    pub(crate) fn at(&self) -> RuleAt {
        RuleAt::new(&self.place, self.to_string())
    }

    fn endpoint<'a>(&'a self, example: &Example<'_>) -> Endpoint<'a> {
        let Needs::Token {
            scopes,
            audience,
            realm,
        } = &self.needs
        else {
            return Endpoint::Open;
        };
        let parameters = self.path.parameters(&example.path).unwrap_or_default();
        let filled: Result<ScopeSet, NameError> =
            scopes.iter().map(|scope| scope.fill(&parameters)).collect();
        // If no scope can have the value, no token has it.
        filled.map_or(Endpoint::Closed, |scopes| Endpoint::Token {
            scopes,
            audience: audience.as_ref(),
            realm: realm.as_ref(),
        })
    }
}

impl Needs {
    fn demand(&self) -> Demand {
        match self {
            Self::Nothing => Demand::Open,
            Self::Token {
                scopes,
                audience,
                realm,
            } => Demand::Token {
                scopes: scopes.iter().map(|scope| scope.as_str().to_owned()).collect(),
                audience: audience.clone(),
                realm: realm.clone(),
            },
        }
    }
}

/// Whether the second endpoint may admit a caller that the first one does not.
fn lets_more((one, first): (&Side<'_>, &Endpoint<'_>), (other, second): (&Side<'_>, &Endpoint<'_>)) -> bool {
    match (first, second) {
        (_, Endpoint::Closed) | (Endpoint::Open, _) => false,
        (Endpoint::Closed, _) | (_, Endpoint::Open) => true,
        (
            Endpoint::Token {
                scopes,
                audience,
                realm,
            },
            Endpoint::Token {
                scopes: other_scopes,
                audience: other_audience,
                realm: other_realm,
            },
        ) => {
            let audiences = (one.default_audience(), other.default_audience());
            let realms = (one.default_realm(), other.default_realm());
            !scopes.iter().all(|scope| other_scopes.contains(scope))
                || takes_others(*audience, *other_audience, audiences)
                || takes_others(*realm, *other_realm, realms)
        }
    }
}

/// Whether the second name, or its absence, accepts tokens that the first did not. An absent name may be any.
fn takes_others<T: Copy + PartialEq>(
    first: Option<T>,
    second: Option<T>,
    defaults: (Option<T>, Option<T>),
) -> bool {
    match (first, second) {
        (None, None) => defaults.0 != defaults.1,
        (Some(first), Some(second)) => first != second,
        (Some(_), None) => true,
        (None, second @ Some(_)) => defaults.0 != second,
    }
}

// === comparing ===

struct Comparison<'a> {
    old: Side<'a>,
    new: Side<'a>,
    unnamed: Unnamed,
}

/// The changes for the requests of one route.
#[derive(Clone, Default)]
struct Fate {
    /// The first of its meetings.
    first: Option<usize>,
    /// Whether the needs of any of its requests change.
    has_effect: bool,
    /// Whether any of its requests has a route after.
    has_route: bool,
}

/// Requests that one route decides before, and one after.
struct Meeting {
    old: usize,
    new: usize,
    /// With the parameter names of the route after.
    region: Region,
    gains: bool,
    loses: bool,
    is_same: bool,
}

impl Comparison<'_> {
    fn run(&self, work: &Work, changes: &mut RouteChanges) {
        let mut meetings = Vec::new();
        for (new, region) in self.new.regions.iter().enumerate() {
            for (old, other) in self.old.regions.iter().enumerate() {
                if work.is_over() {
                    return;
                }
                meetings.extend(
                    region
                        .intersection(other)
                        .and_then(|region| self.meeting(old, new, region)),
                );
            }
        }
        let ends = (self.old.routes().len(), self.new.routes().len());
        let (mut before, mut after) = (
            vec![Fate::default(); ends.0 + 1],
            vec![Fate::default(); ends.1 + 1],
        );
        for (number, meeting) in meetings.iter().enumerate() {
            let fates = [before.get_mut(meeting.old), after.get_mut(meeting.new)];
            for fate in fates.into_iter().flatten() {
                fate.first.get_or_insert(number);
                fate.has_effect |= !meeting.is_same;
                fate.has_route |= meeting.new != ends.1;
            }
        }
        for (number, meeting) in meetings.iter().enumerate() {
            let (Some(old), Some(new)) = (before.get(meeting.old), after.get(meeting.new)) else {
                continue;
            };
            // A new or removed route without any effect is shown once.
            let is_shown = |fate: &Fate| fate.first == Some(number) && !fate.has_effect;
            let came =
                || is_shown(new) && meeting.new != ends.1 && !is_known(&self.new, meeting.new, &self.old);
            let went =
                || is_shown(old) && meeting.old != ends.0 && !is_known(&self.old, meeting.old, &self.new);
            if !meeting.is_same || came() || went() {
                let is_gone = !old.has_route && matches!(self.old.demand(meeting.old), Demand::Token { .. });
                changes.add(self.change(meeting, is_gone));
            }
        }
    }

    /// The change for the requests that both routes match, if these routes decide at least one of them.
    fn meeting(&self, old: usize, new: usize, mut region: Region) -> Option<Meeting> {
        let mut methods: Vec<String> = Vec::new();
        let mut found: Option<(bool, bool)> = None;
        for example in region.examples(&self.unnamed) {
            if self.old.decides(&example) != old || self.new.decides(&example) != new {
                continue;
            }
            let (before, after) = (
                self.old.endpoints(old, &example),
                self.new.endpoints(new, &example),
            );
            let pairs = || {
                before
                    .iter()
                    .cycle()
                    .zip(after.iter().cycle())
                    .take(before.len().max(after.len()))
            };
            let gains = pairs().any(|(before, after)| lets_more((&self.old, before), (&self.new, after)));
            let loses = pairs().any(|(before, after)| lets_more((&self.new, after), (&self.old, before)));
            found = Some((gains, loses));
            if example.is_named && !methods.iter().any(|known| *known == example.method) {
                methods.push(example.method.into_owned());
            }
        }
        let (gains, loses) = found?;
        region.methods = (!methods.is_empty()).then_some(methods);
        Some(Meeting {
            old,
            new,
            region,
            gains,
            loses,
            is_same: !gains && !loses,
        })
    }

    fn change(&self, meeting: &Meeting, is_gone: bool) -> RouteChange {
        let host = meeting.region.host.to_string();
        RouteChange {
            host: (!host.is_empty()).then_some(host),
            methods: meeting.region.methods.clone().unwrap_or_default(),
            path: meeting.region.path.to_string(),
            before: self.old.demand(meeting.old),
            after: self.new.demand(meeting.new),
            old: self.old.at(meeting.old),
            new: self.new.at(meeting.new),
            gains: meeting.gains,
            loses: meeting.loses,
            is_gone,
        }
    }
}

/// Whether the other side has a route for the same requests.
fn is_known(side: &Side<'_>, number: usize, other: &Side<'_>) -> bool {
    let region = side.regions.get(number);
    region.is_some_and(|region| {
        let mut regions = other.regions.iter().take(other.routes().len());
        regions.any(|known| known.is_same(region))
    })
}

#[cfg(test)]
mod tests;
