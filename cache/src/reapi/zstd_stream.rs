//! zstd in steps, each of a bounded size, so that nobody's bytes decide how much memory they take.

use meridian_core::quantity::ByteCount;
use zstd::stream::raw::{CParameter, DParameter, Decoder, Encoder, InBuffer, Operation as _, OutBuffer};

use super::error::ReapiError;

/// Most bytes that one step gives.
pub(super) const STEP: usize = 256 << 10;

/// A frame may look back so far, as a power of two: what every decoder has to offer, and what level 19 uses.
const WINDOW_LOG_MAX: u32 = 23;

/// Quick rather than small: the network here is faster than what a higher level would save.
const LEVEL: i32 = 1;

/// Decompresses what should be exactly so long.
pub(super) struct Inflater {
    decoder: Decoder<'static>,
    expected: u64,
    given: u64,
    /// Whether what came so far ends where a frame ends.
    between_frames: bool,
}

impl Inflater {
    /// Expects `expected` bytes to come out.
    pub(super) fn new(expected: u64) -> Result<Self, ReapiError> {
        let mut decoder = Decoder::new().map_err(ReapiError::disk)?;
        decoder.set_parameter(DParameter::WindowLogMax(WINDOW_LOG_MAX)).map_err(ReapiError::disk)?;
        Ok(Self { decoder, expected, given: 0, between_frames: true })
    }

    /// Takes from `input` until `out`, which keeps its capacity, is full, or nothing is left. Whether it was full.
    pub(super) fn step(&mut self, input: &mut &[u8], out: &mut Vec<u8>) -> Result<bool, ReapiError> {
        out.clear();
        let mut given = OutBuffer::around(out);
        let mut taken = InBuffer::around(input);
        loop {
            let before = (taken.pos(), given.pos());
            let hint = self.decoder.run(&mut taken, &mut given);
            let hint = hint.map_err(|error| ReapiError::Invalid(format!("this is no zstd: {error}")))?;
            let full = given.pos() == given.capacity();
            let still = before == (taken.pos(), given.pos());
            if !still {
                self.between_frames = hint == 0;
            }
            if full || still || taken.pos() == taken.src.len() && given.pos() < given.capacity() {
                self.given += given.pos() as u64;
                *input = &input[taken.pos()..];
                if self.given > self.expected {
                    let limit = ByteCount(self.expected);
                    return Err(meridian_store::blob::BlobError::TooLarge { limit }.into());
                }
                return Ok(full);
            }
        }
    }

    /// Makes sure that nothing is lacking.
    pub(super) fn finish(&self) -> Result<(), ReapiError> {
        match self.between_frames && self.given == self.expected {
            true => Ok(()),
            false => Err(ReapiError::Invalid(format!(
                "the compressed bytes end after {} of {}",
                self.given, self.expected
            ))),
        }
    }
}

/// Compresses what is exactly so long.
pub(super) struct Deflater {
    encoder: Encoder<'static>,
    finished: bool,
}

impl Deflater {
    /// Will compress `size` bytes, into one frame.
    pub(super) fn new(size: u64) -> Result<Self, ReapiError> {
        let mut encoder = Encoder::new(LEVEL).map_err(ReapiError::disk)?;
        encoder.set_pledged_src_size(Some(size)).map_err(ReapiError::disk)?;
        encoder.set_parameter(CParameter::ChecksumFlag(false)).map_err(ReapiError::disk)?;
        Ok(Self { encoder, finished: false })
    }

    /// Takes from `input` until `out`, which keeps its capacity, is full, or nothing is left.
    pub(super) fn step(&mut self, input: &mut &[u8], out: &mut Vec<u8>) -> Result<(), ReapiError> {
        let start = out.len();
        let mut given = OutBuffer::around_pos(out, start);
        let mut taken = InBuffer::around(input);
        while taken.pos() < taken.src.len() && given.pos() < given.capacity() {
            self.encoder.run(&mut taken, &mut given).map_err(ReapiError::disk)?;
        }
        *input = &input[taken.pos()..];
        Ok(())
    }

    /// Writes what is left into `out`, until that is full. Whether all is written.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>) -> Result<bool, ReapiError> {
        if !self.finished {
            let start = out.len();
            let left = self.encoder.finish(&mut OutBuffer::around_pos(out, start), false);
            self.finished = left.map_err(ReapiError::disk)? == 0;
        }
        Ok(self.finished)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inflate(packed: &[u8], expected: u64) -> Result<Vec<u8>, ReapiError> {
        let mut inflater = Inflater::new(expected)?;
        let (mut rest, mut out, mut all) = (packed, Vec::with_capacity(STEP), Vec::new());
        while inflater.step(&mut rest, &mut out)? || !rest.is_empty() {
            all.extend_from_slice(&out);
        }
        all.extend_from_slice(&out);
        inflater.finish()?;
        Ok(all)
    }

    #[test]
    fn what_was_compressed_comes_out_as_it_was() {
        let content: Vec<u8> = (0..1_000_000_u32).flat_map(|n| (n / 7).to_le_bytes()).collect();
        let mut deflater = Deflater::new(content.len() as u64).unwrap();
        let (mut rest, mut packed) = (&content[..], Vec::new());
        loop {
            let mut out = Vec::with_capacity(STEP);
            deflater.step(&mut rest, &mut out).unwrap();
            let done = rest.is_empty() && deflater.finish(&mut out).unwrap();
            packed.extend_from_slice(&out);
            if done {
                break;
            }
        }
        assert!(packed.len() < content.len() / 2);
        assert!(inflate(&packed, content.len() as u64).unwrap() == content);
        // Several frames in a row are one stream.
        let two = [zstd::encode_all(&content[..5], 3).unwrap(), zstd::encode_all(&content[5..], 3).unwrap()];
        assert!(inflate(&two.concat(), content.len() as u64).unwrap() == content);
        assert!(inflate(b"", 0).unwrap().is_empty());
    }

    #[test]
    fn a_bomb_ends_where_it_was_said_to_end() {
        let bomb = zstd::encode_all(&vec![0; 64 << 20][..], 19).unwrap();
        assert!(bomb.len() < 10_000);
        let mut inflater = Inflater::new(1000).unwrap();
        let mut out = Vec::with_capacity(STEP);
        let error = inflater.step(&mut &bomb[..], &mut out).unwrap_err();
        assert_eq!(error.code(), tonic::Code::InvalidArgument);
        assert_eq!(out.capacity(), STEP);
        assert!(inflater.given <= STEP as u64);
    }

    #[test]
    fn a_frame_that_looks_back_too_far_is_refused() {
        let mut encoder = zstd::Encoder::new(Vec::new(), 3).unwrap();
        encoder.window_log(27).unwrap();
        std::io::Write::write_all(&mut encoder, &vec![7; 1 << 20]).unwrap();
        let far = encoder.finish().unwrap();
        assert_eq!(inflate(&far, 1 << 20).unwrap_err().code(), tonic::Code::InvalidArgument);
    }

    #[test]
    fn what_is_cut_short_or_is_no_zstd_is_refused() {
        let packed = zstd::encode_all(&[7; 5000][..], 3).unwrap();
        for length in 0..packed.len() {
            assert!(inflate(&packed[..length], 5000).is_err(), "{length}");
        }
        for size in [4999, 5001] {
            assert!(inflate(&packed, size).is_err());
        }
        assert!(inflate(b"not compressed at all", 21).is_err());
        assert!(inflate(&[&packed[..], b"garbage"].concat(), 5000).is_err());
    }
}
