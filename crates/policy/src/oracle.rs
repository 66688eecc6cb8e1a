//! Casbin itself, used at load: the compiled index must agree with it.

use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    task::{Context, Poll, Waker},
};

use casbin::{Adapter, CoreApi, DefaultModel, EnforceContext, Enforcer, MemoryAdapter, Model as _};

use crate::{
    model::Model,
    rule::{Realms, Rules},
};

/// The result of a question: whether any rule that allows matched, and whether any that denies matched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Effects {
    pub(crate) is_allowed: bool,
    pub(crate) is_denied: bool,
}

/// A question in Casbin's form: plain texts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RawQuestion<'a> {
    pub(crate) realm: &'a str,
    /// The subject, if there is one, and the asserted roles.
    pub(crate) names: Vec<&'a str>,
    pub(crate) resource: &'a str,
    pub(crate) action: &'a str,
}

/// An `Enforcer` over the rules of one revision. It is never changed.
pub(crate) struct Oracle(Enforcer);

// Two more effects over the same rules, which Casbin reads by their suffix. An asserted role counts as if the subject
// had it. So what matters is whether any of several names meets an `allow`, and whether any meets a `deny`. The
// combined effect of one name at a time can't show this.
const ANY_ALLOW: (&str, &str) = ("e2", "some(where (p.eft == allow))");
const NO_DENY: (&str, &str) = ("e3", "!some(where (p.eft == deny))");

impl Oracle {
    /// Builds the enforcer, with `*` as the realm of a `g` rule written out.
    pub(crate) fn new(rules: &Rules, realms: &Realms) -> Result<Self, String> {
        guarded(|| {
            let mut model = definitions(&Model::ours());
            for (name, effect) in [ANY_ALLOW, NO_DENY] {
                model.add_def("e", name, effect);
            }
            let mut adapter = MemoryAdapter::default();
            let rows = [("p", rules.casbin_policies()), ("g", rules.casbin_roles(realms))];
            for (kind, rows) in rows {
                if !at_once(adapter.add_policies(kind, kind, rows))?? {
                    return Err(Failure(format!("casbin's adapter drops a `{kind}` rule")));
                }
            }
            Ok(Self(at_once(Enforcer::new(model, adapter))??))
        })
    }

    /// Casbin's answer. An error or a panic inside Casbin is returned as a text.
    pub(crate) fn effects(&self, question: &RawQuestion<'_>) -> Result<Effects, String> {
        guarded(|| {
            let mut effects = Effects {
                is_allowed: false,
                is_denied: false,
            };
            for name in &question.names {
                effects.is_allowed |= self.enforce(ANY_ALLOW.0, name, question)?;
                effects.is_denied |= !self.enforce(NO_DENY.0, name, question)?;
            }
            Ok(effects)
        })
    }

    /// Whether a name has a role, according to Casbin's walk of the roles.
    pub(crate) fn has_role(&self, realm: &str, name: &str, role: &str) -> Result<bool, String> {
        guarded(|| Ok(self.0.get_role_manager().read().has_link(name, role, Some(realm))))
    }

    /// The answer of Casbin's own effect for a single name, without the two added effects.
    #[cfg(test)]
    pub(crate) fn is_allowed(&self, name: &str, question: &RawQuestion<'_>) -> Result<bool, String> {
        guarded(|| {
            Ok(self
                .0
                .enforce((name, question.realm, question.resource, question.action))?)
        })
    }

    fn enforce(&self, effect: &str, name: &str, question: &RawQuestion<'_>) -> Result<bool, Failure> {
        let context = EnforceContext {
            r_type: "r".to_owned(),
            p_type: "p".to_owned(),
            e_type: effect.to_owned(),
            m_type: "m".to_owned(),
        };
        let values = (name, question.realm, question.resource, question.action);
        Ok(self.0.enforce_with_context(context, values)?)
    }
}

/// Whether Casbin can compile a model.
pub(crate) fn compile(model: &Model) -> Result<(), String> {
    guarded(|| {
        at_once(Enforcer::new_raw(definitions(model), MemoryAdapter::default()))??;
        Ok(())
    })
}

/// The model in Casbin's form.
pub(crate) fn definitions(model: &Model) -> DefaultModel {
    let roles = vec!["_"; model.role_fields].join(", ");
    let mut definitions = DefaultModel::default();
    definitions.add_def("r", "r", "sub, dom, obj, act");
    definitions.add_def("p", "p", &model.fields.join(", "));
    definitions.add_def("g", "g", &roles);
    definitions.add_def("e", "e", model.effect);
    definitions.add_def("m", "m", &model.matcher);
    definitions
}

/// A failure inside Casbin, or around it.
pub(crate) struct Failure(pub(crate) String);

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

/// Runs `ask`; a panic is a failure too. Casbin panics on an unsupported effect and on some requests.
pub(crate) fn guarded<T>(ask: impl FnOnce() -> Result<T, Failure>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(ask)) {
        Ok(result) => result.map_err(|Failure(message)| message),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            Err(text.map_or_else(
                || "casbin panicked".to_owned(),
                |text| format!("casbin panicked: {text}"),
            ))
        }
    }
}

/// The output of a future that has nothing to wait for.
///
/// Casbin's constructors are async for adapters that read files or databases. The adapter here is in memory, so they
/// are ready when first polled. No runtime is needed, and none conflicts with it.
pub(crate) fn at_once<T>(future: impl Future<Output = T>) -> Result<T, Failure> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Ok(output),
        Poll::Pending => Err(Failure("casbin waits for something".to_owned())),
    }
}
