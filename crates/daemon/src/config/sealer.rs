//! `[keys.sealer]`: what seals the server key at rest.

use std::{fmt, path::PathBuf, time::Duration};

use serde::Deserialize;

use super::bounded::{Time, optional_path, path};

/// What seals the server key at rest.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "lowercase", tag = "kind")]
pub enum SealerConfig {
    /// A sealing key in another file.
    File {
        /// The file, as `tessera serverkey new-sealing-key` makes it.
        #[serde(deserialize_with = "path")]
        path: PathBuf,
    },
    /// A sealing key in the environment: `TESSERA_SEALING_KEY`.
    Environment {},
    /// An AES key in an HSM, by its PKCS#11 module.
    Pkcs11(Pkcs11Config),
}

/// An AES key in an HSM.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pkcs11Config {
    /// The library of the HSM's vendor. A name without a slash is searched in the library directories of the system.
    #[serde(deserialize_with = "path")]
    pub module: PathBuf,
    /// The label of the token.
    pub token: Label,
    /// The serial number of the token, if several have that label.
    #[serde(default)]
    pub serial: Option<Label>,
    /// The label of the AES key.
    pub key: Label,
    /// The file with the PIN. `TESSERA_PKCS11_PIN` in the environment takes precedence, and then the file that its
    /// `TESSERA_PKCS11_PIN_FILE` names.
    #[serde(default, deserialize_with = "optional_path")]
    pub pin_file: Option<PathBuf>,
    /// How long the HSM may take to answer all requests of one use.
    #[serde(default = "default_answer_time_max")]
    pub answer_time_max: Time<1, 600>,
}

/// The name of an object in an HSM: 1 to 255 bytes without control characters.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Label(String);

impl Label {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Label {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let is_label = (1..=255).contains(&text.len()) && !text.chars().any(char::is_control);
        is_label
            .then_some(Self(text))
            .ok_or("expected 1 to 255 bytes without control characters")
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl SealerConfig {
    /// The files whose paths are relative to the configuration.
    pub(super) fn paths(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        let paths = match self {
            Self::File { path } => [Some(path), None],
            Self::Environment {} => [None, None],
            Self::Pkcs11(hsm) => {
                let is_path = hsm.module.components().count() > 1;
                [hsm.pin_file.as_mut(), is_path.then_some(&mut hsm.module)]
            }
        };
        paths.into_iter().flatten()
    }

    /// The files that contain a secret.
    pub(crate) fn secret_files(&self) -> impl Iterator<Item = &PathBuf> {
        let path = match self {
            Self::File { path } => Some(path),
            Self::Environment {} => None,
            Self::Pkcs11(hsm) => hsm.pin_file.as_ref(),
        };
        path.into_iter()
    }
}

fn default_answer_time_max() -> Time<1, 600> {
    Time::of(Duration::from_secs(10))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<SealerConfig, String> {
        toml::from_str::<SealerConfig>(text).map_err(|error| error.message().to_owned())
    }

    #[test]
    fn a_sealer_is_one_of_its_kinds_with_what_that_needs() {
        let hsm = "kind = 'pkcs11'\nmodule = 'libsofthsm2.so'\ntoken = 'tessera'\nkey = 'server key'";
        for (good, files) in [
            ("kind = 'file'\npath = 'sealing.key'", 1),
            ("kind = 'environment'", 0),
            (hsm, 0),
            (
                &format!("{hsm}\nserial = 'a1'\npin_file = 'pin'\nanswer_time_max = '30s'"),
                1,
            ),
        ] {
            let mut parsed = parse(good).unwrap();
            assert_eq!(parsed.secret_files().count(), files, "{good}");
            assert_eq!(parsed.paths().count(), files, "{good}");
        }
        // A module is a path only if its name has a directory.
        let mut named = parse(&hsm.replace("libsofthsm2.so", "lib/hsm.so")).unwrap();
        assert_eq!(named.paths().count(), 1);
        let SealerConfig::Pkcs11(parsed) = parse(hsm).unwrap() else {
            panic!("another kind");
        };
        assert_eq!(parsed.answer_time_max.get(), Duration::from_secs(10));
        for (bad, why) in [
            ("kind = 'file'", "path"),
            ("kind = 'kms'", "unknown variant"),
            ("kind = 'environment'\npath = 'a'", "unknown field"),
            ("kind = 'pkcs11'\nmodule = 'a'\nkey = 'b'", "token"),
            (&hsm.replace("'tessera'", "''"), "1 to 255 bytes"),
            (&hsm.replace("'server key'", "\"a\\nb\""), "control characters"),
            (&format!("{hsm}\nanswer_time_max = '0s'"), "from 1s to 10m"),
            (&format!("{hsm}\npin = '1234'"), "unknown field"),
            (&format!("{hsm}\npin_file = ''"), "expected a path"),
        ] {
            let said = parse(bad).unwrap_err();
            assert!(said.contains(why), "{bad}: {said}");
        }
    }
}
