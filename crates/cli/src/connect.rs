//! Reaching an authority.

mod diagnosis;
mod timed;
mod tls;

use std::{
    io::{self, Read},
    time::Duration,
};

use tessera_core::NodeAddresses;
use tessera_daemon::ADMIN_TIME_MAX;
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

pub(crate) use diagnosis::{explained, meaning};
pub(crate) use timed::Timed;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::{arguments::Connection, failure::Failure, notice::notice};

/// How long one of several nodes may take to connect, and to say whether it is ready.
const NODE_TIME_MAX: Duration = Duration::from_secs(5);
const WHERE_IT_IS: &str = " (--addr or TESSERA_ADDR say where it is)";

/// A channel that sends the API key with every call.
pub(crate) type Authorized = InterceptedService<Timed, Credential>;

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

    /// A stream has no deadline, but begins within [`time`](Self::time).
    pub(crate) async fn audit_streams(&self) -> Result<AuditServiceClient<Authorized>, Failure> {
        Ok(AuditServiceClient::new(self.authorized(false).await?))
    }

    /// A backup takes as long as it takes, but begins within [`time`](Self::time).
    pub(crate) async fn backups(&self) -> Result<BackupServiceClient<Authorized>, Failure> {
        Ok(BackupServiceClient::new(self.authorized(false).await?))
    }

    /// A stream has no deadline, but begins within [`time`](Self::time).
    pub(crate) async fn revocations(&self) -> Result<RevocationServiceClient<Authorized>, Failure> {
        Ok(RevocationServiceClient::new(self.authorized(false).await?))
    }

    /// Needs no API key.
    pub(crate) async fn keys(&self) -> Result<KeyServiceClient<Timed>, Failure> {
        Ok(KeyServiceClient::new(self.timed().await?))
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
        // `Timed` ends the call first: the channel's own timeout says CANCELLED.
        let timeout = with_deadline.then(|| self.time() + Duration::from_secs(1));
        let credential = Credential {
            header: Some(header),
            timeout,
        };
        Ok(InterceptedService::new(self.timed().await?, credential))
    }

    async fn timed(&self) -> Result<Timed, Failure> {
        Ok(Timed::new(self.channel().await?, self.time()))
    }

    /// Where nodes of the authority are.
    pub(crate) fn addresses(&self) -> NodeAddresses {
        NodeAddresses::new([self.addr.as_str()])
    }

    /// How long one call may take.
    pub(crate) fn time(&self) -> Duration {
        Duration::from_secs(self.timeout.0.into())
    }

    /// How long the admin socket may take to answer.
    pub(crate) fn admin_time(&self) -> Duration {
        self.time().min(ADMIN_TIME_MAX)
    }

    async fn channel(&self) -> Result<Channel, Failure> {
        let addresses = self.addresses();
        addresses.check().map_err(Failure::cannot_run)?;
        match addresses.as_slice() {
            [address] => {
                warn_of_plaintext(address);
                self.connected(address, self.time(), WHERE_IT_IS).await
            }
            several => self.first_ready(several).await,
        }
    }

    /// A connection to the first node that is ready. Where none is, to the first that answers: it says why at the call.
    async fn first_ready(&self, addresses: &[String]) -> Result<Channel, Failure> {
        let (mut not_ready, mut problems) = (None, String::new());
        for address in addresses {
            match self.readiness(address).await {
                Ok((channel, true)) => {
                    warn_of_plaintext(address);
                    return Ok(channel);
                }
                Ok((channel, false)) => {
                    not_ready.get_or_insert((address, channel));
                }
                Err(problem) => problems += &format!("\n  {problem}"),
            }
        }
        let Some((address, channel)) = not_ready else {
            return Err(Failure::cannot_run(format!(
                "none of the addresses works{WHERE_IT_IS}:{problems}"
            )));
        };
        warn_of_plaintext(address);
        Ok(channel)
    }

    /// A connection to one of several nodes, and whether that is ready; or why it does not answer.
    async fn readiness(&self, address: &str) -> Result<(Channel, bool), String> {
        let time = self.time().min(NODE_TIME_MAX);
        let connected = self.connected(address, time, "").await;
        let channel = connected.map_err(|failure| failure.message().to_owned())?;
        let mut health = HealthClient::new(channel.clone());
        let asked = tokio::time::timeout(time, health.check(HealthCheckRequest::default())).await;
        match asked {
            Ok(Ok(answer)) => Ok((channel, answer.into_inner().status() == ServingStatus::Serving)),
            Ok(Err(status)) => {
                let why = explained(&status);
                let diagnosis = self.diagnosis_at(address, &why).await;
                Err(format!("{address}: {}", diagnosis.unwrap_or(why)))
            }
            Err(_) => Err(format!(
                "{address}: it does not answer within {} s",
                time.as_secs()
            )),
        }
    }

    /// A connection to one address within this time; `hint` ends the message where nobody is there.
    async fn connected(&self, address: &str, time: Duration, hint: &str) -> Result<Channel, Failure> {
        let wrong = |error: tonic::transport::Error| {
            Failure::cannot_run(format!(
                "`{address}` is not an address such as http://127.0.0.1:7600: {error}"
            ))
        };
        let mut endpoint = Endpoint::from_shared(address.to_owned()).map_err(wrong)?;
        endpoint = endpoint
            .connect_timeout(Duration::from_secs(5))
            .http2_keep_alive_interval(Duration::from_secs(20));
        if address.starts_with("https://") {
            endpoint = self.encrypted(endpoint)?;
        }
        // The time for a TCP connection is bounded by itself; a handshake may stall after it.
        let connected = tokio::time::timeout(time, endpoint.connect()).await;
        let connected = connected.map_err(|_| {
            Failure::cannot_run(format!(
                "no authority answers at {address}: the connection was not ready within {} s",
                time.as_secs()
            ))
        })?;
        connected.map_err(|error| {
            Failure::no_connection(format!(
                "no authority answers at {address}: {}{hint}",
                explained(&error)
            ))
        })
    }
}

/// Says that an API key goes to another machine without encryption.
fn warn_of_plaintext(address: &str) {
    let Some(rest) = address.strip_prefix("http://") else {
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
