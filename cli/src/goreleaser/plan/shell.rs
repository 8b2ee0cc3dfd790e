//! `$name` and `${name}`, as Go's `os.Expand` takes them.

/// Puts values in the place of names; one that is not known is nothing.
pub(super) fn expand<'a>(text: &str, value: impl Fn(&str) -> Option<&'a str>) -> String {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        expanded.push_str(&rest[..dollar]);
        let after = &rest[dollar + 1..];
        let (name, len) = shell_name(after);
        match name {
            Some(name) => expanded.push_str(value(name).unwrap_or_default()),
            // A dollar that names nothing stays; broken braces vanish.
            None if len == 0 => expanded.push('$'),
            None => {}
        }
        rest = &after[len..];
    }
    expanded.push_str(rest);
    expanded
}

/// The name after a dollar, and how many bytes it takes with its braces.
fn shell_name(text: &str) -> (Option<&str>, usize) {
    let is_special = |c: char| matches!(c, '*' | '#' | '$' | '@' | '!' | '?' | '-' | '0'..='9');
    if let Some(braced) = text.strip_prefix('{') {
        return match braced.find('}') {
            None => (None, 1),
            Some(0) => (None, 2),
            Some(end) => (Some(&braced[..end]), end + 2),
        };
    }
    if text.starts_with(is_special) {
        return (Some(&text[..1]), 1);
    }
    let len = text.bytes().take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_').count();
    ((len > 0).then_some(&text[..len]), len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_their_values_as_in_go() {
        let value = |name: &str| match name {
            "artifact" => Some("a.tar.gz"),
            "1" => Some("one"),
            _ => None,
        };
        for (text, expanded) in [
            ("${artifact}.sig", "a.tar.gz.sig"),
            ("$artifact.sig", "a.tar.gz.sig"),
            ("$artifacts", ""),
            ("$1x", "onex"),
            ("${none}x", "x"),
            ("a$", "a$"),
            ("a$.b", "a$.b"),
            ("{{ $.Os }}", "{{ $.Os }}"),
            ("a${}b", "ab"),
            ("a${b", "ab"),
            ("$é", "$é"),
        ] {
            assert_eq!(expand(text, value), expanded, "{text}");
        }
    }
}
