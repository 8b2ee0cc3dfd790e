//! Text that shows by its shape that it is secret.
//!
//! - the value of an option: `--email V`, `--token=V`, `--password "V"`, `--secret V`, `--api-key V`, with one dash
//!   or two, also as quoted arguments (`"--token" "V"`, `["--token","V"]`). An unquoted value ends at a blank, a quoted
//!   one at its quote or the line's end. Prose that names such an option loses the word after it;
//! - `Authorization: Bearer V`, `Basic V` or `Token V`, as a header, in JSON or in a Go map;
//! - the password of a URL, `scheme://user:V@host`;
//! - tokens of known make: `glpat-`, `ghp_` and its kin, `github_pat_`, `AKIA` and `ASIA`, `xoxb-` and its kin, JWTs;
//! - what stands between the first and the last line of a PEM private key.
//!
//! Each shape begins with a literal, and all literals are looked for together; a shape that has begun then takes
//! byte by byte. So the cost is linear, and text without any such literal passes at the speed of a search.
//!
//! Not here: addresses of people outside `--email`, and anything that only looks random. Digests, checksums,
//! versions (`module@v1.2.3`) and `git@host:path` are harmless and stay.

mod header;
mod option;
mod private_key;
mod token;
mod url;

use std::sync::LazyLock;

use aho_corasick::{automaton::StateID, packed};

use self::{
    header::Authorization,
    option::OptionValue,
    private_key::PrivateKey,
    token::{JWT_BEGIN, Jwt, TOKENS, Token},
    url::UrlPassword,
};
use super::{marks::Marks, needles::Needles};

/// Below this a search costs more than it saves.
const SEARCHED_MIN: usize = 64;

/// What a literal begins.
#[derive(Debug, Clone, Copy)]
enum Begin {
    Option,
    Authorization,
    Url,
    Token(usize),
    Jwt,
    KeyHead,
    KeyBody,
    KeyEnd,
}

const BEGINS: &[(&str, Begin)] = &[
    ("-email", Begin::Option),
    ("-token", Begin::Option),
    ("-password", Begin::Option),
    ("-secret", Begin::Option),
    ("-api-key", Begin::Option),
    ("Authorization", Begin::Authorization),
    ("authorization", Begin::Authorization),
    ("AUTHORIZATION", Begin::Authorization),
    ("://", Begin::Url),
    // As some JSON writers escape it.
    (r":\/\/", Begin::Url),
    (JWT_BEGIN, Begin::Jwt),
    ("-----BEGIN ", Begin::KeyHead),
    ("PRIVATE KEY-----", Begin::KeyBody),
    ("PRIVATE KEY BLOCK-----", Begin::KeyBody),
    ("-----END ", Begin::KeyEnd),
];

/// The literals, ready to be looked for.
struct Literals {
    begins: Vec<(&'static str, Begin)>,
    needles: Needles,
    /// Finds the next literal fast, where the processor can.
    searcher: Option<packed::Searcher>,
    len_max: usize,
}

static LITERALS: LazyLock<Literals> = LazyLock::new(|| {
    let tokens = TOKENS.iter().enumerate().map(|(which, token)| (token.prefix, Begin::Token(which)));
    let begins: Vec<_> = BEGINS.iter().copied().chain(tokens).collect();
    let literals: Vec<&str> = begins.iter().map(|(literal, _)| *literal).collect();
    let needles = Needles::new(&literals).expect("some dozen short literals fit any automaton");
    let len_max = literals.iter().map(|literal| literal.len()).max().unwrap_or(0);
    Literals { begins, needles, searcher: packed::Searcher::new(&literals), len_max }
});

impl Literals {
    /// From where on a literal may begin; at least `at`.
    fn search(&self, text: &[u8], at: usize) -> usize {
        let Some(searcher) = self.searcher.as_ref().filter(|_| text.len() - at >= SEARCHED_MIN) else {
            return at;
        };
        match searcher.find_in(text, aho_corasick::Span { start: at, end: text.len() }) {
            Some(found) => found.start(),
            // The last bytes may begin one.
            None => at.max(text.len() - self.len_max),
        }
    }
}

/// Looks for all shapes in one text.
#[derive(Clone)]
pub(super) struct Shapes {
    state: StateID,
    option: OptionValue,
    authorization: Authorization,
    url: UrlPassword,
    token: Token,
    jwt: Jwt,
    key: PrivateKey,
}

impl Default for Shapes {
    fn default() -> Self {
        Self {
            state: LITERALS.needles.start(),
            option: OptionValue::default(),
            authorization: Authorization::default(),
            url: UrlPassword::default(),
            token: Token::default(),
            jwt: Jwt::default(),
            key: PrivateKey::default(),
        }
    }
}

impl Shapes {
    /// Reads `text` from its byte `from` on. What stands before was read already; `text` begins at `base`.
    pub(super) fn feed(&mut self, text: &[u8], from: usize, base: u64, marks: &mut Marks) {
        let literals = &*LITERALS;
        let mut index = from;
        while index < text.len() {
            if self.state == literals.needles.start() && self.is_idle() {
                index = literals.search(text, index);
            }
            let (byte, at) = (text[index], base + index as u64);
            self.state = literals.needles.next(self.state, byte);
            if !self.is_idle() {
                self.option.feed(byte, at, marks);
                self.authorization.feed(byte, at, marks);
                self.url.feed(byte, at, marks);
                self.token.feed(byte, at, marks);
                self.jwt.feed(byte, at, marks);
                // The last line's begin is not the key's.
                self.key.feed(byte, at, at + 1 - literals.needles.depth(self.state) as u64, marks);
            }
            if let Some(which) = literals.needles.found(self.state) {
                let (literal, begin) = literals.begins[which];
                self.begin(begin, &text[..=index], literal.len(), at + 1);
            }
            index += 1;
        }
    }

    /// From where on the text may yet be marked; at most `end`, where the text ends.
    pub(super) fn held(&self, end: u64) -> u64 {
        let begun = end - LITERALS.needles.depth(self.state) as u64;
        let held = [self.option.held(), self.url.held(), self.token.held(), self.jwt.held(), self.key.held()];
        held.into_iter().flatten().fold(begun, u64::min)
    }

    /// The text ends at `end`. What is not decided by then is no secret.
    pub(super) fn finish(&mut self, end: u64, marks: &mut Marks) {
        self.option.finish(end, marks);
        self.token.finish(marks);
        self.key.finish(end, marks);
    }

    fn is_idle(&self) -> bool {
        self.option.is_idle()
            && self.authorization.is_idle()
            && self.url.is_idle()
            && self.token.is_idle()
            && self.jwt.is_idle()
            && self.key.is_idle()
    }

    /// A literal of `len` bytes ends `text`, which ends at `end`.
    fn begin(&mut self, begin: Begin, text: &[u8], len: usize, end: u64) {
        let start = end - len as u64;
        match begin {
            Begin::Option => self.option.begin(&text[..text.len() - len]),
            Begin::Authorization => self.authorization.begin(),
            Begin::Url => self.url.begin(),
            Begin::Token(which) => self.token.begin(which, start),
            Begin::Jwt => self.jwt.begin(start),
            Begin::KeyHead => self.key.begin_head(end),
            Begin::KeyBody => self.key.begin_body(end),
            Begin::KeyEnd => self.key.end(),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::redaction::Redaction;

    /// Masks `text` at once and byte by byte, and holds back nothing of a line that is over.
    #[track_caller]
    fn check(text: &str, expected: &str) {
        assert_eq!(Redaction::default().text(text), expected);
        let (mut redactor, mut out) = (Redaction::default().redactor(), Vec::new());
        text.bytes().for_each(|byte| redactor.push(&[byte], &mut out));
        redactor.finish(&mut out);
        assert_eq!(String::from_utf8(out).unwrap(), expected, "byte by byte");
    }

    #[test]
    fn the_value_of_an_option_is_masked_in_every_way_it_is_written() {
        check("release --email ann@acme.example --tag v1", "release --email *** --tag v1");
        check("--token=abc\n--token\tabc", "--token=***\n--token\t***");
        check("-password hunter2 -v", "-password *** -v");
        check("--secret \"two words\" next", "--secret \"***\" next");
        check("--secret 'it is \\' x", "--secret '***");
        check("--api-key=\"a\\\"b\" c", "--api-key=\"***\" c");
        check("--api-key 'ab'\\''cd' next", "--api-key '***'***' next");
        check("exec: \"tool --token abc\" failed", "exec: \"tool --token ***\" failed");
        check(r#"{"cmd":"tool --token abc","n":1}"#, r#"{"cmd":"tool --token ***","n":1}"#);
        check(r#"{"cmd":"tool --token \"a b\" x"}"#, r#"{"cmd":"tool --token \"***\" x"}"#);
        check(r#"{"cmd":"tool --token \"a\\\"b\" x"}"#, r#"{"cmd":"tool --token \"***\" x"}"#);
        check(r#"["tool","--token","a b","x"]"#, r#"["tool","--token","***","x"]"#);
        check(r#"exec ["tool" "--token" "a b" "x"]"#, r#"exec ["tool" "--token" "***" "x"]"#);
        check(r"first line\n--token abc", r"first line\n--token ***");
        check("tool --token \\\n    abc \\\n  -v", "tool --token \\\n    *** \\\n  -v");
        check("--token --password hunter2", "--token *** ***");
        check("--token ab\"cd'ef\\gh\n", "--token ***\n");
        check("--token abc\\", "--token ***");
    }

    #[test]
    fn an_option_without_a_value_or_with_another_name_masks_nothing() {
        for text in [
            "--token\nnext",
            "--token=\nnext",
            "--token= next",
            "--token-file /run/x",
            "--tokens 3",
            "send-email x",
            "--no-token x",
            "\"--token\" is required",
            "flag '--token': bad",
            "--token \"\" x",
            "my--secret x",
            "--emails a@b",
            "x-token abc",
            "--password",
        ] {
            check(text, text);
        }
    }

    #[test]
    fn the_credentials_of_a_header_are_masked() {
        check("> Authorization: Bearer abc.def\r\n> Host: x", "> Authorization: Bearer ***\r\n> Host: x");
        check("authorization: basic YTpi==, x", "authorization: basic ***, x");
        check("map[Authorization:[Token abc] Host:[x]]", "map[Authorization:[Token ***] Host:[x]]");
        check(r#"{"Authorization":"Bearer abc","x":1}"#, r#"{"Authorization":"Bearer ***","x":1}"#);
        check(
            r#"{"h":"{\"Authorization\": \"Bearer abc\"}"}"#,
            r#"{"h":"{\"Authorization\": \"Bearer ***\"}"}"#,
        );
        check("-H 'Proxy-Authorization: Basic YTpi' x", "-H 'Proxy-Authorization: Basic ***' x");
        for text in [
            "Authorization: denied",
            "Authorization failed: bearers x",
            "Authorization: Digest username=\"x\"",
            "Authorization:\n Bearer x",
            "authorization: Bearer\nx",
            "Authorization: Basics x",
        ] {
            check(text, text);
        }
    }

    #[test]
    fn the_password_of_a_url_is_masked_and_nothing_else_of_it() {
        check("https://ann:hunter2@git.example/x.git", "https://ann:***@git.example/x.git");
        check("redis://:hunter2@h:6379/0", "redis://:***@h:6379/0");
        check("postgres://ann@acme.example:p@ss:w@db:5432/x", "postgres://ann@acme.example:***@db:5432/x");
        check(r#""https:\/\/ann:pw@h\/x""#, r#""https:\/\/ann:***@h\/x""#);
        check("mongodb://a:b@h1:1,h2:2/x y:z@w", "mongodb://a:***@h1:1,h2:2/x y:z@w");
        let long = "p".repeat(5000);
        check(&format!("https://a:{long}@h/"), "https://a:***@h/");
        check(&format!("https://a:{long} x"), "https://a:*** x");
        for text in [
            "http://localhost:8080/@v/list",
            "http://[::1]:8080 a@b",
            "ssh://git@github.com:22/x",
            "http://a:80",
            "git@github.com:acme/web.git",
            "https://h/golang.org/x/tools@v0.30.0:x@y",
            "https://ann:@h/",
            "https://ann@h/",
            "https://h:80?x=a@b",
            "file:///a:b@c",
            "https://h1:1,h2:2\nx@y",
        ] {
            check(text, text);
        }
    }

    #[test]
    fn tokens_of_known_make_are_masked_wherever_they_stand() {
        let tail = "0123456789abcdefghij0123456789ABCDEF";
        for prefix in ["glpat-", "ghp_", "gho_", "ghs_", "ghu_", "ghr_", "github_pat_", "xoxb-", "xoxp-"] {
            check(&format!("x={prefix}{tail};"), "x=***;");
            check(&format!("\\n{prefix}{tail}"), "\\n***");
            let short = format!("{prefix}{} ", &tail[..19]);
            check(&short, &short);
        }
        check("ghp_ghp_0123456789abcdefghij!", "ghp_***!");
        check("key AKIAIOSFODNN7EXAMPLE.", "key ***.");
        check("AKIAIOSFODNN7EXAMPLE", "***");
        for text in
            ["AKIAIOSFODNN7EXAMPLEX", "AKIAIOSFODNN7EXAMPLe", "AKIAIOSFODNN7EXAMPL ", "xoxb-", "ghp_x_y"]
        {
            check(text, text);
        }
    }

    #[test]
    fn a_jwt_is_masked_whole() {
        check("Cookie: s=eyJhbGciOiJI.eyJzdWIiOiIx.c2ln-_; x", "Cookie: s=***; x");
        check("eyJhbGciOiJI.eyJzdWIiOiIx.", "***");
        check("eyJa.x eyJb.eyeyJc.eyJd.s", "eyJa.x eyJb.ey***");
        for text in ["eyJhbGciOiJI", "eyJhbGciOiJI.x.y", "eyJ eyJ.ey", "h1:eyJhbGciOiJI=.eyJ"] {
            check(text, text);
        }
        let blob = format!("eyJ{}", "abcd".repeat(5000));
        check(&blob, &blob);
    }

    #[test]
    fn the_body_of_a_private_key_is_masked_in_lines_with_prefixes_and_in_one_line() {
        let line = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj";
        let (head, tail) = ("-----BEGIN RSA PRIVATE KEY-----", "-----END RSA PRIVATE KEY-----");
        let masked = format!("a {head}***{tail} b");
        check(&format!("a {head}\n{line}\n{line}\nab==\n{tail} b"), &masked);
        check(&format!("a {head}\\n{line}\\n{tail} b"), &masked);
        check(&format!("a {head} {line} {line} ab== {tail} b"), &masked);
        check(
            &format!("a {head}{tail} b", head = head.replace("RSA ", ""), tail = tail),
            &format!("a {}{tail} b", head.replace("RSA ", "")),
        );
        check(&format!("a {head}\n2026-01-01 | {line}\n2026-01-01 | ab=\n2026-01-01 | {tail} b"), &masked);
        check(&format!("a {head}\nProc-Type: 4,ENCRYPTED\nDEK-Info: X,1\n\n{line}\n{tail} b"), &masked);
        let truncated =
            Redaction::default().text(&format!("{head}\n{line}\n{line}{}", "all is well\n".repeat(100)));
        assert!(truncated.starts_with(&format!("{head}***")) && truncated.len() > 600, "{truncated}");
        check(&format!("{head}\n{line}\nab"), &format!("{head}***"));
    }

    #[test]
    fn the_name_of_a_private_key_masks_nothing() {
        let text =
            format!("if bytes.Contains(b, \"-----BEGIN PRIVATE KEY-----\") {{\n{}", "x := 1\n".repeat(200));
        check(&text, &text);
        let public =
            "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEabcdefghijklmnopqrst\n-----END ";
        check(public, public);
        check("-----END PRIVATE KEY-----\n", "-----END PRIVATE KEY-----\n");
        let digest = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
        let mention = format!("it must begin with -----BEGIN PRIVATE KEY-----\nsha256:{digest}\n");
        check(&mention, &mention);
        let payload = "eyJfdHlwZSI6Imh0dHBzOi8vaW4tdG90by5pby9TdGF0ZW1lbnQvdjEifQ==";
        let mention = format!("no \"-----BEGIN PRIVATE KEY-----\" in {payload} of it\n");
        check(&mention, &mention);
    }
}
