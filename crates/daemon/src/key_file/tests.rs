//! The form of a sealed key, with a fake sealer.

use super::*;

/// Seals by writing the text backwards, after a checksum of the bound text.
struct Fake {
    key: &'static str,
    /// Whether it opens sealed texts; otherwise it opens nothing.
    works: bool,
}

const FAKE: Fake = Fake {
    key: "fake \"one\"",
    works: true,
};

impl Sealer for Fake {
    fn key(&self) -> &str {
        self.key
    }

    fn seal(&self, secret: &str, bound: &[u8]) -> Result<String, SealerError> {
        let backwards: String = secret.chars().rev().collect();
        Ok(format!("{:08x}.{backwards}", crc32fast::hash(bound)))
    }

    fn open(&self, sealed: &str, bound: &[u8]) -> Result<Zeroizing<String>, SealerError> {
        let (to, backwards) = sealed.split_once('.').unwrap();
        if self.works && to == format!("{:08x}", crc32fast::hash(bound)) {
            return Ok(Zeroizing::new(backwards.chars().rev().collect()));
        }
        Err(SealerError::DoesNotOpen {
            key: self.key.to_owned(),
            said: String::new(),
        })
    }
}

fn key() -> ServerKey {
    ServerKey::generate().unwrap()
}

fn sealed(text: &str) -> SealedKey {
    match KeyText::parse(text).unwrap() {
        KeyText::Sealed(sealed) => sealed,
        KeyText::Plain(key) => panic!("{key:?} is not sealed"),
    }
}

/// With the check of the current text.
fn checked(text: &str) -> String {
    let (checked, _) = text.rsplit_once("\ncheck ").unwrap();
    format!("{checked}\ncheck {}\n", check_of(checked))
}

#[test]
fn a_sealed_key_is_read_as_it_is_written() {
    let key = key();
    let written = SealedKey::seal(&key, &FAKE).unwrap();
    let text = written.to_string();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines[0], "tessera sealed server key 1");
    assert_eq!(lines[1], format!("id {}", key.id()));
    assert_eq!(lines[2], "by fake \"one\"");
    assert_eq!(lines.len(), 5);
    // As it is in a variable, or after an editor changed it.
    for text in [&*text, text.trim(), &format!("\n {text}\n\n")] {
        let read = sealed(text);
        assert_eq!(read, written);
        assert_eq!(*read.open(&FAKE).unwrap().to_paserk(), *key.to_paserk());
        assert_eq!(KeyText::parse(text).unwrap().id(), key.id());
    }
    let plain = KeyText::parse(&format!("\u{feff}{}\r\n", *key.to_paserk())).unwrap();
    assert_eq!(plain.id(), key.id());
    assert!(matches!(KeyText::parse(" \n"), Err(KeyTextError::Empty)));
    let plain = KeyText::parse(&key.to_paserk()).unwrap();
    assert!(matches!(plain, KeyText::Plain(plain) if plain.id() == key.id()));
}

#[test]
fn nothing_of_the_key_is_in_its_debug_or_in_an_error() {
    let key = key();
    let secret = key.to_paserk();
    let secret = secret.strip_prefix("k4.local.").unwrap();
    let shown = format!("{:?}", KeyText::parse(&key.to_paserk()).unwrap());
    assert!(!shown.contains(secret), "{shown}");
    for text in [
        format!("{TITLE}{secret}\n"),
        format!("{TITLE}1\nid {secret}\n"),
        secret.to_owned(),
    ] {
        let error = KeyText::parse(&text).unwrap_err();
        assert!(!format!("{error} {error:?}").contains(secret), "{error:?}");
    }
}

#[test]
fn what_is_wrong_with_a_sealed_key_is_told() {
    let key = key();
    let text = SealedKey::seal(&key, &FAKE).unwrap().to_string();
    let other = SealedKey::seal(&super::tests::key(), &FAKE).unwrap().to_string();
    let line = |text: &str, number: usize| text.lines().nth(number).unwrap().to_owned();
    let cases = [
        ("cut off", text[..text.len() / 2].to_owned(), "damaged"),
        (
            "without its check",
            text.rsplit_once("\ncheck").unwrap().0.to_owned(),
            "damaged",
        ),
        (
            "a letter",
            text.replacen("sealed k", "sealed x", 1)
                .replacen("fake", "fade", 1),
            "damaged",
        ),
        (
            "a line more",
            checked(&text.replacen("\nby", "\nmore x\nby", 1)),
            "damaged",
        ),
        (
            "a line at the end",
            checked(&text.replacen("\ncheck", "\nmore\ncheck", 1)),
            "damaged",
        ),
        (
            "no id",
            checked(&text.replacen(&line(&text, 1), "id ", 1)),
            "damaged",
        ),
        (
            "a version of tomorrow",
            text.replacen(" key 1\n", " key 2\n", 1),
            "version `2`",
        ),
        ("no version", text.replacen(" key 1\n", " key x\n", 1), "damaged"),
        // An attacker changed it on purpose, including its check.
        (
            "another id",
            checked(&text.replacen(&line(&text, 1), &line(&other, 1), 1)),
            "does not open",
        ),
        (
            "another key inside",
            checked(&text.replacen(&line(&text, 3), &line(&other, 3), 1)),
            "does not open",
        ),
        (
            "sealed by another",
            checked(&text.replacen("\"one\"", "\"two\"", 1)),
            "sealed with fake \"two\", and [keys.sealer] names fake \"one\"",
        ),
        ("another file", "[keys]\nfile = 1\n".to_owned(), "not a key"),
    ];
    for (what, text, said) in cases {
        let opened = KeyText::parse(&text).and_then(|read| match read {
            KeyText::Sealed(sealed) => sealed.open(&FAKE),
            KeyText::Plain(key) => Ok(*key),
        });
        let refused = opened.unwrap_err().to_string();
        assert!(refused.contains(said), "{what}: {refused}");
    }
}

#[test]
fn the_id_outside_is_that_of_the_key_inside() {
    /// Binds to nothing.
    struct Careless;
    impl Sealer for Careless {
        fn key(&self) -> &str {
            "careless"
        }
        fn seal(&self, secret: &str, _: &[u8]) -> Result<String, SealerError> {
            Ok(secret.to_owned())
        }
        fn open(&self, sealed: &str, _: &[u8]) -> Result<Zeroizing<String>, SealerError> {
            Ok(Zeroizing::new(sealed.to_owned()))
        }
    }
    let of_one = SealedKey::seal(&key(), &Careless).unwrap();
    let mixed = SealedKey {
        id: key().id().to_owned(),
        ..of_one
    };
    assert!(matches!(mixed.open(&Careless), Err(KeyTextError::Damaged)));
}

#[test]
fn what_does_not_open_again_is_not_kept() {
    let broken = Fake { works: false, ..FAKE };
    assert!(SealedKey::seal(&key(), &broken).is_err());
}
