//! `tessera session …`.

use serde_json::json;
use tessera_proto::v1::{
    self, GetSessionRequest, ListSessionsRequest, RevokeSessionRequest, list_sessions_request::By,
};

use crate::{
    arguments::{Connection, ListSessions, Output, Session},
    failure::Failure,
    json,
    output::table,
};

pub(crate) async fn run(command: Session, connection: &Connection, output: &Output) -> Result<(), Failure> {
    match command {
        Session::List(arguments) => list(arguments, connection, output).await,
        Session::Show { family } => {
            let request = GetSessionRequest { family_id: family };
            let response = connection
                .sessions()
                .await?
                .get_session(request)
                .await?
                .into_inner();
            let Some(session) = response.session else {
                return Err(Failure::cannot_run("the authority answered without a session"));
            };
            output.print(&json::session(&session), || details(&session))
        }
        Session::Revoke { family, reason } => {
            let request = RevokeSessionRequest {
                family_id: family,
                reason,
            };
            let response = connection
                .sessions()
                .await?
                .revoke_session(request)
                .await?
                .into_inner();
            let document = json!({ "matched": response.matched, "cursor": response.cursor });
            output.print(&document, || {
                let ended = if response.matched == 0 {
                    "was not alive"
                } else {
                    "ended"
                };
                ended.to_owned()
            })
        }
    }
}

async fn list(arguments: ListSessions, connection: &Connection, output: &Output) -> Result<(), Failure> {
    let by = match (arguments.subject, arguments.client, arguments.binding) {
        (Some(subject), _, _) => By::Subject(subject),
        (_, Some(client), _) => By::Client(client),
        (_, _, Some(binding)) => By::Binding(binding),
        (None, None, None) => return Err(Failure::cannot_run("name a subject, a client or a binding")),
    };
    let mut client = connection.sessions().await?;
    let mut sessions = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListSessionsRequest {
            by: Some(by.clone()),
            page_size: 500,
            page_token,
        };
        let page = client.list_sessions(request).await?.into_inner();
        sessions.extend(page.sessions);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    let document = json!({ "sessions": sessions.iter().map(json::session).collect::<Vec<_>>() });
    output.print(&document, || match sessions.is_empty() {
        true => "no sessions".to_owned(),
        false => sessions.iter().map(line).collect(),
    })
}

fn line(session: &v1::Session) -> String {
    format!(
        "{}  {:<8} {}  {}  {}\n",
        session.family_id,
        state(session),
        session.subject,
        session.client,
        scopes_left(session)
    )
}

fn details(session: &v1::Session) -> String {
    table(&[
        ("session", session.family_id.clone()),
        ("state", state(session)),
        ("revoked", session.revoke_reason.clone()),
        ("subject", session.subject.clone()),
        ("client", session.client.clone()),
        ("audience", session.audience.clone()),
        ("roles", session.roles.join(" ")),
        ("scopes", scopes_left(session)),
        ("lost", session.lost_scopes.join(" ")),
        ("bindings", session.bindings.join(" ")),
        ("generation", session.generation.to_string()),
        (
            "began",
            json::time(session.create_time.as_ref()).unwrap_or_default(),
        ),
        (
            "idle end",
            json::time(session.idle_expire_time.as_ref()).unwrap_or_default(),
        ),
        (
            "last end",
            json::time(session.absolute_expire_time.as_ref()).unwrap_or_default(),
        ),
    ])
}

/// What changes of policy have left it.
fn scopes_left(session: &v1::Session) -> String {
    let left = session
        .scopes
        .iter()
        .filter(|scope| !session.lost_scopes.contains(scope));
    left.map(String::as_str).collect::<Vec<_>>().join(" ")
}

fn state(session: &v1::Session) -> String {
    json::enum_name(session.state().as_str_name(), "SESSION_STATE_")
}
