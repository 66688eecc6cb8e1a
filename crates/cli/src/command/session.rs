//! `tessera session …`.

use serde_json::json;
use tessera_proto::v1::{
    self, GetSessionRequest, ListSessionsRequest, RevokeSessionRequest, SessionState,
    list_sessions_request::By,
};

use crate::{
    arguments::{Connection, ListSessions, Output, Session},
    failure::Failure,
    json,
    output::{columns, table},
    terminal::counted,
};

pub(crate) async fn run(command: Session, connection: &Connection, output: &Output) -> Result<(), Failure> {
    match command {
        Session::List(arguments) => list(arguments, connection, output).await,
        Session::Show { session } => {
            let request = GetSessionRequest { session_id: session };
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
        Session::Revoke { session, reason } => {
            let request = RevokeSessionRequest {
                session_id: session,
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
    let by = match (arguments.subject, arguments.client, arguments.label) {
        (Some(subject), _, _) => By::Subject(subject),
        (_, Some(client), _) => By::Client(client),
        (_, _, Some(label)) => By::Label(label),
        (None, None, None) => By::WholeRealm(true),
    };
    if arguments.count {
        return count(by, connection, output).await;
    }
    let mut sessions = Vec::new();
    each_page(by, connection, |page| sessions.extend(page)).await?;
    let document = json!({ "sessions": sessions.iter().map(json::session).collect::<Vec<_>>() });
    output.print(&document, || match sessions.is_empty() {
        true => "no sessions".to_owned(),
        false => {
            let rows: Vec<_> = sessions.iter().map(row).collect();
            columns(
                [
                    "SESSION", "STATE", "SUBJECT", "CLIENT", "CREATED", "ENDS", "SCOPES",
                ],
                &rows,
            )
        }
    })
}

/// Counts sessions without keeping them.
async fn count(by: By, connection: &Connection, output: &Output) -> Result<(), Failure> {
    let (mut count, mut active) = (0_u64, 0_u64);
    each_page(by, connection, |page| {
        for session in page {
            count += 1;
            active += u64::from(session.state() == SessionState::Active);
        }
    })
    .await?;
    output.print(&json!({ "count": count, "active": active }), || {
        format!("{}, {active} active", counted(count, "session"))
    })
}

async fn each_page(
    by: By,
    connection: &Connection,
    mut take: impl FnMut(Vec<v1::Session>),
) -> Result<(), Failure> {
    let mut client = connection.sessions().await?;
    let mut page_token = String::new();
    loop {
        let request = ListSessionsRequest {
            by: Some(by.clone()),
            page_size: 500,
            page_token,
        };
        let page = client.list_sessions(request).await?.into_inner();
        take(page.sessions);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(());
        }
    }
}

fn row(session: &v1::Session) -> [String; 7] {
    [
        session.session_id.clone(),
        state(session),
        session.subject.clone(),
        session.client.clone(),
        json::time(session.create_time.as_ref()).unwrap_or_default(),
        ends(session),
        scopes_left(session),
    ]
}

/// When it ends if it is not refreshed before; for a revoked session the audit trail has the time.
fn ends(session: &v1::Session) -> String {
    if session.state() == SessionState::Revoked {
        return "-".to_owned();
    }
    let (idle, absolute) = (
        session.idle_expire_time.as_ref(),
        session.absolute_expire_time.as_ref(),
    );
    let first = idle.into_iter().chain(absolute).min_by_key(|time| time.seconds);
    json::time(first).unwrap_or_default()
}

fn details(session: &v1::Session) -> String {
    table(&[
        ("session", session.session_id.clone()),
        ("state", state(session)),
        ("revoked", session.revoke_reason.clone()),
        ("subject", session.subject.clone()),
        ("client", session.client.clone()),
        ("audience", session.audience.clone()),
        ("roles", session.roles.join(" ")),
        ("scopes", scopes_left(session)),
        ("lost", session.lost_scopes.join(" ")),
        ("labels", session.labels.join(" ")),
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

/// The scopes that policy changes have left.
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
