//! Policies: strictly checked files, and decisions with the semantics of Casbin.
//!
//! ```text
//! model.conf, catalogue.toml, routes.toml, *.csv, tests/*.toml
//!     → Sources → rules and catalogue → Index → tests → compared with Casbin → Policy
//! ```
//!
//! [`Policy`] is one immutable revision. The files are read by this crate, because Casbin's own adapter drops lines
//! that it does not understand, which may include a `deny`. Every mistake is a [`Diagnostic`] with a stable code (see
//! [`CODES`]), a position and advice, and all mistakes are found in one run. The semantics are Casbin's: at each load
//! the rules are given to a Casbin `Enforcer`, and the compiled index, which answers at run time, must agree with it on
//! a sample of questions. Then the `Enforcer` is dropped. A model that differs from the built-in one but is sound is
//! served by Casbin itself, far more slowly: see [`Policy::is_compiled`].
//!
//! [`Policy::explain`] gives the reasons for an answer, [`Policy::test_report`] the rules that no test covers, [`diff`]
//! the gains and losses of a change, and [`format_rules`] formats rules.
//!
//! What the authority itself does for a client is a [`Permission`], decided by the same rules with resources below
//! `tessera/`.
//!
//! ```
//! use tessera_core::{RealmName, RoleName, Scope, Subject};
//! use tessera_policy::{Policy, Question, Verdict};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let policy = Policy::from_files(Policy::default_files())?;
//! let verdict = policy.decide(&Question {
//!     realm: &RealmName::parse("production")?,
//!     subject: &Subject::parse("user:ann")?,
//!     roles: &[RoleName::parse("role:viewer")?],
//!     scope: &Scope::parse("videos:read")?,
//! });
//! assert_eq!(verdict, Verdict::Allowed);
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

mod bundled;
mod catalogue;
mod code;
mod coverage;
mod diagnostic;
mod diff;
mod document;
mod explain;
mod format;
mod index;
mod invisible;
mod load_error;
mod look_alike;
mod model;
mod nearest;
mod oracle;
mod own;
mod pattern;
mod permission;
mod policy;
mod quote;
mod roles;
mod routes;
mod rule;
mod rule_file;
mod sample;
mod served;
mod sources;
mod subject;
mod suite;
mod text;
mod token_size;
mod work;

pub use catalogue::Catalogue;
pub use code::CODES;
pub use coverage::TestReport;
pub use diagnostic::{Diagnostic, PolicyError};
pub use diff::{CatalogueChange, CatalogueKind, Change, ChangeKind, Diff, diff, diff_within};
pub use explain::{Explanation, Given, Miss, MissReason, RoleStep};
pub use format::format_rules;
pub use load_error::LoadError;
pub use permission::Permission;
pub use policy::{Grant, Policy, Question, Verdict};
pub use routes::{
    Access, Call, NoRoute, Routes,
    change::{Demand, RouteChange, RouteChanges},
};
pub use rule::RuleAt;
pub use sources::Sources;
pub use work::{Stopped, Work};
