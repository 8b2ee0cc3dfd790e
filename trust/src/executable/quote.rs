//! Quoted strings as Go's `strconv` reads them: the settings of a build info are written so.

/// Reads the quoted string that `text` begins with, `"…"` or `` `…` ``; gives its value and what follows it.
///
/// `None` when there is none, when it is malformed, or when its escapes make bytes that are not UTF-8.
pub(super) fn unquote_prefix(text: &str) -> Option<(String, &str)> {
    if let Some(raw) = text.strip_prefix('`') {
        let (value, rest) = raw.split_once('`')?;
        return Some((value.replace('\r', ""), rest));
    }
    let mut rest = text.strip_prefix('"')?;
    let mut value = Vec::new();
    loop {
        let stop = rest.find(['"', '\\', '\n'])?;
        value.extend_from_slice(&rest.as_bytes()[..stop]);
        rest = &rest[stop..];
        if let Some(after) = rest.strip_prefix('"') {
            return Some((String::from_utf8(value).ok()?, after));
        }
        rest = unescape(rest.strip_prefix('\\')?, &mut value)?;
    }
}

/// Reads one escape after its backslash into `value`; gives what follows.
fn unescape<'t>(text: &'t str, value: &mut Vec<u8>) -> Option<&'t str> {
    let kind = text.chars().next().filter(char::is_ascii)?;
    let rest = &text[1..];
    let simple = match kind {
        'a' => 0x07,
        'b' => 0x08,
        'f' => 0x0c,
        'n' => b'\n',
        'r' => b'\r',
        't' => b'\t',
        'v' => 0x0b,
        '\\' => b'\\',
        '"' => b'"',
        'x' => return digits(rest, 2, 16, value, false),
        'u' => return digits(rest, 4, 16, value, true),
        'U' => return digits(rest, 8, 16, value, true),
        '0'..='7' => return digits(text, 3, 8, value, false),
        _ => return None,
    };
    value.push(simple);
    Some(rest)
}

fn digits<'t>(
    text: &'t str,
    count: usize,
    radix: u32,
    value: &mut Vec<u8>,
    is_character: bool,
) -> Option<&'t str> {
    let (number, rest) = text.split_at_checked(count)?;
    if !number.chars().all(|digit| digit.is_digit(radix)) {
        return None;
    }
    let number = u32::from_str_radix(number, radix).ok()?;
    if is_character {
        value.extend_from_slice(char::from_u32(number)?.encode_utf8(&mut [0; 4]).as_bytes());
    } else {
        value.push(u8::try_from(number).ok()?);
    }
    Some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quoted_string_is_read_as_go_reads_it() {
        for (text, want) in [
            (r#""""#, Some(("", ""))),
            (r#""a b"=c"#, Some(("a b", "=c"))),
            (r#""\a\b\f\n\r\t\v\\\"""#, Some(("\x07\x08\x0c\n\r\t\x0b\\\"", ""))),
            (r#""\x41\101\u00e9\U0001f600""#, Some(("AAé😀", ""))),
            (r#""\xc3\xa9""#, Some(("é", ""))),
            ("`a\\n\"b\rc`d", Some(("a\\n\"bc", "d"))),
            (r#""\xff""#, None),
            (r#""\'""#, None),
            (r#""\u12""#, None),
            (r#""\u+123""#, None),
            (r#""\ud800""#, None),
            (r#""\400""#, None),
            (r#""\é""#, None),
            (r#""open"#, None),
            ("`open", None),
            ("\"a\nb\"", None),
            (r#""\"#, None),
            ("'a'", None),
            ("a", None),
            ("", None),
        ] {
            let want = want.map(|(value, rest)| (value.to_owned(), rest));
            assert_eq!(unquote_prefix(text), want, "{text}");
        }
    }
}
