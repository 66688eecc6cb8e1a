//! Warnings if a policy grants one role or subject more than one access token can hold. A caller that names no scopes
//! requests all of them, and is refused.

use std::collections::{BTreeMap, BTreeSet};

use tessera_core::{
    RealmName, Scope,
    limits::{TOKEN_BYTES_DEFAULT, token_bytes_least},
};

use crate::{
    Policy, code,
    diagnostic::{Diagnostic, Place},
};

/// How many questions are asked of the policy at most: they take a compiled one a second.
const QUESTIONS_MAX: usize = 2_000_000;
/// The same for a policy that Casbin itself serves, at milliseconds each.
const QUESTIONS_OF_CASBIN_MAX: usize = 1_000;
/// How many warnings there are at most.
const WARNINGS_MAX: usize = 20;

const CATALOGUE: &str = "catalogue.toml";

/// A role or a subject that is granted too much.
struct Excess<'a> {
    name: &'a str,
    realm: &'a RealmName,
    scopes: usize,
    bytes: usize,
}

impl Policy {
    /// What is valid but will cause problems: roles, and subjects by their roles together, that are granted more scopes
    /// than an access token of the usual length can hold. Scopes with parameters do not count, as they are always
    /// named.
    #[must_use]
    pub fn warnings(&self) -> Vec<Diagnostic> {
        let scopes: Vec<Scope> = self.catalogue.concrete_scopes().iter().cloned().collect();
        // If the whole catalogue fits, every grant does.
        if token_bytes_least(scope_bytes(&scopes)) <= TOKEN_BYTES_DEFAULT {
            return Vec::new();
        }
        let mut questions = if self.is_compiled() {
            QUESTIONS_MAX
        } else {
            QUESTIONS_OF_CASBIN_MAX
        };
        let mut excesses: BTreeMap<&str, Excess<'_>> = BTreeMap::new();
        let roles = self.catalogue.roles().iter().map(tessera_core::RoleName::as_str);
        for name in roles.chain(self.subjects()) {
            for realm in self.catalogue.realms() {
                let Some(left) = questions.checked_sub(scopes.len()) else {
                    break;
                };
                questions = left;
                if let Some(excess) = self.excess(name, realm, &scopes) {
                    excesses.entry(name).or_insert(excess);
                }
            }
        }
        let causes = excesses.values().filter(|excess| {
            // A role that has another's excess is included in the warning about that role.
            let holders = self
                .index
                .holders(excess.realm.as_str(), std::iter::once(excess.name));
            let mut had = self.index.names(&holders);
            !had.any(|had| had != excess.name && excesses.contains_key(had))
        });
        causes
            .take(WARNINGS_MAX)
            .map(|excess| self.warning(excess))
            .collect()
    }

    /// Subjects that rules name, without roles.
    fn subjects(&self) -> BTreeSet<&str> {
        let holders = self.rules.policies.iter().map(|rule| rule.holder.as_ref());
        let members = self.rules.edges.iter().map(|edge| edge.member.as_ref());
        let names = holders.chain(members);
        names.filter(|name| !name.starts_with("role:")).collect()
    }

    fn excess<'a>(&self, name: &'a str, realm: &'a RealmName, scopes: &[Scope]) -> Option<Excess<'a>> {
        let granted: Vec<Scope> = match &self.served {
            None => {
                let holders = self.index.holders(realm.as_str(), std::iter::once(name));
                let is_granted = |scope: &&Scope| {
                    let decision = self.index.decide(&holders, scope.resource(), scope.action());
                    decision.is_allowed()
                };
                scopes.iter().filter(is_granted).cloned().collect()
            }
            Some(served) => {
                let is_granted = |scope: &&Scope| {
                    let decision = served.decide(realm.as_str(), &[name], scope.resource(), scope.action());
                    decision.is_allowed()
                };
                scopes.iter().filter(is_granted).cloned().collect()
            }
        };
        let bytes = token_bytes_least(scope_bytes(&granted));
        (bytes > TOKEN_BYTES_DEFAULT).then_some(Excess {
            name,
            realm,
            scopes: granted.len(),
            bytes,
        })
    }

    fn warning(&self, excess: &Excess<'_>) -> Diagnostic {
        let Excess {
            name,
            realm,
            scopes,
            bytes,
        } = excess;
        let message = format!(
            "`{name}` is granted {scopes} scopes in `{realm}`, which make an access token of at least {bytes} bytes; \
             at most {TOKEN_BYTES_DEFAULT} are issued unless token_bytes_max says otherwise"
        );
        let help = "split it into roles for one task each; until then, clients must name the scopes that they need, as \
                    a request without scopes is refused";
        Diagnostic::warning(code::TOKEN_SIZE, &self.place_of(name), &message, help)
    }

    /// The position of a role in the catalogue, or of the first rule that names a subject.
    fn place_of(&self, name: &str) -> Place {
        let rules = self.rules.policies.iter();
        let rules = rules.map(|rule| (&rule.holder, &rule.place));
        let edges = self.rules.edges.iter().map(|edge| (&edge.member, &edge.place));
        let is_role = name.starts_with("role:");
        let named = rules
            .chain(edges)
            .find(|(named, _)| !is_role && named.as_ref() == name)
            .map(|(_, place)| place.clone());
        named.unwrap_or_else(|| self.place_in_catalogue(name))
    }

    fn place_in_catalogue(&self, name: &str) -> Place {
        let start = Place::start(CATALOGUE);
        let text = self.sources().get(CATALOGUE).unwrap_or_default();
        let text = String::from_utf8_lossy(text);
        let quoted = format!("\"{name}\"");
        let found = text
            .lines()
            .enumerate()
            .find_map(|(line, text)| text.find(&quoted).map(|column| (line, column)));
        found.map_or(start.clone(), |(line, column)| Place {
            line: u32::try_from(line + 1).unwrap_or(u32::MAX),
            column: u32::try_from(column + 1).unwrap_or(u32::MAX),
            ..start
        })
    }
}

/// The size of scopes in the `scope` claim.
fn scope_bytes(scopes: &[Scope]) -> usize {
    scopes.iter().map(|scope| scope.as_str().len() + 1).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 80 scopes of some 80 bytes, of which `role:auditor` has all.
    fn files(rules: &str) -> (String, String) {
        let mut catalogue = "realms.production = \"p\"\nrealms.sandbox = \"s\"\naudiences.api = \"x\"\n\
                             roles.\"role:auditor\" = \"x\"\nroles.\"role:chief\" = \"x\"\nroles.\"role:half\" = \"x\"\n\
                             roles.\"role:rest\" = \"x\"\n"
            .to_owned();
        for number in 0..80 {
            let half = if number < 40 { "first" } else { "second" };
            catalogue.push_str(&format!(
                "scopes.\"departments/finance-and-controlling/{half}/quarterly-statement-{number:03}:read\" = \"x\"\n"
            ));
        }
        (catalogue, rules.to_owned())
    }

    fn warned(rules: &str) -> Vec<(String, String, u32)> {
        let (catalogue, rules) = files(rules);
        let model = Policy::default_files()[0];
        let policy = Policy::from_files(&[
            model,
            ("catalogue.toml", catalogue.as_bytes()),
            ("policy.csv", rules.as_bytes()),
        ]);
        let warnings = policy.unwrap().warnings();
        assert!(
            warnings
                .iter()
                .all(|warning| warning.code == "P048" && warning.help.is_some())
        );
        let named = |warning: &Diagnostic| warning.message.split('`').nth(1).unwrap().to_owned();
        warnings
            .iter()
            .map(|warning| (named(warning), warning.file.clone(), warning.line))
            .collect()
    }

    #[test]
    fn a_role_that_no_token_holds_is_warned_of_once() {
        let rules = "p, role:auditor, *, departments/*, read, allow\n\
                     g, role:chief, role:auditor, *\n\
                     g, user:ann, role:chief, *\n";
        assert_eq!(
            warned(rules),
            [("role:auditor".to_owned(), "catalogue.toml".to_owned(), 4)]
        );
    }

    #[test]
    fn a_subject_is_warned_of_whose_roles_are_too_much_together() {
        let part = "departments/finance-and-controlling";
        let rules = format!(
            "p, role:half, *, {part}/first/*, read, allow\n\
             p, role:rest, *, {part}/second/*, read, allow\n\
             g, user:bob, role:half, *\n\
             g, user:ann, role:half, *\n\
             g, user:ann, role:rest, *\n"
        );
        assert_eq!(
            warned(&rules),
            [("user:ann".to_owned(), "policy.csv".to_owned(), 4)]
        );
    }

    #[test]
    fn what_fits_is_not_warned_of() {
        let rules = "p, role:half, *, departments/finance-and-controlling/first/*, read, allow\n";
        assert_eq!(warned(rules), []);
    }
}
