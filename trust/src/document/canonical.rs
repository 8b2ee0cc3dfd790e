//! Writing a document, and reading it back only when it is written like that.

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

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

/// The value of a document that a signature covers, whoever wrote it: an earlier release, which did not know a field
/// that came later, or a later one, whose fields are passed over.
///
/// **How documents evolve:** a payload type is a version. Within it fields are only added, each optional and written
/// only where it says something, and only such that a reader which passes over it still refuses all that it must. What
/// changes a meaning, or allows less than before, gets a new payload type, which an earlier reader refuses by name. So
/// a type of which every part counts denies unknown fields (the parameters of an order). The spelling stays one: what
/// is known is written as [`write`] does.
pub(crate) fn parse_signed<T: Serialize + DeserializeOwned>(
    bytes: &[u8],
    len_max: usize,
) -> Result<T, DocumentError> {
    if bytes.len() > len_max {
        return Err(DocumentError::TooLarge { len: bytes.len(), len_max });
    }
    let shape = |error: serde_json::Error| DocumentError::Shape(error.to_string());
    let value: T = serde_json::from_slice(bytes).map_err(shape)?;
    if write(&value) == bytes {
        return Ok(value);
    }
    // Other bytes that say nothing more are another spelling.
    let (said, known) = (serde_json::from_slice::<Value>(bytes), serde_json::to_value(&value));
    if said.map_err(shape)? == known.map_err(shape)? { Err(DocumentError::Spelling) } else { Ok(value) }
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

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Open {
        a: u64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        b: Option<String>,
    }

    #[test]
    fn of_a_signed_document_what_came_earlier_or_later_is_read_and_another_spelling_is_not() {
        let b = Some("x".to_owned());
        for (text, value) in [
            (r#"{"a":1,"b":"x"}"#, Open { a: 1, b: b.clone() }),
            (r#"{"a":1}"#, Open { a: 1, b: None }),
            (r#"{"a":1,"b":"x","c":{"d":[0]}}"#, Open { a: 1, b }),
        ] {
            assert_eq!(parse_signed(text.as_bytes(), 100), Ok(value), "{text}");
        }
        for (text, is_shape) in [
            (r#"{"a":1, "b":"x"}"#, false),
            (r#"{"b":"x","a":1}"#, false),
            (r#"{"a":1,"b":"\u0078"}"#, false),
            (r#"{"b":"x"}"#, true),
            (r#"{"a":1,"a":1}"#, true),
            (r#"{"a":"1","c":0}"#, true),
            (r#"{"a":1}{}"#, true),
        ] {
            let error = parse_signed::<Open>(text.as_bytes(), 100).unwrap_err();
            assert_eq!(matches!(error, DocumentError::Shape(_)), is_shape, "{text}: {error}");
        }
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
        assert_eq!(parse_signed::<Open>(good.as_bytes(), 14), Err(too_large.clone()));
        assert_eq!(parse::<Pair>(good.as_bytes(), 14), Err(too_large));
    }
}
