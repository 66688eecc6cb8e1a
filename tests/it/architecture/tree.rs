//! The sources of the workspace, parsed, without tests.

use std::{
    fs,
    ops::RangeInclusive,
    path::{Path, PathBuf},
};

use syn::{Attribute, File, Item, spanned::Spanned};

use crate::support::root;

/// A crate with its files.
pub struct Crate {
    /// The directory's name, such as `store-sled`.
    pub name: String,
    pub files: Vec<Source>,
}

/// A source file, without tests.
pub struct Source {
    /// Its path from the workspace's directory.
    pub path: PathBuf,
    /// Its module in its crate: `[]` for `lib.rs`, `["log", "watch"]` for `log/watch.rs`.
    pub module: Vec<String>,
    pub text: String,
    /// The items, without those of tests only.
    pub items: Vec<Item>,
    /// The attributes before the items.
    pub attributes: Vec<Attribute>,
    /// The lines of tests.
    pub test_lines: Vec<RangeInclusive<usize>>,
}

impl Source {
    /// A file made by a test, at a path within its crate.
    pub fn of_text(path: &Path, text: &str) -> Self {
        parse(path, text.to_owned(), module_of(path)).0
    }

    /// Its lines with their numbers, tests left out.
    pub fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let is_test = |number: usize| self.test_lines.iter().any(|lines| lines.contains(&number));
        (1..)
            .zip(self.text.lines())
            .filter(move |(number, _)| !is_test(*number))
    }
}

/// Every crate of the workspace, including the root and the examples.
pub fn crates() -> Vec<Crate> {
    let mut found = vec![read("proto", "proto"), read("examples", "examples/src")];
    let mut names: Vec<_> = fs::read_dir(root().join("crates"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    for name in names {
        let sources = format!("crates/{name}/src");
        found.push(read(&name, &sources));
    }
    found
}

/// Every source file.
pub fn sources() -> Vec<Source> {
    let all: Vec<_> = crates().into_iter().flat_map(|found| found.files).collect();
    assert!(all.len() > 200, "only {} files", all.len());
    all
}

fn read(name: &str, sources: &str) -> Crate {
    let directory = root().join(sources);
    let mut paths = Vec::new();
    rust_files(&directory, &mut paths);
    paths.sort();
    let mut files = Vec::new();
    // Modules of tests only, known once the declaring file is read: roots come first.
    let mut test_modules: Vec<Vec<String>> = Vec::new();
    paths.sort_by_key(|path| path.components().count());
    for path in paths {
        let module = module_of(path.strip_prefix(&directory).unwrap());
        if test_modules.iter().any(|tests| module.starts_with(tests)) {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let (source, tests) = parse(path.strip_prefix(root()).unwrap(), text, module);
        test_modules.extend(tests);
        files.push(source);
    }
    Crate {
        name: name.to_owned(),
        files,
    }
}

fn rust_files(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn module_of(path: &Path) -> Vec<String> {
    let mut module: Vec<_> = path
        .with_extension("")
        .iter()
        .map(|part| part.to_string_lossy().into_owned())
        .collect();
    if module.len() == 1 && ["lib", "main"].contains(&module[0].as_str()) {
        module.clear();
    }
    module
}

/// A file, and the modules that it declares for tests.
fn parse(path: &Path, text: String, module: Vec<String>) -> (Source, Vec<Vec<String>>) {
    // To its end: code after a test is checked as well.
    let file: File = syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let (mut items, mut test_lines, mut test_modules) = (Vec::new(), Vec::new(), Vec::new());
    for item in file.items {
        if !attributes(&item).iter().any(is_for_tests) {
            items.push(item);
            continue;
        }
        test_lines.push(lines_of(&item));
        if let Item::Mod(declared) = &item {
            let mut name = module.clone();
            name.push(declared.ident.to_string());
            test_modules.push(name);
        }
    }
    let source = Source {
        path: path.to_owned(),
        module,
        text,
        items,
        attributes: file.attrs,
        test_lines,
    };
    (source, test_modules)
}

/// The lines of an item with its attributes and its documentation.
pub fn lines_of(item: &impl Spanned) -> RangeInclusive<usize> {
    let span = item.span();
    span.start().line..=span.end().line
}

fn is_for_tests(attribute: &Attribute) -> bool {
    attribute.path().is_ident("cfg")
        && attribute
            .parse_args::<syn::Path>()
            .is_ok_and(|condition| condition.is_ident("test"))
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

#[test]
fn a_file_is_read_to_its_end_and_only_tests_are_left_out() {
    let text = "//! Doc.\nfn before() {}\n#[cfg(test)]\nmod tests {\n    fn test() {}\n}\n#[cfg(unix)]\nfn after() {}\n";
    let source = Source::of_text(Path::new("a/b.rs"), text);
    assert_eq!(source.module, ["a", "b"]);
    let lines: Vec<_> = source.lines().map(|(number, _)| number).collect();
    assert_eq!(lines, [1, 2, 7, 8]);
    assert_eq!(source.items.len(), 2);
    let all = sources();
    assert!(
        all.iter().all(|file| !file.path.ends_with("tests.rs")),
        "tests are no part of what runs"
    );
}
