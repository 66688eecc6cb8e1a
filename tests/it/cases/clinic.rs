//! Medical staff read patient records; the front desk sees and changes schedules, and no record.

use tempfile::TempDir;

use super::{Case, ask, ask_as, folder, refusal, tokens};
use crate::support::{Client, copy_folder};

const RECORD: &str = "patients/p_7:read";
const SEALED: &str = "patients/sealed/p_7:read";

/// The clinic on a copy of its policy, which a scenario may edit, and the app that staff sign in to.
struct Clinic {
    case: Case,
    ward: Client,
    _policy: TempDir,
}

impl Clinic {
    async fn open() -> Self {
        let policy = tempfile::tempdir().unwrap();
        copy_folder(&folder("clinic"), policy.path());
        let case = Case::on(policy.path()).await;
        let ward = case.service("ward").await;
        Self {
            case,
            ward,
            _policy: policy,
        }
    }

    /// What somebody who signs in may do, out of everything.
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
    // A record is opened by name: nobody holds them all.
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
    // It says which rule decided, not only that none allowed.
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
