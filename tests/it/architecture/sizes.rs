//! Files have at most 500 lines, functions 60, a name that describes the content, and one doc comment at the head.

use std::path::Path;

use syn::{
    Attribute, Expr, ExprLit, ImplItemFn, Item, ItemFn, Lit, Meta, TraitItemFn,
    spanned::Spanned,
    visit::{self, Visit},
};

use super::tree::{self, Source};

const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 60;

/// Longer functions, and why.
const LONG_FUNCTIONS: [(&str, &str, &str); 3] = [
    (
        "client/src/verifier/wire.rs",
        "body",
        "an arm for each kind of event",
    ),
    (
        "authority/src/open.rs",
        "compose",
        "the nouns, one after the other",
    ),
    ("store/src/memory/purge.rs", "purge", "waits to be split"),
];

/// A function: its name, and the lines from its signature to its end.
pub struct Function {
    pub name: String,
    pub lines: usize,
}

/// The functions of a file, including methods.
pub fn functions(of: &Source) -> Vec<Function> {
    struct Found(Vec<Function>);
    impl Found {
        fn push(&mut self, signature: &syn::Signature, block: &syn::Block) {
            let lines = block.span().end().line + 1 - signature.span().start().line;
            let name = signature.ident.to_string();
            self.0.push(Function { name, lines });
        }
    }
    impl<'ast> Visit<'ast> for Found {
        fn visit_item_fn(&mut self, item: &'ast ItemFn) {
            self.push(&item.sig, &item.block);
            visit::visit_item_fn(self, item);
        }

        fn visit_impl_item_fn(&mut self, item: &'ast ImplItemFn) {
            self.push(&item.sig, &item.block);
            visit::visit_impl_item_fn(self, item);
        }

        fn visit_trait_item_fn(&mut self, item: &'ast TraitItemFn) {
            if let Some(block) = &item.default {
                self.push(&item.sig, block);
            }
            visit::visit_trait_item_fn(self, item);
        }
    }
    let mut found = Found(Vec::new());
    for item in &of.items {
        found.visit_item(item);
    }
    found.0
}

/// Files and functions that are too long, by their file.
fn too_long(files: &[Source]) -> Vec<String> {
    let mut found = Vec::new();
    for file in files {
        let path = file.path.display();
        let lines = file.lines().count();
        if lines > FILE_LINES_MAX {
            found.push(format!("{path}: {lines} lines want to be split by noun"));
        }
        for Function { name, lines } in functions(file) {
            let is_this = |(at, long, _): &(&str, &str, &str)| file.path.ends_with(at) && *long == name;
            let is_known = LONG_FUNCTIONS.iter().any(is_this);
            if lines > FUNCTION_LINES_MAX && !is_known {
                found.push(format!("{path}: `{name}` has {lines} lines"));
            }
        }
    }
    found
}

/// Files without a doc comment at their head, or with a second one where they are declared.
fn undocumented(files: &[Source]) -> Vec<String> {
    let mut found = Vec::new();
    for file in files {
        let path = file.path.display();
        let documents = file.attributes.iter().filter_map(document);
        if documents.collect::<String>().trim().is_empty() || !file.text.starts_with("//!") {
            found.push(format!("{path}: no `//!` at its head"));
        }
        for item in &file.items {
            if let Item::Mod(declared) = item
                && declared.content.is_none()
                && declared
                    .attrs
                    .iter()
                    .any(|attribute| document(attribute).is_some())
            {
                found.push(format!(
                    "{path}: `{}` is documented in its own file",
                    declared.ident
                ));
            }
        }
    }
    found
}

fn document(attribute: &Attribute) -> Option<String> {
    match &attribute.meta {
        Meta::NameValue(said) if said.path.is_ident("doc") => match &said.value {
            Expr::Lit(ExprLit {
                lit: Lit::Str(text), ..
            }) => Some(text.value()),
            _ => None,
        },
        _ => None,
    }
}

/// Names without meaning.
fn vague(files: &[Source]) -> Vec<String> {
    let vague = [
        "common", "helper", "helpers", "manager", "misc", "types", "util", "utils",
    ];
    let is_vague = |file: &&Source| file.module.iter().any(|part| vague.contains(&part.as_str()));
    let found = files.iter().filter(is_vague);
    found.map(|file| file.path.display().to_string()).collect()
}

#[test]
fn files_and_functions_are_small() {
    let found = too_long(&tree::sources());
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn each_file_has_one_document() {
    let found = undocumented(&tree::sources());
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn files_are_named_after_things() {
    let found = vague(&tree::sources());
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn what_is_long_or_undocumented_or_vague_is_seen() {
    let of = |path: &str, text: &str| vec![Source::of_text(Path::new(path), text)];
    let long = format!(
        "fn long() {{\n{}}}\n",
        "    call();\n".repeat(FUNCTION_LINES_MAX - 1)
    );
    assert_eq!(too_long(&of("a.rs", &long)), ["a.rs: `long` has 61 lines"]);
    let method = format!("impl A {{\n{long}}}\n");
    assert_eq!(too_long(&of("a.rs", &method)), ["a.rs: `long` has 61 lines"]);
    assert!(too_long(&of("a.rs", &long.replacen("    call();\n", "", 1))).is_empty());
    let lines = "const A: u8 = 0;\n".repeat(FILE_LINES_MAX);
    assert!(too_long(&of("a.rs", &lines)).is_empty());
    let more = format!("{lines}#[cfg(test)]\nmod tests {{}}\n");
    assert!(too_long(&of("a.rs", &more)).is_empty());
    assert_eq!(too_long(&of("a.rs", &format!("{more}{lines}"))).len(), 1);
    assert_eq!(undocumented(&of("a.rs", "fn f() {}")).len(), 1);
    assert_eq!(
        undocumented(&of("a.rs", "// no document\n//! late\nfn f() {}")).len(),
        1
    );
    assert_eq!(undocumented(&of("a.rs", "//! A.\n/// Twice.\nmod b;")).len(), 1);
    assert!(undocumented(&of("a.rs", "//! A.\nmod b;")).is_empty());
    assert_eq!(vague(&of("a/utils.rs", "")), ["a/utils.rs"]);
}
