//! What every conversion does with a field, and what it says when the field is wrong.

use std::{collections::BTreeSet, fmt::Display, str::FromStr};

use bytes::Bytes;
use meridian_core::{
    digest::Digest, quantity::ByteCount, requester::Requester, schedule::sketch::Sample, trace::Traceparent,
};

use crate::v1;

/// A message from outside did not have the shape that it must have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("field {field}: {reason}")]
pub struct ConvertError {
    /// The path to the field, such as `spec.platforms[2].os`.
    pub field: String,
    /// What is wrong with it.
    pub reason: String,
}

impl ConvertError {
    /// An error about one field.
    pub fn new(field: impl Into<String>, reason: impl Display) -> Self {
        Self { field: field.into(), reason: reason.to_string() }
    }

    /// The same error, seen from the message that holds the field's message.
    #[must_use]
    pub fn within(mut self, outer: impl Display) -> Self {
        self.field = format!("{outer}.{}", self.field);
        self
    }
}

/// A field that must be there.
pub(crate) fn required<T>(value: Option<T>, field: &'static str) -> Result<T, ConvertError> {
    value.ok_or_else(|| ConvertError::new(field, "is missing"))
}

/// A message that must be there.
pub(crate) fn message<W, C>(value: Option<W>, field: &'static str) -> Result<C, ConvertError>
where
    C: TryFrom<W, Error = ConvertError>,
{
    C::try_from(required(value, field)?).map_err(|error| error.within(field))
}

/// A message that is there.
pub(crate) fn within<W, C>(value: W, field: &'static str) -> Result<C, ConvertError>
where
    C: TryFrom<W, Error = ConvertError>,
{
    C::try_from(value).map_err(|error| error.within(field))
}

/// A message that may be there.
pub(crate) fn optional<W, C>(value: Option<W>, field: &'static str) -> Result<Option<C>, ConvertError>
where
    C: TryFrom<W, Error = ConvertError>,
{
    value.map(C::try_from).transpose().map_err(|error| error.within(field))
}

/// A list of messages.
pub(crate) fn list<W, C>(values: Vec<W>, field: &'static str) -> Result<Vec<C>, ConvertError>
where
    C: TryFrom<W, Error = ConvertError>,
{
    let convert =
        |(index, value)| C::try_from(value).map_err(|error| error.within(format_args!("{field}[{index}]")));
    values.into_iter().enumerate().map(convert).collect()
}

/// An id or another text that core parses.
pub(crate) fn text<T>(value: &str, field: &'static str) -> Result<T, ConvertError>
where
    T: FromStr<Err: Display>,
{
    value.parse().map_err(|error| ConvertError::new(field, error))
}

/// A set of ids. One that is too large is left to whoever checks what it is for.
pub(crate) fn texts<T>(values: &[String], field: &'static str) -> Result<BTreeSet<T>, ConvertError>
where
    T: FromStr<Err: Display> + Ord,
{
    values.iter().map(|value| text(value, field)).collect()
}

/// A sample of a manifest as it stands in a message.
pub(crate) fn sample_message(sample: &Sample) -> Vec<v1::SampledBlob> {
    let drawn = sample.drawn().iter();
    drawn.map(|(number, size)| v1::SampledBlob { number: *number, size: size.0 }).collect()
}

/// A sample of a manifest. What is out of order is put in order, and what is too much left out.
pub(crate) fn sample(wire: Vec<v1::SampledBlob>) -> Sample {
    Sample::of(wire.into_iter().map(|blob| (blob.number, ByteCount(blob.size))))
}

/// A digest of 32 bytes.
pub(crate) fn digest(value: &[u8], field: &'static str) -> Result<Digest, ConvertError> {
    Digest::from_slice(value).map_err(|_| not_a_digest(value, field))
}

/// A list of digests.
pub(crate) fn digests(values: &[Bytes], field: &'static str) -> Result<Vec<Digest>, ConvertError> {
    let convert = |(index, value): (usize, &Bytes)| {
        Digest::from_slice(value).map_err(|_| not_a_digest(value, format!("{field}[{index}]")))
    };
    values.iter().enumerate().map(convert).collect()
}

fn not_a_digest(value: &[u8], field: impl Into<String>) -> ConvertError {
    ConvertError::new(field, format_args!("a digest has 32 bytes, not {}", value.len()))
}

/// A digest as it stands in a message.
pub(crate) fn digest_bytes(digest: &Digest) -> Bytes {
    Bytes::copy_from_slice(digest.as_bytes())
}

/// Digests as they stand in a message.
pub(crate) fn digests_bytes(digests: &[Digest]) -> Vec<Bytes> {
    digests.iter().map(digest_bytes).collect()
}

/// Messages for a list of core's values.
pub(crate) fn messages<'a, C, W>(values: &'a [C]) -> Vec<W>
where
    W: From<&'a C>,
{
    values.iter().map(W::from).collect()
}

/// A trace context as it stands in a message.
pub(crate) fn trace_text(traceparent: Option<&Traceparent>) -> String {
    traceparent.map(ToString::to_string).unwrap_or_default()
}

/// A trace context; empty when there is none.
pub(crate) fn trace(value: &str, field: &'static str) -> Result<Option<Traceparent>, ConvertError> {
    if value.is_empty() { Ok(None) } else { text(value, field).map(Some) }
}

/// Who asked; none in what was written before this was kept.
pub(crate) fn requester(value: Option<&str>, field: &'static str) -> Result<Option<Requester>, ConvertError> {
    value.map(|value| text(value, field)).transpose()
}

/// What is said of a value that this version does not know.
pub(crate) fn unknown(field: &'static str, value: i32) -> ConvertError {
    match value {
        0 => ConvertError::new(field, "is missing"),
        value => ConvertError::new(
            field,
            format_args!("unknown value {value}; a newer version may know it: upgrade"),
        ),
    }
}
