//! Which functions there are.

use meridian_core::golang::nearness::nearest;

use super::error::Problem;

/// A longer word is no misspelling of a function.
const WORD_LEN_MAX: usize = 40;

/// A function of Go's templates or of GoReleaser.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Function {
    // Go's own.
    And,
    Or,
    Not,
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    Len,
    Index,
    Slice,
    Print,
    Printf,
    Println,
    // GoReleaser's.
    Abs,
    Base,
    Contains,
    Dir,
    EnglishJoin,
    EnvOrDefault,
    IncMajor,
    IncMinor,
    IncPatch,
    IndexOrDefault,
    IsEnvSet,
    List,
    Map,
    Mdv2Escape,
    Replace,
    Split,
    Time,
    Title,
    ToLower,
    ToUpper,
    Trim,
    TrimPrefix,
    TrimSuffix,
    UrlPathEscape,
}

const FUNCTIONS: [(&str, Function); 39] = [
    ("and", Function::And),
    ("or", Function::Or),
    ("not", Function::Not),
    ("eq", Function::Eq),
    ("ne", Function::Ne),
    ("lt", Function::Lt),
    ("le", Function::Le),
    ("gt", Function::Gt),
    ("ge", Function::Ge),
    ("len", Function::Len),
    ("index", Function::Index),
    ("slice", Function::Slice),
    ("print", Function::Print),
    ("printf", Function::Printf),
    ("println", Function::Println),
    ("abs", Function::Abs),
    ("base", Function::Base),
    ("contains", Function::Contains),
    ("dir", Function::Dir),
    ("englishJoin", Function::EnglishJoin),
    ("envOrDefault", Function::EnvOrDefault),
    ("incmajor", Function::IncMajor),
    ("incminor", Function::IncMinor),
    ("incpatch", Function::IncPatch),
    ("indexOrDefault", Function::IndexOrDefault),
    ("isEnvSet", Function::IsEnvSet),
    ("list", Function::List),
    ("map", Function::Map),
    ("mdv2escape", Function::Mdv2Escape),
    ("replace", Function::Replace),
    ("split", Function::Split),
    ("time", Function::Time),
    ("title", Function::Title),
    ("tolower", Function::ToLower),
    ("toupper", Function::ToUpper),
    ("trim", Function::Trim),
    ("trimprefix", Function::TrimPrefix),
    ("trimsuffix", Function::TrimSuffix),
    ("urlPathEscape", Function::UrlPathEscape),
];

/// Functions of Go and GoReleaser that are refused: they read files, call functions, match POSIX
/// expressions, or make HTML, which no name needs.
const REFUSED: [&str; 22] = [
    "call",
    "html",
    "js",
    "urlquery",
    "filter",
    "reverseFilter",
    "readFile",
    "mustReadFile",
    "blake2b",
    "blake2s",
    "blake3",
    "crc32",
    "md5",
    "sha1",
    "sha224",
    "sha256",
    "sha384",
    "sha512",
    "sha3_224",
    "sha3_256",
    "sha3_384",
    "sha3_512",
];

impl Function {
    /// The function of a name.
    pub(super) fn find(name: &str) -> Result<Self, Problem> {
        if let Some((_, function)) = FUNCTIONS.iter().find(|(known, _)| *known == name) {
            return Ok(*function);
        }
        if REFUSED.contains(&name) {
            return Err(Problem::Unsupported(format!("the function `{name}` is")));
        }
        let names: Vec<&str> = FUNCTIONS.iter().map(|(name, _)| *name).collect();
        let near = if name.len() <= WORD_LEN_MAX { nearest(name, &names, 1) } else { Vec::new() };
        let name = name.chars().take(WORD_LEN_MAX).collect();
        Err(Problem::UnknownFunction { name, near: near.first().map(ToString::to_string) })
    }

    /// Its name in a template.
    pub(super) fn name(self) -> &'static str {
        FUNCTIONS.iter().find(|(_, function)| *function == self).map_or("", |(name, _)| name)
    }
}
