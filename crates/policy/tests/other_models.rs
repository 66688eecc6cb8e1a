//! Other models, which Casbin itself serves.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

use tessera_core::{ClientName, RealmName, RoleName, Scope, ScopeSet, Subject};
use tessera_policy::{ChangeKind, Given, Permission, Policy, PolicyError, Question, Verdict, diff};

const CATALOGUE: &[u8] = br#"
realms.production = "p"
realms.sandbox = "s"
audiences.api = "x"
roles."role:viewer" = "x"
roles."role:editor" = "x"
roles."role:suspended" = "x"
scopes."videos:read" = "x"
scopes."videos/{id}:play" = "x"
scopes."videos/{id}:edit" = "x"
"#;

const ALLOW_AND_DENY: &str = "some(where (p.eft == allow)) && !some(where (p.eft == deny))";

/// Fields of a rule, of a role, effect, matcher.
type Model = [&'static str; 4];

const PATTERNS: Model = [
    "sub, dom, obj, act, eft",
    "_, _, _",
    ALLOW_AND_DENY,
    r#"g(r.sub, p.sub, r.dom) && (p.dom == "*" || r.dom == p.dom) && keyMatch2(r.obj, p.obj) && regexMatch(r.act, p.act)"#,
];
const ACL: Model = [
    "sub, obj, act",
    "_, _",
    "some(where (p.eft == allow))",
    "g(r.sub, p.sub) && r.obj == p.obj && r.act == p.act",
];

fn load([fields, roles, effect, matcher]: Model, rules: &str, tests: &str) -> Result<Policy, PolicyError> {
    let model = format!(
        "[request_definition]\nr = sub, dom, obj, act\n[policy_definition]\np = {fields}\n\
         [role_definition]\ng = {roles}\n[policy_effect]\ne = {effect}\n[matchers]\nm = {matcher}\n"
    );
    let mut files = vec![
        ("model.conf", model.as_bytes()),
        ("catalogue.toml", CATALOGUE),
        ("policy.csv", rules.as_bytes()),
    ];
    if !tests.is_empty() {
        files.push(("tests/t.toml", tests.as_bytes()));
    }
    Policy::from_files(&files)
}

fn served(model: Model, rules: &str) -> Policy {
    let policy = load(model, rules, "").unwrap();
    assert!(!policy.is_compiled());
    policy
}

fn realm(name: &str) -> RealmName {
    RealmName::parse(name).unwrap()
}

fn verdict(policy: &Policy, realm_name: &str, subject: &str, roles: &[&str], scope: &str) -> Verdict {
    let roles: Vec<RoleName> = roles.iter().map(|role| RoleName::parse(role).unwrap()).collect();
    let (realm, subject, scope) = (
        realm(realm_name),
        Subject::parse(subject).unwrap(),
        Scope::parse(scope).unwrap(),
    );
    let question = Question {
        realm: &realm,
        subject: &subject,
        roles: &roles,
        scope: &scope,
    };
    let verdict = policy.decide(&question);
    assert_eq!(policy.explain(&question).verdict, verdict);
    verdict
}

fn is_allowed(policy: &Policy, realm: &str, subject: &str, roles: &[&str], scope: &str) -> bool {
    verdict(policy, realm, subject, roles, scope) == Verdict::Allowed
}

const RULES: &str = "\
p, role:viewer, *, videos, ^read$, allow
p, role:viewer, production, videos/:id, ^(play|edit)$, allow
p, role:viewer, production, videos/secret, ^.*$, deny
g, role:editor, role:viewer, production
g, user:ann, role:editor, production
p, client:cms, *, tessera/subjects/*, ^issue$, allow
p, client:all, *, :any/*, ^.*$, allow
g, role:editor, role:viewer, sandbox
";

#[test]
fn patterns_of_casbin_decide() {
    let policy = served(PATTERNS, RULES);
    assert_eq!(policy.rule_count(), 8);
    for (realm, subject, roles, scope, expected) in [
        ("production", "user:ann", &[][..], "videos/1:play", true),
        ("production", "user:ann", &[], "videos/1:edit", true),
        ("production", "user:ann", &[], "videos:read", true),
        ("sandbox", "user:ann", &[], "videos:read", false),
        ("sandbox", "user:bob", &["role:editor"], "videos:read", true),
        ("sandbox", "user:bob", &["role:editor"], "videos/1:play", false),
        ("production", "user:ann", &[], "videos/secret:play", false),
        ("production", "user:bob", &[], "videos/1:play", false),
        // The catalogue is checked before Casbin.
        ("production", "client:all", &[], "videos/1/2:play", false),
        ("elsewhere", "client:all", &[], "videos/1:play", false),
    ] {
        assert_eq!(
            is_allowed(&policy, realm, subject, roles, scope),
            expected,
            "{subject} {scope} {realm}"
        );
    }
    let reason = verdict(&policy, "production", "user:ann", &[], "videos/secret:play");
    assert_eq!(
        reason,
        Verdict::Denied {
            reason: "denied by policy.csv:3".to_owned()
        }
    );
    let reason = verdict(&policy, "sandbox", "user:bob", &["role:editor"], "videos/1:play");
    let expected = "no rule allows videos/1:play to user:bob (roles: role:editor, role:viewer)";
    assert_eq!(
        reason,
        Verdict::Denied {
            reason: expected.to_owned()
        }
    );
}

#[test]
fn many_scopes_are_granted_as_each_is_decided() {
    let policy = served(PATTERNS, RULES);
    let scopes: ScopeSet = ["videos:read", "videos/secret:edit", "videos/1:edit"]
        .iter()
        .map(|scope| Scope::parse(scope).unwrap())
        .collect();
    let subject = Subject::parse("user:ann").unwrap();
    let grant = policy.grant(&realm("production"), &subject, &[], &scopes);
    assert_eq!(grant.granted.to_string(), "videos/1:edit videos:read");
    assert_eq!(grant.denied.len(), 1);
}

#[test]
fn a_pattern_that_does_not_name_them_never_reaches_the_authoritys_own_resources() {
    let rules = format!("{RULES}p, client:star, *, tessera/*, ^.*$, allow\n");
    let policy = served(PATTERNS, &rules);
    let ann = Permission::IssueFor(Subject::parse("user:ann").unwrap());
    for (client, permission, expected) in [
        ("client:cms", &ann, true),
        ("client:cms", &Permission::Introspect, false),
        ("client:all", &ann, false),
        ("client:all", &Permission::Introspect, false),
        ("client:star", &Permission::Introspect, true),
    ] {
        let client = ClientName::parse(client).unwrap();
        assert_eq!(
            policy.permits(&realm("production"), &client, permission),
            expected,
            "{client}"
        );
        let explained = policy.explain_permission(&realm("production"), &client.to_subject(), permission);
        assert_eq!(explained.verdict == Verdict::Allowed, expected);
        assert!(!policy.permits(&realm("elsewhere"), &client, permission));
    }
}

#[test]
fn an_explanation_has_the_rule_and_the_path_and_says_what_it_can_not_tell() {
    let policy = served(PATTERNS, RULES);
    let question = Question {
        realm: &realm("production"),
        subject: &Subject::parse("user:ann").unwrap(),
        roles: &[],
        scope: &Scope::parse("videos/secret:play").unwrap(),
    };
    let explained = policy.explain(&question);
    let rule = explained.rule.unwrap();
    assert_eq!(
        rule.to_string(),
        "policy.csv:3  p, role:viewer, production, videos/secret, ^.*$, deny"
    );
    let lines: Vec<u32> = explained
        .path
        .iter()
        .map(|step| match &step.given {
            Given::Rule(rule) => rule.line,
            Given::Asserted => 0,
        })
        .collect();
    assert_eq!(lines, [5, 4]);
    assert_eq!((explained.misses.len(), explained.roles.len()), (0, 2));
    assert!(explained.note.is_some());
}

#[test]
fn an_acl_without_realms_holds_in_all_of_them() {
    let policy = served(
        ACL,
        "p, role:viewer, videos, read\np, user:bob, videos/1, play\ng, user:ann, role:viewer\n",
    );
    for realm in ["production", "sandbox"] {
        assert!(is_allowed(&policy, realm, "user:ann", &[], "videos:read"));
        assert!(!is_allowed(&policy, realm, "user:ann", &[], "videos/1:play"));
        assert!(is_allowed(&policy, realm, "user:bob", &[], "videos/1:play"));
        assert!(is_allowed(
            &policy,
            realm,
            "user:bob",
            &["role:viewer"],
            "videos:read"
        ));
    }
    assert!(!is_allowed(&policy, "elsewhere", "user:ann", &[], "videos:read"));
}

#[test]
fn what_casbins_decide_differently_is_refused_with_its_code_place_and_help() {
    let rules = "p, role:viewer, *, videos, ^read$, allow\n";
    for (part, wrong, expected) in [
        (0, "priority, sub, dom, obj, act, eft", ("P011", 4, 5)),
        (0, "sub, dom, obj, act, eft, owner", ("P011", 4, 5)),
        (1, "_, _, _, (_, _)", ("P011", 6, 5)),
        (2, "subjectPriority(p.eft) || deny", ("P012", 8, 5)),
        (2, "some( where (p.eft == allow) )", ("P012", 8, 5)),
        (2, "!some(where (p.eft == deny))", ("P012", 8, 5)),
        (
            3,
            "g(r.sub, p.sub, r.dom) && keyGet(r.obj, p.obj)",
            ("P013", 10, 31),
        ),
        (3, "g(r.sub, p.sub, r.dom) && !r.obj == p.obj", ("P013", 10, 32)),
        (3, "g(r.sub, p.sub, r.dom) && eval(p.obj)", ("P014", 10, 31)),
    ] {
        let mut model = PATTERNS;
        model[part] = wrong;
        let error = load(model, rules, "").unwrap_err();
        let found = &error.diagnostics[0];
        assert_eq!(
            (found.code, found.line, found.column),
            expected,
            "{wrong}: {error}"
        );
        assert!(found.help.is_some(), "{found}");
    }
    let model = "[request_definition]\nr = sub, dom, obj, act\n[ matchers ]\nm = r.sub == p.sub\n";
    let files = [
        ("model.conf", model.as_bytes()),
        ("catalogue.toml", CATALOGUE),
        ("policy.csv", rules.as_bytes()),
    ];
    let found = Policy::from_files(&files).unwrap_err().diagnostics;
    assert_eq!((found[0].code, found[0].line), ("P016", 1));
    assert!(found.iter().any(|found| (found.code, found.line) == ("P010", 3)));
}

#[test]
fn a_role_names_its_realm() {
    let error = load(
        PATTERNS,
        "p, role:viewer, *, videos, ^read$, allow\ng, user:ann, role:viewer, *\n",
        "",
    )
    .unwrap_err();
    let found = &error.diagnostics[0];
    assert_eq!((found.code, found.line, found.column), ("P038", 2, 27));
}

#[test]
fn a_pattern_that_casbins_read_differently_is_refused_where_it_stands() {
    let matcher = |resource: &str, action: &str| -> Model {
        let text = format!("g(r.sub, p.sub, r.dom) && {resource}(r.obj, p.obj) && {action}(r.act, p.act)");
        [
            PATTERNS[0],
            PATTERNS[1],
            PATTERNS[2],
            Box::leak(text.into_boxed_str()),
        ]
    };
    for (function, good, pattern) in [
        ("regexMatch", "^videos$", "^videos/[a-"),
        ("regexMatch", "^videos$", "videos"),
        ("keyMatch", "videos", "videos/*/x"),
        ("keyMatch2", "videos", "videos/(:id"),
        ("keyMatch3", "videos", "videos/[{id}"),
        ("keyMatch4", "videos", "videos/({id}"),
        ("keyMatch5", "videos", "videos/({id}"),
    ] {
        let rules = format!(
            "p, role:viewer, *, {pattern}, play, allow\np, role:viewer, *, {good}, {pattern}, deny\n"
        );
        let found = load(matcher(function, function), &rules, "")
            .unwrap_err()
            .diagnostics;
        let places: Vec<_> = found
            .iter()
            .map(|found| (found.code, found.line, found.column as usize))
            .collect();
        assert_eq!(
            places,
            [("P039", 1, 20), ("P040", 2, 22 + good.len())],
            "{function}"
        );
        let is_expected = |message: &str| message.contains(&format!("for `{function}` is not supported"));
        assert!(
            found
                .iter()
                .all(|found| is_expected(&found.message) && found.help.is_some())
        );
    }
    // A text that is not a pattern has no characters of one.
    let found = load(ACL, "p, role:viewer, videos, (read)\n", "")
        .unwrap_err()
        .diagnostics;
    assert_eq!((found[0].code, found[0].column), ("P039", 25));
}

#[test]
fn an_asserted_role_counts_also_where_a_matcher_excludes_it() {
    let mut model = PATTERNS;
    model[3] = r#"g(r.sub, p.sub, r.dom) && !g(r.sub, "role:suspended", r.dom) && keyMatch2(r.obj, p.obj) && r.act == p.act"#;
    let policy = served(model, "p, user:ann, *, videos, read, allow\n");
    assert!(is_allowed(&policy, "production", "user:ann", &[], "videos:read"));
    assert!(is_allowed(
        &policy,
        "production",
        "user:ann",
        &["role:viewer"],
        "videos:read"
    ));
    assert!(!is_allowed(
        &policy,
        "production",
        "user:ann",
        &["role:suspended"],
        "videos:read"
    ));
}

#[test]
fn with_priorities_the_first_rule_that_matches_decides() {
    let mut model = PATTERNS;
    model[2] = "priority(p.eft) || deny";
    let policy = served(
        model,
        "p, user:ann, *, videos/1, ^play$, allow\np, role:viewer, *, videos/:id, ^.*$, deny\np, user:ann, *, videos/:id, ^.*$, allow\n",
    );
    let roles = &["role:viewer"][..];
    assert!(is_allowed(
        &policy,
        "production",
        "user:ann",
        roles,
        "videos/1:play"
    ));
    assert!(!is_allowed(
        &policy,
        "production",
        "user:ann",
        roles,
        "videos/1:edit"
    ));
    assert!(is_allowed(
        &policy,
        "production",
        "user:ann",
        &[],
        "videos/1:edit"
    ));
    assert!(!is_allowed(
        &policy,
        "production",
        "user:bob",
        &[],
        "videos/1:play"
    ));
}

#[test]
fn with_one_allow_enough_the_first_rule_of_each_kind_is_named() {
    let mut model = PATTERNS;
    model[2] = "some(where (p.eft == allow))";
    let rules = "p, user:ann, *, videos/:id, ^play$, deny\np, user:ann, *, videos/1, ^.*$, deny\np, user:ann, *, videos/1, ^edit$, allow\n";
    let policy = served(model, rules);
    assert!(is_allowed(
        &policy,
        "production",
        "user:ann",
        &[],
        "videos/1:edit"
    ));
    let denied = verdict(&policy, "production", "user:ann", &[], "videos/1:play");
    assert_eq!(
        denied,
        Verdict::Denied {
            reason: "denied by policy.csv:1".to_owned()
        }
    );
}

#[test]
fn the_rules_that_no_test_reaches_are_told() {
    let test = "[[test]]\nname = \"ann\"\nrealm = \"production\"\nsubject = \"user:ann\"\nallow = [\"videos/1:play\"]\n";
    let report = load(PATTERNS, RULES, test).unwrap().test_report();
    let lines: Vec<u32> = report.uncovered.iter().map(|rule| rule.line).collect();
    assert_eq!(
        (report.tests, report.expectations, lines),
        (1, 1, vec![1, 3, 6, 7, 8])
    );
}

#[test]
fn policies_of_different_models_are_compared_by_asking() {
    let old = served(ACL, "p, role:viewer, videos, read\ng, user:ann, role:viewer\n");
    let new = served(
        PATTERNS,
        "p, role:viewer, production, videos, ^read$, allow\np, role:viewer, *, videos/:id, ^play$, allow\ng, user:ann, role:viewer, production\ng, user:ann, role:viewer, sandbox\n",
    );
    let found = diff(&old, &new);
    assert_eq!(found.unasked, 0);
    let told: Vec<String> = found
        .changes
        .iter()
        .map(|change| {
            let sign = if change.kind == ChangeKind::Gained {
                '+'
            } else {
                '-'
            };
            format!("{sign}{} {} {}", change.realm, change.holder, change.scope)
        })
        .collect();
    assert_eq!(
        told,
        [
            "+production role:viewer videos/{id}:play",
            "+production user:ann videos/{id}:play",
            "+sandbox role:viewer videos/{id}:play",
            "-sandbox role:viewer videos:read",
            "+sandbox user:ann videos/{id}:play",
            "-sandbox user:ann videos:read",
        ]
    );
    assert!(diff(&old, &old).is_empty());
}

#[test]
fn casbins_own_spelling_of_a_known_model_makes_no_difference() {
    let mut model = PATTERNS;
    model[3] = r#"g(r.sub,p.sub,r.dom)&&(p.dom=="*"||r.dom==p.dom)&&keyMatch(r.obj,p.obj)&&(p.act=="*"||r.act==p.act)"#;
    let rules = "p, role:viewer, *, videos, read, allow\n";
    assert!(load(model, rules, "").unwrap().is_compiled());
}
