//! Text that looks like a secret: only this module knows the shapes. It removes secrets from text for a log, an answer
//! or a terminal.

use std::{borrow::Cow, ops::Range};

/// The replacement for a secret in [`redact`]ed text.
const REDACTED: &str = "[redacted]";
/// The prefixes of Tessera's API keys and refresh tokens.
const PREFIXES: [&str; 2] = ["tsk_", "tsr_"];
const PEM: &str = "-----BEGIN";
const PEM_END: &str = "-----END";
/// The endings of names whose value is a secret, if `=` follows.
const SECRET_NAMES: [&str; 4] = ["password", "passwd", "passphrase", "secret"];
/// How many characters must follow a prefix for a secret: fewer may be prose about the prefix.
const PAYLOAD_MIN: usize = 8;
/// A run of letters and digits of this length with capitals, small letters and digits is not a word.
const MIXED_RUN_MIN: usize = 20;
/// A run of this length with letters and digits in any case is not a word.
const RUN_MIN: usize = 32;

/// The position in `text` of something that can only be a secret: an API key or a refresh token of Tessera, a PASETO, a
/// PASERK, or a PEM block. Prose that only names a prefix is not one.
#[must_use]
pub fn find(text: &str) -> Option<usize> {
    let pem = text.find(PEM);
    let token = secret_tokens(text).find_map(|token| {
        let at = whole_secret(text.get(token.clone())?)?;
        Some(token.start + at)
    });
    match (pem, token) {
        (Some(pem), Some(token)) => Some(pem.min(token)),
        (pem, token) => pem.or(token),
    }
}

/// The text with everything that has the shape of a secret replaced. In addition to what [`find`] finds, these are
/// short forms of the same, passwords in URLs and after `password =`, and long runs of letters and digits that are not
/// words.
#[must_use]
pub fn redact(text: &str) -> Cow<'_, str> {
    replace(text, secret_in, |_| REDACTED.into())
}

/// As [`redact`], except for the short forms and the long runs: for text in which prose, paths and ids of others must
/// stay readable.
#[must_use]
pub fn redact_known(text: &str) -> Cow<'_, str> {
    replace(text, whole_secret, |_| REDACTED.into())
}

/// As [`redact`], with the same number of characters: for excerpts in which columns matter.
#[must_use]
pub fn mask(text: &str) -> Cow<'_, str> {
    let stars = |secret: &str| "*".repeat(secret.chars().count()).into();
    replace(text, secret_in, stars)
}

fn replace<'a>(
    text: &'a str,
    secret_in: impl Fn(&str) -> Option<usize>,
    by: impl Fn(&str) -> Cow<'static, str>,
) -> Cow<'a, str> {
    let spans = spans(text, secret_in);
    if spans.is_empty() {
        return Cow::Borrowed(text);
    }
    let mut replaced = String::with_capacity(text.len());
    let mut end = 0;
    for span in spans {
        replaced.push_str(text.get(end..span.start).unwrap_or_default());
        replaced.push_str(&by(text.get(span.clone()).unwrap_or_default()));
        end = span.end;
    }
    replaced.push_str(text.get(end..).unwrap_or_default());
    Cow::Owned(replaced)
}

/// The positions of secrets in order, without overlaps.
fn spans(text: &str, secret_in: impl Fn(&str) -> Option<usize>) -> Vec<Range<usize>> {
    let pem = pem_blocks(text);
    let is_in_pem = |token: &Range<usize>| pem.iter().any(|block| block.contains(&token.start));
    let mut spans: Vec<_> = secret_tokens(text)
        .filter(|token| !is_in_pem(token))
        .filter_map(|token| {
            let at = secret_in(text.get(token.clone())?)?;
            Some(token.start + at..token.end)
        })
        .collect();
    spans.extend(pem.iter().cloned());
    spans.extend(url_passwords(text));
    spans.extend(assigned(text));
    spans.sort_by_key(|span| span.start);
    let mut end = 0;
    // Overlapping ones are one secret.
    spans.retain_mut(|span| {
        span.start = span.start.max(end);
        end = span.end.max(end);
        span.start < span.end
    });
    spans
}

/// `postgresql://user:PASSWORD@host`. A password may have an `@` or a `/` that is not encoded.
fn url_passwords(text: &str) -> impl Iterator<Item = Range<usize>> {
    text.match_indices("://").filter_map(|(at, mark)| {
        let start = at + mark.len();
        let rest = text.get(start..)?;
        let end = rest.find(|c: char| c.is_whitespace() || "\"'`<>".contains(c));
        let (user, _) = rest.get(..end.unwrap_or(rest.len()))?.rsplit_once('@')?;
        let colon = user.find(':')?;
        Some(start + colon + 1..start + user.len())
    })
}

/// `password = "VALUE"`, `password=VALUE`.
fn assigned(text: &str) -> impl Iterator<Item = Range<usize>> {
    let lower = text.to_ascii_lowercase();
    text.match_indices('=').filter_map(move |(at, sign)| {
        let name = lower.get(..at)?.trim_end_matches([' ', '\t', '"', '\'']);
        if !SECRET_NAMES.iter().any(|secret| name.ends_with(secret)) {
            return None;
        }
        let rest = text.get(at + sign.len()..)?;
        let value = rest.trim_start_matches([' ', '\t']);
        let start = text.len() - value.len();
        let quote = value.chars().next().filter(|c| matches!(c, '"' | '\''));
        let (start, value) = match quote {
            Some(_) => (start + 1, value.get(1..)?),
            None => (start, value),
        };
        let is_end = |c: char| match quote {
            Some(quote) => c == quote || c == '\n',
            None => c.is_whitespace() || "&;,`".contains(c),
        };
        Some(start..start + value.find(is_end).unwrap_or(value.len()))
    })
}

/// PEM blocks; one without an end runs to the end of the text.
fn pem_blocks(text: &str) -> Vec<Range<usize>> {
    let mut blocks = Vec::new();
    let mut from = 0;
    while let Some(start) = text.get(from..).and_then(|rest| rest.find(PEM)) {
        let start = from + start;
        let rest = text.get(start..).unwrap_or_default();
        let end = rest.find(PEM_END).and_then(|at| {
            let label = rest.get(at + PEM_END.len()..)?;
            Some(at + PEM_END.len() + label.find("-----")? + "-----".len())
        });
        from = start + end.unwrap_or(rest.len());
        blocks.push(start..from);
    }
    blocks
}

/// The runs of characters that tokens and keys consist of.
fn tokens(text: &str) -> impl Iterator<Item = Range<usize>> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '+' | '/' | '=');
    let mut rest = 0;
    std::iter::from_fn(move || {
        let start = rest + text.get(rest..)?.find(is_part)?;
        let run = text.get(start..)?;
        let end = run.find(|c| !is_part(c)).unwrap_or(run.len());
        rest = start + end;
        // The full stop of a sentence is not part of the token before it.
        let word = run.get(..end)?.trim_end_matches('.');
        Some(start..start + word.len())
    })
}

/// The tokens that may be secrets.
fn secret_tokens(text: &str) -> impl Iterator<Item = Range<usize>> {
    tokens(text).filter(|token| !text.get(token.clone()).is_some_and(is_public))
}

/// The prefixes of a PASERK that is not secret: the id of a key, and a verifying key.
const PUBLIC: [&str; 4] = ["lid.", "pid.", "sid.", "public."];

/// PASERKs of any version that are public.
fn is_public(token: &str) -> bool {
    let rest = token
        .strip_prefix('k')
        .and_then(|rest| rest.strip_prefix(['1', '2', '3', '4']))
        .and_then(|rest| rest.strip_prefix('.'));
    let payload = PUBLIC.iter().find_map(|kind| rest?.strip_prefix(kind));
    payload.is_some_and(|payload| !payload.contains(['.', '=', '+', '/']))
}

/// The start of a token of a known kind, if enough characters follow it for a secret.
fn whole_secret(token: &str) -> Option<usize> {
    let at = marker(token)?;
    let payload = token.get(at..)?.rsplit(['.', '_']).next()?;
    (payload.len() >= PAYLOAD_MIN).then_some(at)
}

/// The start of a token of a known kind.
fn marker(token: &str) -> Option<usize> {
    let prefix = PREFIXES.iter().filter_map(|prefix| {
        let at = token.find(prefix)?;
        (at + prefix.len() < token.len()).then_some(at)
    });
    prefix.chain(versioned(token)).min()
}

/// `v4.local.…`, `k4.secret-wrap.…`: a PASETO or a PASERK of any version.
fn versioned(token: &str) -> Option<usize> {
    let bytes = token.as_bytes();
    bytes.windows(4).enumerate().find_map(|(at, window)| {
        let before = at.checked_sub(1).and_then(|before| bytes.get(before));
        let is_start = before.is_none_or(|before| !before.is_ascii_alphanumeric());
        let is_version = matches!(window, [b'k' | b'v', b'1'..=b'4', b'.', b'a'..=b'z']);
        (is_version && (is_start || is_long(token.get(at..)?))).then_some(at)
    })
}

/// Whether something like `v4.local.…` has a part as long as a key: then it is one, with any text before it, such as
/// the end of an encoded character.
fn is_long(versioned: &str) -> bool {
    versioned.split('.').skip(2).any(|part| part.len() >= RUN_MIN)
}

/// The start of a token that is of a known kind, or that is not a word.
fn secret_in(token: &str) -> Option<usize> {
    marker(token).or_else(|| is_random(token).then_some(0))
}

/// Whether a token has a run of letters and digits that does not occur in a name.
fn is_random(token: &str) -> bool {
    token.split(|c: char| !c.is_ascii_alphanumeric()).any(|run| {
        let has = |kind: fn(&u8) -> bool| run.as_bytes().iter().any(kind);
        let (upper, lower) = (has(u8::is_ascii_uppercase), has(u8::is_ascii_lowercase));
        let digits = has(u8::is_ascii_digit);
        (run.len() >= MIXED_RUN_MIN && upper && lower && digits)
            || (run.len() >= RUN_MIN && digits && (upper || lower))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRETS: [&str; 9] = [
        "tsk_0123456789abcdef",
        "tsr_AAAAAAAAAAAA",
        "v4.public.eyJzdWIiOiJ1c2VyOmFubiJ9",
        "v4.local.AAAAAAAAAAAAAAAA",
        "v2.local.AAAAAAAAAAAAAAAA",
        "k4.secret.AAAAAAAAAAAAAAAA",
        "k4.secret-wrap.pie.AAAAAAAAAAAAAAAA",
        "k4.local.AAAA_AAAA-AAAAAAAA",
        "-----BEGIN PRIVATE KEY-----",
    ];

    #[test]
    fn a_secret_is_found_and_redacted_wherever_it_stands() {
        for secret in SECRETS {
            assert_eq!(find(secret), Some(0), "{secret}");
            for (before, after) in [("p, role:", ", x"), ("\"", "\" = 1"), ("x=", "`"), ("é ", "\n")] {
                let text = format!("{before}{secret}{after}");
                assert!(find(&text).is_some(), "{text}");
                let redacted = redact(&text);
                assert!(!redacted.contains(&secret[..8]), "{text}: {redacted}");
                assert!(redacted.contains(REDACTED), "{redacted}");
                assert_eq!(mask(&text).chars().count(), text.chars().count());
                assert!(!mask(&text).contains(&secret[..8]));
            }
        }
    }

    #[test]
    fn a_whole_pem_block_is_redacted_and_what_surrounds_it_is_kept() {
        let text = "a -----BEGIN X-----\nAAAA/BBBB\n-----END X----- b -----BEGIN Y-----\nCCCC";
        assert_eq!(redact(text), "a [redacted] b [redacted]");
    }

    #[test]
    fn what_only_begins_as_a_public_key_is_a_secret() {
        for secret in [
            "k4.public-wrap.AAAAAAAAAAAAAAAA",
            "k4.lid.AAAA.k4.local.AAAAAAAAAAAAAAAA",
            "xk4.local.AAAAAAAAAAAAAAAA k4.local.BBBBBBBBBB",
            "/forward-auth/a%2Fv4.public.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
            "9k4.local.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        ] {
            assert!(find(secret).is_some(), "{secret}");
        }
    }

    #[test]
    fn long_runs_that_are_no_words_are_redacted_though_they_are_not_refused() {
        for run in [
            "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC",
            "d41d8cd98f00b204e9800998ecf8427e",
            "abc/AKIAIOSFODNN7EXAMPLEabc",
        ] {
            assert_eq!((find(run), redact(run).as_ref()), (None, REDACTED), "{run}");
        }
    }

    #[test]
    fn passwords_are_known_by_what_is_before_them() {
        for (text, redacted) in [
            (
                "postgresql://me:p@ss/w@db:5432/t?a=b `",
                "postgresql://me:[redacted]@db:5432/t?a=b `",
            ),
            ("url = \"http://a:hunter2@b\"", "url = \"http://a:[redacted]@b\""),
            ("x password=hunter2 host=a", "x password=[redacted] host=a"),
            ("PASSWORD = \"hunter 2\" # a", "PASSWORD = \"[redacted]\" # a"),
            ("\"db_password\" = 'hun\"ter", "\"db_password\" = '[redacted]"),
            (
                "client_secret=tsk_production_AAAAAAAA&a=b",
                "client_secret=[redacted]&a=b",
            ),
        ] {
            assert_eq!(
                (redact(text).as_ref(), redact_known(text).as_ref()),
                (redacted, redacted)
            );
            assert_eq!(mask(text).chars().count(), text.chars().count());
            assert!(!mask(text).contains("hunter"));
        }
        let path = "/nix/store/d41d8cd98f00b204e9800998ecf8427e-tessera/tessera.toml";
        assert_eq!(redact_known(path), path);
        let prose = "expected a PASERK `k4.local.…`, or tsk_… of 32 bytes";
        assert_eq!(redact_known(prose), prose);
    }

    #[test]
    fn prose_and_names_are_left_alone() {
        for text in [
            "keys begin with tsk_ and tokens with v4.",
            "did you mean `reports/confidential/2026:read`?",
            "user:0198f2c3-5a1e-7c44-9d21-0b1f6a7e8c90",
            "auth0|5f7c8ec7c33c6c004bbafe82",
            "api/v1.2:read",
            "some(where (p.eft == allow)) && !some(where (p.eft == deny))",
            "tessera/subjects/user:*",
            "srv4.local.example.org",
            "https://db:5432/a, password_file = \"x\", the password: none, secret=",
            "k4.lid.iVtYQDjr5gEijCSjJC3fQaJm7nCeQSeaty0Jixy8dbsk",
            "at hand is k4.lid.iVtYQDjr5gEijCSjJC3fQaJm7nCeQSeaty0Jixy8dbsk. Name it...",
            "k4.pid.9ShR3xc8-qVJ_di0tc9nx0IDIqbatdeM2mqLFBJsKRHs",
            "k4.public.cHFyc3R1dnd4eXp7fH1-f4CBgoOEhYaHiImKi4yNjo8",
            "",
        ] {
            assert_eq!((find(text), redact(text).as_ref()), (None, text));
        }
    }
}
