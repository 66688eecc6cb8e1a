//! `SessionService` from the wire and back.

use tessera_authority::{ListedSession, SessionsBy};
use tessera_core::{ClientName, Condition, Label, SessionId, Subject};
use tessera_proto::v1;

use super::time::timestamp;
use crate::{error::ApiError, fields::Fields};

pub(crate) fn session_id(text: &str) -> Result<SessionId, ApiError> {
    let mut fields = Fields::default();
    let id = fields.required("session_id", text, SessionId::parse);
    fields.finish(id)
}

/// The attribute by which sessions are listed, and the size of a page.
pub(crate) fn list_sessions(wire: &v1::ListSessionsRequest) -> Result<(SessionsBy, usize), ApiError> {
    use v1::list_sessions_request::By;
    let mut fields = Fields::default();
    let by = match &wire.by {
        Some(By::Subject(text)) => fields
            .required("subject", text, Subject::parse)
            .map(SessionsBy::Subject),
        Some(By::Client(text)) => fields
            .required("client", text, ClientName::parse)
            .map(SessionsBy::Client),
        Some(By::Label(text)) => fields
            .required("label", text, Label::parse)
            .map(SessionsBy::Label),
        Some(By::WholeRealm(true)) => Some(SessionsBy::Realm),
        Some(By::WholeRealm(false)) => {
            fields.reject("whole_realm", "must be true");
            None
        }
        None => {
            fields.reject(
                "by",
                "must be set: a subject, a client, a label or the whole realm",
            );
            None
        }
    };
    let page_size = fields.page_size(wire.page_size);
    fields.finish(by.map(|by| (by, page_size)))
}

pub(crate) fn session(session: ListedSession) -> v1::Session {
    let ListedSession { session, condition } = session;
    let (state, revoke_reason) = match condition {
        Condition::Active => (v1::SessionState::Active, ""),
        Condition::Revoked(reason) => (v1::SessionState::Revoked, reason.as_str()),
        Condition::ExpiredIdle => (v1::SessionState::ExpiredIdle, ""),
        Condition::ExpiredAbsolute => (v1::SessionState::ExpiredAbsolute, ""),
    };
    v1::Session {
        session_id: session.id.to_string(),
        realm: session.realm.to_string(),
        client: session.client.to_string(),
        subject: session.subject.to_string(),
        audience: session.audience.to_string(),
        roles: session.roles.iter().map(ToString::to_string).collect(),
        scopes: session.scopes.iter().map(ToString::to_string).collect(),
        labels: session.labels.iter().map(ToString::to_string).collect(),
        state: state.into(),
        revoke_reason: revoke_reason.to_owned(),
        generation: session.generation(),
        create_time: Some(timestamp(session.created_at)),
        idle_expire_time: Some(timestamp(session.idle_until)),
        absolute_expire_time: Some(timestamp(session.absolute_until)),
        lost_scopes: session.lost.iter().map(ToString::to_string).collect(),
    }
}
