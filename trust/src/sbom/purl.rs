//! Package URLs of Go modules: `pkg:golang/PATH@VERSION#SUBPATH`.
//!
//! The type's own text asks for lower case and contradicts itself; Go's paths are case-sensitive, and OSV, deps.dev
//! and the common scanners take them as they are, so case is kept.

/// The package URL of a module, or of a package below it when `subpath` is not empty.
pub(super) fn of_module(path: &str, version: &str, subpath: &str) -> String {
    let mut purl = "pkg:golang/".to_owned();
    push_segments(&mut purl, path);
    if !version.is_empty() {
        purl.push('@');
        push_encoded(&mut purl, version);
    }
    if !subpath.is_empty() {
        purl.push('#');
        push_segments(&mut purl, subpath);
    }
    purl
}

fn push_segments(purl: &mut String, path: &str) {
    for (index, segment) in path.split('/').filter(|segment| !segment.is_empty()).enumerate() {
        if index > 0 {
            purl.push('/');
        }
        push_encoded(purl, segment);
    }
}

/// All but letters, digits, `.`, `-`, `_`, `~` and `:` is encoded, a version's `+` too.
fn push_encoded(purl: &mut String, text: &str) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b".-_~:".contains(&byte) {
            purl.push(char::from(byte));
        } else {
            purl.push('%');
            purl.push(char::from(HEX[usize::from(byte >> 4)]));
            purl.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_url_is_encoded_as_its_specification_says() {
        for (path, version, subpath, purl) in [
            ("golang.org/x/tools", "v0.30.0", "", "pkg:golang/golang.org/x/tools@v0.30.0"),
            ("golang.org/x/tools", "v0.30.0", "cmd/go a", "pkg:golang/golang.org/x/tools@v0.30.0#cmd/go%20a"),
            ("github.com/BurntSushi/toml", "v1.3.2", "", "pkg:golang/github.com/BurntSushi/toml@v1.3.2"),
            ("x.test/old", "v2.0.0+incompatible", "", "pkg:golang/x.test/old@v2.0.0%2Bincompatible"),
            (
                "x.test/n",
                "v0.0.0-20260102030405-0123456789ab",
                "",
                "pkg:golang/x.test/n@v0.0.0-20260102030405-0123456789ab",
            ),
            ("x.test/m/v2", "", "", "pkg:golang/x.test/m/v2"),
            ("x.test//ä@b?c#d", "v1@x/y", "", "pkg:golang/x.test/%C3%A4%40b%3Fc%23d@v1%40x%2Fy"),
        ] {
            assert_eq!(of_module(path, version, subpath), purl);
        }
    }
}
