//! Work that is no longer needed ends, at any point.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

use std::{
    fmt::Write,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use tessera_core::{RealmName, Scope, Subject};
use tessera_policy::{LoadError, Policy, Sources, Stopped, Work, diff_within};

/// How long cancelled work may continue. A step takes far less, but a busy machine is slow.
const SOON: Duration = Duration::from_secs(2);

fn catalogue(realms: usize, scopes: usize) -> String {
    let names = |prefix: &str, count: usize, suffix: &str| {
        (0..count).fold(String::new(), |mut text, number| {
            writeln!(text, "\"{prefix}{number}{suffix}\" = \"x\"").unwrap();
            text
        })
    };
    format!(
        "[realms]\n{}[roles]\n{}[scopes]\n{}[audiences]\napi = \"x\"\n",
        names("realm", realms, ""),
        names("role:r", 100, ""),
        names("videos", scopes, ":read")
    )
}

fn sources(catalogue: &str, rules: &str, tests: &str, matcher: Option<&str>) -> Sources {
    let model = String::from_utf8(Policy::default_files()[0].1.to_vec()).unwrap();
    let model = match matcher {
        None => model,
        Some(matcher) => model.replace("(p.act == \"*\" || r.act == p.act)", matcher),
    };
    let mut files = vec![
        ("model.conf", model.as_bytes()),
        ("catalogue.toml", catalogue.as_bytes()),
        ("policy.csv", rules.as_bytes()),
    ];
    if !tests.is_empty() {
        files.push(("tests/t.toml", tests.as_bytes()));
    }
    Sources::from_memory(&files).unwrap()
}

/// Runs work that takes long, cancels it before its end, and asserts that it ends soon.
fn ends_soon<T: Send>(what: &str, run: impl FnOnce(&Work) -> Result<T, Stopped> + Send) {
    let work = Work::unbounded();
    thread::scope(|scope| {
        let (sender, ended) = mpsc::channel();
        let running = work.clone();
        scope.spawn(move || {
            let result = run(&running);
            sender.send((result.is_err(), Instant::now())).unwrap();
        });
        // It must still be running: work that is already done would not need to be stopped.
        assert!(
            ended.recv_timeout(Duration::from_millis(50)).is_err(),
            "{what} takes too little"
        );
        let cancelled = Instant::now();
        work.cancel();
        let (was_stopped, at) = ended.recv_timeout(Duration::from_secs(60)).unwrap();
        assert!(was_stopped, "{what}");
        assert!(
            at.saturating_duration_since(cancelled) < SOON,
            "{what}: {:?}",
            at - cancelled
        );
    });
}

fn load(sources: &Sources, work: &Work) -> Result<(), Stopped> {
    match Policy::from_sources_within(sources, work) {
        Ok(_) => Ok(()),
        Err(LoadError::Refused(error)) => panic!("{error}"),
        Err(LoadError::Stopped) => Err(Stopped),
    }
}

fn edges(count: usize, realm: &str) -> String {
    (0..count).fold(String::new(), |mut text, number| {
        writeln!(text, "g, user:u{number}, role:r{}, {realm}", number % 100).unwrap();
        text
    })
}

const RULE: &str = "p, role:r1, *, videos1, read, allow\n";

#[test]
fn loading_ends_in_many_realms_with_many_roles() {
    let rules = format!("{RULE}{}", edges(20_000, "*"));
    let sources = sources(&catalogue(1_000, 2), &rules, "", None);
    ends_soon("roles in realms", |work| load(&sources, work));
}

#[test]
fn loading_ends_among_names_that_are_nearly_known() {
    let wrong = (0..4_000).fold(String::new(), |mut text, number| {
        writeln!(text, "p, role:r1, *, vidoes{number}, read, allow").unwrap();
        text
    });
    let sources = sources(&catalogue(2, 20_000), &wrong, "", None);
    ends_soon("the nearest names", |work| load(&sources, work));
}

#[test]
fn loading_ends_in_the_tests_of_another_model() {
    let rules = (0..1_000).fold(String::new(), |mut text, number| {
        writeln!(
            text,
            "p, role:r{}, realm0, videos{number}, ^(read|write{number})$, allow",
            number % 100
        )
        .unwrap();
        text
    });
    let scopes: Vec<String> = (0..1_000)
        .map(|number| format!("\"videos{number}:read\""))
        .collect();
    let tests = format!(
        "[[test]]\nname = \"t\"\nrealm = \"realm0\"\nsubject = \"user:x\"\ndeny = [{}]\n",
        scopes.join(",\n")
    );
    let sources = sources(
        &catalogue(1, 1_000),
        &rules,
        &tests,
        Some("regexMatch(r.act, p.act)"),
    );
    ends_soon("tests", |work| load(&sources, work));
}

#[test]
fn comparing_ends() {
    let rules = |scope: usize| {
        let policies = (0..100).fold(String::new(), |mut text, role| {
            for number in 0..20 {
                writeln!(
                    text,
                    "p, role:r{role}, *, videos{}, read, allow",
                    (number + scope) % 300
                )
                .unwrap();
            }
            text
        });
        [policies, edges(1_000, "realm0")].concat()
    };
    let policy =
        |scope| Policy::from_sources(&sources(&catalogue(200, 300), &rules(scope), "", None)).unwrap();
    let (old, new) = (policy(0), policy(20));
    ends_soon("a comparison", |work| diff_within(&old, &new, work).map(|_| ()));
}

#[test]
fn work_whose_time_is_up_grants_nothing_and_loads_nothing() {
    let over = Work::within(Duration::ZERO);
    let sources = sources(&catalogue(1, 2), RULE, "", None);
    assert_eq!(load(&sources, &over), Err(Stopped));
    let policy = Policy::from_sources(&sources).unwrap();
    let granted = policy.grant_within(
        &RealmName::parse("realm0").unwrap(),
        &Subject::parse("user:ann").unwrap(),
        &[],
        &[Scope::parse("videos1:read").unwrap()].into_iter().collect(),
        &over,
    );
    assert_eq!(granted, Err(Stopped));
    assert_eq!(diff_within(&policy, &policy, &over), Err(Stopped));
}
