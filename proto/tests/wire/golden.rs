//! The bytes that journals on disk consist of, kept for ever.
//!
//! Every file in `proto/golden` is the encoding of one sample. A file that exists is never rewritten: when a
//! test here fails, the code is wrong, not the file. For a new sample run the tests once with
//! `MERIDIAN_WRITE_GOLDEN=1`, which writes the files that are missing, and commit them.

use std::{
    collections::BTreeSet,
    fs::{self, OpenOptions},
    io::{ErrorKind, Write as _},
    path::{Path, PathBuf},
};

use meridian_proto::{
    convert::journal::{decode_event, decode_record, encode_event, encode_record},
    v1,
};
use prost::Message;

use crate::samples;

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden")
}

fn file_name(kind: &str, sample: &str) -> String {
    format!("{kind}.{sample}.v1.bin")
}

/// The golden bytes of a sample; written first when they are missing and that was asked for.
fn golden(kind: &str, sample: &str, encoded: &[u8]) -> Vec<u8> {
    let path = directory().join(file_name(kind, sample));
    if std::env::var_os("MERIDIAN_WRITE_GOLDEN").is_some() {
        match OpenOptions::new().write(true).create_new(true).open(&path) {
            Ok(mut file) => file.write_all(encoded).unwrap(),
            Err(error) => assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{}", path.display()),
        }
    }
    fs::read(&path).unwrap_or_else(|error| {
        panic!("{}: {error}; a new sample needs MERIDIAN_WRITE_GOLDEN=1 once", path.display())
    })
}

#[test]
fn every_event_ever_written_is_read_and_written_as_it_was() {
    for (sample, event) in samples::events() {
        let bytes = golden("event", sample, &encode_event(&event));
        assert_eq!(decode_event(&bytes), Ok(event.clone()), "{sample}");
        assert_eq!(encode_event(&event), bytes, "{sample}");
    }
}

#[test]
fn every_record_ever_written_is_read_and_written_as_it_was() {
    for (sample, record) in samples::records() {
        let bytes = golden("record", sample, &encode_record(&record));
        assert_eq!(decode_record(&bytes), Ok(record.clone()), "{sample}");
        assert_eq!(encode_record(&record), bytes, "{sample}");
    }
}

#[test]
fn no_golden_file_lost_its_sample() {
    let events = samples::events().into_iter().map(|(sample, _)| file_name("event", sample));
    let records = samples::records().into_iter().map(|(sample, _)| file_name("record", sample));
    let samples: BTreeSet<String> = events.chain(records).collect();
    let files: BTreeSet<String> = fs::read_dir(directory())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".bin"))
        .collect();
    assert_eq!(files, samples);
}

/// The numbers below 100 that `is_known` says are fields, given an empty field of that number.
fn fields(is_known: impl Fn(&[u8]) -> bool) -> BTreeSet<u32> {
    let field = |number: &u32| {
        let mut bytes = Vec::new();
        prost::encoding::encode_key(*number, prost::encoding::WireType::LengthDelimited, &mut bytes);
        bytes.push(0);
        is_known(&bytes)
    };
    (1..100).filter(field).collect()
}

/// The numbers of the fields in a message, outermost only.
fn fields_of(mut bytes: &[u8]) -> BTreeSet<u32> {
    let mut numbers = BTreeSet::new();
    while !bytes.is_empty() {
        let (number, wire_type) = prost::encoding::decode_key(&mut bytes).unwrap();
        prost::encoding::skip_field(wire_type, number, &mut bytes, prost::encoding::DecodeContext::default())
            .unwrap();
        numbers.insert(number);
    }
    numbers
}

#[test]
fn every_kind_of_event_and_record_has_a_sample() {
    let known = fields(|bytes| v1::Event::decode(bytes).is_ok_and(|event| event.kind.is_some()));
    let mut sampled: BTreeSet<u32> =
        samples::events().iter().flat_map(|(_, event)| fields_of(&encode_event(event))).collect();
    assert!(sampled.remove(&1), "field 1 is the time");
    assert_eq!(sampled, known);

    let known = fields(|bytes| v1::Record::decode(bytes).is_ok_and(|record| record.record.is_some()));
    let sampled: BTreeSet<u32> =
        samples::records().iter().flat_map(|(_, record)| fields_of(&encode_record(record))).collect();
    assert_eq!(sampled, known);
}
