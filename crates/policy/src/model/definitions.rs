//! The definitions of a model: the built-in one, and those that another one may have.

/// The definitions of the built-in model: section, name, value.
pub(crate) const DEFINITIONS: [(&str, &str, &str); 5] = [
    ("request_definition", "r", "sub, dom, obj, act"),
    ("policy_definition", "p", "sub, dom, obj, act, eft"),
    ("role_definition", "g", "_, _, _"),
    (
        "policy_effect",
        "e",
        "some(where (p.eft == allow)) && !some(where (p.eft == deny))",
    ),
    (
        "matchers",
        "m",
        r#"g(r.sub, p.sub, r.dom) && (p.dom == "*" || r.dom == p.dom) && keyMatch(r.obj, p.obj) && (p.act == "*" || r.act == p.act)"#,
    ),
];

/// The effects that Casbin supports and that deny if no rule matches, in the form that Casbin needs.
pub(super) const EFFECTS: [&str; 3] = [
    "some(where (p.eft == allow)) && !some(where (p.eft == deny))",
    "some(where (p.eft == allow))",
    "priority(p.eft) || deny",
];
/// The form of a policy's rules, and how they are decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Model {
    /// The fields of a `p` rule, without the `p`.
    pub(crate) fields: Vec<String>,
    /// The number of fields of a `g` rule, without the `g`: three with a realm.
    pub(crate) role_fields: usize,
    pub(crate) effect: &'static str,
    pub(crate) matcher: String,
    /// The functions to which the matcher gives a field of the rule as a pattern, each with the field's position. Empty
    /// for the built-in model, whose patterns are parsed directly.
    pub(crate) patterns: Vec<(String, usize)>,
    /// Whether the matcher was refused, so that the meaning of the rules' fields is not known.
    pub(crate) is_refused: bool,
    /// Whether this is the model that is compiled into an index, with any spacing.
    pub(crate) is_ours: bool,
}

impl Model {
    /// The model that is compiled into an index.
    pub(crate) fn ours() -> Self {
        let [(_, _, _), (_, _, fields), _, _, (_, _, matcher)] = DEFINITIONS;
        Self {
            fields: fields.split(", ").map(str::to_owned).collect(),
            role_fields: 3,
            effect: EFFECTS[0],
            matcher: matcher.to_owned(),
            patterns: Vec::new(),
            is_refused: false,
            is_ours: true,
        }
    }

    /// The position of a field of `p` rules.
    pub(crate) fn position(&self, field: &str) -> Option<usize> {
        self.fields.iter().position(|known| known == field)
    }
}
