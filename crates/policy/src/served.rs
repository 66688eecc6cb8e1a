//! Casbin itself, for another model: it evaluates every rule for every question.
//!
//! INVARIANT: an error or a panic inside Casbin is a denial. The enforcer is never changed, and never used without a
//! rule: without rules, Casbin would decide with an empty one.

use std::{
    cell::{Cell, RefCell},
    collections::{HashMap, HashSet},
    fmt,
    sync::Arc,
};

use casbin::{
    Adapter, CoreApi, DefaultEffector, EffectKind, Effector, EffectorStream, Enforcer, MatchingFn,
    MemoryAdapter, RoleManager,
};
use parking_lot::RwLock;

use crate::{
    code,
    diagnostic::{Findings, Place},
    index::Decision,
    model::Model,
    oracle::{self, Failure, at_once, guarded},
    own,
    roles::RoleGraph,
    rule::{Object, Realms, Row, Rules},
    work::Work,
};

/// The rules of one revision, served by Casbin.
pub(crate) struct Served {
    model: Model,
    scopes: Option<Part>,
    /// The rules for questions about the authority's own resources: a pattern that does not name these resources does
    /// not reach them.
    own: Option<Part>,
}

/// Some of the rules; never empty.
struct Part {
    enforcer: Enforcer,
    /// The numbers of the rules in the revision, with their positions.
    rules: Vec<(u32, Place)>,
}

/// Up to this many rules, each is probed separately.
const PROBES_MAX: usize = 64;

/// Asks a question that matches each rule, one at a time. A matcher that Casbin compiles may still fail at every
/// question, since Casbin checks the types of values only then. Patterns were checked individually before, so a part of
/// many rules is enough.
pub(crate) fn probe(model: &Model, rules: &Rules, realms: &Realms, work: &Work, findings: &mut Findings) {
    let roles = Arc::new(RwLock::new(Roles::new(model, rules, realms, work)));
    let every = rules.rows.len().div_ceil(PROBES_MAX).max(1);
    for row in rules.rows.iter().step_by(every) {
        if findings.is_full() {
            return;
        }
        let asked = Part::new(model, &[(0, row)], Arc::clone(&roles)).and_then(|part| {
            let field = |name| model.position(name).and_then(|position| row.fields.get(position));
            let text = |name| field(name).map_or("x", |text| text.as_ref());
            let question = (text("sub"), text("dom"), text("obj"), text("act"));
            part.map_or(Ok(true), |part| part.ask(question, Vec::new()))
        });
        if asked.is_err() {
            findings.add(code::MODEL_MATCHER, &row.place, "casbin fails at this rule");
            return;
        }
    }
}

impl Served {
    #[cfg(test)]
    pub(crate) fn new(model: &Model, rules: &Rules, realms: &Realms) -> Result<Self, String> {
        Self::within(model, rules, realms, &Work::unbounded())
    }

    /// Gives the rules to Casbin. If the work is stopped, some roles are missing.
    pub(crate) fn within(model: &Model, rules: &Rules, realms: &Realms, work: &Work) -> Result<Self, String> {
        let rows = || (0u32..).zip(&rules.rows);
        let roles = Arc::new(RwLock::new(Roles::new(model, rules, realms, work)));
        let part = |rows: Vec<(u32, &Row)>| Part::new(model, &rows, Arc::clone(&roles));
        Ok(Self {
            model: model.clone(),
            scopes: part(rows().collect())?,
            own: part(rows().filter(|(_, row)| is_about_own(model, row)).collect())?,
        })
    }

    /// The rule that decides; `names` are the subject and the roles that count as if it had them.
    pub(crate) fn decide(&self, realm: &str, names: &[&str], resource: &str, action: &str) -> Decision {
        let part = if own::is_own(resource) {
            &self.own
        } else {
            &self.scopes
        };
        match (part, names.split_first()) {
            (Some(part), Some((subject, roles))) => part.decide((*subject, realm, resource, action), roles),
            _ => Decision::NOTHING,
        }
    }

    /// The holder of a rule, if it has one that is not a pattern.
    pub(crate) fn holder<'a>(&self, row: &'a Row) -> Option<&'a str> {
        row.holder(self.model.position("sub"))
    }

    /// The resources that a rule distinguishes.
    pub(crate) fn object(&self, row: &Row) -> Option<Object> {
        row.object(self.model.position("obj"))
    }
}

impl fmt::Debug for Served {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Served")
            .field("model", &self.model)
            .finish_non_exhaustive()
    }
}

/// Whether a rule may apply to the authority's own resources: it names them, or it denies.
fn is_about_own(model: &Model, row: &Row) -> bool {
    let names_own = |text: &str| text.contains("tessera/");
    let is_denial = model
        .position("eft")
        .and_then(|position| row.fields.get(position));
    is_denial.is_some_and(|effect| effect.as_ref() == "deny")
        || match model.position("obj") {
            Some(position) => row.fields.get(position).is_some_and(|text| names_own(text)),
            None => row.fields.iter().any(|text| names_own(text)),
        }
}

impl Part {
    fn new(model: &Model, rows: &[(u32, &Row)], roles: Arc<RwLock<Roles>>) -> Result<Option<Self>, String> {
        if rows.is_empty() {
            return Ok(None);
        }
        let texts = |row: &Row| row.fields.iter().map(|field| field.as_ref().to_owned()).collect();
        guarded(|| {
            let mut adapter = MemoryAdapter::default();
            let given = rows.iter().map(|(_, row)| texts(row)).collect();
            if !at_once(adapter.add_policies("p", "p", given))?? {
                return Err(Failure("casbin's adapter drops a `p` rule".to_owned()));
            }
            let mut enforcer = at_once(Enforcer::new(oracle::definitions(model), adapter))??;
            enforcer.set_role_manager(roles)?;
            enforcer.set_effector(Box::new(Recording));
            Ok(Some(Self {
                enforcer,
                rules: rows
                    .iter()
                    .map(|(number, row)| (*number, row.place.clone()))
                    .collect(),
            }))
        })
    }

    fn decide(&self, question: (&str, &str, &str, &str), roles: &[&str]) -> Decision {
        let answer = self.ask(question, roles.iter().map(|role| (*role).to_owned()).collect());
        let found = FOUND.take();
        let number = |position: usize| self.rules.get(position).map(|(number, _)| *number);
        match answer {
            Ok(true) => Decision {
                allow: found.allow.and_then(number),
                ..Decision::NOTHING
            },
            Ok(false) => Decision {
                deny: found.deny.and_then(number),
                ..Decision::NOTHING
            },
            Err(_) => {
                if let Some((_, place)) = self.rules.get(found.passed) {
                    tracing::error!(rule = %place, "casbin failed at a rule: the question is denied");
                }
                Decision {
                    failed: number(found.passed),
                    ..Decision::NOTHING
                }
            }
        }
    }

    fn ask(&self, question: (&str, &str, &str, &str), roles: Vec<String>) -> Result<bool, String> {
        // Each question sets both again, so nothing remains of one that panicked.
        ASSERTED.replace((question.0.to_owned(), roles));
        FOUND.set(Found::default());
        guarded(|| Ok(self.enforcer.enforce(question)?))
    }
}

// === which rule ===

/// The first rules of each effect that matched, by their positions.
#[derive(Clone, Copy, Debug, Default)]
struct Found {
    allow: Option<usize>,
    deny: Option<usize>,
    /// How many rules were evaluated: if Casbin fails, it fails at the next one.
    passed: usize,
}

thread_local! {
    /// Casbin does not pass the question to an effector, and returns only the answer.
    static FOUND: Cell<Found> = const { Cell::new(Found { allow: None, deny: None, passed: 0 }) };
}

thread_local! {
    /// The work of this thread's questions: a question about many rules can be stopped before its end.
    static WORK: RefCell<Work> = RefCell::new(Work::unbounded());
}

/// Questions belong to some work until this is dropped.
pub(crate) struct AskingFor(Work);

impl AskingFor {
    pub(crate) fn new(work: &Work) -> Self {
        Self(WORK.replace(work.clone()))
    }
}

impl Drop for AskingFor {
    fn drop(&mut self) {
        WORK.replace(self.0.clone());
    }
}

/// Casbin's own effector, with its results recorded.
struct Recording;

impl Effector for Recording {
    fn new_stream(&self, effect: &str, rules: usize) -> Box<dyn EffectorStream> {
        Box::new(Recorded {
            stream: DefaultEffector.new_stream(effect, rules),
            position: 0,
            is_stopped: false,
        })
    }
}

struct Recorded {
    stream: Box<dyn EffectorStream>,
    position: usize,
    is_stopped: bool,
}

impl EffectorStream for Recorded {
    fn next(&self) -> bool {
        // Casbin's own stream has not ended then. The caller that stopped the work ignores the answer.
        !self.is_stopped && self.stream.next()
    }

    fn push_effect(&mut self, effect: EffectKind) -> bool {
        let mut found = FOUND.get();
        match effect {
            EffectKind::Allow => found.allow = found.allow.or(Some(self.position)),
            EffectKind::Deny => found.deny = found.deny.or(Some(self.position)),
            EffectKind::Indeterminate => {}
        }
        self.position += 1;
        found.passed = self.position;
        FOUND.set(found);
        if WORK.with_borrow(Work::is_over) {
            self.is_stopped = true;
            return true;
        }
        self.stream.push_effect(effect)
    }
}

// === roles ===

thread_local! {
    /// The subject of this thread's question, with its asserted roles.
    static ASSERTED: RefCell<(String, Vec<String>)> = const { RefCell::new((String::new(), Vec::new())) };
}

/// The roles of each name.
type Closures = HashMap<String, HashSet<String>>;

/// The roles of all realms. Casbin's own manager takes a second for 10,000 users, and can't add a role to a subject for
/// one question.
struct Roles(HashMap<String, Closures>);

/// The realm of roles without a realm.
const EVERYWHERE: &str = "";

impl Roles {
    fn new(model: &Model, rules: &Rules, realms: &Realms, work: &Work) -> Self {
        let names: Vec<&str> = match model.role_fields {
            2 => vec![EVERYWHERE],
            _ => realms.iter().map(tessera_core::RealmName::as_str).collect(),
        };
        let closures = |realm: &str| -> Closures {
            let closures = RoleGraph::new(&rules.edges, realm).closures().into_iter();
            let own = |roles: Vec<&str>| roles.into_iter().map(str::to_owned).collect();
            closures
                .map(|(name, roles)| (name.to_owned(), own(roles)))
                .collect()
        };
        Self(
            names
                .into_iter()
                .take_while(|_| !work.is_over())
                .map(|realm| (realm.to_owned(), closures(realm)))
                .collect(),
        )
    }

    fn has(&self, name: &str, role: &str, realm: Option<&str>) -> bool {
        let closure = self
            .0
            .get(realm.unwrap_or(EVERYWHERE))
            .and_then(|closures| closures.get(name));
        name == role || closure.is_some_and(|roles| roles.contains(role))
    }
}

impl RoleManager for Roles {
    fn has_link(&self, name: &str, role: &str, realm: Option<&str>) -> bool {
        self.has(name, role, realm)
            || ASSERTED.with_borrow(|(subject, roles)| {
                subject == name && roles.iter().any(|asserted| self.has(asserted, role, realm))
            })
    }

    // The other functions change or list roles: the enforcer is never changed, and no matcher lists roles.
    fn clear(&mut self) {}
    fn add_link(&mut self, _: &str, _: &str, _: Option<&str>) {}
    fn matching_fn(&mut self, _: Option<MatchingFn>, _: Option<MatchingFn>) {}
    fn delete_link(&mut self, _: &str, _: &str, _: Option<&str>) -> casbin::Result<()> {
        Ok(())
    }
    fn get_roles(&self, _: &str, _: Option<&str>) -> Vec<String> {
        Vec::new()
    }
    fn get_users(&self, _: &str, _: Option<&str>) -> Vec<String> {
        Vec::new()
    }
}

#[cfg(test)]
mod tests;
