//! Subjects in rules and tests. A subject may have any name, so a misspelled role or client would be a subject that
//! does not exist, and a denial for it would have no effect.

use tessera_core::{ClientName, Subject};

use crate::{
    catalogue::Catalogue,
    code,
    look_alike::{look_alike, to_latin},
    nearest::advice,
    quote::quote,
};

const ROLE: &str = "role:";
/// The kinds of subjects with a conventional spelling.
const KINDS: [&str; 2] = ["client", "user"];

/// What is wrong with a subject: a code, a message and advice.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) code: &'static str,
    pub(crate) message: String,
    pub(crate) help: Option<String>,
}

/// Checks that a text is a subject, and not almost the name of something else.
pub(crate) fn check(text: &str, catalogue: &Catalogue) -> Result<(), Problem> {
    // All names of roles and clients are in lower case.
    let folded = to_latin(text).to_lowercase();
    if !text.starts_with(ROLE) && is_nearly_role(&folded, catalogue) {
        return Err(unknown_role(text, &folded, catalogue));
    }
    check_kind(text, &folded)?;
    if let Err(error) = Subject::parse(text) {
        let star = (text == "*").then(|| "`*` is no subject: give the rule to a role".to_owned());
        return Err(misspelled(error.to_string(), star.or_else(|| look_alike(text))));
    }
    if let Some((kind, _)) = folded.split_once(' ')
        && (KINDS.contains(&kind) || kind == "role")
    {
        let message = format!("the subject has a space where `{kind}:` has its colon");
        return Err(misspelled(message, format!("write `{kind}:` and the name")));
    }
    // A name that would be Latin except for look-alike letters is a mistake, or an attempt to deceive.
    if !text.is_ascii() && to_latin(text).is_ascii() {
        let message = format!("{} only looks like `{}`", quote(text), to_latin(text));
        return Err(misspelled(message, look_alike(text)));
    }
    // `viewer` for `role:viewer`.
    if !text.contains([':', '@', '|']) {
        let meant = format!("{ROLE}{folded}");
        if catalogue.has_role_text(&meant) {
            let message = format!("{} is a subject, while `{meant}` is a role", quote(text));
            return Err(misspelled(message, advice(text, &meant)));
        }
    }
    Ok(())
}

fn misspelled(message: String, help: impl Into<Option<String>>) -> Problem {
    Problem {
        code: code::NAME,
        message,
        help: help.into(),
    }
}

fn unknown_role(text: &str, folded: &str, catalogue: &Catalogue) -> Problem {
    let nearest = catalogue.nearest_role(folded).map(|role| advice(text, &role));
    let help = nearest.unwrap_or_else(|| "roles begin with `role:`, in lower case".to_owned());
    Problem {
        code: code::UNKNOWN_ROLE,
        message: format!("the catalogue has no role {}", quote(text)),
        help: Some(help),
    }
}

/// Whether a text that does not begin with `role:` was meant to: it differs only in its case, it begins with `role` and
/// is close to a role, or it is a role with one wrong character in `role:`.
///
/// This is stricter than other advice, since `tool:manager` beside `role:manager` is not a mistake.
fn is_nearly_role(folded: &str, catalogue: &Catalogue) -> bool {
    if folded.starts_with(ROLE) {
        return true;
    }
    if folded.starts_with("role") && catalogue.nearest_role(folded).is_some() {
        return true;
    }
    // One character less, a different one, or one more.
    (ROLE.len() - 1..=ROLE.len() + 1).any(|length| {
        folded.split_at_checked(length).is_some_and(|(start, name)| {
            strsim::osa_distance(start, ROLE) == 1 && catalogue.has_role_text(&format!("{ROLE}{name}"))
        })
    })
}

/// Refuses `User:ann`, and a client that can't exist.
fn check_kind(text: &str, folded: &str) -> Result<(), Problem> {
    let Some((kind, name)) = text.split_once(':') else {
        return Ok(());
    };
    let folded_kind = folded.split_once(':').map_or("", |(kind, _)| kind);
    let Some(known) = KINDS.into_iter().find(|known| *known == folded_kind) else {
        return Ok(());
    };
    let client = (known == "client").then(|| ClientName::parse(text));
    let meant = match client {
        Some(_) if ClientName::parse(folded).is_ok() => folded.to_owned(),
        _ => format!("{known}:{name}"),
    };
    match client {
        _ if kind != known => {
            let message = format!("{} begins with `{kind}:` instead of `{known}:`", quote(text));
            Err(misspelled(message, advice(text, &meant)))
        }
        Some(Err(error)) => {
            let help = (meant != text).then(|| advice(text, &meant));
            Err(misspelled(error.to_string(), help.or_else(|| look_alike(text))))
        }
        Some(Ok(_)) | None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use crate::{catalogue, diagnostic::Findings, text::Text};

    const CATALOGUE: &str = r#"
        realms.production = "x"
        audiences.api = "x"
        scopes."videos:read" = "x"
        roles."role:renter" = "x"
        roles."role:manager" = "x"
        roles."role:7" = "x"
    "#;

    fn check(text: &str) -> Result<(), (&'static str, String)> {
        let mut findings = Findings::default();
        let file = Text::read("catalogue.toml", CATALOGUE.as_bytes(), &mut findings).unwrap();
        let catalogue = catalogue::read::read(&file, &mut findings).unwrap();
        assert!(findings.is_empty());
        super::check(text, &catalogue).map_err(|problem| (problem.code, problem.help.unwrap_or_default()))
    }

    #[test]
    fn what_is_nearly_a_role_is_refused() {
        let meant = "did you mean `role:renter`?";
        for text in [
            "roles:renter",
            "roles:rentr",
            "role.renter",
            "Roles.Renter",
            "role-renter",
            "rolerenter",
            "rol:Renter",
            "roel:renter",
        ] {
            assert_eq!(check(text), Err(("P037", meant.to_owned())), "{text}");
        }
        for text in ["Role:renter", "ROLE:renter", "rOle:RENTER"] {
            let help = format!("{meant} it differs only in case");
            assert_eq!(check(text), Err(("P037", help)), "{text}");
        }
        let help = format!("{meant} the letter U+043E only looks like `o`");
        assert_eq!(check("r\u{43e}le:renter"), Err(("P037", help)));
        let help = "roles begin with `role:`, in lower case";
        assert_eq!(check("Role:billing"), Err(("P037", help.to_owned())));
        for text in ["renter", "Renter"] {
            assert_eq!(check(text), Err(("P036", meant.to_owned())), "{text}");
        }
    }

    #[test]
    fn what_is_nearly_a_client_or_a_user_is_refused() {
        for (text, meant) in [
            ("User:ann", "user:ann"),
            ("USER:Ann", "user:Ann"),
            ("Client:shop", "client:shop"),
            ("Client:Shop", "client:shop"),
            ("client:Shop", "client:shop"),
        ] {
            let help = format!("did you mean `{meant}`? it differs only in case");
            assert_eq!(check(text), Err(("P036", help)), "{text}");
        }
        let help = "did you mean `user:ann`? the letter U+0435 only looks like `e`";
        assert_eq!(check("us\u{435}r:ann"), Err(("P036", help.to_owned())));
        for text in ["client:a:b", "client:", "client:a@b"] {
            assert_eq!(check(text), Err(("P036", String::new())), "{text}");
        }
    }

    #[test]
    fn what_only_looks_like_a_latin_name_or_lacks_its_colon_is_refused() {
        for text in [
            "a\u{43d}n",
            "\u{430}nn@example.org",
            "spiffe://ex\u{430}mple.org/a",
        ] {
            let refused = check(text);
            assert!(
                refused.is_err() || !super::to_latin(text).is_ascii(),
                "{text}: {refused:?}"
            );
        }
        let help = "the letter U+0430 only looks like `a`";
        assert_eq!(check("\u{430}nn@example.org"), Err(("P036", help.to_owned())));
        for text in ["user ann", "Client shop", "role viewer"] {
            let (code, help) = check(text).unwrap_err();
            assert!(code.starts_with("P03") && !help.is_empty(), "{text}");
        }
    }

    #[test]
    fn other_subjects_may_be_called_anything() {
        for text in [
            "user:Ann",
            "user:renter",
            "client:shop",
            "device:7",
            "tool:7",
            "tool:manager",
            "Device:7",
            "auth0|5f",
            "Ann@example.org",
            "rolex",
            "roland",
            "roles:nothing-like-one",
            "urn:user:Ann",
            "users:ann",
            "clients",
            "Client",
            ":",
            "spiffe://example.org/ns/prod/sa/videos",
            "arn:aws:iam::123456789012:user/Ann Smith",
            "o'neil@example.org",
            "j\u{fc}rgen",
            "\u{43f}\u{451}\u{442}\u{440}",
        ] {
            assert_eq!(check(text), Ok(()), "{text}");
        }
    }
}
