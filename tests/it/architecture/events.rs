//! The compiler finds every place that must handle a new kind of event: no match on events has a catch-all arm.

use std::path::Path;

use syn::{
    Arm, ExprMatch, Ident, ImplItem, ItemImpl, Pat, Type,
    spanned::Spanned,
    visit::{self, Visit},
};

use super::tree::{self, Source};

/// The types whose kinds must all be matched by name.
const EVENTS: [&str; 4] = ["EventBody", "EventKind", "EventTarget", "AuditAction"];

/// Finds the matches that have such an arm.
struct Matches {
    found: Vec<usize>,
    /// Whether `Self` is one of the types.
    is_self_event: bool,
}

impl<'ast> Visit<'ast> for Matches {
    fn visit_item_impl(&mut self, item: &'ast ItemImpl) {
        let before = self.is_self_event;
        self.is_self_event = match &*item.self_ty {
            Type::Path(of) => of.path.segments.last().is_some_and(|last| is_event(&last.ident)),
            _ => false,
        };
        for inner in &item.items {
            if let ImplItem::Fn(function) = inner {
                self.visit_impl_item_fn(function);
            }
        }
        self.is_self_event = before;
    }

    fn visit_expr_match(&mut self, matched: &'ast ExprMatch) {
        let names_event = matched
            .arms
            .iter()
            .any(|arm| names_event(arm, self.is_self_event));
        if names_event && let Some(rest) = matched.arms.iter().find(|arm| takes_all(&arm.pat)) {
            self.found.push(rest.span().start().line);
        }
        visit::visit_expr_match(self, matched);
    }
}

fn is_event(name: &Ident) -> bool {
    EVENTS.iter().any(|event| name == event)
}

/// Whether a pattern of the arm is a kind of event.
fn names_event(arm: &Arm, is_self_event: bool) -> bool {
    struct Names(bool, bool);
    impl<'ast> Visit<'ast> for Names {
        fn visit_path(&mut self, path: &'ast syn::Path) {
            // The last part is the kind.
            let types = path.segments.iter().rev().skip(1);
            for part in types {
                self.0 |= is_event(&part.ident) || (self.1 && part.ident == "Self");
            }
        }
    }
    let mut names = Names(false, is_self_event);
    names.visit_pat(&arm.pat);
    names.0
}

/// Whether a pattern matches everything else.
fn takes_all(pattern: &Pat) -> bool {
    match pattern {
        Pat::Wild(_) => true,
        Pat::Ident(name) => name.subpat.is_none() && name.ident.to_string().starts_with(char::is_lowercase),
        Pat::Tuple(tuple) => tuple.elems.iter().all(takes_all),
        Pat::Paren(inner) => takes_all(&inner.pat),
        Pat::Or(or) => or.cases.iter().any(takes_all),
        _ => false,
    }
}

fn incomplete(files: &[Source]) -> Vec<String> {
    let mut found = Vec::new();
    for file in files {
        let mut matches = Matches {
            found: Vec::new(),
            is_self_event: false,
        };
        for item in &file.items {
            matches.visit_item(item);
        }
        let path = file.path.display();
        found.extend(matches.found.iter().map(|line| format!("{path}:{line}")));
    }
    found
}

#[test]
fn every_kind_of_event_is_decided_on() {
    let found = incomplete(&tree::sources());
    assert!(found.is_empty(), "a new kind would be silent: {found:#?}");
}

#[test]
fn an_arm_for_all_that_is_left_is_seen() {
    let of = |text: &str| incomplete(&[Source::of_text(Path::new("a.rs"), text)]);
    let matched = |arms: &str| of(&format!("fn f(e: EventBody) {{ match e {{ {arms} }} }}"));
    assert_eq!(matched("EventBody::A => 1, _ => 2"), ["a.rs:1"]);
    assert_eq!(
        matched("tessera_core::EventKind::A { .. } => 1, other => g(other)"),
        ["a.rs:1"]
    );
    assert_eq!(matched("(EventTarget::A(x), _) => 1, (_, _) => 2"), ["a.rs:1"]);
    assert!(matched("EventBody::A | EventBody::B(_) => 1, EventBody::C { .. } => 2").is_empty());
    assert!(matched("Other::A => 1, _ => 2").is_empty());
    let inner = "impl AuditAction { fn f(&self) -> u8 { match self { Self::A => 1, _ => 2 } } }";
    assert_eq!(of(inner), ["a.rs:1"]);
    assert!(of(&inner.replace("AuditAction", "Other")).is_empty());
}
