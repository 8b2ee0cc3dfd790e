//! Go's `printf` for what names hold: texts, whole numbers and truth values.
//!
//! A verb that does not fit its value is refused, where Go writes `%!d(string=x)` into the name.

use super::{error::Problem, eval::TEXT_LEN_MAX, value::Value};

/// What stands between `%` and the verb.
#[derive(Debug, Default)]
struct Spec {
    is_left: bool,
    has_plus: bool,
    has_blank: bool,
    has_zeros: bool,
    width: usize,
    precision: Option<usize>,
}

/// Writes values as a format says.
pub(super) fn printf(format: &str, values: &[Value]) -> Result<String, Problem> {
    let mut text = String::new();
    let mut values = values.iter();
    let mut rest = format;
    while let Some(percent) = rest.find('%') {
        text.push_str(&rest[..percent]);
        let (spec, verb, after) = Spec::read(&rest[percent + 1..])?;
        rest = after;
        if verb == '%' {
            text.push('%');
            continue;
        }
        let value = values.next().ok_or_else(|| Problem::Syntax(format!("`%{verb}` has no value")))?;
        text.push_str(&spec.padded(spec.written(verb, value)?, value));
        if text.len() > TEXT_LEN_MAX {
            return Err(Problem::TooLong(TEXT_LEN_MAX));
        }
    }
    text.push_str(rest);
    match values.next() {
        Some(_) => Err(Problem::syntax("`printf` has more values than verbs")),
        None => Ok(text),
    }
}

impl Spec {
    /// Reads flags, width, precision and verb; gives what follows them.
    fn read(text: &str) -> Result<(Self, char, &str), Problem> {
        let mut spec = Self::default();
        let mut rest = text;
        loop {
            match rest.as_bytes().first() {
                Some(b'-') => spec.is_left = true,
                Some(b'+') => spec.has_plus = true,
                Some(b' ') => spec.has_blank = true,
                Some(b'0') => spec.has_zeros = true,
                _ => break,
            }
            rest = &rest[1..];
        }
        (spec.width, rest) = number(rest)?;
        if let Some(after) = rest.strip_prefix('.') {
            let (precision, after) = number(after)?;
            spec.precision = Some(precision);
            rest = after;
        }
        let verb = rest.chars().next().ok_or_else(|| Problem::syntax("`%` ends the format"))?;
        if matches!(verb, '[' | '*' | '#') {
            return Err(Problem::Unsupported(format!("`{verb}` in a format is")));
        }
        Ok((spec, verb, &rest[verb.len_utf8()..]))
    }

    /// A value without its padding.
    fn written(&self, verb: char, value: &Value) -> Result<String, Problem> {
        if (self.has_blank || self.has_plus) && !matches!((verb, value), ('d' | 'v', Value::Int(_))) {
            return Err(Problem::Unsupported(format!("a sign before `{verb}` is")));
        }
        let mismatch = || Problem::Syntax(format!("`%{verb}` does not take {}", value.kind()));
        match (verb, value) {
            ('v' | 's', Value::Text(text)) => Ok(self.cut(text)),
            ('v', Value::Int(number)) | ('d', Value::Int(number)) => Ok(self.signed(*number)),
            ('v' | 't', Value::Bool(value)) => Ok(value.to_string()),
            ('v' | 's', Value::List(_)) | ('v', Value::Map(_) | Value::Fields(_))
                if self.precision.is_none() =>
            {
                Ok(value.to_string())
            }
            ('q', Value::Text(text)) => quote(&self.cut(text)),
            ('x', Value::Text(text)) => Ok(self.cut_bytes(text).map(|byte| format!("{byte:02x}")).collect()),
            ('X', Value::Text(text)) => Ok(self.cut_bytes(text).map(|byte| format!("{byte:02X}")).collect()),
            ('x', Value::Int(number)) if *number >= 0 && self.precision.is_none() => {
                Ok(format!("{number:x}"))
            }
            ('X', Value::Int(number)) if *number >= 0 && self.precision.is_none() => {
                Ok(format!("{number:X}"))
            }
            _ => Err(mismatch()),
        }
    }

    fn cut(&self, text: &str) -> String {
        self.precision.map_or_else(|| text.to_owned(), |len| text.chars().take(len).collect())
    }

    fn cut_bytes<'a>(&self, text: &'a str) -> impl Iterator<Item = u8> + use<'a> {
        text.bytes().take(self.precision.unwrap_or(usize::MAX))
    }

    fn signed(&self, number: i128) -> String {
        let sign = match (number < 0, self.has_plus, self.has_blank) {
            (true, ..) => "-",
            (_, true, _) => "+",
            (_, _, true) => " ",
            _ => "",
        };
        let digits = number.unsigned_abs().to_string();
        // A precision is the least number of digits; zeros for the width go between sign and digits.
        let zeros = match self.precision {
            Some(0) if number == 0 => return sign.to_owned(),
            Some(len) => len,
            None if self.has_zeros && !self.is_left => self.width.saturating_sub(sign.len()),
            None => 0,
        };
        format!("{sign}{digits:0>zeros$}")
    }

    fn padded(&self, written: String, value: &Value) -> String {
        let len = written.chars().count();
        let missing = self.width.saturating_sub(len);
        if missing == 0 {
            return written;
        }
        if self.is_left {
            return written + &" ".repeat(missing);
        }
        // Go pads whatever it is asked to with zeros, but for numbers with a precision.
        let has_zeros = self.has_zeros && !(matches!(value, Value::Int(_)) && self.precision.is_some());
        let filler = if has_zeros { "0" } else { " " };
        filler.repeat(missing) + &written
    }
}

/// A number that may be left out, and what follows it.
fn number(text: &str) -> Result<(usize, &str), Problem> {
    let len = text.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, rest) = text.split_at(len);
    if digits.is_empty() {
        return Ok((0, rest));
    }
    let number = digits.parse().ok().filter(|number| *number <= TEXT_LEN_MAX);
    number.map(|number| (number, rest)).ok_or(Problem::TooLong(TEXT_LEN_MAX))
}

/// Go's quotes around an ASCII text.
fn quote(text: &str) -> Result<String, Problem> {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            ' '..='~' => quoted.push(c),
            _ => return Err(Problem::unsupported("`%q` of letters outside ASCII is")),
        }
    }
    quoted.push('"');
    Ok(quoted)
}
