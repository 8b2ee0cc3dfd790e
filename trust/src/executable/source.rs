//! A reader that may be asked for only so much.
//!
//! The container's crate keeps in memory whatever it read from a stream, and a hostile header can ask for the
//! whole of a four-gigabyte file. Here each request is paid for from a budget; past it, reading fails.

use std::{cell::Cell, ops::Range};

use object::ReadRef;

/// What a name may cost: the crate reads at most this many bytes in search of its end.
const NAME_LEN_MAX: u64 = 4096;

/// A source of bytes with a budget, shared by all its copies.
#[derive(Debug, Clone, Copy)]
pub(super) struct Budgeted<'b, R> {
    inner: R,
    left: &'b Cell<u64>,
}

impl<'b, R> Budgeted<'b, R> {
    pub(super) fn new(inner: R, left: &'b Cell<u64>) -> Self {
        Self { inner, left }
    }

    fn spend(&self, size: u64) -> Result<(), ()> {
        self.left.set(self.left.get().checked_sub(size).ok_or(())?);
        Ok(())
    }
}

impl<'data, R: ReadRef<'data>> ReadRef<'data> for Budgeted<'_, R> {
    fn len(self) -> Result<u64, ()> {
        self.inner.len()
    }

    fn read_bytes_at(self, offset: u64, size: u64) -> Result<&'data [u8], ()> {
        self.spend(size)?;
        self.inner.read_bytes_at(offset, size)
    }

    fn read_bytes_at_until(self, range: Range<u64>, delimiter: u8) -> Result<&'data [u8], ()> {
        self.spend(NAME_LEN_MAX.min(range.end.saturating_sub(range.start)))?;
        self.inner.read_bytes_at_until(range, delimiter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_ends_with_the_budget() {
        let left = Cell::new(10);
        let source = Budgeted::new(&b"0123456789abcdef"[..], &left);
        assert_eq!(source.read_bytes_at(0, 8), Ok(&b"01234567"[..]));
        assert_eq!(source.read_bytes_at(8, 3), Err(()));
        assert_eq!(source.read_bytes_at(8, 2), Ok(&b"89"[..]));
        assert_eq!(source.read_bytes_at_until(10..16, b'f'), Err(()));
    }
}
