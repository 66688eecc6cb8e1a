//! The trust of a connection, and its messages when it does not work.

use std::{net::SocketAddr, time::Duration};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tessera_client::{ApiKey, Client, ClientOptions, Connection};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{
    Code,
    transport::{Certificate, Identity, Server, ServerTlsConfig},
};

/// A certificate and its key, as PEM.
struct Pem {
    certificate: String,
    key: String,
}

struct Certificates {
    authority: Pem,
    server: Pem,
    client: Pem,
}

impl Certificates {
    fn make() -> Self {
        let authority_key = KeyPair::generate().unwrap();
        let mut parameters = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = Pem {
            certificate: parameters.self_signed(&authority_key).unwrap().pem(),
            key: authority_key.serialize_pem(),
        };
        let issuer = Issuer::new(parameters, authority_key);
        let leaf = || {
            let key = KeyPair::generate().unwrap();
            let parameters = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
            Pem {
                certificate: parameters.signed_by(&key, &issuer).unwrap().pem(),
                key: key.serialize_pem(),
            }
        };
        Self {
            server: leaf(),
            client: leaf(),
            authority,
        }
    }
}

/// A server without Tessera's services, so that UNIMPLEMENTED shows that it was reached.
async fn serve(identity: Option<&Pem>, client_authority: Option<&Pem>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut server = Server::builder();
    if let Some(Pem { certificate, key }) = identity {
        let mut tls = ServerTlsConfig::new().identity(Identity::from_pem(certificate, key));
        if let Some(authority) = client_authority {
            tls = tls.client_ca_root(Certificate::from_pem(&authority.certificate));
        }
        server = server.tls_config(tls).unwrap();
    }
    let (_, health) = tonic_health::server::health_reporter();
    let serving = server
        .add_service(health)
        .serve_with_incoming(TcpListenerStream::new(listener));
    tokio::spawn(serving);
    address
}

fn connection(scheme: &str, address: SocketAddr) -> Connection {
    let key = ApiKey::generate(tessera_core::RealmKind::Production).unwrap();
    Connection::new(format!("{scheme}://localhost:{}", address.port()), key)
}

/// The result of a call on a connection.
async fn ask(connection: Connection) -> (Code, String) {
    let options = ClientOptions {
        deadline: Duration::from_millis(800),
        ..ClientOptions::default()
    };
    let client = Client::with_options(&connection, options).unwrap();
    let error = client.list_keys("production").await.unwrap_err();
    (error.code(), error.to_string())
}

#[tokio::test]
async fn each_side_is_asked_who_it_is() {
    let made = Certificates::make();
    let tls = serve(Some(&made.server), None).await;
    let asking = serve(Some(&made.server), Some(&made.authority)).await;
    let trusting =
        |address| connection("https", address).certificate_authority(made.authority.certificate.clone());
    assert_eq!(ask(trusting(tls)).await.0, Code::Unimplemented);
    let with_client =
        trusting(asking).client_certificate(made.client.certificate.clone(), made.client.key.clone());
    let (code, message) = ask(with_client).await;
    assert_eq!(code, Code::Unimplemented);
    assert!(message.contains("is it another gRPC server"), "{message}");

    let plain = serve(None, None).await;
    let itself = serve(Some(&made.authority), None).await;
    for (connection, expected) in [
        (
            connection("https", tls),
            "is not of an authority that is trusted here",
        ),
        (trusting(asking), "wants a client certificate"),
        (trusting(itself), "is a certificate authority's own"),
        (trusting(plain), "the port does not speak TLS"),
        (connection("http", tls), "the port speaks TLS"),
        (connection("http", "127.0.0.1:1".parse().unwrap()), "refused"),
    ] {
        let (code, message) = ask(connection).await;
        assert!(message.contains(expected), "{code:?}: {message}");
    }
}

/// Each address has a separate name, which its certificate must be for.
#[tokio::test]
async fn of_several_addresses_one_with_a_wrong_certificate_is_left() {
    let made = Certificates::make();
    let (one, two) = (
        serve(Some(&made.server), None).await,
        serve(Some(&made.server), None).await,
    );
    let reached = |first: &str, second: &str| {
        let addresses = [
            format!("https://{first}:{}", one.port()),
            format!("https://{second}:{}", two.port()),
        ];
        let key = ApiKey::generate(tessera_core::RealmKind::Production).unwrap();
        ask(Connection::to_any_of(addresses, key)
            .in_order()
            .certificate_authority(made.authority.certificate.clone()))
    };
    assert_eq!(reached("127.0.0.1", "localhost").await.0, Code::Unimplemented);
    assert_eq!(reached("localhost", "127.0.0.1").await.0, Code::Unimplemented);
    let (_, message) = reached("127.0.0.1", "127.0.0.1").await;
    assert!(message.contains("https://127.0.0.1:"), "{message}");
    assert!(message.contains("is for another name"), "{message}");
}

#[tokio::test]
async fn certificates_that_cannot_be_used_are_refused_at_once() {
    let made = Certificates::make();
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let address = "127.0.0.1:1".parse().unwrap();
    let client = |key: &str| {
        connection("https", address).client_certificate(made.client.certificate.clone(), key.to_owned())
    };
    for (connection, expected) in [
        (
            connection("https", address).certificate_authority("x"),
            "is not a PEM certificate",
        ),
        (client("x"), "is not a PEM private key"),
        (client(encrypted), "is encrypted: decrypt it first"),
        (
            connection("https", address).client_certificate("x", made.client.key.clone()),
            "is not a PEM certificate",
        ),
        (
            connection("http", address).certificate_authority(made.authority.certificate.clone()),
            "has no encryption",
        ),
    ] {
        let error = Client::new(&connection).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        let shown = format!("{connection:?}");
        assert!(!shown.contains("PRIVATE"), "{shown}");
    }
}
