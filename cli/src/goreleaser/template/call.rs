//! What the functions do.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    clock,
    error::Problem,
    eval::{Scope, TEXT_LEN_MAX},
    function::Function,
    path, printf, title,
    value::Value,
    version,
};

/// Calls a function on values; `and` and `or` are not called here, since they need not look at all of them.
pub(super) fn call(function: Function, arguments: Vec<Value>, scope: &Scope) -> Result<Value, Problem> {
    let arguments = Arguments { function, values: arguments };
    match function {
        Function::Print | Function::Println | Function::Printf => arguments.printed(),
        Function::Eq | Function::Ne | Function::Lt | Function::Le | Function::Gt | Function::Ge => {
            arguments.compared()
        }
        Function::Not => Ok(Value::Bool(!arguments.one()?.is_true())),
        Function::Len => arguments.len(),
        Function::Index => arguments.indexed(),
        Function::Slice => arguments.sliced(),
        Function::Map | Function::IndexOrDefault => arguments.mapped(),
        Function::List => Ok(Value::List(arguments.texts()?)),
        Function::EnglishJoin => arguments.joined(),
        Function::EnvOrDefault | Function::IsEnvSet => arguments.environment(scope),
        Function::Abs => {
            let path = arguments.text()?;
            if path.starts_with('/') { Ok(Value::Text(path::clean(path))) } else { scope.absolute(path) }
        }
        _ => arguments.rewritten(scope),
    }
}

struct Arguments {
    function: Function,
    values: Vec<Value>,
}

impl Arguments {
    fn count_problem(&self, wanted: &'static str) -> Problem {
        Problem::ArgumentCount { function: self.function.name(), wanted, found: self.values.len() }
    }

    fn kind_problem(&self, wanted: &'static str, found: &Value) -> Problem {
        Problem::ArgumentKind { function: self.function.name(), wanted, found: found.kind() }
    }

    fn one(&self) -> Result<&Value, Problem> {
        match &self.values[..] {
            [value] => Ok(value),
            _ => Err(self.count_problem("one argument")),
        }
    }

    fn text_of<'a>(&self, value: &'a Value) -> Result<&'a str, Problem> {
        match value {
            Value::Text(text) => Ok(text),
            other => Err(self.kind_problem("texts", other)),
        }
    }

    fn text(&self) -> Result<&str, Problem> {
        self.text_of(self.one()?)
    }

    fn two_texts(&self) -> Result<(&str, &str), Problem> {
        match &self.values[..] {
            [one, two] => Ok((self.text_of(one)?, self.text_of(two)?)),
            _ => Err(self.count_problem("two arguments")),
        }
    }

    fn texts(&self) -> Result<Vec<String>, Problem> {
        self.values.iter().map(|value| self.text_of(value).map(str::to_owned)).collect()
    }

    /// The functions of texts that give a text, a truth value or a list.
    fn rewritten(&self, scope: &Scope) -> Result<Value, Problem> {
        Ok(match self.function {
            Function::ToLower => Value::Text(self.text()?.to_lowercase()),
            Function::ToUpper => Value::Text(self.text()?.to_uppercase()),
            Function::Title => Value::Text(title::title(self.text()?)?),
            Function::Trim => Value::text(self.text()?.trim()),
            Function::Base => Value::Text(path::base(self.text()?)),
            Function::Dir => Value::Text(path::dir(self.text()?)),
            Function::Time => Value::Text(clock::format(self.text()?, scope.now_ms())),
            Function::Mdv2Escape => Value::Text(mdv2_escape(self.text()?)),
            Function::UrlPathEscape => Value::Text(url_path_escape(self.text()?)),
            Function::IncMajor => Value::Text(version::increment(self.text()?, 0)?),
            Function::IncMinor => Value::Text(version::increment(self.text()?, 1)?),
            Function::IncPatch => Value::Text(version::increment(self.text()?, 2)?),
            Function::Contains => {
                let (text, part) = self.two_texts()?;
                Value::Bool(text.contains(part))
            }
            Function::TrimPrefix => {
                let (text, prefix) = self.two_texts()?;
                Value::text(text.strip_prefix(prefix).unwrap_or(text))
            }
            Function::TrimSuffix => {
                let (text, suffix) = self.two_texts()?;
                Value::text(text.strip_suffix(suffix).unwrap_or(text))
            }
            Function::Split => {
                let (text, separator) = self.two_texts()?;
                Value::List(split(text, separator))
            }
            Function::Replace => self.replaced()?,
            other => return Err(Problem::Unsupported(format!("the function `{}` is", other.name()))),
        })
    }

    fn replaced(&self) -> Result<Value, Problem> {
        let [text, old, new] = &self.values[..] else { return Err(self.count_problem("three arguments")) };
        let (text, old, new) = (self.text_of(text)?, self.text_of(old)?, self.text_of(new)?);
        // Measured before it is made: 64 KiB of replacements of 64 KiB each would be 4 GiB.
        let count = if old.is_empty() { text.chars().count() + 1 } else { text.matches(old).count() };
        if count.saturating_mul(new.len()) > TEXT_LEN_MAX {
            return Err(Problem::TooLong(TEXT_LEN_MAX));
        }
        Ok(Value::Text(text.replace(old, new)))
    }

    fn printed(&self) -> Result<Value, Problem> {
        if self.function == Function::Printf {
            let [format, values @ ..] = &self.values[..] else {
                return Err(self.count_problem("a format and values"));
            };
            return printf::printf(self.text_of(format)?, values).map(Value::Text);
        }
        let is_line = self.function == Function::Println;
        let mut text = String::new();
        for (at, value) in self.values.iter().enumerate() {
            // `print` puts a blank between two values unless one of them is a text.
            let is_text = |value: &Value| matches!(value, Value::Text(_));
            if at > 0 && (is_line || !(is_text(&self.values[at - 1]) || is_text(value))) {
                text.push(' ');
            }
            text.push_str(&value.to_string());
            if text.len() > TEXT_LEN_MAX {
                return Err(Problem::TooLong(TEXT_LEN_MAX));
            }
        }
        if is_line {
            text.push('\n');
        }
        Ok(Value::Text(text))
    }

    fn compared(&self) -> Result<Value, Problem> {
        let [first, others @ ..] = &self.values[..] else { return Err(self.count_problem("two arguments")) };
        if self.function == Function::Eq {
            if others.is_empty() {
                return Err(self.count_problem("at least two arguments"));
            }
            for other in others {
                if is_equal(first, other)? {
                    return Ok(Value::Bool(true));
                }
            }
            return Ok(Value::Bool(false));
        }
        let [second] = others else { return Err(self.count_problem("two arguments")) };
        Ok(Value::Bool(match self.function {
            Function::Ne => !is_equal(first, second)?,
            Function::Lt => order(first, second)?.is_lt(),
            Function::Le => order(first, second)?.is_le(),
            Function::Gt => order(first, second)?.is_gt(),
            _ => order(first, second)?.is_ge(),
        }))
    }

    fn len(&self) -> Result<Value, Problem> {
        let len = match self.one()? {
            Value::Text(text) => text.len(),
            Value::List(items) => items.len(),
            Value::Map(map) => map.len(),
            Value::Fields(fields) => fields.len(),
            other => return Err(self.kind_problem("a text, a list or a map", other)),
        };
        Ok(Value::Int(len as i128))
    }

    fn indexed(&self) -> Result<Value, Problem> {
        match &self.values[..] {
            [Value::Map(map), Value::Text(key)] => Ok(Value::Text(map.get(key).cloned().unwrap_or_default())),
            [Value::List(items), Value::Int(index)] => {
                let place = position(*index, items.len(), false)?;
                Ok(Value::Text(items.get(place).cloned().unwrap_or_default()))
            }
            [Value::Text(text), Value::Int(index)] => {
                let place = position(*index, text.len(), false)?;
                Ok(Value::Int(text.as_bytes().get(place).copied().unwrap_or_default().into()))
            }
            [value] => Ok(value.clone()),
            [] => Err(self.count_problem("a value and what to look for")),
            [value, ..] => Err(self.kind_problem("a map and a text, or a list and a number", value)),
        }
    }

    fn sliced(&self) -> Result<Value, Problem> {
        let [Value::Text(text), bounds @ ..] = &self.values[..] else {
            return match self.values.first() {
                None => Err(self.count_problem("a text and its bounds")),
                Some(other) => Err(self.kind_problem("a text and numbers", other)),
            };
        };
        let mut places = [0, text.len()];
        if bounds.len() > 2 {
            return Err(self.count_problem("a text and two bounds"));
        }
        for (place, bound) in places.iter_mut().zip(bounds) {
            let Value::Int(index) = bound else { return Err(self.kind_problem("a text and numbers", bound)) };
            *place = position(*index, text.len(), true)?;
        }
        text.get(places[0]..places[1])
            .map(Value::text)
            .ok_or(Problem::OutOfRange { index: places[0] as i128, len: text.len() })
    }

    fn mapped(&self) -> Result<Value, Problem> {
        if self.function == Function::IndexOrDefault {
            let [Value::Map(map), Value::Text(key), Value::Text(default)] = &self.values[..] else {
                return match self.values.first() {
                    Some(other) if self.values.len() == 3 => {
                        Err(self.kind_problem("a map and two texts", other))
                    }
                    _ => Err(self.count_problem("three arguments")),
                };
            };
            return Ok(Value::text(map.get(key).unwrap_or(default)));
        }
        let texts = self.texts()?;
        if !texts.len().is_multiple_of(2) {
            return Err(self.count_problem("keys with values"));
        }
        let pairs = texts.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone()));
        Ok(Value::Map(Arc::new(pairs.collect::<BTreeMap<_, _>>())))
    }

    fn joined(&self) -> Result<Value, Problem> {
        let Value::List(items) = self.one()? else { return Err(self.kind_problem("a list", self.one()?)) };
        let items: Vec<&str> =
            items.iter().map(String::as_str).filter(|item| !item.trim().is_empty()).collect();
        Ok(Value::Text(match &items[..] {
            [] => String::new(),
            [one] => (*one).to_owned(),
            [one, two] => format!("{one} and {two}"),
            [first @ .., last] => format!("{}, and {last}", first.join(", ")),
        }))
    }

    fn environment(&self, scope: &Scope) -> Result<Value, Problem> {
        if self.function == Function::IsEnvSet {
            return Ok(Value::Bool(scope.env(self.text()?).is_some_and(|value| !value.is_empty())));
        }
        let (name, default) = self.two_texts()?;
        Ok(Value::text(scope.env(name).unwrap_or(default)))
    }
}

/// Go's `eq`: only values of one kind can be compared, and nil is equal to nil alone.
fn is_equal(left: &Value, right: &Value) -> Result<bool, Problem> {
    match (left, right) {
        (Value::Bool(left), Value::Bool(right)) => Ok(left == right),
        (Value::Int(left), Value::Int(right)) => Ok(left == right),
        (Value::Text(left), Value::Text(right)) => Ok(left == right),
        (Value::Time(left), Value::Time(right)) => Ok(left == right),
        (Value::Nil, other) | (other, Value::Nil) => Ok(*other == Value::Nil),
        _ => Err(Problem::Incomparable { left: left.kind(), right: right.kind() }),
    }
}

fn order(left: &Value, right: &Value) -> Result<std::cmp::Ordering, Problem> {
    match (left, right) {
        (Value::Int(left), Value::Int(right)) => Ok(left.cmp(right)),
        (Value::Text(left), Value::Text(right)) => Ok(left.cmp(right)),
        _ => Err(Problem::Incomparable { left: left.kind(), right: right.kind() }),
    }
}

/// An index as a place; `is_bound` allows the place after the last.
fn position(index: i128, len: usize, is_bound: bool) -> Result<usize, Problem> {
    let limit = len + usize::from(is_bound);
    usize::try_from(index).ok().filter(|place| *place < limit).ok_or(Problem::OutOfRange { index, len })
}

/// Go's `strings.Split`: an empty separator gives the characters.
fn split(text: &str, separator: &str) -> Vec<String> {
    if separator.is_empty() {
        return text.chars().map(String::from).collect();
    }
    text.split(separator).map(str::to_owned).collect()
}

/// What Telegram's MarkdownV2 asks to be escaped.
fn mdv2_escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if "_*[]()~`>#+-=|{}.!".contains(c) {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

/// Go's `url.PathEscape`: letters, digits and `-_.~$&+=:@` stay.
fn url_path_escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~$&+=:@".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}
