//! Counts of the source tree, for comparing one state of it with another: see `CONTRIBUTING.md` for the command.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use syn::{
    Expr, ExprCall, ExprMethodCall, Ident, ImplItemFn, Item, ItemFn, ItemImpl, TraitItem, Type,
    visit::{self, Visit},
};

use super::{
    imports::{self, Module},
    sizes,
    tree::{self, Crate, Source},
};

#[test]
#[ignore = "prints figures, and checks nothing"]
fn figures_of_the_house() {
    let crates = tree::crates();
    println!(
        "\n{:<18} {:>6} {:>6} {:>8} {:>9} {:>12} {:>13}",
        "crate", "files", "lines", "circles", "up again", "function p90", "clone() / 1000"
    );
    let mut all_lines = 0;
    for of in &crates {
        let graph = imports::graph(of);
        let lines: usize = of.files.iter().map(|file| file.lines().count()).sum();
        all_lines += lines;
        println!(
            "{:<18} {:>6} {lines:>6} {:>8} {:>9} {:>12} {:>13.1}",
            of.name,
            of.files.len(),
            imports::circles(&graph).len(),
            imports::back_up(&graph).len(),
            function_p90(of),
            clones_per_thousand(of),
        );
        for (from, to) in imports::back_up(&graph) {
            println!("  {} imports its parent {}", from.join("/"), to.join("/"));
        }
        for circle in imports::circles(&graph) {
            let files: Vec<_> = circle.iter().map(|module| module.join("/")).collect();
            println!("  a circle: {}", files.join(", "));
        }
    }
    println!(
        "\nlines without tests: {all_lines}, of which code: {}",
        code_lines(&crates)
    );
    println!(
        "methods of the port to the store: {}, and {} of stores that several processes share",
        methods(&crates, &["StoreReader", "Store"]),
        methods(&crates, &["Nodes"])
    );
    let Walk { files, moves } = refresh(&crates);
    println!(
        "a Refresh: {} files, {moves} calls from one file to another",
        files.len()
    );
    for (of, module) in files {
        println!("  {of}/{}", module.join("/"));
    }
}

/// `clone()` for each thousand lines of `authority`.
const CLONES_MAX: f64 = 14.9;
/// Methods of the port that each backend has; what only several nodes need is not among them.
const PORT_METHODS_MAX: usize = 14;

/// A change that makes a figure better lowers its limit here; none raises one without a reason in its commit.
#[test]
fn the_figures_of_the_house_only_fall() {
    let crates = tree::crates();
    assert!(methods(&crates, &["StoreReader", "Store"]) <= PORT_METHODS_MAX);
    let authority = crates.iter().find(|of| of.name == "authority").unwrap();
    let clones = clones_per_thousand(authority);
    assert!(clones <= CLONES_MAX, "{clones}");
}

/// Lines that are neither empty nor comments.
fn code_lines(crates: &[Crate]) -> usize {
    let lines = crates.iter().flat_map(|of| &of.files).flat_map(Source::lines);
    let code = lines.filter(|(_, line)| !line.trim().is_empty() && !line.trim_start().starts_with("//"));
    code.count()
}

/// The length that nine functions of ten do not exceed.
fn function_p90(of: &Crate) -> usize {
    let functions = of.files.iter().flat_map(sizes::functions);
    let mut lines: Vec<_> = functions.map(|function| function.lines).collect();
    lines.sort_unstable();
    lines.get(lines.len() * 9 / 10).copied().unwrap_or_default()
}

fn clones_per_thousand(of: &Crate) -> f64 {
    let (mut clones, mut lines) = (0.0, 0.0);
    for (_, line) in of.files.iter().flat_map(Source::lines) {
        clones += line.matches(".clone()").map(|_| 1.0).sum::<f64>();
        lines += 1.0;
    }
    1000.0 * clones / lines
}

/// The methods of the store's traits that a backend implements, including those with a default.
fn methods(crates: &[Crate], names: &[&str]) -> usize {
    let files = crates
        .iter()
        .filter(|of| of.name == "store")
        .flat_map(|of| &of.files);
    let items = files.flat_map(|file| &file.items);
    let traits = items.filter_map(|item| match item {
        Item::Trait(of) if names.iter().any(|name| of.ident == name) => Some(of),
        _ => None,
    });
    let methods = traits.flat_map(|of| &of.items);
    methods.filter(|item| matches!(item, TraitItem::Fn(_))).count()
}

/// A file of a crate.
type Place = (String, Module);

/// The files that calls lead through.
struct Walk {
    files: BTreeSet<Place>,
    /// Calls from one file to another.
    moves: usize,
}

/// A call: the type that is named before the function, and the function.
type Call = (Option<String>, String);

/// The functions of a file: the type that has it, its name, and its calls.
type Functions = BTreeMap<Call, BTreeSet<Call>>;

/// The crates that a Refresh runs in.
const CRATES: [&str; 7] = [
    "core",
    "token",
    "policy",
    "store",
    "store-sled",
    "authority",
    "server",
];

/// Methods of the standard library: their name alone does not identify the type.
const STANDARD: [&str; 24] = [
    "get",
    "insert",
    "remove",
    "contains",
    "len",
    "is_empty",
    "iter",
    "push",
    "load",
    "store",
    "read",
    "write",
    "lock",
    "send",
    "take",
    "min",
    "max",
    "as_str",
    "parse",
    "text",
    "lines",
    "find",
    "clear",
    "into_inner",
];

/// The files that a Refresh leads through, from the service to the store's interface.
///
/// A call is followed by its name: to the type that it names, to the file itself, to the files that it imports, or
/// otherwise to the only file that has a method of this name. Calls through a trait are not found: the figure is for
/// comparing, and proves nothing.
fn refresh(crates: &[Crate]) -> Walk {
    let mut functions: BTreeMap<Place, Functions> = BTreeMap::new();
    for of in crates.iter().filter(|of| CRATES.contains(&of.name.as_str())) {
        for file in &of.files {
            functions.insert((of.name.clone(), file.module.clone()), calls(file));
        }
    }
    let mut holders: BTreeMap<&str, Vec<(&Place, &Call)>> = BTreeMap::new();
    for (place, of) in &functions {
        for call in of.keys() {
            holders.entry(&call.1).or_default().push((place, call));
        }
    }
    let imports = imports::between(crates);
    let is_start = |(of, module): &Place| {
        let last = module.last().map(String::as_str);
        (of == "server" && last == Some("token")) || (of == "authority" && last == Some("refresh"))
    };
    let mut next: VecDeque<(Place, Call)> = functions
        .iter()
        .filter(|(place, _)| is_start(place))
        .flat_map(|(place, of)| of.keys().map(|call| (place.clone(), call.clone())))
        .filter(|(_, (_, name))| name == "refresh")
        .collect();
    assert_eq!(next.len(), 2, "the service and the use case: {next:?}");
    let (mut seen, mut moves) = (BTreeSet::new(), 0);
    while let Some(function) = next.pop_front() {
        if !seen.insert(function.clone()) {
            continue;
        }
        let (place, call) = function;
        for (of, name) in &functions[&place][&call] {
            let all = holders.get(name.as_str()).map_or(&[][..], Vec::as_slice);
            let is_imported = |at: &Place| imports.get(&place).is_some_and(|to| to.contains(at));
            let targets: Vec<_> = match of {
                Some(of) => all
                    .iter()
                    .filter(|(_, (holder, _))| holder.as_ref() == Some(of))
                    .collect(),
                None if all.iter().any(|(at, _)| **at == place) => {
                    all.iter().filter(|(at, _)| **at == place).collect()
                }
                None if STANDARD.contains(&name.as_str()) => Vec::new(),
                None if all.len() == 1 => all.iter().collect(),
                None => all.iter().filter(|(at, _)| is_imported(at)).collect(),
            };
            for (target, called) in targets {
                moves += usize::from(**target != place);
                next.push_back(((*target).clone(), (*called).clone()));
            }
        }
    }
    let files = seen.into_iter().map(|(place, _)| place);
    Walk {
        files: files.collect(),
        moves,
    }
}

/// Collects the calls of each function.
#[derive(Default)]
struct Calls {
    functions: Functions,
    /// The current type whose methods are visited.
    of: Option<String>,
    within: Vec<Call>,
}

impl Calls {
    fn note(&mut self, of: Option<String>, called: &Ident) {
        if let Some(function) = self.within.last() {
            let calls = self.functions.entry(function.clone()).or_default();
            calls.insert((of, called.to_string()));
        }
    }

    fn enter(&mut self, name: &Ident, visit: impl FnOnce(&mut Self)) {
        let call = (self.of.clone(), name.to_string());
        self.functions.entry(call.clone()).or_default();
        self.within.push(call);
        visit(self);
        self.within.pop();
    }
}

impl<'ast> Visit<'ast> for Calls {
    fn visit_item_impl(&mut self, item: &'ast ItemImpl) {
        if let Type::Path(of) = &*item.self_ty {
            self.of = of.path.segments.last().map(|last| last.ident.to_string());
        }
        visit::visit_item_impl(self, item);
        self.of = None;
    }

    fn visit_item_fn(&mut self, item: &'ast ItemFn) {
        let of = self.of.take();
        self.enter(&item.sig.ident, |calls| visit::visit_item_fn(calls, item));
        self.of = of;
    }

    fn visit_impl_item_fn(&mut self, item: &'ast ImplItemFn) {
        self.enter(&item.sig.ident, |calls| visit::visit_impl_item_fn(calls, item));
    }

    fn visit_expr_method_call(&mut self, call: &'ast ExprMethodCall) {
        self.note(None, &call.method);
        visit::visit_expr_method_call(self, call);
    }

    fn visit_expr_call(&mut self, call: &'ast ExprCall) {
        if let Expr::Path(path) = &*call.func
            && let Some(last) = path.path.segments.last()
        {
            let before = path
                .path
                .segments
                .iter()
                .rev()
                .nth(1)
                .map(|part| part.ident.to_string());
            let of = match before {
                Some(before) if before == "Self" => self.of.clone(),
                // The name before a function is a module, or there is none.
                before => before.filter(|name| name.starts_with(char::is_uppercase)),
            };
            self.note(of, &last.ident);
        }
        visit::visit_expr_call(self, call);
    }
}

fn calls(file: &Source) -> Functions {
    let mut calls = Calls::default();
    for item in &file.items {
        calls.visit_item(item);
    }
    calls.functions
}
