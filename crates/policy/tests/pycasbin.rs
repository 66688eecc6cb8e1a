//! Accepted other models are decided the same way by Casbin in another language: random models, rules and questions,
//! over everything that is accepted and much that is not, compared with pycasbin.
//!
//! `.ci/peers` installs pycasbin; `cargo test -p tessera-policy --test pycasbin -- --ignored`
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

use std::{
    collections::{BTreeMap, HashSet},
    env,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use serde_json::{Value, json};
use tessera_core::{RealmName, RoleName, Scope, Subject};
use tessera_policy::{Policy, Question, Verdict};

/// How many accepted policies are compared.
const ACCEPTED_MIN: usize = 2_100;
const QUESTIONS: usize = 16;

const REALMS: [&str; 2] = ["production", "sandbox"];
const ROLES: [&str; 4] = ["role:a", "role:b", "role:c", "role:d"];
/// Texts with a special meaning in patterns, expressions and files elsewhere, which are subjects of tokens.
const ODD_SUBJECTS: [&str; 9] = [
    "spiffe://example.org/ns/prod",
    "o'neil@example.org",
    "j\u{fc}rgen",
    "user:ann Smith",
    "user:ann, user:bob",
    "$^(x|a)[b].+?",
    "{x}",
    "a\\d\\b",
    "\"x\" || true",
];
const SUBJECTS: [&str; 4] = ["user:ann", "user:bob", "client:cms", "x"];
const OBJECTS: [&str; 8] = ["a", "a/1", "a/12", "a/1/c", "b", "b/1/c/1", "b/2/c/1", "ab"];
const ACTIONS: [&str; 5] = ["read", "write", "reread", "x", "read-1"];

/// Numbers that are the same at each run (SplitMix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn one_in(&mut self, number: usize) -> bool {
        self.below(number) == 0
    }

    fn of<T: Clone>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())].clone()
    }
}

/// A model with rules, and the questions.
struct Case {
    model: String,
    rules: String,
    questions: Vec<Asked>,
}

struct Asked {
    subject: &'static str,
    roles: Vec<&'static str>,
    realm: &'static str,
    object: &'static str,
    action: &'static str,
}

// === made at random ===

struct Maker<'a> {
    random: &'a mut Random,
    fields: Vec<&'static str>,
    has_realms: bool,
    /// The fields of the rule that are arguments of a function, with its name.
    patterns: BTreeMap<&'static str, &'static str>,
    words: Words,
}

/// The names of one case: if there are few, many rules are about the same name.
#[derive(Clone)]
struct Words {
    subjects: Vec<&'static str>,
    roles: Vec<&'static str>,
    realms: Vec<&'static str>,
    objects: Vec<&'static str>,
    actions: Vec<&'static str>,
}

impl Words {
    fn new(random: &mut Random) -> Self {
        if random.one_in(3) {
            return Self {
                subjects: SUBJECTS.to_vec(),
                roles: ROLES.to_vec(),
                realms: REALMS.to_vec(),
                objects: OBJECTS.to_vec(),
                actions: ACTIONS.to_vec(),
            };
        }
        Self {
            subjects: vec![random.of(&SUBJECTS), random.of(&SUBJECTS)],
            roles: vec![random.of(&ROLES)],
            realms: vec![random.of(&REALMS)],
            objects: vec![random.of(&OBJECTS), random.of(&OBJECTS)],
            actions: vec![random.of(&ACTIONS), random.of(&ACTIONS)],
        }
    }
}

const PATTERNS: [&str; 6] = [
    "keyMatch",
    "keyMatch2",
    "keyMatch3",
    "keyMatch4",
    "keyMatch5",
    "regexMatch",
];
/// Conditions that are refused, or decided the same way.
const ODD_CONDITIONS: [&str; 22] = [
    "r.sub.Age > 18",
    "r.act in (\"read\", \"write\")",
    "r.act in p.act",
    "keyGet2(r.obj, p.obj, \"id\") == \"1\"",
    "keyGet(r.obj, p.obj) == \"1\"",
    "globMatch(r.obj, p.obj)",
    "ipMatch(r.obj, p.obj)",
    "!r.sub == p.sub",
    "r.act == \"a && b\"",
    "r.act != \"!x\"",
    "r.obj == \"p.obj\"",
    "eval(p.sub)",
    "g2(r.obj, p.obj)",
    "r.act == 'read'",
    "r.act + \"x\" == \"readx\"",
    "1 == 1",
    "true",
    "r.act < p.act",
    "g(p.sub, r.sub, r.dom)",
    "regexMatch(r.act, \"read\")",
    "regexMatch(r.act, \"^r.ad$\")",
    "p.eft == \"allow\"",
];

impl Maker<'_> {
    /// All fields compared, as most models do, or anything.
    fn matcher(&mut self) -> String {
        if !self.random.one_in(3) {
            return self.condition(0);
        }
        let fields: Vec<&'static str> = self
            .fields
            .iter()
            .copied()
            .filter(|field| ["dom", "obj", "act"].contains(field))
            .collect();
        let parts: Vec<String> = fields
            .iter()
            .map(|field| match self.random.below(4) {
                0 => format!("(p.{field} == \"*\" || r.{field} == p.{field})"),
                1 => {
                    let name = *self.patterns.entry(field).or_insert("keyMatch");
                    format!("{name}(r.{field}, p.{field})")
                }
                _ => format!("r.{field} == p.{field}"),
            })
            .collect();
        parts.join(" && ")
    }

    fn condition(&mut self, depth: usize) -> String {
        match self.random.below(if depth > 3 { 4 } else { 8 }) {
            0 => self.comparison(),
            1 => self.call(),
            2 => self.roles(),
            3 => self.list(),
            4 | 5 => self.joined(" && ", depth),
            6 => self.joined(" || ", depth),
            _ => {
                let inner = self.condition(depth + 1);
                format!("!({inner})")
            }
        }
    }

    fn joined(&mut self, sign: &str, depth: usize) -> String {
        let count = 2 + self.random.below(2);
        let parts: Vec<String> = (0..count)
            .map(|_| {
                let part = self.condition(depth + 1);
                if self.random.one_in(3) {
                    format!("({part})")
                } else {
                    part
                }
            })
            .collect();
        parts.join(sign)
    }

    fn field(&mut self) -> &'static str {
        let fields: Vec<&'static str> = self
            .fields
            .iter()
            .copied()
            .filter(|field| *field != "eft")
            .collect();
        self.random.of(&fields)
    }

    fn comparison(&mut self) -> String {
        let field = self.field();
        let sign = self.random.of(&["==", "==", "==", "!="]);
        match self.random.below(5) {
            0 => format!("r.{field} {sign} \"{}\"", self.text_of(field)),
            1 => format!("p.{field} {sign} \"*\""),
            2 => format!("(p.{field} == \"*\" || r.{field} == p.{field})"),
            3 => format!("p.{field}{sign}r.{field}"),
            _ => format!("r.{field} {sign} p.{field}"),
        }
    }

    fn list(&mut self) -> String {
        let field = self.random.of(&["sub", "obj", "act", "dom"]);
        let count = 1 + self.random.below(3);
        let texts: Vec<String> = (0..count)
            .map(|_| format!("\"{}\"", self.text_of(field)))
            .collect();
        format!("r.{field} in [{}]", texts.join(", "))
    }

    fn call(&mut self) -> String {
        let field = self.field();
        let name = self.random.of(&PATTERNS);
        let sign = self.random.of(&["", "", "", "!"]);
        if self.random.one_in(5) {
            let pattern = self.pattern(name, field);
            return format!("{sign}{name}(r.{field}, \"{pattern}\")");
        }
        // A field is an argument of only one function, otherwise nothing would be a pattern for both.
        let name = *self.patterns.entry(field).or_insert(name);
        format!("{sign}{name}(r.{field}, p.{field})")
    }

    fn roles(&mut self) -> String {
        let sign = self.random.of(&["", "", "", "", "!"]);
        let role = if self.random.one_in(5) || !self.fields.contains(&"sub") {
            format!("\"{}\"", self.random.of(&ROLES))
        } else {
            "p.sub".to_owned()
        };
        let realm = if self.has_realms { ", r.dom" } else { "" };
        format!("{sign}g(r.sub, {role}{realm})")
    }

    fn text_of(&mut self, field: &str) -> &'static str {
        let words = self.words.clone();
        match field {
            "sub" => self.random.of(&words.subjects),
            "dom" => self.random.of(&words.realms),
            "obj" => self.random.of(&words.objects),
            _ => self.random.of(&words.actions),
        }
    }

    fn pattern(&mut self, function: &str, field: &str) -> String {
        if self.random.one_in(30) {
            return self
                .random
                .of(&[
                    "*",
                    "a*",
                    "read",
                    ".*",
                    "^read|write$",
                    "a/(b",
                    "^r",
                    "{x}",
                    "^(?i)A$",
                    "a.1",
                ])
                .to_owned();
        }
        if function == "regexMatch" {
            return self.expression();
        }
        let parameter = match function {
            "keyMatch" => self.random.of(&["1", "1*"]),
            "keyMatch2" => self.random.of(&[":id", ":x"]),
            _ => self.random.of(&["{id}", "{x}"]),
        };
        match field {
            "obj" => self.random.of(&[
                "a".to_owned(),
                "a/*".to_owned(),
                format!("a/{parameter}"),
                format!("{parameter}/1"),
                format!("b/{parameter}/c/{parameter}"),
                format!("a/{parameter}/*"),
                parameter.to_owned(),
            ]),
            field => {
                let text = self.text_of(field).to_owned();
                self.random.of(&[text, parameter.to_owned()])
            }
        }
    }

    fn expression(&mut self) -> String {
        let count = 1 + self.random.below(3);
        let items: String = (0..count).map(|_| self.item(0)).collect();
        format!("^{items}$")
    }

    fn item(&mut self, depth: usize) -> String {
        let item = match self.random.below(if depth > 1 { 5 } else { 6 }) {
            0 => ".".to_owned(),
            1 => self
                .random
                .of(&["[a-z]", "[a-z0-9]", "[ab]", "[A-Z_]", "[0-9]"])
                .to_owned(),
            2 | 3 => self
                .random
                .of(&["read", "re", "a", "write", "x", "user:", "role:a"])
                .to_owned(),
            4 => self.random.of(&["/", "1", ":", "-"]).to_owned(),
            _ => {
                let parts: Vec<String> = (0..1 + self.random.below(3))
                    .map(|_| self.item(depth + 1))
                    .collect();
                format!("({})", parts.join("|"))
            }
        };
        let repeat = self.random.of(&["", "", "", "*", "+", "?"]);
        format!("{item}{repeat}")
    }

    fn rule(&mut self) -> String {
        let fields = self.fields.clone();
        let values: Vec<String> = fields
            .iter()
            .map(|field| match self.patterns.get(field) {
                Some(function) => self.pattern(function, field),
                None => self.value(field),
            })
            .collect();
        let spaces = self.random.of(&[", ", ", ", ",", " , "]);
        let odd = if self.random.one_in(400) {
            self.random.of(&[",", ", x", " # x", ", \"x\""])
        } else {
            ""
        };
        format!("p{spaces}{}{odd}\n", values.join(spaces))
    }

    fn value(&mut self, field: &str) -> String {
        let roles = self.words.roles.clone();
        match field {
            "sub" if self.random.one_in(2) => self.random.of(&roles).to_owned(),
            "sub" => self.text_of("sub").to_owned(),
            "dom" if self.random.one_in(4) => "*".to_owned(),
            "eft" if self.random.one_in(300) => self.random.of(&["Allow", "denied", ""]).to_owned(),
            "eft" => self.random.of(&["allow", "allow", "deny"]).to_owned(),
            "priority" => self.random.below(30).to_string(),
            _ if self.random.one_in(8) => "*".to_owned(),
            field => self.text_of(field).to_owned(),
        }
    }

    fn edge(&mut self) -> String {
        let words = self.words.clone();
        let role = self.random.of(&words.roles);
        let above: Vec<&'static str> = ROLES.iter().copied().filter(|other| *other < role).collect();
        let member = if !above.is_empty() && self.random.one_in(3) {
            self.random.of(&above)
        } else {
            self.text_of("sub")
        };
        let realm = match (self.has_realms, self.random.one_in(60)) {
            (false, _) => String::new(),
            (true, true) => ", *".to_owned(),
            (true, false) => format!(", {}", self.text_of("dom")),
        };
        format!("g, {member}, {role}{realm}\n")
    }

    /// Rules without duplicates, which are refused.
    fn rules(&mut self) -> String {
        let mut seen = HashSet::new();
        let mut rules = String::new();
        for _ in 0..1 + self.random.below(9) {
            let rule = self.rule();
            if seen.insert(rule.replace(' ', "")) {
                rules += &rule;
            }
        }
        for _ in 0..self.random.below(6) {
            let edge = self.edge();
            if seen.insert(edge.clone()) {
                rules += &edge;
            }
        }
        rules
    }

    fn question(&mut self) -> Asked {
        Asked {
            subject: if self.random.one_in(4) {
                self.random.of(&ODD_SUBJECTS)
            } else {
                self.text_of("sub")
            },
            roles: if self.random.one_in(4) {
                vec![self.random.of(&ROLES)]
            } else {
                Vec::new()
            },
            realm: self.text_of("dom"),
            object: self.text_of("obj"),
            action: self.text_of("act"),
        }
    }
}

fn fields(random: &mut Random) -> Vec<&'static str> {
    let mut fields: Vec<&'static str> = match random.below(6) {
        0 => vec!["sub", "obj", "act"],
        1 => vec!["sub", "obj", "act", "eft"],
        2 => vec!["eft", "act", "sub", "obj", "dom"],
        3 => vec!["sub", "dom", "obj", "act"],
        _ => vec!["sub", "dom", "obj", "act", "eft"],
    };
    if random.one_in(8) {
        let place = random.below(fields.len() + 1);
        fields.insert(place, random.of(&["priority", "owner"]));
    }
    fields
}

fn case(random: &mut Random) -> Case {
    let has_realms = !random.one_in(4);
    let fields = fields(random);
    let words = Words::new(random);
    let mut maker = Maker {
        random,
        fields,
        has_realms,
        patterns: BTreeMap::new(),
        words,
    };
    let mut matcher = maker.matcher();
    // Most policies compare the subject, otherwise every rule would apply to every subject.
    if !maker.random.one_in(4) {
        let subject = if has_realms {
            "g(r.sub, p.sub, r.dom)"
        } else {
            "g(r.sub, p.sub)"
        };
        matcher = format!("{subject} && ({matcher})");
    }
    if maker.random.one_in(5) {
        let odd = maker.random.of(&ODD_CONDITIONS);
        matcher = if maker.random.one_in(2) {
            format!("{matcher} && {odd}")
        } else {
            format!("p.act != \"zz\" && {odd}")
        };
    }
    let effect = maker.random.of(&[
        "some(where (p.eft == allow)) && !some(where (p.eft == deny))",
        "some(where (p.eft == allow)) && !some(where (p.eft == deny))",
        "some(where (p.eft == allow))",
        "priority(p.eft) || deny",
        "priority(p.eft) || deny",
    ]);
    let effect = if maker.random.one_in(25) {
        maker.random.of(&[
            "!some(where (p.eft == deny))",
            "subjectPriority(p.eft) || deny",
            "some( where (p.eft == allow))",
            "priority(p.eft)||deny",
        ])
    } else {
        effect
    };
    let rules = maker.rules();
    let section = if maker.random.one_in(60) {
        "[ matchers ]"
    } else {
        "[matchers]"
    };
    let roles = if has_realms { "_, _, _" } else { "_, _" };
    let model = format!(
        "# A model.\n[request_definition]\nr = sub, dom, obj, act\n\n[policy_definition]\np = {}\n[role_definition]\n\
         g = {roles}\n[policy_effect]\ne = {effect}\n{section}\nm = {matcher}\n",
        maker.fields.join(", ")
    );
    let questions = (0..QUESTIONS).map(|_| maker.question()).collect();
    Case {
        model,
        rules,
        questions,
    }
}

// === asked of both ===

fn catalogue() -> String {
    let table = |name: &str, names: &[String]| {
        let lines: String = names.iter().map(|name| format!("\"{name}\" = \"x\"\n")).collect();
        format!("[{name}]\n{lines}")
    };
    let scopes: Vec<String> = OBJECTS
        .iter()
        .flat_map(|object| ACTIONS.iter().map(move |action| format!("{object}:{action}")))
        .collect();
    [
        table("realms", &REALMS.map(str::to_owned)),
        table("roles", &ROLES.map(str::to_owned)),
        table("scopes", &scopes),
        table("audiences", &["api".to_owned()]),
    ]
    .concat()
}

fn load(case: &Case) -> Option<Policy> {
    let catalogue = catalogue();
    Policy::from_files(&[
        ("model.conf", case.model.as_bytes()),
        ("catalogue.toml", catalogue.as_bytes()),
        ("policy.csv", case.rules.as_bytes()),
    ])
    .ok()
}

fn decide(policy: &Policy, asked: &Asked) -> bool {
    let roles: Vec<RoleName> = asked
        .roles
        .iter()
        .map(|role| RoleName::parse(role).unwrap())
        .collect();
    let verdict = policy.decide(&Question {
        realm: &RealmName::parse(asked.realm).unwrap(),
        subject: &Subject::parse(asked.subject).unwrap(),
        roles: &roles,
        scope: &Scope::parse(&format!("{}:{}", asked.object, asked.action)).unwrap(),
    });
    verdict == Verdict::Allowed
}

/// pycasbin in a separate process: a line for each case, and one for the answers.
struct Oracle(Child, BufReader<std::process::ChildStdout>);

impl Oracle {
    fn start() -> Option<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let peers = env::var_os("TESSERA_PEERS_DIR").map_or_else(|| root.join("target/peers"), PathBuf::from);
        let python = peers.join("venv/bin/python");
        if !python.exists() {
            assert!(
                env::var_os("TESSERA_PEERS").is_none(),
                "the peers are missing: run `.ci/peers`"
            );
            println!("skipped: the peers are missing");
            return None;
        }
        let mut child = Command::new(python)
            .arg(root.join("tests/peers/casbin_decides.py"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap());
        Some(Self(child, answers))
    }

    fn ask(&mut self, case: &Case) -> Value {
        let questions: Vec<Value> = case
            .questions
            .iter()
            .map(|asked| {
                json!({
                    "request": [asked.subject, asked.realm, asked.object, asked.action],
                    "roles": asked.roles,
                })
            })
            .collect();
        let line = json!({"model": case.model, "rules": case.rules, "questions": questions});
        writeln!(self.0.stdin.as_mut().unwrap(), "{line}").unwrap();
        let mut answer = String::new();
        self.1.read_line(&mut answer).unwrap();
        serde_json::from_str(&answer).unwrap()
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
#[ignore = "needs pycasbin: .ci/peers"]
fn what_is_accepted_of_other_models_is_what_casbin_decides_alike() {
    let Some(mut oracle) = Oracle::start() else { return };
    let mut random = Random(2_026);
    let (mut accepted, mut refused, mut allowed, mut denied) = (0, 0, 0, 0);
    let mut used: BTreeMap<&str, usize> = BTreeMap::new();
    while accepted < ACCEPTED_MIN {
        let case = case(&mut random);
        let Some(policy) = load(&case) else {
            refused += 1;
            assert!(
                refused < 20 * ACCEPTED_MIN,
                "{accepted} of {refused}:\n{}",
                case.model
            );
            continue;
        };
        accepted += 1;
        let answers = oracle.ask(&case);
        let (model, rules) = (&case.model, &case.rules);
        assert_eq!(answers["error"], Value::Null, "{model}\n{rules}");
        for (asked, answer) in case.questions.iter().zip(answers["allowed"].as_array().unwrap()) {
            let expected = answer.as_bool().unwrap();
            let found = decide(&policy, asked);
            let Asked {
                subject,
                roles,
                realm,
                object,
                action,
            } = asked;
            assert_eq!(
                found, expected,
                "{subject} {roles:?} {realm} {object}:{action}\n{model}\n{rules}"
            );
            if found { allowed += 1 } else { denied += 1 }
        }
        let parts = PATTERNS.iter().copied().chain([
            "!",
            " in [",
            "||",
            "!=",
            "priority",
            "g(r.sub, \"",
            "g = _, _\n",
        ]);
        for part in parts.filter(|part| model.contains(part)) {
            *used.entry(part).or_default() += 1;
        }
    }
    println!("{accepted} accepted, {refused} refused, {allowed} allowed, {denied} denied, {used:?}");
    assert!(allowed > 1_000 && denied > 1_000, "{allowed} {denied}");
    assert!(
        used.len() == PATTERNS.len() + 7 && used.values().all(|count| *count > 50),
        "{used:?}"
    );
}
