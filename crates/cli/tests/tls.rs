//! TLS between the command line and an authority, and their messages about unusable files.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

mod support;

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    path::Path,
    time::{Duration, Instant},
};

use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};

use crate::support::{Authority, policies, tessera, text};

const TLS: &str = "\n[server.tls]\ncertificate = \"server.crt\"\nprivate_key = \"server.pem\"\n";

fn parameters(is_ca: IsCa) -> CertificateParams {
    let mut parameters = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    parameters.is_ca = is_ca;
    parameters
}

/// Writes what a TLS test needs: an authority, certificates of a server and of a client, and files of other kinds.
fn write_files(directory: &Path) {
    let write = |name: &str, bytes: &[u8]| fs::write(directory.join(name), bytes).unwrap();
    let ca_key = KeyPair::generate().unwrap();
    let ca = parameters(IsCa::Ca(BasicConstraints::Unconstrained));
    write("ca.crt", ca.self_signed(&ca_key).unwrap().pem().as_bytes());
    write("ca.pem", ca_key.serialize_pem().as_bytes());
    let issuer = Issuer::new(ca, ca_key);
    for name in ["server", "client"] {
        let key = KeyPair::generate().unwrap();
        let made = parameters(IsCa::NoCa).signed_by(&key, &issuer).unwrap();
        write(&format!("{name}.crt"), made.pem().as_bytes());
        write(&format!("{name}.pem"), key.serialize_pem().as_bytes());
        write(&format!("{name}.crt.der"), made.der());
        write(&format!("{name}.pem.der"), &key.serialize_der());
    }
    let key = KeyPair::generate().unwrap();
    let mut for_clients = parameters(IsCa::NoCa);
    for_clients.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let made = for_clients.signed_by(&key, &issuer).unwrap();
    write("for-clients.crt", made.pem().as_bytes());
    write("for-clients.pem", key.serialize_pem().as_bytes());
    let made = CertificateParams::new(Vec::new())
        .unwrap()
        .signed_by(&key, &issuer);
    write("no-name.crt", made.unwrap().pem().as_bytes());
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n";
    write("encrypted.pem", encrypted.as_bytes());
    let old = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nMIIB\n-----END RSA PRIVATE KEY-----\n";
    write("encrypted-old.pem", old.as_bytes());
    write("empty", b"");
    write("server.p12", &[0x30, 0x82, 1, 0, 2, 1, 3, 0x30]);
    let pem = fs::read_to_string(directory.join("server.crt")).unwrap();
    write("cut.crt", &pem.as_bytes()[..pem.len() / 2]);
}

fn directory() -> tempfile::TempDir {
    let directory = policies();
    write_files(directory.path());
    directory
}

#[test]
fn an_authority_is_trusted_by_the_system_or_by_a_file() {
    let authority = Authority::serve_in(directory(), "https", TLS);
    let status = ["policy", "status"];
    authority.run(0, &[&status[..], &["--ca", "ca.crt"]].concat());
    let by_system = authority
        .command(&status)
        .env("SSL_CERT_FILE", authority.path("ca.crt"))
        .env("TESSERA_CA", "")
        .env_remove("SSL_CERT_DIR")
        .output()
        .unwrap();
    assert!(by_system.status.success(), "{}", text(&by_system.stderr));
    let said = authority.run(2, &status);
    assert!(said.contains("that is not trusted here"), "{said}");
    // Without any trusted root.
    let nobody = authority
        .command(&status)
        .env("SSL_CERT_FILE", authority.path("empty"))
        .env_remove("SSL_CERT_DIR")
        .output()
        .unwrap();
    let said = text(&nobody.stderr);
    assert!(
        nobody.status.code() == Some(2) && said.contains("ca-certificates"),
        "{said}"
    );

    let other_name = authority.address().replace("localhost", "127.0.0.1");
    let said = authority.run(2, &["policy", "status", "--ca", "ca.crt", "--addr", &other_name]);
    assert!(said.contains("a different name"), "{said}");
    let plain = authority.address().replace("https:", "http:");
    let said = authority.run(2, &["policy", "status", "--addr", &plain]);
    assert!(
        said.contains("the port speaks TLS: use https://localhost"),
        "{said}"
    );
}

/// After the files are replaced, new handshakes use the new ones, and no handshake fails meanwhile.
#[test]
fn a_certificate_is_replaced_while_the_authority_serves() {
    let authority = Authority::serve_in(directory(), "https", TLS);
    let trusts = |ca: &str| {
        let answered = authority
            .command(&["policy", "status", "--ca", ca])
            .output()
            .unwrap();
        answered.status.success()
    };
    fs::copy(authority.path("ca.crt"), authority.path("first.crt")).unwrap();
    assert!(trusts("first.crt"));
    // A certificate without its key is not used.
    fs::write(authority.path("server.pem"), "no key").unwrap();
    authority.hang_up();
    assert!(trusts("first.crt"));
    write_files(authority.path("").as_path());
    authority.hang_up();
    let deadline = Instant::now() + Duration::from_secs(30);
    while !trusts("ca.crt") {
        assert!(trusts("first.crt") || trusts("ca.crt"), "neither is served");
        assert!(Instant::now() < deadline, "the certificate is not replaced");
    }
    assert!(!trusts("first.crt"));
}

#[test]
fn https_to_a_plaintext_port_says_so() {
    let authority = Authority::serve();
    let address = authority.address().replace("http:", "https:");
    let said = authority.run(2, &["policy", "status", "--addr", &address]);
    assert!(said.contains("the port does not speak TLS"), "{said}");
}

#[test]
fn a_client_shows_its_certificate_where_one_is_wanted() {
    let settings = format!("{TLS}client_ca = \"ca.crt\"\n");
    let authority = Authority::serve_in(directory(), "https", &settings);
    let status = ["policy", "status", "--ca", "ca.crt"];
    let run = |code, more: &[&str]| authority.run(code, &[&status[..], more].concat());
    run(0, &["--client-cert", "client.crt", "--client-key", "client.pem"]);
    let by_variables = authority
        .command(&status)
        .env("TESSERA_CLIENT_CERT", "client.crt")
        .env("TESSERA_CLIENT_KEY", "client.pem")
        .output()
        .unwrap();
    assert!(by_variables.status.success(), "{}", text(&by_variables.stderr));
    let said = run(2, &[]);
    assert!(
        said.contains("client certificate") && said.contains("--client-cert"),
        "{said}"
    );
    let said = run(2, &["--client-cert", "client.crt"]);
    assert!(said.contains("--client-key"), "{said}");
    for (key, expected) in [
        ("encrypted.pem", "is encrypted"),
        ("encrypted-old.pem", "is encrypted"),
        ("client.pem.der", "openssl pkey -inform DER"),
        ("client.crt", "a certificate where a private key belongs"),
        ("nowhere.pem", "can't be read"),
    ] {
        let said = run(2, &["--client-cert", "client.crt", "--client-key", key]);
        assert!(said.contains(expected) && said.contains(key), "{said}");
    }
    let said = run(2, &["--client-cert", "client.crt", "--client-key", "server.pem"]);
    assert!(said.contains("does not belong to the certificate"), "{said}");
}

#[test]
fn files_that_cannot_be_used_are_told_with_what_to_do() {
    let place = directory();
    let example = fs::read_to_string(support::here().join("../../tessera.example.toml")).unwrap();
    let check = |certificate: &str, key: &str| {
        let tls = TLS.replace("server.crt", certificate).replace("server.pem", key);
        fs::write(place.path().join("tessera.toml"), example.clone() + &tls).unwrap();
        let output = tessera()
            .current_dir(place.path())
            .args(["config", "check"])
            .output()
            .unwrap();
        (output.status.code(), text(&output.stdout) + &text(&output.stderr))
    };
    for (certificate, key, expected) in [
        ("server.crt", "encrypted.pem", "openssl pkey -in"),
        ("server.crt", "encrypted-old.pem", "openssl pkey -in"),
        ("server.crt", "server.pem.der", "openssl pkey -inform DER"),
        ("server.crt.der", "server.pem", "openssl x509 -inform DER"),
        ("server.p12", "server.pem", "openssl pkcs12"),
        (
            "server.pem",
            "server.pem",
            "a private key where a certificate belongs",
        ),
        (
            "server.crt",
            "server.crt",
            "a certificate where a private key belongs",
        ),
        ("empty", "server.pem", "no certificate in PEM"),
        ("server.crt", "empty", "no private key in PEM"),
        ("cut.crt", "server.pem", "cut off"),
        ("server.crt", "client.pem", "is not that of its certificate"),
    ] {
        let (status, said) = check(certificate, key);
        assert!(
            status == Some(1) && said.contains(expected),
            "{certificate} {key}: {said}"
        );
    }
    let (status, said) = check("server.crt", "server.pem");
    assert!(status == Some(0) && !said.contains("[server.tls] is"), "{said}");
    let (status, said) = check("ca.crt", "ca.pem");
    assert!(status == Some(0) && said.contains("CA:FALSE"), "{said}");
    for (certificate, expected) in [
        ("for-clients.crt", "serverAuth"),
        ("no-name.crt", "subjectAltName"),
    ] {
        let (status, said) = check(certificate, "for-clients.pem");
        assert!(
            status == Some(0) && said.contains(expected),
            "{certificate}: {said}"
        );
        assert!(!said.contains("redacted"), "{said}");
    }
}

#[test]
fn a_certificate_that_is_not_for_a_server_is_told_to_its_clients() {
    let settings = TLS.replace("\"server.", "\"for-clients.");
    let authority = Authority::serve_in(directory(), "https", &settings);
    let said = authority.run(2, &["policy", "status", "--ca", "ca.crt"]);
    assert!(said.contains("serverAuth") && !said.contains("help:"), "{said}");
}

#[test]
fn plaintext_http_at_a_tls_port_is_told_what_the_port_speaks() {
    let authority = Authority::serve_in(directory(), "https", TLS);
    let address = authority.address().replace("https://localhost", "127.0.0.1");
    for request in [
        "GET /keys HTTP/1.1\r\nhost: a\r\n\r\n",
        "POST /auth/api-key HTTP/1.1\r\nhost: a\r\n\r\n",
    ] {
        let mut stream = TcpStream::connect(&address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 400 ") && answer.ends_with("use https://\n"),
            "{answer}"
        );
        let length = answer
            .split("content-length: ")
            .nth(1)
            .unwrap()
            .split('\r')
            .next()
            .unwrap();
        assert_eq!(length.parse(), Ok(answer.split("\r\n\r\n").nth(1).unwrap().len()));
    }
    // What speaks TLS is served as before.
    authority.run(0, &["policy", "status", "--ca", "ca.crt"]);
}

#[test]
fn a_certificate_authority_as_a_server_is_told_to_its_clients() {
    let settings = TLS.replace("\"server.", "\"ca.");
    let authority = Authority::serve_in(directory(), "https", &settings);
    let said = authority.run(2, &["policy", "status", "--ca", "ca.crt"]);
    assert!(
        said.contains("a certificate authority's own") && said.contains("CA:FALSE"),
        "{said}"
    );
}
