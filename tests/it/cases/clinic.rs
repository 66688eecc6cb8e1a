//! Medical staff read patient records; the front desk sees and changes schedules, and no record.

use std::{fs, time::Duration};

use tempfile::TempDir;
use tessera_proto::v1::{
    EventKind, GetStatusRequest, GetStatusResponse, ReloadOutcome,
    policy_service_client::PolicyServiceClient, revocation_event, watch_response::Message,
};

use super::{Case, ask, ask_as, directory, next, next_event, refusal, tokens, watch};
use crate::support::{Client, copy_directory, soon};

const RECORD: &str = "patients/p_7:read";
const SEALED: &str = "patients/sealed/p_7:read";

const ANN_READS: &str = r#"allow = ["patients/p_7:read", "patients/sealed/p_7:read", "schedules:read"]
deny = ["schedules:write"]"#;
const ANN_SEES_SCHEDULES: &str = r#"allow = ["schedules:read"]
deny = ["patients/p_7:read", "patients/sealed/p_7:read", "schedules:write"]"#;

/// The clinic on a copy of its policy, which a scenario may edit, and the app that staff sign in to.
struct Clinic {
    case: Case,
    ward: Client,
    policy: TempDir,
}

impl Clinic {
    async fn open() -> Self {
        let policy = tempfile::tempdir().unwrap();
        copy_directory(&directory("clinic"), policy.path());
        let case = Case::on(policy.path()).await;
        let ward = case.service("ward").await;
        Self { case, ward, policy }
    }

    /// Replaces `from` in a file of the policy, as an administrator's editor does.
    fn edit(&self, name: &str, from: &str, to: &str) {
        let path = self.policy.path().join(name);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{name} has no {from}");
        fs::write(&path, text.replace(from, to)).unwrap();
    }

    async fn status(&self) -> GetStatusResponse {
        let status = PolicyServiceClient::new(self.case.admin.channel.clone())
            .get_status(GetStatusRequest {})
            .await;
        status.unwrap().into_inner()
    }

    /// The scopes of a subject that signs in, out of all scopes.
    async fn rights(&self, subject: &str) -> Vec<String> {
        let everything = ["schedules:read", "schedules:write", RECORD, SEALED];
        tokens(&self.ward, ask(subject, &everything)).await.scopes
    }
}

#[tokio::test]
async fn each_sees_what_the_work_needs() {
    let clinic = Clinic::open().await;
    assert_eq!(
        clinic.rights("user:ann").await,
        [RECORD, SEALED, "schedules:read"]
    );
    assert_eq!(
        clinic.rights("user:bob").await,
        ["schedules:read", "schedules:write"]
    );
    assert_eq!(clinic.rights("user:intern-1").await, [RECORD, "schedules:read"]);
    // A record is opened by name: no token has all records.
    let all = tokens(&clinic.ward, ask("user:ann", &[])).await;
    assert_eq!(all.scopes, ["schedules:read"]);
}

#[tokio::test]
async fn the_front_desk_reads_no_record() {
    let clinic = Clinic::open().await;
    for record in [RECORD, SEALED, "patients/p_8:read"] {
        assert_eq!(
            refusal(&clinic.ward, ask("user:bob", &[record])).await,
            "SCOPE_DENIED"
        );
    }
    let moving = ask("user:ann", &["schedules:write"]);
    assert_eq!(refusal(&clinic.ward, moving).await, "SCOPE_DENIED");
    assert_eq!(
        refusal(&clinic.ward, ask("user:guest", &["schedules:read"])).await,
        "SCOPE_DENIED"
    );
}

#[tokio::test]
async fn a_deny_rule_keeps_an_intern_from_what_is_sealed() {
    let clinic = Clinic::open().await;
    let asked = clinic
        .ward
        .issue(ask("user:intern-1", &[RECORD, SEALED]))
        .await
        .unwrap();
    assert_eq!(asked.tokens.unwrap().scopes, [RECORD]);
    let [denied] = asked.denied.as_slice() else {
        panic!("{:?}", asked.denied)
    };
    assert_eq!(denied.scope, SEALED);
    // The reason names the deciding rule, not only that none allowed.
    assert!(
        denied.reason.contains("policy.csv") && denied.reason.contains("den"),
        "{}",
        denied.reason
    );
    assert_eq!(
        refusal(&clinic.ward, ask("user:intern-1", &[SEALED])).await,
        "SCOPE_DENIED"
    );
}

#[tokio::test]
async fn a_role_comes_from_the_policy_and_not_from_the_ward() {
    let clinic = Clinic::open().await;
    for role in ["role:staff", "role:front-desk", "role:medical", "role:intern"] {
        let asserted = ask_as(role, "user:bob", &[]);
        assert_eq!(
            refusal(&clinic.ward, asserted).await,
            "CALL_NOT_ALLOWED",
            "{role}"
        );
    }
    assert_eq!(refusal(&clinic.ward, ask("", &[RECORD])).await, "SCOPE_DENIED");
    // The administrator makes keys, and reads no record.
    assert_eq!(
        refusal(&clinic.case.admin, ask("user:ann", &[RECORD])).await,
        "CALL_NOT_ALLOWED"
    );
    assert_eq!(
        refusal(&clinic.case.admin, ask("", &[RECORD])).await,
        "SCOPE_DENIED"
    );
}

/// Ann leaves the ward, stays at the clinic, and has a session open.
#[tokio::test]
async fn a_role_taken_away_stops_working_in_live_sessions() {
    let clinic = Clinic::open().await;
    let (ward, admin) = (&clinic.ward, &clinic.case.admin);
    let everything = [RECORD, SEALED, "schedules:read"];
    let ann = ward.issue(ask("user:ann", &everything)).await.unwrap();
    let bob = tokens(ward, ask("user:bob", &["schedules:read"])).await;
    let in_force = clinic.status().await.policy_revision;
    let mut watching = watch(admin).await.unwrap();
    while !matches!(next(&mut watching).await, Message::SnapshotEnd(_)) {}

    // The policy's own tests expect that she reads records: a change that does not update them is refused, and the
    // session is unchanged.
    let (hers, others) = ("g, user:ann, role:medical", "g, user:ann, role:staff");
    clinic.edit("policy.csv", hers, others);
    let refused = soon("the refusal", async {
        loop {
            let status = clinic.status().await;
            if status.attempt_outcome() == ReloadOutcome::Refused {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    assert_eq!(refused.policy_revision, in_force);
    assert!(refused.diagnostics.iter().all(|found| found.code == "P050"));
    let token = &ann.tokens.as_ref().unwrap().access_token;
    assert_eq!(admin.introspect(token).await.scope, everything.join(" "));

    // With her line in the tests too, it is put in force. Only her session has an event, with the scopes that it lost.
    clinic.edit("tests/clinic.toml", ANN_READS, ANN_SEES_SCHEDULES);
    let applied = next_event(&mut watching).await;
    assert_eq!(applied.kind(), EventKind::PolicyApplied);
    let narrowed = next_event(&mut watching).await;
    assert_eq!(narrowed.kind(), EventKind::ScopesNarrowed);
    assert_eq!(narrowed.lost_scopes, [RECORD, SEALED]);
    assert_eq!(narrowed.policy_revision, applied.policy_revision);
    let hers = revocation_event::Target::SessionId(ann.session_id.clone());
    assert_eq!(narrowed.target, Some(hers));

    assert_eq!(admin.introspect(token).await.scope, "schedules:read");
    let next = ward.refresh(&ann.tokens.unwrap().refresh_token).await.unwrap();
    assert_eq!(next.tokens.unwrap().scopes, ["schedules:read"]);
    assert_eq!(refusal(ward, ask("user:ann", &[RECORD])).await, "SCOPE_DENIED");
    assert_eq!(admin.introspect(&bob.access_token).await.scope, "schedules:read");
}
