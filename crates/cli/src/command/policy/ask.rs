//! A question to a directory or to an authority, and `tessera policy can`.

use std::process::ExitCode;

use serde_json::json;
use tessera_core::{RealmName, RoleName, Scope, Subject};
use tessera_policy::{Catalogue, Permission, Policy};
use tessera_proto::v1::{self, CheckRequest, ExplainRequest, explain_request};

use super::{directory::load_right, wire};
use crate::{
    arguments::{About, Connection, Output},
    failure::Failure,
    terminal::{Paint, visible},
};

/// The permissions of the authority.
fn permissions() -> Vec<String> {
    let named = [
        "tessera/subjects/<subject>:issue".to_owned(),
        "tessera/roles/<role>:assert".to_owned(),
    ];
    let fixed = Permission::FIXED.iter().map(Permission::scope);
    named.into_iter().chain(fixed).collect()
}

pub(super) async fn can(
    subject: &str,
    scope: &str,
    about: About,
    connection: &Connection,
    output: &Output,
) -> Result<ExitCode, Failure> {
    // Check takes no realm, and answers for scopes only; but every client may check itself.
    let by_check = about.live && about.realm.is_none() && Permission::parse(scope).is_none();
    let (allowed, reason, revision) = if by_check {
        check(subject, scope, about.roles, connection).await?
    } else {
        let explained = explain(subject, scope, about, connection).await?;
        (explained.allowed, explained.reason, explained.policy_revision)
    };
    let document = json!({ "allowed": allowed, "reason": reason, "policy_revision": revision });
    let paint = Paint::stdout();
    output.print(&document, || {
        if allowed {
            paint.good("yes")
        } else {
            format!("{} {}", paint.bad("no:"), visible(&reason))
        }
    })?;
    Ok(ExitCode::from(u8::from(!allowed)))
}

async fn check(
    subject: &str,
    scope: &str,
    roles: Vec<String>,
    connection: &Connection,
) -> Result<(bool, String, String), Failure> {
    let request = CheckRequest {
        subject: subject.to_owned(),
        roles,
        scopes: vec![scope.to_owned()],
    };
    let answer = connection.policies().await?.check(request).await?.into_inner();
    let reason = answer.denied.into_iter().next().map(|denied| denied.reason);
    let allowed = reason.is_none() && answer.granted.iter().any(|granted| granted == scope);
    Ok((allowed, reason.unwrap_or_default(), answer.policy_revision))
}

/// Explains one question, with a directory or with the policy in force.
pub(super) async fn explain(
    subject: &str,
    scope: &str,
    about: About,
    connection: &Connection,
) -> Result<v1::Explanation, Failure> {
    if about.live {
        return explain_live(subject, scope, about, connection).await;
    }
    let realm = about.realm.as_deref().ok_or_else(|| {
        Failure::cannot_run("name the realm with --realm, or ask the authority with --live")
    })?;
    let policy = load_right(&about.directory.into_path())?;
    let asked = Asked::parse(&policy, realm, subject, &about.roles, scope)?;
    Ok(wire::explanation(asked.explain(&policy)))
}

async fn explain_live(
    subject: &str,
    scope: &str,
    about: About,
    connection: &Connection,
) -> Result<v1::Explanation, Failure> {
    let question = v1::Question {
        subject: subject.to_owned(),
        roles: about.roles,
        scope: scope.to_owned(),
    };
    let request = ExplainRequest {
        about: Some(explain_request::About::Question(question)),
    };
    let answer = connection.policies().await?.explain(request).await?.into_inner();
    let explained = answer.explanations.into_iter().next();
    let explained = explained.ok_or_else(|| Failure::cannot_run("the authority sent no explanation"))?;
    match about.realm {
        Some(realm) if realm != explained.realm => Err(Failure::cannot_run(format!(
            "the API key belongs to realm `{}`, not `{}`",
            visible(&explained.realm),
            visible(&realm)
        ))),
        _ => Ok(explained),
    }
}

// === questions to a directory ===

/// A question whose names exist.
struct Asked {
    realm: RealmName,
    subject: Subject,
    roles: Vec<RoleName>,
    what: What,
}

enum What {
    Scope(Scope),
    Permission(Permission),
}

impl Asked {
    fn parse(
        policy: &Policy,
        realm: &str,
        subject: &str,
        roles: &[String],
        scope: &str,
    ) -> Result<Self, Failure> {
        let catalogue = policy.catalogue();
        let subject = Subject::parse(subject)
            .map_err(|error| Failure::cannot_run(format!("{error}: `{}`", visible(subject))))?;
        Ok(Self {
            realm: known_realm(catalogue, realm)?,
            subject,
            roles: roles
                .iter()
                .map(|role| known_role(catalogue, role))
                .collect::<Result<_, _>>()?,
            what: known_scope(catalogue, scope)?,
        })
    }

    fn explain(&self, policy: &Policy) -> tessera_policy::Explanation {
        let Self {
            realm,
            subject,
            roles,
            what,
        } = self;
        match what {
            What::Permission(permission) => policy.explain_permission(realm, subject, permission),
            What::Scope(scope) => policy.explain(&tessera_policy::Question {
                realm,
                subject,
                roles,
                scope,
            }),
        }
    }
}

fn known_realm(catalogue: &Catalogue, text: &str) -> Result<RealmName, Failure> {
    let realm = RealmName::parse(text).ok();
    realm.filter(|realm| catalogue.has_realm(realm)).ok_or_else(|| {
        let realms: Vec<&str> = catalogue.realms().iter().map(RealmName::as_str).collect();
        unknown("realm", text, &format!("it has {}", realms.join(", ")))
    })
}

fn known_role(catalogue: &Catalogue, text: &str) -> Result<RoleName, Failure> {
    let role = RoleName::parse(text).ok();
    role.filter(|role| catalogue.has_role(role))
        .ok_or_else(|| unknown("role", text, &meant(catalogue.nearest_role(text))))
}

fn known_scope(catalogue: &Catalogue, text: &str) -> Result<What, Failure> {
    if let Some(permission) = Permission::parse(text) {
        // A role that does not exist can't be asserted.
        if let Permission::Assert(role) = &permission {
            known_role(catalogue, role.as_str())?;
        }
        return Ok(What::Permission(permission));
    }
    if text.starts_with("tessera/") {
        return Err(Failure::cannot_run(format!(
            "the authority has no permission `{}`; {}",
            visible(text),
            Permission::nearest(text).map_or_else(
                || format!("it has {}", permissions().join(", ")),
                |nearest| format!("did you mean `{nearest}`?"),
            )
        )));
    }
    let scope = Scope::parse(text).ok();
    let scope = scope.filter(|scope| catalogue.has_scope(scope));
    scope
        .map(What::Scope)
        .ok_or_else(|| unknown("scope", text, &meant(catalogue.nearest_scope(text))))
}

fn meant(nearest: Option<String>) -> String {
    nearest.map_or_else(
        || "`catalogue.toml` lists those that exist".to_owned(),
        |nearest| format!("did you mean `{nearest}`?"),
    )
}

fn unknown(kind: &str, text: &str, help: &str) -> Failure {
    Failure::cannot_run(format!("the catalogue has no {kind} `{}`; {help}", visible(text)))
}
