//! Reaching an authority.

mod diagnosis;
mod tls;

use std::{
    io::{self, Read},
    time::Duration,
};

use tessera_proto::v1::{
    api_key_service_client::ApiKeyServiceClient, audit_service_client::AuditServiceClient,
    backup_service_client::BackupServiceClient, key_service_client::KeyServiceClient,
    policy_service_client::PolicyServiceClient, revocation_service_client::RevocationServiceClient,
    session_service_client::SessionServiceClient, signing_key_service_client::SigningKeyServiceClient,
    token_service_client::TokenServiceClient,
};
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, Endpoint},
};

pub(crate) use diagnosis::explained;

use crate::{arguments::Connection, failure::Failure, output::notice};

/// A channel that sends the API key with every call.
pub(crate) type Authorized = InterceptedService<Channel, Credential>;

/// The `authorization` header, and the deadline of a call.
#[derive(Clone)]
pub(crate) struct Credential {
    header: Option<MetadataValue<Ascii>>,
    timeout: Option<Duration>,
}

impl Interceptor for Credential {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(header) = &self.header {
            request.metadata_mut().insert("authorization", header.clone());
        }
        if let Some(timeout) = self.timeout {
            request.set_timeout(timeout);
        }
        Ok(request)
    }
}

impl Connection {
    pub(crate) async fn tokens(&self) -> Result<TokenServiceClient<Authorized>, Failure> {
        Ok(TokenServiceClient::new(self.authorized(true).await?))
    }

    pub(crate) async fn api_keys(&self) -> Result<ApiKeyServiceClient<Authorized>, Failure> {
        Ok(ApiKeyServiceClient::new(self.authorized(true).await?))
    }

    pub(crate) async fn sessions(&self) -> Result<SessionServiceClient<Authorized>, Failure> {
        Ok(SessionServiceClient::new(self.authorized(true).await?))
    }

    pub(crate) async fn policies(&self) -> Result<PolicyServiceClient<Authorized>, Failure> {
        Ok(PolicyServiceClient::new(self.authorized(true).await?))
    }

    pub(crate) async fn signing_keys(&self) -> Result<SigningKeyServiceClient<Authorized>, Failure> {
        Ok(SigningKeyServiceClient::new(self.authorized(true).await?))
    }

    pub(crate) async fn audits(&self) -> Result<AuditServiceClient<Authorized>, Failure> {
        Ok(AuditServiceClient::new(self.authorized(true).await?))
    }

    /// A stream has no deadline.
    pub(crate) async fn audit_streams(&self) -> Result<AuditServiceClient<Authorized>, Failure> {
        Ok(AuditServiceClient::new(self.authorized(false).await?))
    }

    /// A backup takes as long as it takes.
    pub(crate) async fn backups(&self) -> Result<BackupServiceClient<Authorized>, Failure> {
        Ok(BackupServiceClient::new(self.authorized(false).await?))
    }

    /// A stream has no deadline.
    pub(crate) async fn revocations(&self) -> Result<RevocationServiceClient<Authorized>, Failure> {
        Ok(RevocationServiceClient::new(self.authorized(false).await?))
    }

    /// Needs no API key.
    pub(crate) async fn keys(&self) -> Result<KeyServiceClient<Channel>, Failure> {
        Ok(KeyServiceClient::new(self.channel().await?))
    }

    async fn authorized(&self, with_deadline: bool) -> Result<Authorized, Failure> {
        // A variable that is empty is as if it were not set.
        let key = self
            .api_key
            .as_deref()
            .map(str::trim)
            .filter(|key| !key.is_empty());
        let Some(key) = key else {
            return Err(Failure::cannot_run(
                "no API key: set TESSERA_API_KEY (`tessera dev` prints one)",
            ));
        };
        let mut header: MetadataValue<Ascii> = format!("Bearer {key}")
            .parse()
            .map_err(|_| Failure::cannot_run("the API key has characters that no API key has"))?;
        header.set_sensitive(true);
        let timeout = with_deadline.then(|| Duration::from_secs(self.timeout.0.into()));
        let credential = Credential {
            header: Some(header),
            timeout,
        };
        Ok(InterceptedService::new(self.channel().await?, credential))
    }

    /// Says that an API key goes to another machine without encryption.
    fn warn_of_plaintext(&self) {
        let Some(rest) = self.addr.strip_prefix("http://") else {
            return;
        };
        let host = rest.split(['/', '?']).next().unwrap_or_default();
        let host = host.rsplit_once(':').map_or(host, |(host, _)| host);
        let host = host.trim_matches(['[', ']']);
        let address = host.parse::<std::net::IpAddr>();
        let is_here = host == "localhost" || address.is_ok_and(|address| address.is_loopback());
        if !is_here {
            notice(&format!(
                "warning: the API key goes to {host} without encryption: use https://"
            ));
        }
    }

    async fn channel(&self) -> Result<Channel, Failure> {
        let wrong = |error: tonic::transport::Error| {
            Failure::cannot_run(format!(
                "`{}` is not an address such as http://127.0.0.1:7600: {error}",
                self.addr
            ))
        };
        let mut endpoint = Endpoint::from_shared(self.addr.clone()).map_err(wrong)?;
        endpoint = endpoint
            .connect_timeout(Duration::from_secs(5))
            .http2_keep_alive_interval(Duration::from_secs(20));
        if self.addr.starts_with("https://") {
            endpoint = self.encrypted(endpoint)?;
        }
        self.warn_of_plaintext();
        // The time for a TCP connection is bounded by itself; a handshake may stall after it.
        let time = Duration::from_secs(self.timeout.0.into());
        let connected = tokio::time::timeout(time, endpoint.connect()).await;
        let connected = connected.map_err(|_| {
            Failure::cannot_run(format!(
                "no authority answers at {}: the connection was not ready within {}",
                self.addr, self.timeout
            ))
        })?;
        connected.map_err(|error| {
            Failure::no_connection(format!(
                "no authority answers at {}: {} (--addr or TESSERA_ADDR say where it is)",
                self.addr,
                explained(&error)
            ))
        })
    }
}

/// A secret from the command line, or from stdin where it is `-`.
pub(crate) fn secret(argument: String) -> Result<String, Failure> {
    if argument != "-" {
        return Ok(argument);
    }
    let mut text = String::new();
    // A token is far shorter; whatever is longer is a mistake.
    io::stdin()
        .take(64 * 1024)
        .read_to_string(&mut text)
        .map_err(|error| Failure::cannot_run(format!("stdin can't be read: {error}")))?;
    Ok(text.trim().to_owned())
}
