//! Dependencies between the modules of a crate, without cycles.

use std::path::PathBuf;

use super::{
    imports::{self, Graph, Module},
    tree::{self, Crate, Source},
};

/// For each noun of a crate (a directory, or a file beside `lib.rs`), the nouns that it may use.
struct Rooms {
    of: &'static str,
    may_use: &'static [(&'static str, &'static [&'static str])],
    /// Imports that the table forbids but that exist: the file, the noun, and why.
    except: &'static [(&'static str, &'static str, &'static str)],
}

const AUTHORITY: Rooms = Rooms {
    of: "authority",
    may_use: &[
        ("error", &[]),
        ("principal", &["error"]),
        ("shared", &["error", "principal"]),
        ("others", &["error", "shared"]),
        ("log", &["error", "others", "principal", "shared"]),
        ("page", &[]),
        ("refusal", &["error", "principal"]),
        (
            "credential",
            &["error", "log", "page", "principal", "refusal", "shared"],
        ),
        ("signing_key", &["error", "log", "principal", "shared"]),
        ("verified", &[]),
        (
            "issuance",
            &[
                "credential",
                "error",
                "log",
                "principal",
                "refusal",
                "shared",
                "signing_key",
                "verified",
            ],
        ),
        (
            "access",
            &[
                "error",
                "issuance",
                "principal",
                "shared",
                "signing_key",
                "verified",
            ],
        ),
        ("turns", &[]),
        ("heavy", &["error", "principal", "turns"]),
        (
            "audit",
            &[
                "credential",
                "error",
                "heavy",
                "others",
                "page",
                "principal",
                "shared",
                "turns",
            ],
        ),
        (
            "policy",
            &[
                "audit",
                "error",
                "heavy",
                "issuance",
                "log",
                "others",
                "principal",
                "shared",
                "turns",
            ],
        ),
        (
            "following",
            &[
                "audit",
                "credential",
                "error",
                "others",
                "policy",
                "shared",
                "signing_key",
            ],
        ),
        (
            "session",
            &[
                "credential",
                "error",
                "issuance",
                "log",
                "page",
                "principal",
                "shared",
                "signing_key",
                "verified",
            ],
        ),
        (
            "operation",
            &[
                "credential",
                "error",
                "log",
                "principal",
                "refusal",
                "session",
                "shared",
                "signing_key",
            ],
        ),
        (
            "watch",
            &["credential", "error", "log", "principal", "shared", "signing_key"],
        ),
        (
            "authority",
            &[
                "access",
                "audit",
                "credential",
                "error",
                "following",
                "issuance",
                "log",
                "operation",
                "others",
                "policy",
                "refusal",
                "session",
                "shared",
                "signing_key",
                "watch",
            ],
        ),
        ("report", &["audit", "log", "others"]),
        (
            "open",
            &[
                "access",
                "audit",
                "authority",
                "credential",
                "error",
                "following",
                "heavy",
                "issuance",
                "log",
                "operation",
                "others",
                "policy",
                "refusal",
                "report",
                "session",
                "shared",
                "signing_key",
                "verified",
                "watch",
            ],
        ),
    ],
    except: &[],
};

const SERVER: Rooms = Rooms {
    of: "server",
    may_use: &[
        ("error", &[]),
        ("fields", &["error"]),
        ("edge", &["error"]),
        ("listen", &["edge"]),
        ("proxies", &["edge", "error"]),
        ("grpc", &["edge", "error", "fields", "proxies"]),
        ("http", &["edge", "error", "fields", "proxies"]),
        ("admin", &["edge", "http", "listen"]),
        ("starting", &["admin"]),
        ("serve", &["admin", "edge", "grpc", "http", "listen"]),
    ],
    except: &[
        (
            "edge/gate",
            "http",
            "what is refused at the gate is answered as its endpoint answers",
        ),
        (
            "edge/gate",
            "grpc",
            "what is refused at the gate is answered as its RPC answers",
        ),
        (
            "edge/answer_body",
            "grpc",
            "an answer that is ended early ends as its RPC does",
        ),
        (
            "edge/metrics/calls",
            "grpc",
            "calls are counted by the names of codes",
        ),
        (
            "edge/trace/spans",
            "grpc",
            "a span has the name of the code that answered",
        ),
        (
            "edge/outcome",
            "grpc",
            "what tonic itself answers is counted, too",
        ),
        (
            "http/refusal",
            "grpc",
            "a method that no service has is answered as gRPC does",
        ),
        ("proxies/refusal", "http", "a refusal is a problem document"),
    ],
};

/// The imports that a table forbids, and the exceptions that are not needed.
fn forbidden(rooms: &Rooms, graph: &Graph) -> Vec<String> {
    let mut found = Vec::new();
    let mut unused: Vec<_> = rooms.except.iter().collect();
    let room = |module: &Module| module.first().cloned();
    for (module, targets) in graph {
        let Some(from) = room(module) else { continue };
        let Some((_, may_use)) = rooms.may_use.iter().find(|(name, _)| *name == from) else {
            found.push(format!("{}: `{from}` is not in the table", rooms.of));
            continue;
        };
        for to in targets.iter().filter_map(room).filter(|to| *to != from) {
            let file = module.join("/");
            let is_excepted = |(at, noun, _): &(&str, &str, &str)| *at == file && *noun == to;
            let is_known = rooms.except.iter().any(is_excepted);
            unused.retain(|except| !is_excepted(except));
            if !is_known && !may_use.contains(&to.as_str()) {
                found.push(format!("{}: {file} must not use `{to}`", rooms.of));
            }
        }
    }
    let unused = unused.iter();
    found.extend(unused.map(|(file, noun, _)| format!("{}: {file} no longer uses `{noun}`", rooms.of)));
    found
}

#[test]
fn nouns_of_a_crate_depend_one_way() {
    let crates = tree::crates();
    let mut found = Vec::new();
    for rooms in [&AUTHORITY, &SERVER] {
        let of = crates.iter().find(|of| of.name == rooms.of).unwrap();
        found.extend(forbidden(rooms, &imports::graph(of)));
    }
    assert!(found.is_empty(), "{found:#?}");
}

/// The tables themselves have no cycle.
#[test]
fn the_tables_of_nouns_have_no_circle() {
    for rooms in [&AUTHORITY, &SERVER] {
        let graph: Graph = rooms
            .may_use
            .iter()
            .map(|(name, may_use)| {
                let targets = may_use.iter().map(|target| vec![(*target).to_owned()]);
                (vec![(*name).to_owned()], targets.collect())
            })
            .collect();
        assert!(imports::circles(&graph).is_empty(), "{}", rooms.of);
    }
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    for of in tree::crates() {
        let found = imports::circles(&imports::graph(&of));
        assert!(found.is_empty(), "{}: {found:#?}", of.name);
    }
}

/// What a module and its children need is in a module of its own.
#[test]
fn no_file_imports_what_its_parent_defines() {
    for of in tree::crates() {
        let found = imports::back_up(&imports::graph(&of));
        assert!(found.is_empty(), "{}: {found:#?}", of.name);
    }
}

/// A crate of these files.
fn made(files: &[(&str, &str)]) -> Crate {
    Crate {
        name: "made".to_owned(),
        files: files
            .iter()
            .map(|(path, text)| Source::of_text(&PathBuf::from(path), text))
            .collect(),
    }
}

#[test]
fn a_circle_is_seen_whichever_way_its_files_import_each_other() {
    let circles = |files: &[(&str, &str)]| imports::circles(&imports::graph(&made(files)));
    let root = ("lib.rs", "mod a; mod b; mod c; pub use b::B;");
    // By `use`, by a path in code, and by a name that another module re-exports.
    let files = [
        root,
        ("a.rs", "use crate::B; pub struct A(B);"),
        ("b.rs", "pub struct B; impl B { fn f() { super::c::f(); } }"),
        ("c.rs", "use crate::{a}; pub fn f() { let _ = a::A; }"),
    ];
    assert_eq!(
        circles(&files),
        [["a", "b", "c"].map(|name| vec![name.to_owned()])]
    );
    let mut without = files;
    without[3].1 = "pub fn f() {}";
    assert!(circles(&without).is_empty());
    // A child and its parent; a re-export is not a use.
    let parent = [
        ("a.rs", "mod x; pub use x::X; pub struct A;"),
        ("a/x.rs", "use super::A; pub struct X(A);"),
    ];
    assert!(circles(&parent).is_empty());
    // An item does not depend on its visibility.
    let parent = [
        ("a.rs", "mod x; use x::X; pub struct A(X);"),
        ("a/x.rs", "pub(in crate::a) struct X;"),
    ];
    assert!(circles(&parent).is_empty());
    let parent = [
        ("a.rs", "mod x; use x::X; pub struct A(X);"),
        ("a/x.rs", "use super::A; pub struct X(A);"),
    ];
    assert_eq!(circles(&parent).len(), 1);
    let up = imports::back_up(&imports::graph(&made(&parent)));
    assert_eq!(up, [(vec!["a".to_owned(), "x".to_owned()], vec!["a".to_owned()])]);
}

#[test]
fn an_import_that_a_table_forbids_is_seen() {
    let rooms = Rooms {
        of: "made",
        may_use: &[("low", &[]), ("high", &["low"])],
        except: &[],
    };
    let check = |rooms: &Rooms, files: &[(&str, &str)]| forbidden(rooms, &imports::graph(&made(files)));
    let up = [
        ("low/x.rs", "use crate::high::High;"),
        ("high.rs", "use crate::low::y::Y; pub struct High;"),
        ("low/y.rs", "pub struct Y;"),
    ];
    assert_eq!(check(&rooms, &up), ["made: low/x must not use `high`"]);
    let excepted = Rooms {
        except: &[("low/x", "high", "")],
        ..rooms
    };
    assert!(check(&excepted, &up).is_empty());
    assert_eq!(check(&excepted, &up[1..]), ["made: low/x no longer uses `high`"]);
    assert_eq!(
        check(&excepted, &[up[0], up[1], ("new.rs", "")])[0],
        "made: `new` is not in the table"
    );
}
