//! A template applied to fields.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use meridian_core::golang::nearness::nearest;

use super::{
    call::call,
    clock,
    error::{Problem, TemplateError},
    function::Function,
    lexer::{self, Failure},
    parser, path,
    syntax::{Command, Operand, OperandKind, Part, Pipeline},
    value::{Fields, Value},
};

/// The longest template, and the longest text it may make, in bytes.
pub(super) const TEXT_LEN_MAX: usize = 64 << 10;
/// A longer name is no misspelling of a field.
const NAME_LEN_MAX: usize = 40;

/// A template that was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Template {
    text: String,
    parts: Vec<Part>,
}

/// What a template is applied to.
#[derive(Debug, Clone)]
pub struct Scope {
    fields: Arc<Fields>,
    env: Arc<BTreeMap<String, String>>,
    now_ms: i64,
    directory: PathBuf,
}

impl Scope {
    /// A root with these fields and this environment (also the field `.Env`), at a moment in milliseconds
    /// since the Unix epoch, in the project's directory.
    #[must_use]
    pub fn new(fields: Fields, env: Arc<BTreeMap<String, String>>, now_ms: i64, directory: PathBuf) -> Self {
        Self { fields: Arc::new(fields), env, now_ms, directory }.with_env_field()
    }

    /// The same with other values for some fields.
    #[must_use]
    pub fn with(&self, fields: impl IntoIterator<Item = (&'static str, Value)>) -> Self {
        let mut scope = self.clone();
        Arc::make_mut(&mut scope.fields).extend(fields);
        scope
    }

    /// The same with another environment.
    #[must_use]
    pub fn with_env(&self, env: Arc<BTreeMap<String, String>>) -> Self {
        let mut scope = self.clone();
        scope.env = env;
        scope.with_env_field()
    }

    fn with_env_field(mut self) -> Self {
        let env = Value::Map(Arc::clone(&self.env));
        Arc::make_mut(&mut self.fields).insert("Env", env);
        self
    }

    pub(super) fn env(&self, name: &str) -> Option<&str> {
        self.env.get(name).map(String::as_str)
    }

    pub(super) fn now_ms(&self) -> i64 {
        self.now_ms
    }

    /// A path below the project's directory.
    pub(super) fn absolute(&self, text: &str) -> Result<Value, Problem> {
        let Some(directory) = self.directory.to_str() else {
            return Err(Problem::unsupported("`abs` in a directory whose name is no UTF-8 is"));
        };
        Ok(Value::Text(path::clean(&format!("{directory}/{text}"))))
    }
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// When it is no template of Go's, or uses what is refused here; the error says which and where.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        if text.len() > TEXT_LEN_MAX {
            return Err(Problem::TooLong(TEXT_LEN_MAX).at("", 0));
        }
        let read = lexer::lex(text).and_then(|tokens| parser::parse(tokens, text.len()));
        match read {
            Ok(parts) => Ok(Self { text: text.to_owned(), parts }),
            Err((problem, at)) => Err(problem.at(text, at)),
        }
    }

    /// Applies it.
    ///
    /// # Errors
    /// When a field is not there, a function gets what it does not take, or the text grows too long.
    pub fn render(&self, scope: &Scope) -> Result<String, TemplateError> {
        let mut rendering = Rendering { scope, output: String::new() };
        let root = Value::Fields(Arc::clone(&scope.fields));
        rendering.parts(&self.parts, &root).map_err(|(problem, at)| problem.at(&self.text, at))?;
        Ok(rendering.output)
    }
}

struct Rendering<'a> {
    scope: &'a Scope,
    output: String,
}

impl Rendering<'_> {
    fn parts(&mut self, parts: &[Part], dot: &Value) -> Result<(), Failure> {
        for part in parts {
            match part {
                Part::Text(text) => self.write(text, 0)?,
                Part::Output(pipeline) => {
                    let value = self.pipeline(pipeline, dot)?;
                    let at = pipeline.commands.first().map_or(0, |command| command.first.at);
                    self.write(&value.to_string(), at)?;
                }
                Part::Branch(branch) => {
                    let value = self.pipeline(&branch.condition, dot)?;
                    match (value.is_true(), branch.is_with) {
                        (true, true) => self.parts(&branch.then, &value)?,
                        (true, false) => self.parts(&branch.then, dot)?,
                        (false, _) => self.parts(&branch.otherwise, dot)?,
                    }
                }
            }
        }
        Ok(())
    }

    fn write(&mut self, text: &str, at: usize) -> Result<(), Failure> {
        if self.output.len() + text.len() > TEXT_LEN_MAX {
            return Err((Problem::TooLong(TEXT_LEN_MAX), at));
        }
        self.output.push_str(text);
        Ok(())
    }

    fn pipeline(&self, pipeline: &Pipeline, dot: &Value) -> Result<Value, Failure> {
        let mut last = None;
        for command in &pipeline.commands {
            last = Some(self.command(command, dot, last)?);
        }
        Ok(last.unwrap_or(Value::Nil))
    }

    fn command(&self, command: &Command, dot: &Value, last: Option<Value>) -> Result<Value, Failure> {
        let Operand { kind, at } = &command.first;
        let has_arguments = !command.arguments.is_empty() || last.is_some();
        match kind {
            OperandKind::Function(function) => self.function(*function, *at, command, dot, last),
            OperandKind::Fields(base, names) => {
                let arguments = self.arguments(command, dot, last)?;
                self.fields(base, names, arguments, has_arguments, dot).map_err(|(problem, _)| (problem, *at))
            }
            OperandKind::Nil => Err((Problem::syntax("`nil` is no command"), *at)),
            _ if has_arguments => Err((Problem::NotAFunction(describe(kind)), *at)),
            _ => self.operand(&command.first, dot),
        }
    }

    fn arguments(&self, command: &Command, dot: &Value, last: Option<Value>) -> Result<Vec<Value>, Failure> {
        let own = command.arguments.iter().map(|operand| self.operand(operand, dot));
        own.chain(last.map(Ok)).collect()
    }

    fn function(
        &self,
        function: Function,
        at: usize,
        command: &Command,
        dot: &Value,
        last: Option<Value>,
    ) -> Result<Value, Failure> {
        if !matches!(function, Function::And | Function::Or) {
            let arguments = self.arguments(command, dot, last)?;
            return call(function, arguments, self.scope).and_then(bounded).map_err(|problem| (problem, at));
        }
        // These two look no further than they need to, so `or .Os .Nope` is no error.
        let mut value = None;
        for operand in &command.arguments {
            let next = self.operand(operand, dot)?;
            if next.is_true() == (function == Function::Or) {
                return Ok(next);
            }
            value = Some(next);
        }
        let count =
            Problem::ArgumentCount { function: function.name(), wanted: "at least one argument", found: 0 };
        last.or(value).ok_or((count, at))
    }

    fn operand(&self, operand: &Operand, dot: &Value) -> Result<Value, Failure> {
        match &operand.kind {
            OperandKind::Dot => Ok(dot.clone()),
            OperandKind::Root => Ok(Value::Fields(Arc::clone(&self.scope.fields))),
            OperandKind::Nil => Ok(Value::Nil),
            OperandKind::Literal(value) => Ok(value.clone()),
            OperandKind::Nested(pipeline) => self.pipeline(pipeline, dot),
            OperandKind::Function(function) => {
                let bare = Command { first: operand.clone(), arguments: Vec::new() };
                self.function(*function, operand.at, &bare, dot, None)
            }
            OperandKind::Fields(base, names) => {
                self.fields(base, names, Vec::new(), false, dot).map_err(|(problem, _)| (problem, operand.at))
            }
        }
    }

    /// Follows names; only the last may be a method, which takes the arguments.
    fn fields(
        &self,
        base: &Operand,
        names: &[String],
        mut arguments: Vec<Value>,
        has_arguments: bool,
        dot: &Value,
    ) -> Result<Value, Failure> {
        let mut value = self.operand(base, dot)?;
        for (at, name) in names.iter().enumerate() {
            let is_last = at + 1 == names.len();
            let given = if is_last { std::mem::take(&mut arguments) } else { Vec::new() };
            value = field(&value, name, &names[..at], &given, is_last && has_arguments)
                .map_err(|problem| (problem, base.at))?;
        }
        Ok(value)
    }
}

/// A field, an entry or a method of a value.
fn field(
    value: &Value,
    name: &str,
    before: &[String],
    arguments: &[Value],
    has_arguments: bool,
) -> Result<Value, Problem> {
    if let Value::Time(ms) = value {
        return method(*ms, name, arguments);
    }
    let found = match value {
        Value::Fields(fields) => fields.get(name).cloned(),
        Value::Map(map) => map.get(name).map(Value::text),
        other => return Err(Problem::NoField { name: short(name), of: other.kind() }),
    };
    match found {
        Some(_) if has_arguments => Err(Problem::NotAFunction(format!(".{name}"))),
        Some(found) => Ok(found),
        None => Err(unknown(value, name, before)),
    }
}

fn unknown(value: &Value, name: &str, before: &[String]) -> Problem {
    let prefix: String = before.iter().map(|part| format!(".{part}")).collect();
    let names: Vec<&str> = match value {
        Value::Fields(fields) => fields.keys().copied().collect(),
        Value::Map(map) => map.keys().map(String::as_str).collect(),
        _ => Vec::new(),
    };
    let near = if name.len() <= NAME_LEN_MAX { nearest(name, &names, 1) } else { Vec::new() };
    Problem::UnknownField {
        name: format!("{prefix}.{}", short(name)),
        near: near.first().map(|near| format!("{prefix}.{near}")),
    }
}

/// The methods of Go's `time.Time` that templates use.
fn method(ms: i64, name: &str, arguments: &[Value]) -> Result<Value, Problem> {
    match (name, arguments) {
        ("Format", [Value::Text(layout)]) => bounded(Value::Text(clock::format(layout, ms))),
        ("Unix", []) => Ok(Value::Int(ms.div_euclid(1000).into())),
        ("UnixMilli", []) => Ok(Value::Int(ms.into())),
        ("UTC", []) => Ok(Value::Time(ms)),
        ("Year", []) => Ok(Value::Int(clock::year(ms).into())),
        _ => Err(Problem::Unsupported(format!("`{}` of a time is", short(name)))),
    }
}

fn bounded(value: Value) -> Result<Value, Problem> {
    let len = match &value {
        Value::Text(text) => text.len(),
        Value::List(items) => items.iter().map(|item| item.len() + 1).sum(),
        Value::Map(map) => map.iter().map(|(key, value)| key.len() + value.len() + 2).sum(),
        _ => 0,
    };
    if len > TEXT_LEN_MAX { Err(Problem::TooLong(TEXT_LEN_MAX)) } else { Ok(value) }
}

fn describe(kind: &OperandKind) -> String {
    match kind {
        OperandKind::Dot => ".".to_owned(),
        OperandKind::Root => "$".to_owned(),
        OperandKind::Literal(value) => short(&value.to_string()),
        _ => "(…)".to_owned(),
    }
}

fn short(name: &str) -> String {
    name.chars().take(NAME_LEN_MAX).collect()
}
