//! Imports within a crate: a graph of files, made from `use` and from paths.
//!
//! An import of a name leads to the file that defines it, through the modules that only re-export it with `pub use`: a
//! re-export does not depend on what is behind it.

use std::collections::{BTreeMap, BTreeSet};

use syn::{
    Item, ItemUse, UseTree, Visibility,
    visit::{self, Visit},
};

use super::tree::{Crate, Source};

/// The module of a file, such as `["log", "watch"]`.
pub type Module = Vec<String>;

/// For each file, those that it imports.
pub type Graph = BTreeMap<Module, BTreeSet<Module>>;

/// The common prefix of this workspace's crates.
const OURS: &str = "tessera_";

/// One import: a path, absolute within the crate, and its local name.
struct Import {
    path: Vec<String>,
    alias: String,
    is_passed_on: bool,
}

/// The names in a file.
struct Names {
    imports: Vec<Import>,
    /// Paths in its code, as they are written.
    paths: BTreeSet<Vec<String>>,
    /// The names that it defines itself.
    defined: BTreeSet<String>,
}

/// The imports of a crate.
pub fn graph(of: &Crate) -> Graph {
    let names = names_of(of);
    let mut graph = Graph::new();
    for (module, said) in &names {
        let mut targets = BTreeSet::new();
        for import in said.imports.iter().filter(|import| !import.is_passed_on) {
            // An imported module is used by the paths that begin with it.
            if names.contains_key(&import.path) {
                continue;
            }
            targets.extend(definition(&names, &import.path, 0));
        }
        for path in &said.paths {
            if let Some(path) = absolute(&names, module, said, path) {
                targets.extend(definition(&names, &path, 0));
            }
        }
        targets.remove(module);
        graph.insert(module.clone(), targets);
    }
    graph
}

/// The cycles of a graph: sets of files each of which leads to each other.
pub fn circles(graph: &Graph) -> Vec<Vec<Module>> {
    let reaches = |from: &Module| {
        let (mut seen, mut next) = (BTreeSet::new(), vec![from]);
        while let Some(module) = next.pop() {
            for target in graph.get(module).into_iter().flatten() {
                if seen.insert(target) {
                    next.push(target);
                }
            }
        }
        seen
    };
    let reached: BTreeMap<&Module, BTreeSet<&Module>> =
        graph.keys().map(|module| (module, reaches(module))).collect();
    let mut circles = BTreeSet::new();
    for (module, from_here) in &reached {
        let both = from_here.iter().filter(|other| reached[*other].contains(module));
        let circle: BTreeSet<Module> = both.map(|&other| other.clone()).collect();
        if !circle.is_empty() {
            circles.insert(circle.into_iter().collect::<Vec<_>>());
        }
    }
    circles.into_iter().collect()
}

/// The imports from a parent module: from `log/watch.rs` of what `log.rs` or `lib.rs` defines.
pub fn back_up(graph: &Graph) -> Vec<(Module, Module)> {
    let mut found = Vec::new();
    for (module, targets) in graph {
        let above = targets
            .iter()
            .filter(|target| target.len() < module.len() && module.starts_with(target));
        found.extend(above.map(|target| (module.clone(), target.clone())));
    }
    found
}

fn names_of(of: &Crate) -> BTreeMap<Module, Names> {
    let names = of.files.iter().map(|file| (file.module.clone(), names(file)));
    names.collect()
}

/// For each file of all crates, the files that it imports, including those of other crates.
pub fn between(crates: &[Crate]) -> BTreeMap<(String, Module), BTreeSet<(String, Module)>> {
    let names: BTreeMap<&str, _> = crates.iter().map(|of| (of.name.as_str(), names_of(of))).collect();
    let mut all = BTreeMap::new();
    for of in crates {
        for (module, within) in graph(of) {
            let mut targets: BTreeSet<_> = within.into_iter().map(|to| (of.name.clone(), to)).collect();
            for import in &names[of.name.as_str()][&module].imports {
                let Some(other) = import.path[0].strip_prefix(OURS) else {
                    continue;
                };
                let other = other.replace('_', "-");
                let there = names.get(other.as_str());
                let found = there.and_then(|there| definition(there, &import.path[1..], 0));
                targets.extend(found.map(|found| (other, found)));
            }
            all.insert((of.name.clone(), module), targets);
        }
    }
    all
}

fn names(file: &Source) -> Names {
    let mut said = Names {
        imports: Vec::new(),
        paths: BTreeSet::new(),
        defined: file.items.iter().filter_map(defined).collect(),
    };
    for item in &file.items {
        if let Item::Use(used) = item {
            flatten(&used.tree, Vec::new(), used, &file.module, &mut said.imports);
        } else {
            Paths(&mut said.paths, &file.module, &mut said.imports).visit_item(item);
        }
    }
    said
}

/// The name that an item defines. A declared module is a separate file.
fn defined(item: &Item) -> Option<String> {
    let name = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Mod(item) if item.content.is_some() => &item.ident,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::Type(item) => &item.ident,
        Item::Macro(item) => item.ident.as_ref()?,
        _ => return None,
    };
    Some(name.to_string())
}

/// The single imports of a `use`.
fn flatten(
    tree: &UseTree,
    mut before: Vec<String>,
    used: &ItemUse,
    module: &Module,
    found: &mut Vec<Import>,
) {
    let mut push = |path: Vec<String>, alias: String| {
        if let Some(path) = from_root(module, path) {
            found.push(Import {
                path,
                alias,
                is_passed_on: !matches!(used.vis, Visibility::Inherited),
            });
        }
    };
    match tree {
        UseTree::Path(path) => {
            before.push(path.ident.to_string());
            flatten(&path.tree, before, used, module, found);
        }
        UseTree::Name(name) if name.ident == "self" => {
            let alias = before.last().cloned().unwrap_or_default();
            push(before, alias);
        }
        UseTree::Name(name) => {
            before.push(name.ident.to_string());
            push(before, name.ident.to_string());
        }
        UseTree::Rename(rename) => {
            if rename.ident != "self" {
                before.push(rename.ident.to_string());
            }
            push(before, rename.rename.to_string());
        }
        UseTree::Glob(_) => {
            before.push("*".to_owned());
            push(before, "*".to_owned());
        }
        UseTree::Group(group) => {
            for tree in &group.items {
                flatten(tree, before.clone(), used, module, found);
            }
        }
    }
}

/// A path that begins with `crate`, `self` or `super`, from the crate's root; `None` for another's.
fn from_root(module: &Module, path: Vec<String>) -> Option<Vec<String>> {
    let mut rest = path.as_slice();
    let mut absolute = match rest.first()?.as_str() {
        "crate" => Vec::new(),
        "self" | "super" => module.clone(),
        other if other.starts_with(OURS) => return Some(path),
        // A child or a library: the files show which.
        _ => {
            let mut relative = module.clone();
            relative.extend(path);
            return Some(relative);
        }
    };
    if rest.first()? != "super" {
        rest = &rest[1..];
    }
    while rest.first().is_some_and(|part| part == "super") {
        absolute.pop()?;
        rest = &rest[1..];
    }
    absolute.extend(rest.iter().cloned());
    Some(absolute)
}

/// The meaning of a path in code, from the crate's root.
fn absolute(
    names: &BTreeMap<Module, Names>,
    module: &Module,
    said: &Names,
    path: &[String],
) -> Option<Vec<String>> {
    let first = path.first()?;
    if ["crate", "self", "super"].contains(&first.as_str()) {
        return from_root(module, path.to_vec());
    }
    // A module that was imported, or a child.
    if let Some(import) = said.imports.iter().find(|import| import.alias == *first) {
        let mut absolute = import.path.clone();
        absolute.extend(path[1..].iter().cloned());
        return Some(absolute);
    }
    let mut child = module.clone();
    child.push(first.clone());
    names.contains_key(&child).then(|| {
        child.extend(path[1..].iter().cloned());
        child
    })
}

/// The file that defines the name of a path from the root.
fn definition(names: &BTreeMap<Module, Names>, path: &[String], depth: usize) -> Option<Module> {
    if depth > 8 {
        return None;
    }
    // The longest part of the path that is a file.
    let end = (0..=path.len())
        .rev()
        .find(|&end| names.contains_key(&path[..end]))?;
    let module = path[..end].to_vec();
    let said = &names[&module];
    let Some(name) = path.get(end) else {
        return Some(module);
    };
    if name == "*" || said.defined.contains(name) {
        return Some(module);
    }
    for import in said.imports.iter().filter(|import| import.alias == *name) {
        let mut behind = import.path.clone();
        behind.extend(path[end + 1..].iter().cloned());
        if let Some(found) = definition(names, &behind, depth + 1) {
            return Some(found);
        }
    }
    // A variant, a method, or a name of another crate: nothing in this crate.
    None
}

/// Collects the paths of code, and the imports within functions.
struct Paths<'a>(&'a mut BTreeSet<Vec<String>>, &'a Module, &'a mut Vec<Import>);

impl<'ast> Visit<'ast> for Paths<'_> {
    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.segments.len() > 1 {
            let parts = path.segments.iter().map(|segment| segment.ident.to_string());
            self.0.insert(parts.collect());
        }
        visit::visit_path(self, path);
    }

    fn visit_item_use(&mut self, used: &'ast ItemUse) {
        flatten(&used.tree, Vec::new(), used, self.1, self.2);
    }

    /// `pub(in …)`: an item does not depend on its visibility.
    fn visit_visibility(&mut self, _: &'ast Visibility) {}
}
