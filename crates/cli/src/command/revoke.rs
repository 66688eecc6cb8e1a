//! `tessera revoke …`.

use serde_json::json;
use tessera_proto::v1::{
    AwaitPropagationRequest, AwaitPropagationResponse, RevokeRequest, revoke_request::Target,
};

use crate::{
    arguments::{Connection, Output, Revoke, RevokeTarget},
    confirm::{Consent, Unattended},
    failure::Failure,
    terminal::{counted, visible},
};

pub(crate) async fn run(arguments: Revoke, connection: &Connection, output: &Output) -> Result<(), Failure> {
    let Revoke {
        target,
        validate_only,
        disable,
        wait,
        reason,
        consent,
    } = arguments;
    let request = RevokeRequest {
        request_id: String::new(),
        reason,
        validate_only,
        disable_client: disable,
        target: Some(wire(target)?),
    };
    if !validate_only {
        ask(&request, &consent, connection).await?;
    }
    print_revoked(request, wait, connection, output).await
}

/// Asks for confirmation if one command ends several sessions.
async fn ask(request: &RevokeRequest, consent: &Consent, connection: &Connection) -> Result<(), Failure> {
    let (of, always) = match &request.target {
        Some(Target::WholeRealm(_)) => {
            consent.require(Unattended::Refuse, "tessera revoke --whole-realm")?;
            ("the whole realm".to_owned(), true)
        }
        Some(Target::Client(client)) => (client.clone(), request.disable_client),
        Some(Target::ApiKeyId(id)) => (format!("API key {id}"), false),
        Some(Target::KeyId(id)) => (format!("signing key {id}"), false),
        _ => return Ok(()),
    };
    if !consent.is_to_be_asked() {
        return Ok(());
    }
    let preview = RevokeRequest {
        validate_only: true,
        ..request.clone()
    };
    let sessions = connection.tokens().await?.revoke(preview).await?;
    let sessions = sessions.into_inner().matched;
    if sessions <= 1 && !always {
        return Ok(());
    }
    let mut what = format!(
        "This ends {} of {}.",
        counted(sessions, "live session"),
        visible(&of)
    );
    if request.disable_client {
        what += " None of its API keys works after that.";
    }
    consent.ask(&what)
}

fn wire(target: RevokeTarget) -> Result<Target, Failure> {
    let RevokeTarget {
        subject,
        client,
        label,
        session,
        api_key_id,
        key,
        whole_realm,
    } = target;
    let named = [
        subject.map(Target::Subject),
        client.map(Target::Client),
        label.map(Target::Label),
        session.map(Target::SessionId),
        api_key_id.map(Target::ApiKeyId),
        key.map(Target::KeyId),
        whole_realm.then_some(Target::WholeRealm(true)),
    ];
    named
        .into_iter()
        .flatten()
        .next()
        .ok_or(Failure::cannot_run("name what to revoke: see --help"))
}

/// Revokes, waits for the verifiers if requested, and prints both results.
pub(crate) async fn print_revoked(
    request: RevokeRequest,
    wait: bool,
    connection: &Connection,
    output: &Output,
) -> Result<(), Failure> {
    let validate_only = request.validate_only;
    let disables = request.disable_client && !validate_only;
    let response = connection.tokens().await?.revoke(request).await?.into_inner();
    let mut document = json!({ "matched": response.matched, "cursor": response.cursor });
    let what = if validate_only { "would end" } else { "ended" };
    let mut text = match response.matched {
        0 => "no live session or token matched".to_owned(),
        matched => format!("{what}: {matched}"),
    };
    if disables {
        text += "\nthe client is disabled: none of its API keys works";
    }
    if wait {
        let request = AwaitPropagationRequest {
            cursor: response.cursor,
        };
        let fence = connection.revocations().await?.await_propagation(request).await?;
        let AwaitPropagationResponse {
            acknowledged,
            failed_closed,
        } = fence.into_inner();
        let known = json!({ "acknowledged": acknowledged, "failed_closed": failed_closed });
        if let Some(document) = document.as_object_mut() {
            document.insert("propagation".to_owned(), known);
        }
        text +=
            &format!("\nverifiers that know: {acknowledged}, that are silent and refuse: {failed_closed}");
    }
    output.print(&document, || text)
}
