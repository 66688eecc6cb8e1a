//! Calling the bare contract, and reading the answers in tests.

use tessera_proto::v1::{
    IntrospectRequest, IntrospectResponse, IssueRequest, IssueResponse, RefreshRequest, RefreshResponse,
    RevokeRequest, RevokeResponse, TokenSet, api_key_service_client::ApiKeyServiceClient,
    audit_service_client::AuditServiceClient, backup_service_client::BackupServiceClient,
    policy_service_client::PolicyServiceClient, revocation_service_client::RevocationServiceClient,
    revoke_request::Target, session_service_client::SessionServiceClient,
    signing_key_service_client::SigningKeyServiceClient, token_service_client::TokenServiceClient,
};
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::Channel,
};
use tonic_types::StatusExt;

/// A caller of the bare contract, without the SDK: a channel and an API key.
#[derive(Clone)]
pub struct Client {
    channel: InterceptedService<Channel, Bearer>,
    /// The API key of its calls; empty for none.
    pub api_key: String,
}

/// Sends an API key, or none if it is empty.
#[derive(Clone)]
pub struct Bearer(String);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if !self.0.is_empty() {
            let value: Result<MetadataValue<Ascii>, _> = format!("Bearer {}", self.0).parse();
            request
                .metadata_mut()
                .insert("authorization", value.expect("an API key is a header's value"));
        }
        Ok(request)
    }
}

impl Client {
    /// A caller with this API key; empty for none.
    #[must_use]
    pub fn new(channel: Channel, api_key: &str) -> Self {
        Self {
            channel: InterceptedService::new(channel, Bearer(api_key.to_owned())),
            api_key: api_key.to_owned(),
        }
    }

    /// The channel of its calls, with its API key.
    #[must_use]
    pub fn intercepted(&self) -> InterceptedService<Channel, Bearer> {
        self.channel.clone()
    }

    /// `TokenService`.
    #[must_use]
    pub fn tokens(&self) -> TokenServiceClient<InterceptedService<Channel, Bearer>> {
        TokenServiceClient::new(self.channel.clone())
    }

    /// `SessionService`.
    #[must_use]
    pub fn sessions(&self) -> SessionServiceClient<InterceptedService<Channel, Bearer>> {
        SessionServiceClient::new(self.channel.clone())
    }

    /// `ApiKeyService`.
    #[must_use]
    pub fn api_keys(&self) -> ApiKeyServiceClient<InterceptedService<Channel, Bearer>> {
        ApiKeyServiceClient::new(self.channel.clone())
    }

    /// `RevocationService`.
    #[must_use]
    pub fn revocations(&self) -> RevocationServiceClient<InterceptedService<Channel, Bearer>> {
        RevocationServiceClient::new(self.channel.clone())
    }

    /// `SigningKeyService`.
    #[must_use]
    pub fn signing_keys(&self) -> SigningKeyServiceClient<InterceptedService<Channel, Bearer>> {
        SigningKeyServiceClient::new(self.channel.clone())
    }

    /// `AuditService`.
    #[must_use]
    pub fn audits(&self) -> AuditServiceClient<InterceptedService<Channel, Bearer>> {
        AuditServiceClient::new(self.channel.clone())
    }

    /// `BackupService`.
    #[must_use]
    pub fn backups(&self) -> BackupServiceClient<InterceptedService<Channel, Bearer>> {
        BackupServiceClient::new(self.channel.clone())
    }

    /// `PolicyService`.
    #[must_use]
    pub fn policies(&self) -> PolicyServiceClient<InterceptedService<Channel, Bearer>> {
        PolicyServiceClient::new(self.channel.clone())
    }

    /// Issue, for the audience `api` if none is named.
    ///
    /// # Errors
    /// Fails if the authority refuses.
    pub async fn issue(&self, request: IssueRequest) -> Result<IssueResponse, Status> {
        let request = IssueRequest {
            audience: if request.audience.is_empty() {
                "api".to_owned()
            } else {
                request.audience
            },
            ..request
        };
        self.tokens()
            .issue(request)
            .await
            .map(tonic::Response::into_inner)
    }

    /// A viewer's session for a subject.
    ///
    /// # Panics
    /// Panics if it is refused.
    pub async fn issue_for(&self, subject: &str) -> IssueResponse {
        self.issue(viewer(subject)).await.expect("a session")
    }

    /// Refresh, with all remaining scopes.
    ///
    /// # Errors
    /// Fails if the authority refuses.
    pub async fn refresh(&self, refresh_token: &str) -> Result<RefreshResponse, Status> {
        self.refresh_with(refresh_token, &[]).await
    }

    /// Refresh with these scopes.
    ///
    /// # Errors
    /// Fails if the authority refuses.
    pub async fn refresh_with(
        &self,
        refresh_token: &str,
        scopes: &[&str],
    ) -> Result<RefreshResponse, Status> {
        let request = RefreshRequest {
            request_id: String::new(),
            refresh_token: refresh_token.to_owned(),
            scopes: strings(scopes),
        };
        self.tokens()
            .refresh(request)
            .await
            .map(tonic::Response::into_inner)
    }

    /// Introspect.
    ///
    /// # Panics
    /// Panics if it is refused.
    pub async fn introspect(&self, token: &str) -> IntrospectResponse {
        let request = IntrospectRequest {
            token: token.to_owned(),
            at_least_as_fresh: String::new(),
        };
        let introspected = self.tokens().introspect(request).await;
        introspected.expect("an answer").into_inner()
    }

    /// Revoke, without waiting for a verifier.
    ///
    /// # Errors
    /// Fails if the authority refuses.
    pub async fn revoke(&self, target: Target) -> Result<RevokeResponse, Status> {
        let request = RevokeRequest {
            target: Some(target),
            ..RevokeRequest::default()
        };
        self.tokens()
            .revoke(request)
            .await
            .map(tonic::Response::into_inner)
    }
}

/// A request for a viewer's session.
#[must_use]
pub fn viewer(subject: &str) -> IssueRequest {
    IssueRequest {
        subject: subject.to_owned(),
        roles: strings(&["role:viewer"]),
        ..IssueRequest::default()
    }
}

/// Texts in the form of messages.
#[must_use]
pub fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

/// A duration in the form of messages.
#[must_use]
pub fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

/// The refresh token of a set.
///
/// # Panics
/// Panics if there is no set.
#[must_use]
pub fn refresh_token(tokens: Option<&TokenSet>) -> String {
    tokens.expect("an answer has tokens").refresh_token.clone()
}

/// The access token of a set.
///
/// # Panics
/// Panics if there is no set.
#[must_use]
pub fn access_token(tokens: Option<&TokenSet>) -> String {
    tokens.expect("an answer has tokens").access_token.clone()
}

/// The code and the reason of a refusal, as `CODE / REASON`. Every error has a reason of the contract.
///
/// # Panics
/// Panics if it has none.
#[must_use]
pub fn reason(status: &Status) -> String {
    let info = status
        .get_details_error_info()
        .unwrap_or_else(|| panic!("no ErrorInfo: {status:?}"));
    assert_eq!(info.domain, "tessera");
    format!("{:?} / {}", status.code(), info.reason)
}

/// The fields that a refusal names.
#[must_use]
pub fn fields(status: &Status) -> Vec<String> {
    let violations = status
        .get_details_bad_request()
        .map_or_else(Vec::new, |bad| bad.field_violations);
    violations.into_iter().map(|violation| violation.field).collect()
}
