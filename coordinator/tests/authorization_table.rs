//! The authorization table against the services as they are.

use std::collections::BTreeSet;

use meridian_coordinator::TABLE;
use meridian_proto::DESCRIPTORS;
use prost::Message as _;
use prost_types::FileDescriptorSet;

fn methods_of_the_services() -> BTreeSet<String> {
    let set = FileDescriptorSet::decode(DESCRIPTORS).expect("the build script wrote the descriptors");
    let mut methods = BTreeSet::new();
    // What agents ask each other is no business of the coordinator's: each shard checks the grants that it is shown.
    for file in set.file.iter().filter(|file| file.name() != "meridian/v1/cache.proto") {
        for service in &file.service {
            for method in &service.method {
                methods.insert(format!("/{}.{}/{}", file.package(), service.name(), method.name()));
            }
        }
    }
    methods
}

#[test]
fn every_method_of_every_service_has_exactly_one_row_and_every_row_a_method() {
    let rows: Vec<String> = TABLE.iter().map(|(method, _)| (*method).to_owned()).collect();
    let unique: BTreeSet<String> = rows.iter().cloned().collect();
    assert_eq!(unique.len(), rows.len(), "a method stands twice in the table");
    assert_eq!(unique, methods_of_the_services());
}

#[test]
fn every_row_allows_somebody() {
    for (method, roles) in TABLE {
        assert!(!roles.is_empty(), "{method} can be called by nobody");
    }
}
