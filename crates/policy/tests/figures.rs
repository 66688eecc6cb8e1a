//! Figures of a policy with 100,000 rules and as many users. Run with
//! `cargo test --release -p tessera-policy --test figures -- --ignored --nocapture`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

use std::{
    future::Future,
    hint::black_box,
    pin::pin,
    task::{Context, Poll, Waker},
    time::Instant,
};

use casbin::{Adapter, CoreApi, DefaultModel, Enforcer, MemoryAdapter};

use tessera_core::{RealmName, RoleName, Scope, ScopeSet, Subject};
use tessera_policy::{Policy, Question, Verdict};

const COUNT: usize = 100_000;
const ROLES: usize = COUNT / 100;

fn policy() -> Policy {
    let mut catalogue =
        String::from("[realms]\nproduction = \"p\"\nsandbox = \"s\"\n[audiences]\napi = \"a\"\n");
    catalogue.push_str(
        "[scopes]\n\"films/{id}:play\" = \"f\"\n\"films/{id}/parts/{part}:play\" = \"f\"\n[roles]\n",
    );
    (0..ROLES).for_each(|role| catalogue.push_str(&format!("\"role:r{role}\" = \"r\"\n")));
    let policies = (0..COUNT).map(|rule| match rule % 10 {
        0 => format!("p,role:r{},*,films/{rule}/*,play,allow\n", rule % ROLES),
        1 => format!("p,role:r{},production,films/{rule},play,deny\n", rule % ROLES),
        _ => format!("p,role:r{},production,films/{rule},*,allow\n", rule % ROLES),
    });
    let users = (0..COUNT).map(|user| format!("g,u{user},role:r{},*\n", user % ROLES));
    let parents = (0..ROLES / 2).map(|role| format!("g,role:r{role},role:r{},*\n", role + ROLES / 2));
    let rules: String = policies.chain(users).chain(parents).collect();
    let tests =
        "[[test]]\nname = \"one\"\nrealm = \"production\"\nsubject = \"u7\"\nallow = [\"films/7:play\"]\n";
    Policy::from_files(&[
        Policy::default_files()[0],
        ("catalogue.toml", catalogue.as_bytes()),
        ("policy.csv", rules.as_bytes()),
        ("tests/t.toml", tests.as_bytes()),
    ])
    .unwrap()
}

/// Nanoseconds per call, the best of five rounds, since the machine has other work too.
fn nanos(calls: u32, mut call: impl FnMut(u32)) -> f64 {
    let round = |_| {
        let started = Instant::now();
        (0..calls).for_each(&mut call);
        started.elapsed().as_secs_f64() * 1e9 / f64::from(calls)
    };
    (0..5).map(round).fold(f64::INFINITY, f64::min)
}

/// Rules of as many roles, and a tenth as many users: Casbin's time for these grows with their square.
fn some_rules(count: usize) -> String {
    let policies = (0..count * 9 / 10)
        .map(|rule| format!("p, role:r{}, production, films/{rule}, play, allow\n", rule % 100));
    let users = (0..count / 10).map(|user| format!("g, u{user}, role:r{}, production\n", user % 100));
    policies.chain(users).collect()
}

/// Casbin's own load, of rows that are split already. Nothing in it waits.
fn load_by_casbin(model: &str, rules: &str) -> f64 {
    let rows = |kind: &str| -> Vec<Vec<String>> {
        let lines = rules.lines().filter_map(|line| line.strip_prefix(kind));
        let fields = lines.map(|line| {
            line.split(',')
                .map(|field| field.trim().to_owned())
                .skip(1)
                .collect()
        });
        fields.collect()
    };
    let (policies, roles) = (rows("p"), rows("g"));
    let began = Instant::now();
    let loading = async {
        let mut adapter = MemoryAdapter::default();
        adapter.add_policies("p", "p", policies).await.unwrap();
        adapter.add_policies("g", "g", roles).await.unwrap();
        let model = DefaultModel::from_str(model).await.unwrap();
        Enforcer::new(model, adapter).await.unwrap()
    };
    let Poll::Ready(enforcer) = pin!(loading).poll(&mut Context::from_waker(Waker::noop())) else {
        panic!("Casbin waits for something");
    };
    black_box(enforcer);
    began.elapsed().as_secs_f64() * 1e3
}

#[test]
#[ignore = "measures"]
fn loading_beside_casbin() {
    let model = Policy::default_files()[0].1;
    let mut catalogue = String::from(
        "[realms]\nproduction = \"p\"\n[audiences]\napi = \"a\"\n[scopes]\n\"films/{id}:play\" = \"f\"\n[roles]\n",
    );
    (0..100).for_each(|role| catalogue.push_str(&format!("\"role:r{role}\" = \"r\"\n")));
    for count in [1_000, 10_000, 100_000] {
        let rules = some_rules(count);
        let files = [
            Policy::default_files()[0],
            ("catalogue.toml", catalogue.as_bytes()),
            ("policy.csv", rules.as_bytes()),
        ];
        let best = |load: &dyn Fn() -> f64| (0..3).map(|_| load()).fold(f64::INFINITY, f64::min);
        let ours = best(&|| {
            let began = Instant::now();
            black_box(Policy::from_files(&files).unwrap());
            began.elapsed().as_secs_f64() * 1e3
        });
        let casbin = best(&|| load_by_casbin(std::str::from_utf8(model).unwrap(), &rules));
        println!("figure | loading a policy of {count} rules | ms | {ours} | {casbin} | <= 1.5");
    }
}

#[test]
#[ignore = "measures"]
fn figures_of_answers() {
    let started = Instant::now();
    let policy = policy();
    println!("{} rules: loaded in {:?}", policy.rule_count(), started.elapsed());
    let realm = RealmName::parse("production").unwrap();
    let roles = [RoleName::parse("role:r3").unwrap()];
    let subjects: Vec<Subject> = (0..1_000)
        .map(|user| Subject::parse(&format!("u{}", user * 97)).unwrap())
        .collect();
    let scopes: Vec<Scope> = (0..1_000)
        .map(|film| Scope::parse(&format!("films/{}:play", film * 97)).unwrap())
        .collect();
    let question = |number: u32| Question {
        realm: &realm,
        subject: &subjects[number as usize % 1_000],
        roles: &roles,
        scope: &scopes[number as usize % 1_000],
    };
    let allowed = (0..1_000)
        .filter(|number| policy.decide(&question(*number)) == Verdict::Allowed)
        .count();
    let decide = nanos(100_000, |number| {
        black_box(policy.decide(&question(number)) == Verdict::Allowed);
    });
    println!("one decision: {decide:.0} ns ({allowed} of 1,000 allowed)");
    let fifty: ScopeSet = scopes.iter().take(50).cloned().collect();
    let grant = nanos(10_000, |number| {
        black_box(
            policy
                .grant(&realm, &subjects[number as usize % 1_000], &roles, &fifty)
                .granted
                .len(),
        );
    });
    println!("a grant of 50 scopes, most denied: {:.1} µs", grant / 1e3);
    // The films of the subject's own role.
    let own: ScopeSet = (0..100)
        .filter(|number| number % 10 > 1)
        .map(|number| Scope::parse(&format!("films/{}:play", 97 + number * ROLES)).unwrap())
        .take(50)
        .collect();
    let holder = Subject::parse("u97").unwrap();
    let granted = policy.grant(&realm, &holder, &roles, &own).granted.len();
    let grant = nanos(10_000, |_| {
        black_box(policy.grant(&realm, &holder, &roles, &own).granted.len());
    });
    println!(
        "a grant of {} scopes, {granted} allowed: {:.1} µs",
        own.len(),
        grant / 1e3
    );
    let explain = nanos(10, |number| {
        black_box(policy.explain(&question(number)).misses.len());
    });
    println!("one explanation: {:.1} ms", explain / 1e6);
    let report = nanos(1, |_| {
        black_box(policy.test_report().uncovered.len());
    });
    println!("the report on one test: {:.0} ms", report / 1e6);
}
