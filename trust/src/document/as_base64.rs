//! `#[serde(with = "as_base64")]`: bytes in standard base64 with padding, in its one canonical form.

use std::borrow::Cow;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Deserializer, Serializer, de::Error as _};

pub(crate) fn serialize<T: AsRef<[u8]>, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&STANDARD.encode(value))
}

pub(crate) fn deserialize<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: TryFrom<Vec<u8>>,
    D: Deserializer<'de>,
{
    let text = Cow::<str>::deserialize(deserializer)?;
    let bytes = STANDARD.decode(text.as_bytes()).map_err(D::Error::custom)?;
    let len = bytes.len();
    bytes.try_into().map_err(|_| D::Error::custom(format!("{len} bytes of base64 are too many or too few")))
}
