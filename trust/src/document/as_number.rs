//! `#[serde(with = "as_number")]`: a typed number of the core as a bare whole number.

use meridian_core::{
    id::{Fence, PlacementNumber},
    quantity::ByteCount,
    time::Wall,
};
use serde::{Deserialize as _, Deserializer, Serializer};

/// A number with a type of its own.
pub(crate) trait Number {
    fn get(&self) -> u64;
    fn wrap(number: u64) -> Self;
}

macro_rules! number {
    ($($type:ident),*) => {$(
        impl Number for $type {
            fn get(&self) -> u64 {
                self.0
            }

            fn wrap(number: u64) -> Self {
                Self(number)
            }
        }
    )*};
}

number!(ByteCount, Fence, PlacementNumber, Wall);

pub(crate) fn serialize<T: Number, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(value.get())
}

pub(crate) fn deserialize<'de, T: Number, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    u64::deserialize(deserializer).map(T::wrap)
}
