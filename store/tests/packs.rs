//! Packs: what arrives is what was sent, and nothing in one is believed.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

use std::path::Path;

use meridian_core::{digest::Digest, quantity::ByteCount};
use meridian_store::{
    blob::{BlobConfig, BlobError, DiskBlobs},
    pack::{PackError, PackLimits, PackReader, PackWriter, PartialBlobs, ReceivedBlob},
};
use proptest::prelude::*;

fn partials(root: &Path) -> PartialBlobs {
    let config = BlobConfig { capacity: ByteCount::gib(1), free_min: ByteCount(0) };
    PartialBlobs::open(DiskBlobs::open(root, config).unwrap()).unwrap()
}

fn pack(blobs: &[&[u8]]) -> Vec<u8> {
    let mut writer = PackWriter::new(Vec::new()).unwrap();
    for blob in blobs {
        let mut content = *blob;
        writer.add(&Digest::of(blob), ByteCount(blob.len() as u64), ByteCount(0), &mut content).unwrap();
    }
    writer.finish().unwrap()
}

fn receive(pack: &[u8], partials: &PartialBlobs) -> Result<Vec<ReceivedBlob>, PackError> {
    receive_within(pack, partials, PackLimits::default())
}

fn receive_within(
    pack: &[u8],
    partials: &PartialBlobs,
    limits: PackLimits,
) -> Result<Vec<ReceivedBlob>, PackError> {
    let mut reader = PackReader::new(pack, partials.clone(), limits);
    let mut received = Vec::new();
    while let Some(blob) = reader.next_blob()? {
        received.push(blob);
    }
    Ok(received)
}

/// Bytes that do not compress.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 7u32;
    let draw = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()[1]
    };
    std::iter::repeat_with(draw).take(len).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A frame with these entries, as an attacker would make it.
fn frame(entries: &[(tar::EntryType, &str, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (kind, name, content) in entries {
        let mut header = tar::Header::new_ustar();
        let field = header.as_old_mut();
        field.name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(*kind);
        header.set_size(content.len() as u64);
        header.set_cksum();
        tar.append(&header, *content).unwrap();
    }
    zstd::encode_all(tar.into_inner().unwrap().as_slice(), 3).unwrap()
}

#[test]
fn a_blob_that_was_not_asked_for_ends_the_pack_before_any_of_it_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let partials = partials(dir.path());
    let (large, wanted) = (noise(3 << 20), [b"one".as_slice(), b"three"].map(Digest::of));
    for unwanted in [b"two".as_slice(), &large] {
        let pack = pack(&[b"one", unwanted, b"three"]);
        let reader = PackReader::new(pack.as_slice(), partials.clone(), PackLimits::default());
        let mut reader = reader.only(wanted.into());
        assert_eq!(reader.next_blob().unwrap().unwrap().digest, wanted[0]);
        let refused = reader.next_blob().unwrap_err();
        assert!(
            matches!(refused, PackError::Unwanted { digest } if digest == Digest::of(unwanted)),
            "{refused}"
        );
        assert!(reader.next_blob().is_err());
        let held = [partials.blobs().contains(&Digest::of(unwanted)), partials.blobs().contains(&wanted[1])];
        assert_eq!((held, partials.partial_len(&Digest::of(unwanted))), ([false; 2], ByteCount(0)));
    }
}

#[test]
fn the_archive_within_a_pack_of_version_1_never_changes() {
    let bytes = pack(&[b"hello", b""]);
    let archive = zstd::decode_all(bytes.as_slice()).unwrap();
    let golden = include_str!("../src/pack/golden/pack_v1.tar.hex");
    let golden: String = golden.split_whitespace().collect();
    assert_eq!(hex(archive.strip_suffix(&[0; 1024]).unwrap()), golden);
    // A pack of version 1 stays readable, however a newer zstd would have compressed it.
    let stored: String = include_str!("../src/pack/golden/pack_v1.hex").split_whitespace().collect();
    let stored: Vec<u8> =
        (0..stored.len()).step_by(2).map(|at| u8::from_str_radix(&stored[at..at + 2], 16).unwrap()).collect();
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(receive(&stored, &partials(dir.path())).unwrap().len(), 2);
}

#[test]
fn blobs_of_every_size_arrive_and_become_durable_together() {
    let dir = tempfile::tempdir().unwrap();
    let partials = partials(dir.path());
    let contents: Vec<Vec<u8>> =
        [0, 1, 511, 512, 513, 1 << 20, (1 << 20) + 1, 3_500_000].iter().map(|len| noise(*len)).collect();
    let slices: Vec<&[u8]> = contents.iter().map(Vec::as_slice).collect();
    let bytes = pack(&slices);
    let received = receive(&bytes, &partials).unwrap();
    let digests: Vec<_> = received.iter().map(|blob| blob.digest).collect();
    assert_eq!(digests, contents.iter().map(|content| Digest::of(content)).collect::<Vec<_>>());
    partials.blobs().make_durable(&digests).unwrap();
    for content in &contents {
        assert_eq!(partials.blobs().read(&Digest::of(content), ByteCount::gib(1)).unwrap(), content);
    }
    let absent = [Digest::of(b"absent")];
    assert!(matches!(partials.blobs().make_durable(&absent), Err(BlobError::Missing { .. })));
    assert_eq!(std::fs::read_dir(dir.path().join("partial")).unwrap().count(), 0);
}

#[test]
fn an_upload_that_broke_off_goes_on_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let partials = partials(dir.path());
    let content = noise(3_500_000);
    let digest = Digest::of(&content);
    let whole = pack(&[b"small", &content]);
    let error = receive(&whole[..whole.len() * 2 / 3], &partials).unwrap_err();
    assert!(matches!(error, PackError::Truncated { .. }), "{error}");
    assert!(partials.blobs().contains(&Digest::of(b"small")) && !partials.blobs().contains(&digest));
    let have = partials.partial_len(&digest);
    assert_eq!(have, ByteCount::mib(2));
    let rest = |from: ByteCount| {
        let mut writer = PackWriter::new(Vec::new()).unwrap();
        let mut content = &content[usize::try_from(from.0).unwrap()..];
        writer.add(&digest, ByteCount(3_500_000), from, &mut content).unwrap();
        writer.finish().unwrap()
    };
    let error = receive(&rest(ByteCount::mib(3)), &partials).unwrap_err();
    assert!(matches!(error, PackError::Gap { .. }), "{error}");
    assert!(rest(have).len() < 1_600_000);
    assert_eq!(receive(&rest(have), &partials).unwrap().len(), 1);
    assert_eq!(partials.blobs().read(&digest, ByteCount::mib(4)).unwrap(), content);
    assert_eq!(partials.partial_len(&digest), ByteCount(0));
}

#[test]
fn a_wrong_beginning_costs_one_upload_and_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let partials = partials(dir.path());
    let content = noise(1_500_000);
    let digest = Digest::of(&content);
    let name = format!("{digest}.0.1500000");
    assert!(receive(&frame(&[(tar::EntryType::Regular, &name, b"junk")]), &partials).unwrap().is_empty());
    assert_eq!(partials.partial_len(&digest), ByteCount(4));
    let error = receive(&pack(&[&content]), &partials).unwrap_err();
    assert!(matches!(error, PackError::Blob(BlobError::Mismatch { .. })), "{error}");
    assert_eq!(receive(&pack(&[&content]), &partials).unwrap().len(), 1);
}

#[test]
fn two_uploads_of_one_blob_at_once_both_finish() {
    let dir = tempfile::tempdir().unwrap();
    let partials = partials(dir.path());
    let content = noise(3_000_000);
    let bytes = pack(&[&content]);
    let mut results = Vec::new();
    std::thread::scope(|scope| {
        let uploads: Vec<_> = (0..4).map(|_| scope.spawn(|| receive(&bytes, &partials))).collect();
        results.extend(uploads.into_iter().map(|upload| upload.join().unwrap()));
    });
    for result in results {
        assert_eq!(result.unwrap().len(), 1);
    }
    assert_eq!(partials.blobs().read(&Digest::of(&content), ByteCount::mib(4)).unwrap(), content);
}

#[test]
fn what_is_not_a_blob_is_refused_by_name() {
    use tar::EntryType as Kind;
    let dir = tempfile::tempdir().unwrap();
    let partials = partials(dir.path());
    let digest = Digest::of(b"x").to_hex();
    let part = |rest: &str| format!("{digest}.{rest}");
    for (kind, name, content, what) in [
        (Kind::Regular, "../../etc/passwd".to_owned(), &b"x"[..], "not named by a digest"),
        (Kind::Regular, "/etc/passwd".to_owned(), b"x", "not named by a digest"),
        (Kind::Regular, digest.to_uppercase(), b"x", "not named by a digest"),
        (Kind::Regular, part("1"), b"x", "not named by a digest"),
        (Kind::Regular, part("01.9"), b"x", "not named by a digest"),
        (Kind::Regular, part("1.9.9"), b"x", "not named by a digest"),
        (Kind::Regular, part("-1.9"), b"x", "not named by a digest"),
        (Kind::Regular, part("18446744073709551615.9"), b"x", "beyond its blob's end"),
        (Kind::Regular, part("9.9"), b"x", "beyond its blob's end"),
        (Kind::Regular, part("0.18446744073709551615"), b"x", "larger than a blob may be"),
        (Kind::Symlink, digest.clone(), b"", "not a regular file"),
        (Kind::Link, digest.clone(), b"", "not a regular file"),
        (Kind::Directory, digest.clone(), b"", "not a regular file"),
        (Kind::Char, digest.clone(), b"", "not a regular file"),
        (Kind::Fifo, digest.clone(), b"", "not a regular file"),
        (Kind::XHeader, digest.clone(), b"9 path=a\n", "not a regular file"),
        (Kind::GNULongName, digest.clone(), b"name\0", "not a regular file"),
        (Kind::GNUSparse, digest.clone(), b"", "not a regular file"),
        (Kind::Regular, digest.clone(), b"y", "its bytes have digest"),
    ] {
        let error = receive(&frame(&[(kind, &name, content)]), &partials).unwrap_err().to_string();
        assert!(error.contains(what), "{name} {kind:?}: {error}");
    }
    assert_eq!(partials.blobs().usage().blobs, 0);
}

#[test]
fn bombs_and_garbage_are_refused_in_bounded_memory() {
    let dir = tempfile::tempdir().unwrap();
    let partials = partials(dir.path());
    let check = |bytes: &[u8], what: &str| {
        let error = receive(bytes, &partials).unwrap_err().to_string();
        assert!(error.contains(what), "{what}: {error}");
    };
    check(&zstd::encode_all(std::io::repeat(0).take_bytes(64 << 20), 3).unwrap(), "more than 2 MiB");
    check(b"not a pack at all", "not a zstd frame");
    check(&zstd::encode_all(&b"tar?"[..], 3).unwrap(), "not a tar archive");
    check(&zstd::encode_all(&[0; 1024][..], 3).unwrap(), "zeros where an entry");
    check(&zstd::encode_all(&[1; 1024][..], 3).unwrap(), "checksum does not match");
    check(&zstd::encode_all(&b""[..], 3).unwrap(), "not a tar archive");
    // A skippable frame, and a frame that asks for a window of 128 MiB.
    check(&[0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4], "not a tar archive");
    let mut wide = zstd::Encoder::new(Vec::new(), 3).unwrap();
    wide.window_log(27).unwrap();
    std::io::Write::write_all(&mut wide, &noise(4 << 20)).unwrap();
    check(&wide.finish().unwrap(), "refused");
    // Empty blocks for ever: three bytes each that decompress to nothing.
    let mut endless = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x00];
    endless.resize(4 << 20, 0);
    check(&endless, "more than 2 MiB");
    let limits = PackLimits { entries: 2, ..PackLimits::default() };
    let error = receive_within(&pack(&[b"1", b"2", b"3"]), &partials, limits).unwrap_err();
    assert!(matches!(error, PackError::Limit { what: "entries", .. }), "{error}");
    let limits = PackLimits { total: ByteCount(4096), ..PackLimits::default() };
    let error = receive_within(&pack(&[&[0; 8192]]), &partials, limits).unwrap_err();
    assert!(matches!(error, PackError::Limit { what: "bytes", .. }), "{error}");
}

trait TakeBytes: Sized {
    fn take_bytes(self, count: u64) -> std::io::Take<Self>;
}

impl<R: std::io::Read> TakeBytes for R {
    fn take_bytes(self, count: u64) -> std::io::Take<Self> {
        std::io::Read::take(self, count)
    }
}

#[test]
fn a_pack_cut_anywhere_says_so_and_keeps_what_came_before() {
    let dir = tempfile::tempdir().unwrap();
    let partials = partials(dir.path());
    let first = pack(&[b"first"]);
    let bytes = [first.clone(), pack(&[b"second"])].concat();
    for cut in (1..bytes.len()).filter(|cut| *cut != first.len()) {
        let error = receive(&bytes[..cut], &partials).unwrap_err();
        assert!(matches!(error, PackError::Truncated { .. }), "cut at {cut}: {error}");
    }
    assert!(partials.blobs().contains(&Digest::of(b"first")));
    assert!(!partials.blobs().contains(&Digest::of(b"second")));
}

#[test]
fn a_file_that_changed_since_it_was_hashed_is_not_sent() {
    let add = |content: &[u8], promised: &[u8]| {
        let mut writer = PackWriter::new(Vec::new()).unwrap();
        let mut content = content;
        let size = ByteCount(promised.len() as u64);
        writer.add(&Digest::of(promised), size, ByteCount(0), &mut content)
    };
    assert!(add(b"same", b"same").is_ok());
    for (content, promised) in [(&b"other"[..], &b"thing"[..]), (b"short", b"shorter"), (b"longer", b"long")]
    {
        assert!(matches!(add(content, promised), Err(PackError::Changed { .. })), "{content:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_sent_arrives(
        contents in prop::collection::vec((0usize..40_000, any::<u8>()), 0..40)
    ) {
        let dir = tempfile::tempdir().unwrap();
        let partials = partials(dir.path());
        let contents: Vec<Vec<u8>> = contents.iter().map(|(len, byte)| vec![*byte; *len]).collect();
        let slices: Vec<&[u8]> = contents.iter().map(Vec::as_slice).collect();
        let received = receive(&pack(&slices), &partials).unwrap();
        prop_assert_eq!(received.len(), contents.len());
        for (blob, content) in received.iter().zip(&contents) {
            prop_assert_eq!(blob.digest, Digest::of(content));
            prop_assert_eq!(&partials.blobs().read(&blob.digest, ByteCount::mib(1)).unwrap(), content);
        }
    }

    #[test]
    fn bytes_that_were_changed_never_panic_and_never_store_a_lie(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        inside in any::<bool>()
    ) {
        let dir = tempfile::tempdir().unwrap();
        let partials = partials(dir.path());
        let mut bytes = pack(&[b"one", b"two", &[3; 600]]);
        if inside {
            bytes = zstd::decode_all(bytes.as_slice()).unwrap();
        }
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if inside {
            bytes = zstd::encode_all(bytes.as_slice(), 3).unwrap();
        }
        if let Ok(received) = receive(&bytes, &partials) {
            for blob in received {
                let content = partials.blobs().read(&blob.digest, ByteCount::mib(1)).unwrap();
                prop_assert_eq!(Digest::of(&content), blob.digest);
            }
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
        let dir = tempfile::tempdir().unwrap();
        let partials = partials(dir.path());
        let _ = receive(&bytes, &partials);
        let _ = receive(&zstd::encode_all(bytes.as_slice(), 1).unwrap(), &partials);
    }
}
