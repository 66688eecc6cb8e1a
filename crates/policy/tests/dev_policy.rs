//! The default policy, as `tessera dev` uses it, and the directory that it is made from.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

use std::path::Path;

use tessera_core::{Audience, ClientName, RealmName, RoleName, Scope, ScopeSet, Subject};
use tessera_policy::{Permission, Policy, Question, Verdict};

fn policy() -> Policy {
    Policy::from_files(Policy::default_files()).unwrap()
}

fn production() -> RealmName {
    RealmName::parse("production").unwrap()
}

fn roles(names: &[&str]) -> Vec<RoleName> {
    names.iter().map(|name| RoleName::parse(name).unwrap()).collect()
}

fn scopes(names: &[&str]) -> ScopeSet {
    names.iter().map(|name| Scope::parse(name).unwrap()).collect()
}

/// What is granted to `subject` with the roles `asserted`, out of the whole catalogue, as text.
fn granted(subject: &str, asserted: &[&str]) -> String {
    let policy = policy();
    let subject = Subject::parse(subject).unwrap();
    let all = policy.catalogue().concrete_scopes();
    policy
        .grant(&production(), &subject, &roles(asserted), &all)
        .granted
        .to_string()
}

fn verdict(subject: &str, asserted: &[&str], scope: &str) -> Verdict {
    let (subject, scope) = (Subject::parse(subject).unwrap(), Scope::parse(scope).unwrap());
    let roles = roles(asserted);
    policy().decide(&Question {
        realm: &production(),
        subject: &subject,
        roles: &roles,
        scope: &scope,
    })
}

#[test]
fn the_directory_and_the_bundled_files_are_one_revision() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policies");
    let loaded = Policy::load(&directory).unwrap();
    assert_eq!(loaded.revision(), policy().revision());
    assert_eq!(loaded.rule_count(), policy().rule_count());
}

#[test]
fn any_change_of_any_file_is_another_revision() {
    let files = Policy::default_files();
    for changed in 0..files.len() {
        let mut changed_files: Vec<(&str, Vec<u8>)> = files
            .iter()
            .map(|(name, bytes)| (*name, bytes.to_vec()))
            .collect();
        changed_files[changed].1.extend_from_slice(b"# more\n");
        let borrowed: Vec<(&str, &[u8])> = changed_files
            .iter()
            .map(|(name, bytes)| (*name, bytes.as_slice()))
            .collect();
        assert_ne!(
            Policy::from_files(&borrowed).unwrap().revision(),
            policy().revision()
        );
    }
}

#[test]
fn asserted_roles_give_a_user_scopes_and_none_gives_nothing() {
    assert_eq!(granted("user:ann", &[]), "");
    assert_eq!(
        granted("user:ann", &["role:viewer"]),
        "analytics:read live-streams:read videos:read"
    );
    let everything = "analytics:read live-streams:read live-streams:write videos:read videos:write";
    assert_eq!(granted("user:ann", &["role:editor"]), everything);
    assert_eq!(granted("client:dev", &[]), everything);
}

#[test]
fn a_reason_is_one_readable_line() {
    let reason = |verdict| match verdict {
        Verdict::Denied { reason } => reason,
        Verdict::Allowed => panic!("allowed"),
    };
    assert_eq!(
        reason(verdict("user:ann", &["role:viewer"], "videos:write")),
        "no rule allows videos:write to user:ann (roles: role:viewer)"
    );
    assert_eq!(
        reason(verdict("user:ann", &["role:editor"], "analytics:write")),
        "the catalogue has no scope analytics:write"
    );
    assert_eq!(
        reason(verdict("user:ann", &[], "videos:read")),
        "no rule allows videos:read to user:ann (no roles)"
    );
}

#[test]
fn the_authoritys_own_resources_are_no_scopes_of_a_token() {
    let policy = policy();
    let own = scopes(&["tessera/tokens:introspect", "tessera/realm:revoke"]);
    let subject = Subject::parse("client:dev").unwrap();
    let grant = policy.grant(&production(), &subject, &[], &own);
    assert!(grant.granted.is_empty());
    assert_eq!(grant.denied.len(), 2);
    assert!(own.iter().all(|scope| !policy.catalogue().has_scope(scope)));
}

#[test]
fn the_dev_client_may_do_what_it_should_and_no_other_client_may_do_anything() {
    let policy = policy();
    let ann = Subject::parse("user:ann").unwrap();
    let odd = Subject::parse("auth0|a+b=c~d@example.org").unwrap();
    let assert_role = |name| Permission::Assert(RoleName::parse(name).unwrap());
    let permissions = [
        Permission::IssueFor(ann),
        Permission::IssueFor(odd),
        assert_role("role:viewer"),
        assert_role("role:editor"),
        Permission::Introspect,
        Permission::Watch,
        Permission::CreateApiKeys,
        Permission::ReadApiKeys,
        Permission::RevokeApiKeys,
        Permission::ReadSessions,
        Permission::RevokeSessions,
        Permission::RevokeSigningKeys,
        Permission::RevokeRealm,
    ];
    let (dev, other) = (
        ClientName::parse("client:dev").unwrap(),
        ClientName::parse("client:other").unwrap(),
    );
    for realm in ["production", "sandbox"].map(|name| RealmName::parse(name).unwrap()) {
        for permission in &permissions {
            assert!(policy.permits(&realm, &dev, permission), "{}", permission.scope());
            assert!(
                !policy.permits(&realm, &other, permission),
                "{}",
                permission.scope()
            );
        }
        assert!(!policy.permits(&realm, &dev, &assert_role("role:admin")));
    }
    let elsewhere = RealmName::parse("elsewhere").unwrap();
    assert!(!policy.permits(&elsewhere, &dev, &Permission::Watch));
}

#[test]
fn the_catalogue_knows_its_names_and_advises_the_nearest() {
    let policy = policy();
    let catalogue = policy.catalogue();
    assert!(catalogue.has_realm(&production()));
    assert!(catalogue.has_role(&RoleName::parse("role:admin").unwrap()));
    assert!(!catalogue.has_role(&RoleName::parse("role:guest").unwrap()));
    assert!(catalogue.has_audience(&Audience::parse("api").unwrap()));
    assert_eq!(
        catalogue.nearest_scope("video:read").as_deref(),
        Some("videos:read")
    );
    assert_eq!(
        catalogue.nearest_role("role:view").as_deref(),
        Some("role:viewer")
    );
    assert_eq!(catalogue.nearest_audience("apo").as_deref(), Some("api"));
    assert_eq!(catalogue.nearest_scope("invoices:pay"), None);
    assert_eq!(catalogue.concrete_scopes().len(), 5);
}

#[test]
fn the_permissions_are_spelled_as_rules_spell_them() {
    let permission = Permission::IssueFor(Subject::parse("user:ann").unwrap());
    assert_eq!(permission.scope(), "tessera/subjects/user:ann:issue");
    assert_eq!(Permission::RevokeSigningKeys.scope(), "tessera/keys:revoke");
}
