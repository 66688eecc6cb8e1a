//! Why a sealer can't be used.

use std::{io, path::PathBuf, time::Duration};

use tessera_token::{KeyError, NoEntropy};

/// The sealer of the server key can't be used. Each message says what to do, and none contains a key or a PIN.
#[derive(Debug, thiserror::Error)]
pub enum SealerError {
    /// A file that the sealer needs can't be read.
    #[error("`{path}` can't be read: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The sealing key is not a valid key.
    #[error("the sealing key {place} can't be used: {source}")]
    SealingKey {
        /// The file or the variable.
        place: String,
        /// Why; never the key.
        source: KeyError,
    },
    /// There is no sealing key.
    #[error("no sealing key: set {0} in the environment, or another `kind`")]
    NoSealingKey(&'static str),
    /// The module can't be loaded.
    #[error(
        "the PKCS#11 module `{module}` can't be loaded: {problem}. Set `module` to the library that came with the HSM; this binary must be linked dynamically, as the released ones are"
    )]
    Module {
        /// The library.
        module: PathBuf,
        /// The error of the operating system.
        problem: String,
    },
    /// The library is not a PKCS#11 module.
    #[error("`{module}` is not a PKCS#11 module: set `module` to the library that came with the HSM")]
    NoModule {
        /// The library.
        module: PathBuf,
    },
    /// The HSM does not answer.
    #[error(
        "the HSM has not answered within {} s: check that it is connected and switched on, and that its own service is running; then try again, or set a longer `answer_time_max`",
        time.as_secs()
    )]
    Silent {
        /// How long the call waited.
        time: Duration,
    },
    /// No token has that label.
    #[error(
        "there is no token `{wanted}`: check that the HSM is connected, or set `token` to one of these: {there}"
    )]
    NoToken {
        /// The label, with the serial number if one is given.
        wanted: String,
        /// The existing tokens.
        there: String,
    },
    /// There are tokens, but none is initialized.
    #[error(
        "there is no token `{wanted}`, and no other initialized one: check that the HSM is connected, and that `module` is its library. Only if this is a new HSM, initialize a token with its tool: that erases the keys of a token"
    )]
    NotInitialized {
        /// The label.
        wanted: String,
    },
    /// Several tokens have that label.
    #[error(
        "several tokens have the label `{label}`: set `serial`, too, to one of their serial numbers: {serials}"
    )]
    AmbiguousToken {
        /// The label.
        label: String,
        /// The serial numbers.
        serials: String,
    },
    /// No PIN is given.
    #[error(
        "there is no PIN: name its file in `pin_file`, or set TESSERA_PKCS11_PIN_FILE or TESSERA_PKCS11_PIN in the environment"
    )]
    NoPin,
    /// The PIN is wrong.
    #[error(
        "the token `{token}` refuses the PIN, which was tried once: correct the PIN before you try again. After a few wrong PINs, a token locks itself"
    )]
    PinRefused {
        /// The token.
        token: String,
    },
    /// The PIN was wrong before.
    #[error(
        "the token `{token}` has refused this PIN before, and it is not tried again: correct the PIN; or, if the token's PIN has changed since then, restart"
    )]
    PinRefusedBefore {
        /// The token.
        token: String,
    },
    /// Another wrong PIN would lock the token.
    #[error(
        "the next wrong PIN locks the token `{token}`, so no PIN is tried: log in once with the tool of the HSM, which resets the count of wrong PINs, and configure the PIN that works"
    )]
    PinLastTry {
        /// The token.
        token: String,
    },
    /// The token is locked.
    #[error(
        "the PIN of the token `{token}` is locked, after too many wrong PINs: unlock it as its security officer, with the tool of the HSM"
    )]
    PinLocked {
        /// The token.
        token: String,
    },
    /// The token has no user PIN, or an expired one.
    #[error("the PIN of the token `{token}` must be set first: {why}. The tool of the HSM does it")]
    PinUnset {
        /// The token.
        token: String,
        /// Why.
        why: &'static str,
    },
    /// No key has that label.
    #[error(
        "the token `{token}` has no AES key `{wanted}`: make it there, or set `key` to one of these: {there}"
    )]
    NoKey {
        /// The token.
        token: String,
        /// The label.
        wanted: String,
        /// The existing keys.
        there: String,
    },
    /// Several keys have that label.
    #[error("{count} keys of the token `{token}` have the label `{key}`: give the right one its own label")]
    AmbiguousKey {
        /// The token.
        token: String,
        /// The label.
        key: String,
        /// How many.
        count: usize,
    },
    /// The key may not be used for this purpose.
    #[error(
        "the key `{key}` may not {what}: make one in the HSM that is an AES key and may encrypt and decrypt (CKA_ENCRYPT, CKA_DECRYPT)"
    )]
    KeyMayNot {
        /// The label.
        key: String,
        /// The purpose.
        what: &'static str,
    },
    /// The HSM does not support AES-GCM.
    #[error("the HSM has no AES-GCM (CKM_AES_GCM) for the key `{key}`, which is needed: use another HSM")]
    NoMechanism {
        /// The label.
        key: String,
    },
    /// The key does not open it.
    #[error(
        "{key} does not open it{said}: it was sealed with another key with this name, or was changed. Put that key back, or restore a copy of the file"
    )]
    DoesNotOpen {
        /// The key.
        key: String,
        /// The HSM's answer.
        said: String,
    },
    /// The HSM is disconnected, or fails.
    #[error("the HSM can't be used: {said}. Check that it is connected and works, then try again")]
    Hsm {
        /// The call, and its answer.
        said: String,
    },
    /// The operating system provides no random numbers.
    #[error(transparent)]
    Entropy(#[from] NoEntropy),
}

impl SealerError {
    /// Whether a PIN was wrong, so that an automatic retry would do harm.
    #[must_use]
    pub fn is_of_pin(&self) -> bool {
        matches!(
            self,
            Self::PinRefused { .. }
                | Self::PinRefusedBefore { .. }
                | Self::PinLastTry { .. }
                | Self::PinLocked { .. }
        )
    }
}
