//! How a name has a role.

use tessera_core::RoleName;

use crate::rule::RuleAt;

/// A step from a name to a role that it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleStep {
    /// The role.
    pub role: RoleName,
    /// Why the previous name has it.
    pub given: Given,
}

/// Why a name has a role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Given {
    /// It was asserted with the question.
    Asserted,
    /// A `g` rule gives it.
    Rule(RuleAt),
}
