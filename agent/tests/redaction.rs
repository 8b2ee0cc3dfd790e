//! Masking as a whole: nothing secret gets through, nothing harmless is masked, wherever the text is cut.
//!
//! A *leak* is any six consecutive bytes of a declared secret's line that stand in the output, as they are or after
//! the output was decoded from percent encoding, backslash escapes (once or twice), hex or base64 at any offset.
//! Six, because that is the shortest secret: what is shorter is not told from chance.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{collections::HashSet, fmt::Write as _};

use base64::prelude::{
    BASE64_STANDARD, BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE, BASE64_URL_SAFE_NO_PAD, Engine as _,
};
use meridian_agent::redaction::{Redaction, Secret, SecretError};
use proptest::prelude::*;

const LEAK_LEN: usize = 6;

const SECRETS: &[&str] = &[
    "hunter2",
    "s3cr3t/with+all \"kinds\" of\\nchars & %41=?",
    "correct horse battery staple",
    "zażółć-gęślą-😀-jaźń",
    "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSj",
    "first line of it\nsecond: line/of+it\n\nshort\nthird \"line\"\tof it",
];

fn redaction_of(secrets: &[&str]) -> Redaction {
    let secrets: Vec<Secret> =
        secrets.iter().map(|value| Secret::new("S", value.as_bytes()).unwrap()).collect();
    Redaction::new(&secrets).unwrap()
}

fn masked_in_pieces(redaction: &Redaction, text: &[u8], mut cuts: Vec<usize>) -> Vec<u8> {
    let (mut redactor, mut out) = (redaction.redactor(), Vec::new());
    cuts.sort_unstable();
    let mut from = 0;
    for cut in cuts.into_iter().chain([text.len()]) {
        let cut = cut.clamp(from, text.len());
        redactor.push(&text[from..cut], &mut out);
        from = cut;
    }
    redactor.finish(&mut out);
    out
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn percent(value: &[u8], is_plain: impl Fn(u8) -> bool) -> String {
    value.iter().fold(String::new(), |mut text, byte| {
        if is_plain(*byte) {
            text.push(char::from(*byte));
        } else {
            write!(text, "%{byte:02X}").unwrap();
        }
        text
    })
}

fn in_json(value: &str) -> String {
    let quoted = serde_json::to_string(value).unwrap();
    quoted[1..quoted.len() - 1].to_owned()
}

fn all_unicode(value: &str) -> String {
    value.encode_utf16().fold(String::new(), |mut text, unit| {
        write!(text, "\\u{unit:04X}").unwrap();
        text
    })
}

/// As `%q` writes it, without the quotes around it; those at the secret's own ends stay.
fn in_go(secret: &str) -> String {
    let quoted = format!("{secret:?}");
    quoted[1..quoted.len() - 1].to_owned()
}

/// How tools print a secret.
fn forms(secret: &str) -> Vec<(&'static str, String)> {
    let bytes = secret.as_bytes();
    let unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let reserved_only = |byte: u8| byte.is_ascii() && !b" \n\t\"#%&+/=?\\".contains(&byte);
    let mut forms = vec![
        ("raw", secret.to_owned()),
        ("crlf", secret.replace('\n', "\r\n")),
        ("line end", format!("{secret}\n")),
        ("hex", hex(bytes)),
        ("HEX", hex(bytes).to_uppercase()),
        ("percent", percent(bytes, unreserved)),
        ("percent lower", percent(bytes, unreserved).to_lowercase()),
        ("percent reserved", percent(bytes, reserved_only)),
        ("percent all", percent(bytes, |_| false)),
        ("form", percent(bytes, |byte| unreserved(byte) || byte == b' ').replace(' ', "+")),
        ("json", in_json(secret)),
        ("json slash", in_json(secret).replace('/', "\\/")),
        ("json unicode", all_unicode(secret)),
        ("json mixed", in_json(secret).replace('r', "\\u0072").replace('&', "\\u0026")),
        ("json in json", in_json(&in_json(secret))),
        ("json in json unicode", in_json(&all_unicode(secret))),
        ("go", in_go(secret)),
    ];
    // Lowering the case changes the secret itself where it has capitals.
    forms.retain(|(name, _)| *name != "percent lower" || secret.to_lowercase() == secret);
    for before in ["", "a", "ab", "user:"] {
        for after in ["", "z", "yz", "\n"] {
            let whole = format!("{before}{secret}{after}");
            forms.push(("base64", BASE64_STANDARD.encode(&whole)));
            forms.push(("base64 bare", BASE64_STANDARD_NO_PAD.encode(&whole)));
            forms.push(("base64url", BASE64_URL_SAFE.encode(&whole)));
            forms.push(("base64url bare", BASE64_URL_SAFE_NO_PAD.encode(&whole)));
        }
    }
    let long = BASE64_STANDARD.encode(format!("{}{secret}", "x".repeat(50)));
    forms.push((
        "base64 wrapped",
        long.as_bytes().chunks(76).map(|line| String::from_utf8_lossy(line)).collect::<Vec<_>>().join("\n"),
    ));
    forms.push(("base64 in url", percent(long.as_bytes(), unreserved)));
    forms.push(("base64 in json", long.replace('/', "\\/")));
    forms
}

/// Every reading of `text` that the criterion names.
fn readings(text: &[u8]) -> Vec<Vec<u8>> {
    let unescaped = unescape(text);
    let mut readings = vec![
        text.to_vec(),
        unpercent(text),
        unpercent(text).into_iter().map(|b| if b == b'+' { b' ' } else { b }).collect(),
    ];
    readings.push(unescape(&unescaped));
    readings.push(unescaped);
    for text in readings.clone() {
        for offset in 0..4 {
            readings.push(undigit(&text, offset, 6));
            readings.push(undigit(&text, offset, 4));
        }
    }
    readings
}

fn unpercent(text: &[u8]) -> Vec<u8> {
    let (mut out, mut at) = (Vec::new(), 0);
    while at < text.len() {
        let digits = text.get(at + 1..at + 3).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()).filter(|_| text[at] == b'%') {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(text[at]);
                at += 1;
            }
        }
    }
    out
}

fn unescape(text: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(text).into_owned();
    let (mut units, mut rest): (Vec<u16>, &str) = (Vec::new(), &text);
    while let Some(char) = rest.chars().next() {
        let code = rest.get(2..6).filter(|_| rest.starts_with("\\u"));
        if let Some(unit) = code.and_then(|code| u16::from_str_radix(code, 16).ok()) {
            units.push(unit);
            rest = &rest[6..];
        } else if let Some(after) =
            rest.strip_prefix('\\').filter(|after| after.starts_with(|c: char| c.is_ascii()))
        {
            let char = match after.as_bytes()[0] {
                b'n' => b'\n',
                b't' => b'\t',
                b'r' => b'\r',
                other => other,
            };
            units.push(char.into());
            rest = &after[1..];
        } else {
            units.extend(char.encode_utf16(&mut [0; 2]).iter());
            rest = &rest[char.len_utf8()..];
        }
    }
    String::from_utf16_lossy(&units).into_bytes()
}

/// The bytes that digits of `bits` stand for, beginning with the digit at `offset` of each run.
fn undigit(text: &[u8], offset: usize, bits: u32) -> Vec<u8> {
    let alphabet = |byte: u8| match (bits, byte) {
        (4, _) => char::from(byte).to_digit(16),
        (_, b'-') => Some(62),
        (_, b'_') => Some(63),
        _ => b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
            .iter()
            .position(|digit| *digit == byte)
            .and_then(|digit| u32::try_from(digit).ok()),
    };
    let mut out = Vec::new();
    for run in text.split(|byte| alphabet(*byte).is_none() && !b"\r\n".contains(byte)) {
        let (mut value, mut have) = (0_u32, 0);
        for digit in run.iter().filter_map(|byte| alphabet(*byte)).skip(offset) {
            (value, have) = (((value << bits) | digit) & 0xffff, have + bits);
            if have >= 8 {
                have -= 8;
                out.push(u8::try_from((value >> have) & 0xff).unwrap());
            }
        }
        out.push(0);
    }
    out
}

/// Six bytes of `secret` that can be read in `out`, and how.
fn leak(secret: &str, out: &[u8]) -> Option<String> {
    let parts: HashSet<&[u8]> = secret.lines().flat_map(|line| line.as_bytes().windows(LEAK_LEN)).collect();
    let readings = readings(out);
    let mut read = readings.iter().flat_map(|reading| reading.windows(LEAK_LEN));
    read.find(|part| parts.contains(part)).map(|part| String::from_utf8_lossy(part).into_owned())
}

/// What stands around a secret. No bare backslash: who escapes text escapes that too.
const AROUND: &[(&str, &str)] = &[("", ""), ("+ x", "\nX="), ("{\"k\":\"", "\"}"), ("a/b%", "%")];

#[test]
fn no_form_of_a_secret_leaks_over_any_cut() {
    let (mut cases, mut leaks) = (0_u32, Vec::new());
    for secret in SECRETS {
        let redaction = redaction_of(&[secret]);
        for (form, encoded) in forms(secret) {
            for (before, after) in AROUND {
                let text = format!("{before}{encoded}{after}");
                let whole = masked_in_pieces(&redaction, text.as_bytes(), Vec::new());
                if let Some(leaked) = leak(secret, &whole) {
                    leaks.push(format!(
                        "{form}: {leaked:?} of {text:?} in {:?}",
                        String::from_utf8_lossy(&whole)
                    ));
                }
                // One masker goes from cut to cut, so that each case costs one text and not two.
                let (mut redactor, mut certain) = (redaction.redactor(), Vec::new());
                for cut in 0..=text.len() {
                    let (mut rest, mut out) = (redactor.clone(), certain.clone());
                    rest.push(&text.as_bytes()[cut..], &mut out);
                    rest.finish(&mut out);
                    assert_eq!(out, whole, "{form}: {text:?} cut at {cut}");
                    cases += 1;
                    redactor.push(&text.as_bytes()[cut..(cut + 1).min(text.len())], &mut certain);
                    assert!(whole.starts_with(&certain), "{form}: {text:?}: released too early at {cut}");
                }
            }
        }
    }
    assert!(leaks.is_empty(), "{} leaks:\n{}", leaks.len(), leaks.join("\n"));
    assert!(cases >= 100_000, "only {cases} cases");
}

#[test]
fn the_criterion_sees_every_form_unmasked() {
    for secret in SECRETS {
        for (form, encoded) in forms(secret) {
            assert!(leak(secret, encoded.as_bytes()).is_some(), "{form} of {secret:?}: {encoded}");
        }
    }
}

#[test]
fn what_stands_around_a_secret_stays() {
    let redaction = redaction_of(&["hunter2", "ter2-and-more", "unter2-an", "swordfish"]);
    for (text, expected) in [
        ("a hunter2 b", "a *** b"),
        ("hunter2", "***"),
        ("hunter2swordfish, hunter2 swordfish", "***, *** ***"),
        ("hunter2-and-more", "***"),
        ("hunter2-an", "***"),
        ("hunter2-and-mor!", "***d-mor!"),
        ("hunterswordfish", "hunter***"),
        ("YTpodW50ZXIyOmI=", "YT***OmI="),
        ("hunter", "***"),
        ("hunte", "hunte"),
        ("hunter3", "hunter3"),
    ] {
        assert_eq!(redaction.text(text), expected, "{text}");
    }
}

#[test]
fn each_line_of_a_secret_is_masked_behind_whatever_a_logger_puts_before_it() {
    let redaction = redaction_of(&["-----BEGIN X-----\r\nfirst line\r\n  second line\r\n}\r\n"]);
    let text = "12:00 | -----BEGIN X-----\n12:01 | first line\n12:02 |   second line\n12:03 | }\n";
    assert_eq!(redaction.text(text), "12:00 | ***\n12:01 | ***\n12:02 |   ***\n12:03 | }\n");
    assert_eq!(redaction.text("-----BEGIN X-----\nfirst line\n  second line\n}"), "***");
}

#[test]
fn a_long_secret_is_masked_whole_and_in_parts() {
    let secret: String = (0..20_000).map(|n| format!("{n:x},")).collect();
    let redaction = redaction_of(&[&secret[..60_000]]);
    let out = redaction.text(&format!("a {} b", &secret[..60_000]));
    assert_eq!(out, "a *** b");
    let encoded = BASE64_STANDARD.encode(&secret[..60_000]);
    let wrapped: Vec<_> = encoded.as_bytes().chunks(76).map(String::from_utf8_lossy).collect();
    let out = redaction.text(&wrapped.join("\r\n"));
    assert!(out.trim_matches(['*', '\r', '\n']).is_empty(), "{out}");
    let half = redaction.text(&secret[..30_000]);
    assert!(leak(&secret[..29_000], half.as_bytes()).is_none() && half.starts_with("***"));
}

#[test]
fn little_is_held_back_whatever_comes() {
    let redaction = redaction_of(SECRETS);
    let texts = [
        "eyJ".to_owned() + &"a".repeat(100_000),
        "https://a:".to_owned() + &"b".repeat(100_000),
        "-----BEGIN PRIVATE KEY-----".to_owned() + &" x".repeat(50_000),
        "--token \"".to_owned() + &"\\".repeat(100_000),
        "hunterhunter".repeat(10_000),
        "\\u00".repeat(30_000),
        format!("{}\n", "A".repeat(60)).repeat(2_000),
    ];
    for text in texts {
        let (mut redactor, mut out, mut masks) = (redaction.redactor(), Vec::new(), 0);
        for (at, piece) in text.as_bytes().chunks(100).enumerate() {
            let before = out.len();
            redactor.push(piece, &mut out);
            masks += usize::from(out[before..].contains(&b'*'));
            let mask_only = masks > 0;
            assert!(
                mask_only || out.len() + (20 << 10) > at * 100,
                "{} of {} held: {}",
                at * 100 - out.len(),
                text.len(),
                &text[..20]
            );
        }
        redactor.finish(&mut out);
    }
}

#[test]
fn a_secret_with_quotes_at_its_ends_is_masked_in_every_form() {
    for secret in ["0 A 0aA\"", "\"0 A 0aA", "\"0 A 0aA\"\""] {
        let redaction = Redaction::new(&[Secret::new("S", secret.as_bytes()).unwrap()]).unwrap();
        for (name, encoded) in forms(secret) {
            let out = redaction.text(&format!(" {encoded} "));
            assert!(leak(secret, out.as_bytes()).is_none(), "{name}: {out}");
        }
    }
}

#[test]
fn more_secrets_than_can_be_looked_for_are_refused() {
    let many: Vec<Secret> =
        (0..4097).map(|n| Secret::new("S", format!("secret-{n}").as_bytes()).unwrap()).collect();
    assert!(matches!(Redaction::new(&many), Err(SecretError::TooMany { count: 4097 })));
    assert!(Redaction::new(&many[1..]).is_ok());
    let large: Vec<Secret> =
        (0..5).map(|n| Secret::new("S", format!("{n}abc").repeat(15_000).as_bytes()).unwrap()).collect();
    assert!(matches!(Redaction::new(&large), Err(SecretError::TooMuch { len: 300_000 })));
}

const HARMLESS: &str = include_str!("redaction/harmless.log");

#[test]
fn harmless_text_stays_as_it_is() {
    let declared = redaction_of(SECRETS);
    for line in HARMLESS.lines() {
        assert_eq!(Redaction::default().text(line), line);
        assert_eq!(declared.text(line), line);
    }
    assert_eq!(declared.text(HARMLESS), HARMLESS);
    assert!(HARMLESS.lines().count() > 100);
}

/// Text made of what begins, ends and escapes secrets and shapes.
fn fragments() -> impl Strategy<Value = String> {
    let fragment = prop::sample::select(vec![
        "hunter2",
        "hunt",
        "er2",
        "aHVudGVyMg",
        "68756e7465",
        "7232",
        "%68",
        "unter2",
        "\\u0068",
        "\\",
        "\"",
        "'",
        " ",
        "\n",
        "\r\n",
        "=",
        "--token",
        "--email=",
        "-password ",
        "a@b",
        "https://",
        "u:",
        ":",
        "@",
        "/",
        "eyJ",
        "eyJh.eyJi",
        ".",
        "ghp_",
        "glpat-",
        "0123456789abcdefghij",
        "AKIAIOSFODNN7EXAMPLE",
        "Authorization: Bearer ",
        "basic ",
        "%",
        "-----BEGIN ",
        "PRIVATE KEY-----",
        "-----END ",
        "-----",
        "first line of it",
        "second: line/of+it",
        "short",
        "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjabcdefghijklmnopqrstuvwxyz",
    ]);
    prop::collection::vec(fragment, 0..40).prop_map(|fragments| fragments.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_result_does_not_depend_on_where_the_text_is_cut(
        text in fragments(),
        cuts in prop::collection::vec(0_usize..600, 0..12),
    ) {
        let redaction = redaction_of(SECRETS);
        let whole = masked_in_pieces(&redaction, text.as_bytes(), Vec::new());
        prop_assert_eq!(&masked_in_pieces(&redaction, text.as_bytes(), cuts), &whole);
        prop_assert_eq!(&masked_in_pieces(&redaction, text.as_bytes(), (0..text.len()).collect()), &whole);
        let shapes = Redaction::default();
        let whole = masked_in_pieces(&shapes, text.as_bytes(), Vec::new());
        prop_assert_eq!(&masked_in_pieces(&shapes, text.as_bytes(), (0..text.len()).collect()), &whole);
    }

    #[test]
    fn any_secret_in_any_text_is_masked(
        secret in "[ -~]{8,40}",
        before in ".{0,30}",
        after in ".{0,30}",
        form in 0_usize..80,
    ) {
        let Ok(declared) = Secret::new("S", secret.as_bytes()) else { return Ok(()) };
        let secret = secret.trim_matches(|c: char| c.is_ascii_whitespace());
        let forms = forms(secret);
        let (name, encoded) = &forms[form % forms.len()];
        let out = Redaction::new(&[declared]).unwrap().text(&format!("{before} {encoded} {after}"));
        prop_assert!(leak(secret, out.as_bytes()).is_none(), "{}: {}", name, out);
    }
}
