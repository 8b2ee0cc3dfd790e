//! Go's naming rules hold for any text, not only for the published vectors.

use std::cmp::Ordering;

use meridian_core::{
    build::{executable_name, version_for_names},
    golang::{h1::H1, module_path, platform::Platform, semver},
};
use proptest::prelude::*;

/// Texts that are versions often enough.
fn version() -> BoxedStrategy<String> {
    prop_oneof![
        "v[0-3](\\.[0-3](\\.[0-3](-[0-2a-b.-]{1,4})?(\\+[a-b0-1.]{1,3})?)?)?",
        "v?[0-9.+a-z-]{0,8}",
        ".{0,8}",
    ]
    .boxed()
}

proptest! {
    #[test]
    fn versions_are_totally_ordered(a in version(), b in version(), c in version()) {
        prop_assert_eq!(semver::compare(&a, &a), Ordering::Equal);
        prop_assert_eq!(semver::compare(&a, &b), semver::compare(&b, &a).reverse());
        if semver::compare(&a, &b).is_le() && semver::compare(&b, &c).is_le() {
            prop_assert!(semver::compare(&a, &c).is_le(), "{a:?} {b:?} {c:?}");
        }
    }

    #[test]
    fn a_canonical_version_is_its_own_canonical_version(v in version()) {
        if let Some(canonical) = semver::canonical(&v) {
            prop_assert_eq!(semver::compare(&v, &canonical), Ordering::Equal);
            prop_assert_eq!(semver::canonical(&canonical), Some(canonical));
        } else {
            prop_assert!(!semver::is_valid(&v));
        }
        let _ = (semver::is_pseudo(&v), semver::major_minor(&v), semver::prerelease(&v), semver::build(&v));
    }

    #[test]
    fn an_address_means_one_path(path in "[a-z]{1,3}\\.[a-z]{1,3}(/[A-Za-z0-9._~-]{1,6}){0,3}", any in ".{0,20}") {
        if let Ok(escaped) = module_path::escape_path(&path) {
            prop_assert!(!escaped.bytes().any(|b| b.is_ascii_uppercase()));
            prop_assert_eq!(module_path::unescape_path(&escaped), Ok(path.clone()));
        }
        if let Ok(meant) = module_path::unescape_path(&any) {
            let escaped = module_path::escape_path(&meant).expect("what an address means can be escaped");
            prop_assert_eq!(escaped.as_ref(), any.as_str());
        }
        if let Ok(escaped) = module_path::escape_version(&any) {
            prop_assert_eq!(module_path::unescape_version(&escaped), Ok(any.clone()));
        }
        if let Some((prefix, suffix)) = module_path::split_major(&path) {
            prop_assert_eq!(format!("{prefix}{suffix}"), path);
        }
        let _ = (module_path::split_major(&any), module_path::check_import_path(&any));
    }

    #[test]
    fn a_platform_survives_its_own_text(text in "(linux|windows|js|plan9)/(amd64|arm|arm64|386|wasm|mips)(/[v0-9.]{1,4}([,+](lse|crypto|softfloat|hardfloat)){0,2})?", any in ".{0,80}") {
        let _ = Platform::parse(&any).map_err(|error| error.to_string());
        if let Ok(platform) = Platform::parse(&text) {
            prop_assert_eq!(Platform::parse(&platform.to_string()), Ok(platform.clone()));
            prop_assert_eq!(platform.check(), Ok(()));
        }
    }

    #[test]
    fn names_of_files_never_hold_a_separator(text in ".{0,40}") {
        let is_plain = |name: &str| !name.contains(['/', '\0', '\n']);
        prop_assert!(is_plain(&version_for_names(&text)));
        prop_assert!(!executable_name(&text).contains('/'));
        let _ = H1::parse(&text);
        let _ = H1::parse(&format!("h1:{text}"));
    }
}
