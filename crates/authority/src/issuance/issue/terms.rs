//! The terms of a new session: the request, with the realm's defaults and within its limits.

use tessera_core::{
    Audience, RefreshFamily, ScopeSet, Seconds, Sequence, Session, SessionId, SessionState, Subject,
    Timestamp,
};
use tessera_policy::Catalogue;
use tessera_token::RefreshSecret;

use super::request::IssueRequest;
use crate::{
    issuance::{error::IssueError, scopes::Grant},
    principal::Principal,
};

/// A request that fits the realm and the catalogue.
pub(crate) struct Terms {
    pub(crate) subject: Subject,
    audience: Audience,
    access_ttl: Seconds,
    session_ttl: Seconds,
}

impl Terms {
    pub(crate) fn check(
        principal: &Principal,
        request: &IssueRequest,
        catalogue: &Catalogue,
    ) -> Result<Self, IssueError> {
        let limits = &principal.realm().limits;
        for role in &request.roles {
            if !catalogue.has_role(role) {
                let nearest = catalogue.nearest_role(role.as_str());
                return Err(IssueError::RoleUnknown {
                    role: role.to_string(),
                    nearest,
                });
            }
        }
        for scope in request.scopes.iter() {
            if !catalogue.has_scope(scope) {
                let nearest = catalogue.nearest_scope(scope.as_str());
                return Err(IssueError::ScopeUnknown {
                    scope: scope.clone(),
                    nearest,
                });
            }
        }
        Ok(Self {
            subject: request
                .subject
                .clone()
                .unwrap_or_else(|| principal.client().to_subject()),
            audience: audience(request, catalogue)?,
            access_ttl: within(
                "access_ttl",
                request.access_ttl,
                limits.access_ttl_default,
                limits.access_ttl_max,
            )?,
            session_ttl: within(
                "session_ttl",
                request.session_ttl,
                limits.session_ttl_max,
                limits.session_ttl_max,
            )?,
        })
    }

    pub(crate) fn into_session(
        self,
        principal: &Principal,
        request: &IssueRequest,
        grant: &Grant,
        id: SessionId,
        secret: Option<&RefreshSecret>,
        now: Timestamp,
    ) -> Session {
        let limits = &principal.realm().limits;
        let absolute_until = if secret.is_some() {
            // Whole seconds, like the times of access tokens: the last refresh gives a token that is still valid.
            now.floor_to_second().plus(self.session_ttl)
        } else {
            // Without a refresh token, the session lives as long as its one access token.
            now.floor_to_second().plus(self.access_ttl.min(self.session_ttl))
        };
        let (realm, client) = principal.whose();
        Session {
            id,
            realm,
            client,
            credential: (*principal.api_key()).into(),
            subject: self.subject,
            roles: request.roles.clone(),
            scopes: grant.granted.clone(),
            audience: self.audience,
            labels: request.labels.clone(),
            refreshable: request.refreshable,
            access_ttl: self.access_ttl,
            tombstone_ttl: limits.access_ttl_max,
            created_at: now,
            idle_until: now.plus(limits.idle_ttl).min(absolute_until),
            absolute_until,
            rev: Sequence(0),
            policy: grant.revision,
            state: SessionState::Active,
            family: secret.map(|secret| RefreshFamily::first(secret.hash())),
            lost: ScopeSet::default(),
        }
    }
}

fn audience(request: &IssueRequest, catalogue: &Catalogue) -> Result<Audience, IssueError> {
    match &request.audience {
        Some(audience) if catalogue.has_audience(audience) => Ok(audience.clone()),
        Some(audience) => Err(IssueError::AudienceUnknown {
            audience: audience.to_string(),
            nearest: catalogue.nearest_audience(audience.as_str()),
        }),
        None => {
            let mut audiences = catalogue.audiences().iter();
            match (audiences.next(), audiences.next()) {
                (Some(only), None) => Ok(only.clone()),
                _ => Err(IssueError::Field {
                    field: "audience",
                    problem: "must be named, as the catalogue has several".to_owned(),
                }),
            }
        }
    }
}

fn within(
    field: &'static str,
    asked: Option<Seconds>,
    default: Seconds,
    max: Seconds,
) -> Result<Seconds, IssueError> {
    match asked {
        None => Ok(default.min(max)),
        Some(ttl) if ttl >= Seconds(1) && ttl <= max => Ok(ttl),
        Some(_) => Err(IssueError::Field {
            field,
            problem: format!("must be between 1s and {max}"),
        }),
    }
}

#[cfg(test)]
mod tests;
