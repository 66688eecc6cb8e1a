//! One revision of a policy, and what it says.

use std::{collections::HashMap, path::Path};

use tessera_core::{ClientName, PolicyRevision, RealmName, RoleName, Scope, ScopeSet, Subject};

use crate::{
    catalogue::{self, Catalogue},
    code,
    diagnostic::{Findings, Place, PolicyError},
    files::{self, Files},
    index::{Decision, Holders, Index},
    model,
    oracle::RawQuestion,
    permission::Permission,
    roles,
    rule::{self, Rules},
    sample,
    suite::{self, Case},
    text::Text,
};

/// One immutable, checked revision of a policy.
///
/// Every answer comes from this one revision; share it behind an `Arc`, and replace the whole of it.
#[derive(Debug)]
pub struct Policy {
    revision: PolicyRevision,
    catalogue: Catalogue,
    rules: Rules,
    index: Index,
}

/// May `subject`, with `roles` asserted for it, have `scope` in `realm`?
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The realm.
    pub realm: &'a RealmName,
    /// Whom the token would speak for.
    pub subject: &'a Subject,
    /// The roles that count, for this question, as if the subject had them.
    pub roles: &'a [RoleName],
    /// What is asked for.
    pub scope: &'a Scope,
}

/// The answer to a [`Question`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// A rule allows it, and none denies it.
    Allowed,
    /// Anything else.
    Denied {
        /// Why, in one readable line.
        reason: String,
    },
}

/// The answer to many questions about one subject.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Grant {
    /// The scopes that are allowed.
    pub granted: ScopeSet,
    /// The others, each with the reason in one readable line.
    pub denied: Vec<(Scope, String)>,
}

impl Policy {
    /// Reads a folder: `model.conf`, `catalogue.toml`, `*.csv` in name order, `tests/*.toml`. Blocking.
    ///
    /// # Errors
    /// Fails with everything that is wrong: what can't be read, what is not exactly right, tests that fail.
    pub fn load(folder: &Path) -> Result<Self, PolicyError> {
        Self::from_checked(&Files::read(folder)?)
    }

    /// The same from memory: names such as `policy.csv` or `tests/x.toml`, with contents.
    ///
    /// # Errors
    /// Fails as [`Policy::load`] does.
    pub fn from_files(files: &[(&str, &[u8])]) -> Result<Self, PolicyError> {
        Self::from_checked(&Files::from_memory(files)?)
    }

    /// The digest of all files that belong to the policy: its name in tokens, events and logs.
    #[must_use]
    pub fn revision(&self) -> &PolicyRevision {
        &self.revision
    }

    /// Every name that exists.
    #[must_use]
    pub fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    /// How many rules the policy has, `p` and `g` together.
    #[must_use]
    pub fn rule_count(&self) -> usize {
        self.rules.policies.len() + self.rules.edges.len()
    }

    /// Answers one question.
    pub fn decide(&self, question: &Question<'_>) -> Verdict {
        let Question {
            realm,
            subject,
            roles,
            scope,
        } = *question;
        let asked = Asked {
            realm,
            subject,
            roles,
            holders: self.holders(realm, subject, roles),
        };
        self.verdict(&asked, scope)
    }

    /// Answers for many scopes of one subject, whose roles are resolved once.
    pub fn grant(
        &self,
        realm: &RealmName,
        subject: &Subject,
        roles: &[RoleName],
        scopes: &ScopeSet,
    ) -> Grant {
        let asked = Asked {
            realm,
            subject,
            roles,
            holders: self.holders(realm, subject, roles),
        };
        let mut granted = Vec::with_capacity(scopes.len());
        let mut denied = Vec::new();
        for scope in scopes.iter() {
            match self.verdict(&asked, scope) {
                Verdict::Allowed => granted.push(scope.clone()),
                Verdict::Denied { reason } => denied.push((scope.clone(), reason)),
            }
        }
        Grant {
            granted: granted.into_iter().collect(),
            denied,
        }
    }

    /// Whether the authority itself does this for a client.
    #[must_use]
    pub fn permits(&self, realm: &RealmName, client: &ClientName, permission: &Permission) -> bool {
        if !self.catalogue.has_realm(realm) {
            return false;
        }
        let (resource, action) = permission.parts();
        let holders = self
            .index
            .holders(realm.as_str(), std::iter::once(client.as_str()));
        self.index.decide(&holders, &resource, action).is_allowed()
    }
}

// === answers ===

/// A subject with its roles resolved, so that many scopes cost it once.
struct Asked<'a> {
    realm: &'a RealmName,
    subject: &'a Subject,
    roles: &'a [RoleName],
    holders: Holders,
}

/// How many roles a reason names.
const ROLES_NAMED_MAX: usize = 8;

impl Policy {
    fn holders(&self, realm: &RealmName, subject: &Subject, roles: &[RoleName]) -> Holders {
        let names = std::iter::once(subject.as_str()).chain(roles.iter().map(RoleName::as_str));
        self.index.holders(realm.as_str(), names)
    }

    fn verdict(&self, asked: &Asked<'_>, scope: &Scope) -> Verdict {
        // Casbin knows no catalogue: `p, …, *, …` would match names that do not exist.
        let reason = if !self.catalogue.has_realm(asked.realm) {
            format!("the catalogue has no realm {}", asked.realm)
        } else if !self.catalogue.has_scope(scope) {
            format!("the catalogue has no scope {scope}")
        } else {
            match self
                .index
                .decide(&asked.holders, scope.resource(), scope.action())
            {
                Decision {
                    deny: Some(number), ..
                } => self.denial(number),
                Decision { allow: Some(_), .. } => return Verdict::Allowed,
                Decision { allow: None, .. } => self.absence(asked, scope),
            }
        };
        Verdict::Denied { reason }
    }

    fn denial(&self, number: u32) -> String {
        let rule = usize::try_from(number)
            .ok()
            .and_then(|number| self.rules.policies.get(number));
        rule.map_or_else(
            || "denied by a rule".to_owned(),
            |rule| format!("denied by {}", rule.place),
        )
    }

    fn absence(&self, asked: &Asked<'_>, scope: &Scope) -> String {
        let mut roles: Vec<&str> = asked.roles.iter().map(RoleName::as_str).collect();
        roles.extend(
            self.index
                .names(&asked.holders)
                .filter(|name| name.starts_with("role:")),
        );
        roles.sort_unstable();
        roles.dedup();
        let more = roles.len().saturating_sub(ROLES_NAMED_MAX);
        roles.truncate(ROLES_NAMED_MAX);
        let roles = match (roles.join(", "), more) {
            (names, _) if names.is_empty() => "no roles".to_owned(),
            (names, 0) => format!("roles: {names}"),
            (names, more) => format!("roles: {names} and {more} more"),
        };
        format!("no rule allows {scope} to {} ({roles})", asked.subject)
    }
}

// === loading ===

impl Policy {
    fn from_checked(files: &Files) -> Result<Self, PolicyError> {
        let mut findings = Findings::default();
        let parsed = parse(files, &mut findings);
        findings.into_result()?;
        let revision = files.revision();
        let (Some((catalogue, rules, cases)), Some(revision)) = (parsed, revision) else {
            return Err(defect("the files were neither refused nor read"));
        };
        let index = Index::new(&rules, catalogue.realms());
        let policy = Self {
            revision,
            catalogue,
            rules,
            index,
        };
        policy.run(&cases)?;
        policy.compare(&cases)?;
        Ok(policy)
    }

    /// Runs the policy's own tests.
    fn run(&self, cases: &[Case]) -> Result<(), PolicyError> {
        let mut findings = Findings::default();
        for (case, expectation) in each(cases) {
            let question = case.question(expectation);
            let decision = self.index.answer(&question);
            if decision.is_allowed() == expectation.is_allowed {
                continue;
            }
            let number = decision
                .deny
                .or(decision.allow)
                .and_then(|number| usize::try_from(number).ok());
            let rule = number.and_then(|number| self.rules.policies.get(number));
            let why = rule.map_or_else(
                || "no rule allows it".to_owned(),
                |rule| format!("see {}", rule.place),
            );
            let is = if expectation.is_allowed {
                "denied"
            } else {
                "allowed"
            };
            let message = format!("the test `{}` fails: {} is {is}", case.name, expectation.scope);
            findings.advise(code::TEST_FAILED, &expectation.place, message, why);
        }
        findings.into_result()
    }

    /// Asks Casbin whether it agrees.
    fn compare(&self, cases: &[Case]) -> Result<(), PolicyError> {
        let realms = self.catalogue.realms();
        let mut findings = Findings::default();
        let first: Vec<RawQuestion<'_>> = each(cases)
            .map(|(case, expectation)| case.question(expectation))
            .collect();
        sample::compare(&self.index, &self.rules, realms, &first, &mut findings);
        findings.into_result()
    }
}

fn each(cases: &[Case]) -> impl Iterator<Item = (&Case, &suite::Expectation)> {
    cases.iter().flat_map(|case| {
        case.expectations
            .iter()
            .map(move |expectation| (case, expectation))
    })
}

/// Reads everything that can be read, so that all mistakes are found in one go.
fn parse(files: &Files, findings: &mut Findings) -> Option<(Catalogue, Rules, Vec<Case>)> {
    if let Some(text) = Text::read(files::MODEL, files.get(files::MODEL), findings) {
        model::check(&text, findings);
    }
    // Without a catalogue every name would be unknown.
    let text = Text::read(files::CATALOGUE, files.get(files::CATALOGUE), findings)?;
    let catalogue = catalogue::read::read(&text, findings)?;
    let texts: Vec<Text<'_>> = files
        .rules()
        .filter_map(|(name, bytes)| Text::read(name, bytes, findings))
        .collect();
    let mut reader = rule::read::Reader::new(&catalogue, findings);
    for text in &texts {
        reader.read(text);
    }
    let rules = reader.finish();
    roles::check(&rules.edges, catalogue.realms(), findings);
    let mut names = HashMap::new();
    let mut cases = Vec::new();
    for (name, bytes) in files.tests() {
        if let Some(text) = Text::read(name, bytes, findings) {
            cases.extend(suite::read(&text, &catalogue, &mut names, findings));
        }
    }
    Some((catalogue, rules, cases))
}

fn defect(message: &str) -> PolicyError {
    let mut findings = Findings::default();
    findings.add(
        code::DEFECT,
        &Place::start("policy.csv"),
        format!("a defect: {message}"),
    );
    match findings.into_result() {
        Err(error) => error,
        Ok(()) => PolicyError {
            diagnostics: Vec::new(),
        },
    }
}
