//! A key in an HSM, which never leaves it: AES-GCM by the HSM's PKCS#11 module.

mod failure;
mod module;
mod pin;
mod token;

use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use cryptoki::{
    error::{Error, RvError},
    mechanism::{Mechanism, aead::GcmParams},
    object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle},
    session::{Session, UserType},
    types::{AuthPin, Ulong},
};
use zeroize::Zeroizing;

use self::{
    failure::{failed, is_of_data, login_failed, said, use_failed},
    pin::{Pin, Tried},
    token::{Token, listed},
};
use super::{
    deadline::{NoAnswer, within},
    error::SealerError,
    seal::Sealer,
};
use crate::config::Pkcs11Config;

/// The length of an AES-GCM nonce.
const NONCE_BYTES: usize = 12;
/// The length of its tag.
const TAG_BITS: u64 = 128;

/// Logs in to the token, runs `work` with the key, and logs out: all within the configured time.
///
/// # Errors
/// See [`SealerError`]; or `work` fails.
pub(super) fn with_hsm<T, E, F>(config: &Pkcs11Config, work: F) -> Result<T, E>
where
    F: FnOnce(&dyn Sealer) -> Result<T, E> + Send + 'static,
    T: Send + 'static,
    E: From<SealerError> + Send + 'static,
{
    let (config, pin) = (config.clone(), pin::read(config)?);
    let time = config.answer_time_max.get();
    let done = within(time, move || {
        module::with_module(&config.module, time, |module| {
            let token = token::choose(token::tokens(module)?, &config)?;
            let session = module.open_ro_session(token.slot).map_err(failed)?;
            log_in(&session, &token, &config, pin)?;
            let key = find_key(&session, &config)?;
            work(&HsmKey {
                name: name(&config),
                label: config.key.as_str(),
                session,
                key,
            })
            // The session ends here, and with it the login.
        })
    });
    done.unwrap_or_else(|no_answer| {
        Err(match no_answer {
            NoAnswer::Late => SealerError::Silent { time },
            NoAnswer::Failed => SealerError::Hsm {
                said: "the call ended without an answer".to_owned(),
            },
        }
        .into())
    })
}

/// See [`module::rest`].
pub(super) fn rest(time: Duration) {
    module::rest(time);
}

/// The PIN, only to be compared with another one.
pub(super) fn secret_of(config: &Pkcs11Config) -> Option<Zeroizing<String>> {
    pin::read(config).ok().map(|pin| pin.0)
}

/// The name of the key, as a key file says what sealed it. JSON's quotes keep it on one line.
fn name(config: &Pkcs11Config) -> String {
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let (token, key) = (quoted(config.token.as_str()), quoted(config.key.as_str()));
    format!("pkcs11 token {token} key {key}")
}

fn log_in<S>(
    session: &Session,
    token: &Token<S>,
    config: &Pkcs11Config,
    pin: Pin,
) -> Result<(), SealerError> {
    if !token::needs_login(&token.label, token.pin)? {
        return Ok(());
    }
    let tried = Tried {
        module: config.module.clone(),
        serial: token.serial.clone(),
        pin,
    };
    if pin::was_refused(&tried) {
        let token = token.label.clone();
        return Err(SealerError::PinRefusedBefore { token });
    }
    let secret = AuthPin::from(tried.pin.0.as_str().to_owned());
    match session.login(UserType::User, Some(&secret)) {
        Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(()),
        Err(error) => {
            let error = login_failed(error, &token.label);
            if matches!(error, SealerError::PinRefused { .. }) {
                pin::note_refused(tried);
            }
            Err(error)
        }
    }
}

/// The key with the label of the configuration.
fn find_key(session: &Session, config: &Pkcs11Config) -> Result<ObjectHandle, SealerError> {
    let class = Attribute::Class(ObjectClass::SECRET_KEY);
    let label = Attribute::Label(config.key.as_str().as_bytes().to_vec());
    let found = session.find_objects(&[class.clone(), label]).map_err(failed)?;
    match found.as_slice() {
        [key] => {
            check_key(session, *key, config)?;
            Ok(*key)
        }
        [] => {
            let others = session.find_objects(&[class]).map_err(failed)?;
            let labels: Vec<_> = others
                .into_iter()
                .filter_map(|key| label_of(session, key))
                .collect();
            Err(SealerError::NoKey {
                token: config.token.to_string(),
                wanted: config.key.to_string(),
                there: listed(labels.iter().map(String::as_str)),
            })
        }
        several => Err(SealerError::AmbiguousKey {
            token: config.token.to_string(),
            key: config.key.to_string(),
            count: several.len(),
        }),
    }
}

fn label_of(session: &Session, key: ObjectHandle) -> Option<String> {
    let attributes = session.get_attributes(key, &[AttributeType::Label]).ok()?;
    attributes.into_iter().find_map(|attribute| match attribute {
        Attribute::Label(label) => Some(String::from_utf8_lossy(&label).into_owned()),
        _ => None,
    })
}

/// Refuses a key that can seal but not open, before anything is sealed with it. What an HSM does not report is tested
/// by using the key.
fn check_key(session: &Session, key: ObjectHandle, config: &Pkcs11Config) -> Result<(), SealerError> {
    let asked = [
        AttributeType::KeyType,
        AttributeType::Encrypt,
        AttributeType::Decrypt,
    ];
    let told = session.get_attributes(key, &asked).map_err(failed)?;
    match told.iter().find_map(forbidden) {
        None => Ok(()),
        Some(what) => Err(SealerError::KeyMayNot {
            key: config.key.to_string(),
            what,
        }),
    }
}

/// A required operation that the key does not permit.
fn forbidden(told: &Attribute) -> Option<&'static str> {
    match told {
        Attribute::KeyType(kind) if *kind != KeyType::AES => Some("be used for AES"),
        Attribute::Encrypt(false) => Some("encrypt"),
        Attribute::Decrypt(false) => Some("decrypt"),
        _ => None,
    }
}

/// A key of a token, during a login.
struct HsmKey<'a> {
    name: String,
    label: &'a str,
    session: Session,
    key: ObjectHandle,
}

impl Sealer for HsmKey<'_> {
    fn key(&self) -> &str {
        &self.name
    }

    fn seal(&self, secret: &str, bound: &[u8]) -> Result<String, SealerError> {
        let mut nonce = tessera_token::random::<NONCE_BYTES>()?;
        let sealed = {
            let parameters = GcmParams::new(&mut nonce, bound, Ulong::from(TAG_BITS)).map_err(failed)?;
            self.session
                .encrypt(&Mechanism::AesGcm(parameters), self.key, secret.as_bytes())
                .map_err(|error| use_failed(error, self.label, "encrypt"))?
        };
        // Some HSMs accept no nonce from outside, and have replaced it by their own.
        Ok(URL_SAFE_NO_PAD.encode([nonce.as_slice(), &sealed].concat()))
    }

    fn open(&self, sealed: &str, bound: &[u8]) -> Result<Zeroizing<String>, SealerError> {
        let does_not = |said: String| SealerError::DoesNotOpen {
            key: self.name.clone(),
            said,
        };
        let sealed = URL_SAFE_NO_PAD.decode(sealed);
        let sealed = sealed.map_err(|_| does_not(String::new()))?;
        let (nonce, sealed) = sealed
            .split_at_checked(NONCE_BYTES)
            .ok_or_else(|| does_not(String::new()))?;
        let mut nonce = nonce.to_vec();
        let parameters = GcmParams::new(&mut nonce, bound, Ulong::from(TAG_BITS)).map_err(failed)?;
        let opened = self
            .session
            .decrypt(&Mechanism::AesGcm(parameters), self.key, sealed);
        let opened = Zeroizing::new(opened.map_err(|error| {
            if is_of_data(&error) {
                does_not(format!(" ({})", said(&error)))
            } else {
                use_failed(error, self.label, "decrypt")
            }
        })?);
        let text = std::str::from_utf8(&opened).map_err(|_| does_not(String::new()))?;
        Ok(Zeroizing::new(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_may_not_do_both_is_refused() {
        for (told, what) in [
            (Attribute::KeyType(KeyType::AES), None),
            (
                Attribute::KeyType(KeyType::GENERIC_SECRET),
                Some("be used for AES"),
            ),
            (Attribute::Encrypt(true), None),
            (Attribute::Encrypt(false), Some("encrypt")),
            (Attribute::Decrypt(true), None),
            (Attribute::Decrypt(false), Some("decrypt")),
            (Attribute::Wrap(false), None),
        ] {
            assert_eq!(forbidden(&told), what, "{told:?}");
        }
    }

    #[test]
    fn the_name_of_a_key_is_one_line() {
        let text = "module = 'a'\ntoken = 'a \"b\"'\nkey = 'c'";
        let config: Pkcs11Config = toml::from_str(text).unwrap();
        assert_eq!(name(&config), r#"pkcs11 token "a \"b\"" key "c""#);
    }
}
