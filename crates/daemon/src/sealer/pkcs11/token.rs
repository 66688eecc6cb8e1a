//! Selecting the token, and deciding whether its PIN may be tried.

use cryptoki::{context::Pkcs11, slot::Slot};

use super::failure::failed;
use crate::{
    config::{Label, Pkcs11Config},
    sealer::error::SealerError,
};

/// A token as it describes itself.
#[derive(Clone, Debug)]
pub(super) struct Token<S> {
    pub(super) slot: S,
    pub(super) label: String,
    pub(super) serial: String,
    is_initialized: bool,
    pub(super) pin: PinState,
}

/// The state of the user's PIN, as the token reports it.
#[derive(Clone, Copy, Debug)]
pub(super) struct PinState {
    is_needed: bool,
    is_set: bool,
    is_to_be_changed: bool,
    is_last_try: bool,
    is_locked: bool,
}

/// The tokens of all slots.
pub(super) fn tokens(module: &Pkcs11) -> Result<Vec<Token<Slot>>, SealerError> {
    let mut tokens = Vec::new();
    for slot in module.get_slots_with_token().map_err(failed)? {
        // A token that was removed in the meantime is skipped.
        let Ok(info) = module.get_token_info(slot) else {
            continue;
        };
        tokens.push(Token {
            slot,
            label: info.label().to_owned(),
            serial: info.serial_number().to_owned(),
            is_initialized: info.token_initialized(),
            pin: PinState {
                is_needed: info.login_required(),
                is_set: info.user_pin_initialized(),
                is_to_be_changed: info.user_pin_to_be_changed(),
                is_last_try: info.user_pin_final_try(),
                is_locked: info.user_pin_locked(),
            },
        });
    }
    Ok(tokens)
}

/// The token that the configuration names.
pub(super) fn choose<S>(tokens: Vec<Token<S>>, config: &Pkcs11Config) -> Result<Token<S>, SealerError> {
    let wanted = match &config.serial {
        Some(serial) => format!("{}` with the serial number `{serial}", config.token),
        None => config.token.to_string(),
    };
    let (initialized, others): (Vec<_>, Vec<_>) = tokens.into_iter().partition(|token| token.is_initialized);
    if initialized.is_empty() && !others.is_empty() {
        return Err(SealerError::NotInitialized { wanted });
    }
    let there = listed(initialized.iter().map(|token| token.label.as_str()));
    let is_meant = |token: &Token<S>| {
        let serial = config.serial.as_ref().map(Label::as_str);
        token.label == config.token.as_str() && serial.is_none_or(|serial| serial == token.serial)
    };
    let mut meant: Vec<_> = initialized.into_iter().filter(is_meant).collect();
    match (meant.pop(), meant.is_empty()) {
        (None, _) => Err(SealerError::NoToken { wanted, there }),
        (Some(token), true) => Ok(token),
        (Some(token), false) => {
            let serials = meant.iter().chain([&token]).map(|token| token.serial.as_str());
            Err(SealerError::AmbiguousToken {
                label: config.token.to_string(),
                serials: listed(serials),
            })
        }
    }
}

/// Whether to log in. An automatic process never makes the try that can lock a token.
pub(super) fn needs_login(label: &str, pin: PinState) -> Result<bool, SealerError> {
    let token = label.to_owned();
    if !pin.is_needed {
        Ok(false)
    } else if pin.is_locked {
        Err(SealerError::PinLocked { token })
    } else if !pin.is_set {
        let why = "its user has none";
        Err(SealerError::PinUnset { token, why })
    } else if pin.is_to_be_changed {
        let why = "it has expired, or is the one that the token came with";
        Err(SealerError::PinUnset { token, why })
    } else if pin.is_last_try {
        Err(SealerError::PinLastTry { token })
    } else {
        Ok(true)
    }
}

/// Names, formatted for a sentence.
pub(super) fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<_> = names.map(|name| format!("`{name}`")).collect();
    match names.as_slice() {
        [] => "(there are none)".to_owned(),
        names => names.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SealerConfig;

    const WELL: PinState = PinState {
        is_needed: true,
        is_set: true,
        is_to_be_changed: false,
        is_last_try: false,
        is_locked: false,
    };

    fn config(more: &str) -> Pkcs11Config {
        let text = format!("kind = 'pkcs11'\nmodule = 'a'\ntoken = 'one'\nkey = 'k'\n{more}");
        match toml::from_str(&text).unwrap() {
            SealerConfig::Pkcs11(config) => config,
            other => panic!("{other:?}"),
        }
    }

    fn token(slot: u8, label: &str, serial: &str) -> Token<u8> {
        Token {
            slot,
            label: label.to_owned(),
            serial: serial.to_owned(),
            is_initialized: !label.is_empty(),
            pin: WELL,
        }
    }

    #[test]
    fn one_token_is_meant_or_what_there_is_is_told() {
        let blank = token(9, "", "");
        let (one, two, twin) = (token(1, "one", "a"), token(2, "two", "b"), token(3, "one", "c"));
        let choose = |tokens: &[&Token<u8>], more: &str| {
            let tokens = tokens.iter().map(|token| (*token).clone()).collect();
            let chosen = choose(tokens, &config(more));
            chosen.map(|token| token.slot).map_err(|error| error.to_string())
        };
        assert_eq!(choose(&[&two, &one, &blank], ""), Ok(1));
        assert_eq!(choose(&[&one, &twin], "serial = 'c'"), Ok(3));
        for (tokens, more, said) in [
            (
                &[][..],
                "",
                "there is no token `one`: check that the HSM is connected, or set `token` to one of these: (there are none)",
            ),
            (&[&two, &blank][..], "", "one of these: `two`"),
            (
                &[&one][..],
                "serial = 'x'",
                "there is no token `one` with the serial number `x`",
            ),
            (&[&blank][..], "", "Only if this is a new HSM"),
            (
                &[&one, &twin][..],
                "",
                "set `serial`, too, to one of their serial numbers: `a`, `c`",
            ),
        ] {
            let refused = choose(tokens, more).unwrap_err();
            assert!(refused.contains(said), "{said}: {refused}");
        }
    }

    #[test]
    fn the_try_that_could_lock_a_token_is_not_made() {
        let said = |state: PinState| needs_login("one", state).map_err(|error| error.to_string());
        assert_eq!(said(WELL), Ok(true));
        assert_eq!(
            said(PinState {
                is_needed: false,
                ..WELL
            }),
            Ok(false)
        );
        for (state, part) in [
            (
                PinState {
                    is_locked: true,
                    is_last_try: true,
                    ..WELL
                },
                "unlock it as its security officer",
            ),
            (
                PinState {
                    is_last_try: true,
                    ..WELL
                },
                "so no PIN is tried",
            ),
            (
                PinState {
                    is_set: false,
                    ..WELL
                },
                "its user has none",
            ),
            (
                PinState {
                    is_to_be_changed: true,
                    ..WELL
                },
                "it has expired",
            ),
        ] {
            let refused = said(state).unwrap_err();
            assert!(refused.contains(part), "{part}: {refused}");
        }
    }
}
