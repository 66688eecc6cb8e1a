//! Random policy changes compared with brute force, and changes during calls.
//!
//! The long forms: `cargo test --release -p tessera-server --test it -- --ignored policy_change`.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::ControlFlow,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use tessera_authority::Trigger;
use tessera_core::{EventBody, OnPolicyLoss, RevokeReason, Scope, ScopeSet, Sequence, Session, SessionState};
use tessera_policy::{Permission, Policy, Question, Verdict};
use tessera_proto::v1::IssueRequest;
use tessera_store::{MemoryStore, Store};
use tessera_testkit::world::{Client, Setup, World, access_token, reason, refresh_token, strings};

/// Pseudo-random numbers that are the same in each run (xorshift64*).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) % sides
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[usize::try_from(self.roll(of.len() as u64)).unwrap()]
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.roll(100) < percent
    }
}

const SUBJECTS: [&str; 4] = ["user:ann", "user:bob", "user:eve", "client:app"];
const ROLES: [&str; 3] = ["role:viewer", "role:trial", "role:editor"];
const SCOPES: [&str; 5] = [
    "videos:read",
    "videos:write",
    "videos/v1:play",
    "videos/v2:play",
    "videos/premium/v9:play",
];
const OBJECTS: [(&str, &str); 6] = [
    ("videos", "read"),
    ("videos", "write"),
    ("videos/*", "play"),
    ("videos/v1", "play"),
    ("videos/premium/*", "play"),
    ("videos", "*"),
];

/// Random rules, under which the two clients may always manage and mostly issue.
fn rules(dice: &mut Dice) -> String {
    let mut rules = BTreeSet::from([
        "p, client:admin, *, tessera/policies, *, allow".to_owned(),
        "p, client:admin, *, tessera/tokens, introspect, allow".to_owned(),
    ]);
    if dice.chance(85) {
        rules.insert("p, client:app, *, tessera/subjects/user:*, issue, allow".to_owned());
    }
    for role in ROLES {
        if dice.chance(85) {
            rules.insert(format!("p, client:app, *, tessera/roles/{role}, assert, allow"));
        }
    }
    for _ in 0..4 + dice.roll(8) {
        let holder = if dice.chance(70) {
            dice.one(&ROLES)
        } else {
            dice.one(&SUBJECTS)
        };
        let (object, action) = OBJECTS[usize::try_from(dice.roll(6)).unwrap()];
        let realm = dice.one(&["*", "production", "sandbox"]);
        let effect = if dice.chance(80) { "allow" } else { "deny" };
        rules.insert(format!("p, {holder}, {realm}, {object}, {action}, {effect}"));
    }
    for subject in SUBJECTS {
        if dice.chance(40) {
            rules.insert(format!("g, {subject}, {}, production", dice.one(&ROLES)));
        }
    }
    if dice.chance(50) {
        rules.insert("g, role:editor, role:viewer, *".to_owned());
    }
    // `*` as realm covers the same line with a realm, which the loader refuses as a repetition.
    let covered: BTreeSet<String> = rules
        .iter()
        .filter(|rule| rule.contains(", *, "))
        .flat_map(|rule| {
            ["production", "sandbox"].map(|realm| rule.replacen(", *, ", &format!(", {realm}, "), 1))
        })
        .collect();
    let rules: Vec<_> = rules.difference(&covered).cloned().collect();
    rules.join("\n") + "\n"
}

/// The next policy: a new one, or the same with one rule less, so that losses accumulate.
fn changed(dice: &mut Dice, before: &str) -> String {
    if dice.chance(40) {
        return rules(dice);
    }
    let grants: Vec<&str> = before
        .lines()
        .filter(|rule| rule.ends_with("play, allow"))
        .collect();
    if grants.is_empty() {
        return rules(dice);
    }
    let gone = dice.one(&grants);
    before.replace(&format!("{gone}\n"), "")
}

/// The scopes that a policy grants a session, asked one by one.
fn granted(policy: &Policy, session: &Session) -> BTreeSet<Scope> {
    let speaks = session.client.as_str() == session.subject.as_str()
        || policy.permits(
            &session.realm,
            &session.client,
            &Permission::IssueFor(session.subject.clone()),
        );
    let asserts = session
        .roles
        .iter()
        .all(|role| policy.permits(&session.realm, &session.client, &Permission::Assert(role.clone())));
    let ask = |scope: &&Scope| {
        let verdict = policy.decide(&Question {
            realm: &session.realm,
            subject: &session.subject,
            roles: &session.roles,
            scope,
        });
        speaks && asserts && verdict == Verdict::Allowed
    };
    session.scopes.iter().filter(ask).cloned().collect()
}

/// All sessions of all realms.
pub(crate) async fn sessions(store: &dyn Store) -> Vec<Session> {
    let all = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&all);
    let see = move |session: &Session| {
        seen.lock().unwrap().push(session.clone());
        ControlFlow::Continue(())
    };
    store.walk_sessions(Box::new(see)).await.unwrap();
    std::mem::take(&mut *all.lock().unwrap())
}

/// Begins some sessions of random kinds, except those that the policy refuses.
async fn begin_sessions(app: &Client, dice: &mut Dice, number: u64) -> Vec<(String, String)> {
    let mut tokens = Vec::new();
    for _ in 0..number {
        let subject = dice.one(&SUBJECTS);
        let roles: BTreeSet<&str> = (0..dice.roll(3)).map(|_| dice.one(&ROLES)).collect();
        let scopes: BTreeSet<&str> = (0..1 + dice.roll(4)).map(|_| dice.one(&SCOPES)).collect();
        let request = IssueRequest {
            subject: subject.to_owned(),
            roles: strings(&roles.into_iter().collect::<Vec<_>>()),
            scopes: strings(&scopes.into_iter().collect::<Vec<_>>()),
            ..IssueRequest::default()
        };
        match app.issue(request).await {
            Ok(issued) => tokens.push((issued.session_id, access_token(issued.tokens.as_ref()))),
            Err(refused) => assert!(
                [
                    "PermissionDenied / SCOPE_DENIED",
                    "PermissionDenied / CALL_NOT_ALLOWED"
                ]
                .contains(&reason(&refused).as_str())
            ),
        }
    }
    tokens
}

/// The expected events of a change, by brute force: each session's grants before and after.
fn expected(before: &[Session], policy: &Policy) -> BTreeMap<String, Option<BTreeSet<Scope>>> {
    let mut expected = BTreeMap::new();
    for session in before
        .iter()
        .filter(|session| session.state == SessionState::Active)
    {
        let now = granted(policy, session);
        let had: BTreeSet<Scope> = session.scopes.minus(&session.lost).iter().cloned().collect();
        let lost: BTreeSet<Scope> = had.difference(&now).cloned().collect();
        if !lost.is_empty() {
            let ends = now.is_empty();
            expected.insert(session.id.to_string(), (!ends).then_some(lost));
        }
    }
    expected
}

async fn heard(store: &dyn Store, after: Sequence) -> BTreeMap<String, Option<BTreeSet<Scope>>> {
    let mut heard = BTreeMap::new();
    for event in store.events(after, 100_000).await.unwrap().events {
        let (session, what) = match &event.body {
            EventBody::ScopesNarrowed { session, lost, .. } => {
                (session, Some(lost.iter().cloned().collect()))
            }
            EventBody::SessionRevoked { session, reason, .. } => {
                assert_eq!(*reason, RevokeReason::Policy);
                (session, None)
            }
            EventBody::PolicyApplied { .. } => continue,
            other => panic!("{other:?}"),
        };
        assert!(
            heard.insert(session.to_string(), what).is_none(),
            "two events for one session"
        );
    }
    heard
}

/// `rounds` worlds, each with some policy changes.
async fn changes_are_felt_exactly(seed: u64, rounds: u64) {
    let mut dice = Dice(seed);
    let (mut narrowed, mut again, mut ended) = (0, 0, 0);
    for _ in 0..rounds {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let world = World::with(Setup {
            store: Arc::clone(&store),
            on_policy_loss: OnPolicyLoss::Narrow,
            ..Setup::default()
        })
        .await;
        let app = world.client("production", "app").await;
        let admin = world.client("production", "admin").await;
        let (mut tokens, mut policy) = (Vec::new(), String::new());
        for _ in 0..5 {
            tokens.extend(begin_sessions(&app, &mut dice, 12).await);
            let (before, place) = (sessions(store.as_ref()).await, store.log().committed());
            policy = changed(&mut dice, &policy);
            world.policy.write("policy.csv", &policy);
            world.authority.policies().reload(Trigger::Call).await.unwrap();
            let policy = world.authority.policy();
            let heard = heard(store.as_ref(), place).await;
            assert_eq!(heard, expected(&before, &policy));
            again += heard
                .keys()
                .filter(|id| {
                    before
                        .iter()
                        .any(|session| session.id.to_string() == **id && !session.lost.is_empty())
                })
                .count();
            ended += heard.values().filter(|lost| lost.is_none()).count();
            narrowed += heard.values().filter(|lost| lost.is_some()).count();
            check_answers(&admin, store.as_ref(), &policy, &tokens).await;
        }
    }
    assert!(
        narrowed > 0 && again > 0 && ended > 0,
        "{narrowed} {again} {ended}"
    );
    println!("{narrowed} narrowed, {ended} ended; {again} of these had lost something before");
}

/// Introspection of every token ever issued must return what the policy and all losses leave.
async fn check_answers(admin: &Client, store: &dyn Store, policy: &Policy, tokens: &[(String, String)]) {
    let sessions: BTreeMap<String, Session> = sessions(store)
        .await
        .into_iter()
        .map(|session| (session.id.to_string(), session))
        .collect();
    let mut lost: BTreeMap<String, ScopeSet> = BTreeMap::new();
    for event in store.events(Sequence(0), 100_000).await.unwrap().events {
        if let EventBody::ScopesNarrowed {
            session, lost: now, ..
        } = &event.body
        {
            let all = lost.entry(session.to_string()).or_default();
            *all = all.iter().chain(now.iter()).cloned().collect();
        }
    }
    for (id, token) in tokens {
        let session = &sessions[id];
        let mut left = granted(policy, session);
        if let Some(lost) = lost.get(id) {
            left.retain(|scope| !lost.contains(scope));
        }
        if session.state != SessionState::Active {
            left.clear();
        }
        let left: Vec<String> = left.iter().map(ToString::to_string).collect();
        let seen = admin.introspect(token).await;
        assert_eq!((seen.active, seen.scope), (!left.is_empty(), left.join(" ")));
    }
}

#[tokio::test]
async fn random_changes_are_felt_by_exactly_those_that_lose() {
    changes_are_felt_exactly(0x7E55_E7A0, 12).await;
}

#[tokio::test]
#[ignore = "the long form: minutes"]
async fn random_changes_are_felt_by_exactly_those_that_lose_long() {
    changes_are_felt_exactly(0x0DD5_EED5, 1500).await;
}

/// Two policies that differ in everything that a request asks for, so that a mixture is visible.
const ODD: &str = "\
p, role:viewer, *, videos, read, allow
p, client:app, *, tessera/subjects/*, issue, allow
p, client:app, *, tessera/roles/role:viewer, assert, allow
";
const EVEN: &str = "\
p, role:viewer, *, videos/*, play, allow
p, client:app, *, tessera/subjects/*, issue, allow
p, client:app, *, tessera/roles/role:viewer, assert, allow
";

/// Reloads `rounds` times, every second time a broken policy, during calls.
async fn reloads_are_seen_whole(rounds: u64) {
    let world = Arc::new(World::start().await);
    let client = world.client("production", "app").await;
    world.policy.write("policy.csv", ODD);
    world.authority.policies().reload(Trigger::Call).await.unwrap();
    let odd = world.authority.policy().revision().to_string();
    let is_over = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..4)
        .map(|_| tokio::spawn(call_until(client.clone(), odd.clone(), Arc::clone(&is_over))))
        .collect();
    let (mut applied, mut refused) = (0, 0);
    for round in 0..rounds {
        let rules = match round % 4 {
            0 => EVEN.to_owned(),
            1 => EVEN[..EVEN.len() - 9].to_owned(),
            2 => ODD.to_owned(),
            _ => format!("{ODD}p, role:viewer, *, videos, read, Deny\n"),
        };
        world.policy.write("policy.csv", &rules);
        let before = *world.authority.policy().revision();
        match world.authority.policies().reload(Trigger::Call).await {
            Ok(changed) => applied += u64::from(changed.is_change()),
            Err(_) => {
                refused += 1;
                assert_eq!(*world.authority.policy().revision(), before);
            }
        }
    }
    is_over.store(true, Ordering::SeqCst);
    let mut calls = 0;
    for caller in callers {
        calls += caller.await.unwrap();
    }
    assert_eq!((applied, refused), (rounds / 2, rounds / 2));
    assert!(calls > rounds, "{calls} calls");
}

/// Issues and refreshes; each answer must be that of one policy, the one that it names.
async fn call_until(client: Client, odd: String, is_over: Arc<AtomicBool>) -> u64 {
    let mut calls = 0;
    while !is_over.load(Ordering::SeqCst) {
        let request = IssueRequest {
            subject: "user:ann".to_owned(),
            roles: strings(&["role:viewer"]),
            scopes: strings(&["videos:read", "videos/v1:play"]),
            ..IssueRequest::default()
        };
        let issued = match client.issue(request).await {
            Ok(issued) => issued,
            Err(refused) => {
                assert_eq!(reason(&refused), "Unavailable / POLICY_NOT_READY");
                continue;
            }
        };
        let of = |revision: &str| {
            if revision == odd {
                "videos:read"
            } else {
                "videos/v1:play"
            }
        };
        assert_eq!(
            issued.tokens.as_ref().unwrap().scopes,
            [of(&issued.policy_revision)]
        );
        match client.refresh(&refresh_token(issued.tokens.as_ref())).await {
            Ok(next) => assert_eq!(next.tokens.unwrap().scopes, [of(&next.policy_revision)]),
            // A scope that only one policy grants is removed by the other, and nothing is left.
            Err(refused) => assert!(
                [
                    "PermissionDenied / SCOPE_DENIED",
                    "Unauthenticated / SESSION_REVOKED",
                    "Unavailable / POLICY_NOT_READY"
                ]
                .contains(&reason(&refused).as_str()),
                "{refused}"
            ),
        }
        calls += 2;
    }
    calls
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_sees_a_mixture_of_policies() {
    reloads_are_seen_whole(60).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the long form: a minute"]
async fn no_request_sees_a_mixture_of_policies_long() {
    reloads_are_seen_whole(1000).await;
}
