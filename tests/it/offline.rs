//! A verifier that knows only Tessera's public keys: any PASETO library can do this.

use std::collections::HashMap;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use pasetors::{
    Public,
    keys::AsymmetricPublicKey,
    token::UntrustedToken,
    version4::{PublicToken, V4},
};
use serde_json::Value;
use tessera_proto::v1::{ListKeysRequest, key_service_client::KeyServiceClient};

/// The keys of an authority, by their ids.
pub struct Verifier(HashMap<String, AsymmetricPublicKey<V4>>);

impl Verifier {
    /// Asks for the keys, without a credential.
    pub async fn fetch(address: &str) -> Self {
        let mut client = KeyServiceClient::connect(address.to_owned()).await.unwrap();
        let keys = client
            .list_keys(ListKeysRequest::default())
            .await
            .unwrap()
            .into_inner()
            .keys;
        let parse = |paserk: &str| AsymmetricPublicKey::<V4>::try_from(paserk).unwrap();
        Self(
            keys.into_iter()
                .map(|key| (key.kid.clone(), parse(&key.paserk)))
                .collect(),
        )
    }

    /// The claims of a token with a correct signature.
    pub fn verify(&self, token: &str) -> Option<Value> {
        let untrusted = UntrustedToken::<Public, V4>::try_from(token).ok()?;
        let footer: Value = serde_json::from_slice(untrusted.untrusted_footer()).ok()?;
        let key = self.0.get(footer["kid"].as_str()?)?;
        let trusted = PublicToken::verify(key, &untrusted, None, None).ok()?;
        serde_json::from_str(trusted.payload()).ok()
    }
}

#[tokio::test]
async fn a_token_verifies_with_the_published_key_and_not_when_it_was_changed() {
    let authority = crate::support::Authority::dev(&[]);
    let client = authority.client("production").await;
    let issued = client.issue(crate::support::viewer("user:ann")).await.unwrap();
    let token = crate::support::access(issued.tokens.as_ref());
    let verifier = Verifier::fetch(&authority.address).await;
    let claims = verifier.verify(&token).unwrap();
    for name in [
        "iss",
        "sub",
        "aud",
        "jti",
        "iat",
        "nbf",
        "exp",
        "scope",
        "roles",
        "realm",
        "client_id",
        "sid",
        "gen",
        "rev",
        "pol",
    ] {
        assert!(!claims[name].is_null(), "{name}: {claims}");
    }
    let (header, rest) = token.split_at("v4.public.".len());
    let (payload, footer) = rest.split_once('.').unwrap();
    let mut bytes = URL_SAFE_NO_PAD.decode(payload).unwrap();
    let at = bytes.windows(8).position(|window| window == b"user:ann").unwrap();
    bytes[at + 5..at + 8].copy_from_slice(b"bob");
    let forged = format!("{header}{}.{footer}", URL_SAFE_NO_PAD.encode(bytes));
    assert_eq!(verifier.verify(&forged), None);
}
