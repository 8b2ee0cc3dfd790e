//! Writing a document, and reading it back only when it is written like that.

use serde::{Serialize, de::DeserializeOwned};

/// Why bytes are not the document they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// Longer than such a document may be.
    #[error("{len} bytes are more than the {len_max} that such a document may have")]
    TooLarge {
        /// How long it is, in bytes.
        len: usize,
        /// How long it may be, in bytes.
        len_max: usize,
    },
    /// Not JSON, or not of this shape.
    #[error("{0}")]
    Shape(String),
    /// The right shape in another spelling.
    #[error("not written as meridian writes it (order, white space or escapes were changed)")]
    Spelling,
}

/// The document's bytes.
///
/// # Panics
/// Never for the types of this crate: their keys are texts and none of them fails to serialise.
pub(crate) fn write<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("documents are structs, lists, texts and whole numbers")
}

/// The value, when the bytes are exactly those that [`write`] gives for it.
pub(crate) fn parse<T: Serialize + DeserializeOwned>(
    bytes: &[u8],
    len_max: usize,
) -> Result<T, DocumentError> {
    if bytes.len() > len_max {
        return Err(DocumentError::TooLarge { len: bytes.len(), len_max });
    }
    let value = serde_json::from_slice(bytes).map_err(|error| DocumentError::Shape(error.to_string()))?;
    if write(&value) == bytes { Ok(value) } else { Err(DocumentError::Spelling) }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Pair {
        a: u64,
        b: Option<String>,
    }

    #[test]
    fn a_document_has_one_spelling() {
        let good = r#"{"a":1,"b":"x"}"#;
        let pair: Pair = parse(good.as_bytes(), 100).unwrap();
        assert_eq!(write(&pair), good.as_bytes());
        for (text, is_shape) in [
            (r#"{"a":1, "b":"x"}"#, false),
            ("{\"a\":1,\"b\":\"x\"}\n", false),
            (r#"{"b":"x","a":1}"#, false),
            (r#"{"a":1,"b":"\u0078"}"#, false),
            (r#"{"a":1}"#, false),
            (r#"{"a":1,"a":1,"b":"x"}"#, true),
            (r#"{"a":1,"b":"x","c":0}"#, true),
            (r#"{"a":1.0,"b":"x"}"#, true),
            (r#"{"a":1,"b":"x"}{}"#, true),
            (r#"{"a":1,"b":"x""#, true),
            ("", true),
        ] {
            let error = parse::<Pair>(text.as_bytes(), 100).unwrap_err();
            assert_eq!(matches!(error, DocumentError::Shape(_)), is_shape, "{text}: {error}");
        }
        let too_large = DocumentError::TooLarge { len: 15, len_max: 14 };
        assert_eq!(parse::<Pair>(good.as_bytes(), 14), Err(too_large));
    }
}
