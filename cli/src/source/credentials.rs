//! Addresses without the user's name and password, for messages and for what is kept.
//!
//! A password may hold anything, also the slash and the `@` that end an address's host and its credentials.
//! git could not use such an address, but it would repeat it. So the rule looks for what could be a password
//! and rather takes too much away than leaks some of it; an address without a colon before its first slash
//! has no password and stays as it is.

/// The address without a user's name and password, except the account name that ssh needs.
#[must_use]
pub fn without_credentials(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let Some(at) = end_of_credentials(rest) else { return url.to_owned() };
    let bare = &rest[at + 1..];
    match rest[..at].split(['/', ':', '@']).next() {
        Some(account) if scheme == "ssh" => format!("{scheme}://{account}@{bare}"),
        _ => format!("{scheme}://{bare}"),
    }
}

/// Takes credentials out of every address in git's words.
pub(super) fn hide_credentials(words: &str) -> String {
    let mut clean = String::new();
    let mut rest = words;
    while let Some(found) = rest.find("://") {
        let is_scheme = |c: &char| c.is_ascii_alphanumeric() || *c == '+';
        let scheme: usize = rest[..found].chars().rev().take_while(is_scheme).map(char::len_utf8).sum();
        let (before, address) = rest.split_at(found - scheme);
        let end = if before.ends_with('\'') { end_of_quoted(address) } else { address.find(' ') };
        let (address, after) = address.split_at(end.unwrap_or(address.len()));
        clean += before;
        // git ends an address by a slash of its own, which would make a host of what follows an `@`.
        match address.strip_suffix('/') {
            Some(address) => clean += &(without_credentials(address) + "/"),
            None => clean += &without_credentials(address),
        }
        rest = after;
    }
    clean + rest
}

/// The quote that ends an address: one with no letter or digit behind it.
fn end_of_quoted(address: &str) -> Option<usize> {
    let ends = |at: &usize| !address[at + 1..].starts_with(|c: char| c.is_alphanumeric() || "@/".contains(c));
    address.match_indices('\'').map(|(at, _)| at).find(ends)
}

/// Whether an address has a password that git would take for a part of the path, because of its slash.
#[must_use]
pub fn has_slash_in_password(url: &str) -> bool {
    let Some((_, rest)) = url.split_once("://") else { return false };
    let slash = rest.find('/').unwrap_or(rest.len());
    has_password(rest) && !is_port(rest) && rest[slash..].contains('@') && !rest[..slash].contains('@')
}

/// Where the `@` is that ends the credentials of `user:password@host/path`, if there are any.
fn end_of_credentials(rest: &str) -> Option<usize> {
    let slash = rest.find('/').unwrap_or(rest.len());
    let plain = rest[..slash].rfind('@');
    if !has_password(rest) {
        return plain;
    }
    // Behind the slash an `@` may belong to the path: it begins a step of it, or no host and path follow it.
    let ends_password = |at: &usize| {
        let (before, after) = (&rest[..*at], &rest[at + 1..]);
        !before.ends_with('/') && after.find('/').is_some_and(|host| host > 0)
    };
    let behind = || rest[slash..].match_indices('@').map(|(at, _)| slash + at);
    let last = behind().rfind(ends_password).or(plain);
    // What no port could be is a password for certain, wherever it ends.
    if last.is_none() && !is_port(rest) { behind().next_back() } else { last }
}

/// Whether something before the first slash could be a password: a colon that is not behind an `@`.
fn has_password(rest: &str) -> bool {
    let before = rest.split(['/', '@']).next().unwrap_or_default();
    // The colons of `[::1]` are a host's own.
    !before.starts_with('[') && before.contains(':')
}

/// Whether what follows the first colon could be the port of a host without credentials.
fn is_port(rest: &str) -> bool {
    let host = rest.split('/').next().unwrap_or_default();
    host.split_once(':')
        .is_some_and(|(_, port)| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Addresses, and what is left of them.
    const ADDRESSES: &[(&str, &str)] = &[
        // Credentials as they should be.
        ("https://user:secret@h.example/a", "https://h.example/a"),
        ("https://user:secret@h.example", "https://h.example"),
        ("https://token@h.example/a@b", "https://h.example/a@b"),
        ("https://user:secret@h.example/a@b", "https://h.example/a@b"),
        ("https://user:secret@h.example:8443/a/@b/c.git", "https://h.example:8443/a/@b/c.git"),
        ("https://user:sec@ret@h.example/a", "https://h.example/a"),
        ("https://user@h.example:8443/a@b/c", "https://h.example:8443/a@b/c"),
        ("https://user:secret@[::1]:8443/a", "https://[::1]:8443/a"),
        ("ssh://git:pw@h.example/a", "ssh://git@h.example/a"),
        ("ssh://git@h.example:2222/a@b/c", "ssh://git@h.example:2222/a@b/c"),
        // A slash in the password.
        ("https://alice:pa/ss@host/x.git", "https://host/x.git"),
        ("https://alice:/pass@host/x.git", "https://host/x.git"),
        ("https://alice:pass/@host/x.git", "https://host/x.git"),
        ("https://alice:p/a/s/s@host/x.git", "https://host/x.git"),
        ("https://alice:pa/ss@host", "https://host"),
        ("https://alice:p@s/s@host/x.git", "https://host/x.git"),
        ("https://alice:12/34@host/x.git", "https://host/x.git"),
        ("https://alice:pa/ss@host/scope/@name/x.git", "https://host/scope/@name/x.git"),
        ("https://alice:it's/pass@host/x.git", "https://host/x.git"),
        ("https://alice:pa/ss@host/a@b", "https://host/a@b"),
        ("ssh://git:pa/ss@host/x.git", "ssh://git@host/x.git"),
        // None at all.
        ("https://host/a@b", "https://host/a@b"),
        ("https://host/a@b/c.git", "https://host/a@b/c.git"),
        ("https://host/scope/@name/x.git", "https://host/scope/@name/x.git"),
        ("https://host:8443/scope/@name/x.git", "https://host:8443/scope/@name/x.git"),
        ("https://host:8443/a@b", "https://host:8443/a@b"),
        ("https://host/a:b@c/d", "https://host/a:b@c/d"),
        ("https://[::1]:8443/a@b/c", "https://[::1]:8443/a@b/c"),
        ("git@h.example:a", "git@h.example:a"),
        ("file:///srv/a@b", "file:///srv/a@b"),
        ("file:///srv/a:b@c/d", "file:///srv/a:b@c/d"),
    ];

    #[test]
    fn credentials_never_leave_an_address_and_plain_addresses_stay() {
        for (url, expected) in ADDRESSES {
            assert_eq!(without_credentials(url), *expected, "{url}");
        }
    }

    #[test]
    fn what_git_says_of_an_address_has_no_credentials_either() {
        for (url, expected) in ADDRESSES {
            for (before, after) in [
                ("fatal: unable to access '", "/': URL rejected: Port number was not a decimal number"),
                ("fatal: Authentication failed for '", "/'; and so on"),
                ("fetching ", " failed"),
                ("», ", ""),
            ] {
                let words = format!("{before}{url}{after}");
                let told = hide_credentials(&words);
                assert!(!told.contains("ss@") && !told.contains("secret"), "{words}: {told}");
                assert_eq!(told, format!("{before}{expected}{after}"), "{words}");
            }
        }
        let two = "'https://a:b c/d@host/x.git/' is not https://u:pw@host/y";
        assert_eq!(hide_credentials(two), "'https://host/x.git/' is not https://host/y");
    }

    #[test]
    fn a_slash_in_a_password_is_told_from_a_port() {
        for (url, expected) in [
            ("https://alice:pa/ss@host/x.git", true),
            ("https://alice:/ss@host/x.git", true),
            ("https://alice:pass@host/x.git@main", false),
            ("https://host:8443/team/x.git@feature/y", false),
            ("https://host/scope/@name/x.git", false),
            ("https://[::1]:8443/x.git@main", false),
            ("file:///srv/a:b@c/d", false),
        ] {
            assert_eq!(has_slash_in_password(url), expected, "{url}");
        }
    }
}
