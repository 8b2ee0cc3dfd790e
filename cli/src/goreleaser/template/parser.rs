//! From tokens to what the template says.

use super::{
    error::Problem,
    function::Function,
    lexer::{Failure, Placed, Token},
    syntax::{Branch, Command, Operand, OperandKind, Part, Pipeline},
    value::Value,
};

/// How deep parentheses and branches may lie in each other.
const DEPTH_MAX: usize = 64;

/// What ends a list of parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Terminator {
    /// The end of the text.
    Text,
    /// `{{ end }}`
    End,
    /// `{{ else`, whose rest has not been read.
    Else,
}

/// Reads a whole template.
pub(super) fn parse(tokens: Vec<Placed>, len: usize) -> Result<Vec<Part>, Failure> {
    let mut parser = Parser { tokens, next: 0, len, depth: 0 };
    let (parts, end, at) = parser.parts()?;
    match end {
        Terminator::Text => Ok(parts),
        Terminator::End => Err((Problem::syntax("`end` without `if` or `with`"), at)),
        Terminator::Else => Err((Problem::syntax("`else` without `if` or `with`"), at)),
    }
}

struct Parser {
    tokens: Vec<Placed>,
    next: usize,
    len: usize,
    depth: usize,
}

impl Parser {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.next).map(|placed| &placed.token)
    }

    fn at(&self) -> usize {
        self.tokens.get(self.next).map_or(self.len, |placed| placed.at)
    }

    fn skip_space(&mut self) {
        while self.peek() == Some(&Token::Space) {
            self.next += 1;
        }
    }

    fn deeper<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T, Failure>) -> Result<T, Failure> {
        if self.depth >= DEPTH_MAX {
            return Err((Problem::unsupported(format!("more than {DEPTH_MAX} levels are")), self.at()));
        }
        self.depth += 1;
        let result = read(self);
        self.depth -= 1;
        result
    }

    /// Parts up to what ends them, and where that stands.
    fn parts(&mut self) -> Result<(Vec<Part>, Terminator, usize), Failure> {
        let mut parts = Vec::new();
        loop {
            let at = self.at();
            match self.tokens.get(self.next).map(|placed| placed.token.clone()) {
                None => return Ok((parts, Terminator::Text, at)),
                Some(Token::Text(text)) => {
                    self.next += 1;
                    parts.push(Part::Text(text));
                }
                Some(_) => {
                    self.next += 1;
                    self.skip_space();
                    match self.keyword() {
                        Some("end") => {
                            self.next += 1;
                            self.close("end")?;
                            return Ok((parts, Terminator::End, at));
                        }
                        Some("else") => {
                            self.next += 1;
                            return Ok((parts, Terminator::Else, at));
                        }
                        Some(keyword @ ("if" | "with")) => {
                            self.next += 1;
                            parts.push(Part::Branch(self.deeper(|parser| parser.branch(keyword == "with"))?));
                        }
                        Some(keyword) => {
                            return Err((Problem::unsupported(format!("`{keyword}` is")), self.at()));
                        }
                        None => parts.push(Part::Output(self.pipeline(&Token::Close)?)),
                    }
                }
            }
        }
    }

    fn keyword(&self) -> Option<&'static str> {
        let Some(Token::Word(word)) = self.peek() else { return None };
        ["if", "with", "else", "end", "range", "define", "template", "block", "break", "continue"]
            .into_iter()
            .find(|keyword| keyword == word)
    }

    fn close(&mut self, keyword: &str) -> Result<(), Failure> {
        self.skip_space();
        if self.peek() == Some(&Token::Close) {
            self.next += 1;
            return Ok(());
        }
        Err((Problem::Syntax(format!("nothing may follow `{keyword}`")), self.at()))
    }

    /// What follows `if` or `with`, up to and with its `end`.
    fn branch(&mut self, is_with: bool) -> Result<Branch, Failure> {
        let condition = self.pipeline(&Token::Close)?;
        let (then, end, at) = self.parts()?;
        let unended = |at| (Problem::syntax("`if` or `with` has no `end`"), at);
        match end {
            Terminator::Text => return Err(unended(at)),
            Terminator::End => return Ok(Branch { is_with, condition, then, otherwise: Vec::new() }),
            Terminator::Else => {}
        }
        self.skip_space();
        // `else if` is an `if` within the `else`, and one `end` ends both.
        let chained = if is_with { "with" } else { "if" };
        if self.keyword() == Some(chained) {
            self.next += 1;
            let inner = self.deeper(|parser| parser.branch(is_with))?;
            return Ok(Branch { is_with, condition, then, otherwise: vec![Part::Branch(inner)] });
        }
        self.close("else")?;
        let (otherwise, end, at) = self.parts()?;
        match end {
            Terminator::End => Ok(Branch { is_with, condition, then, otherwise }),
            Terminator::Else => Err((Problem::syntax("`else` stands after `else`"), at)),
            Terminator::Text => Err(unended(at)),
        }
    }

    /// Commands up to `end`, which is read as well.
    fn pipeline(&mut self, end: &Token) -> Result<Pipeline, Failure> {
        let mut commands: Vec<Command> = Vec::new();
        loop {
            self.skip_space();
            let at = self.at();
            match self.peek() {
                Some(token) if token == end => {
                    self.next += 1;
                    if commands.is_empty() {
                        return Err((Problem::syntax("an action says nothing"), at));
                    }
                    return Ok(Pipeline { commands });
                }
                None | Some(Token::Pipe | Token::Close | Token::Right | Token::Open | Token::Text(_)) => {
                    return Err((Problem::syntax("a value is missing"), at));
                }
                Some(_) => {
                    let command = self.command()?;
                    if !commands.is_empty() && !may_take_arguments(&command.first.kind) {
                        return Err((Problem::syntax("what follows `|` must be a function"), at));
                    }
                    commands.push(command);
                }
            }
        }
    }

    fn command(&mut self) -> Result<Command, Failure> {
        let mut operands = Vec::new();
        loop {
            self.skip_space();
            if let Some(operand) = self.operand()? {
                operands.push(operand);
            }
            match self.peek() {
                Some(Token::Space) => {}
                Some(Token::Close | Token::Right) => break,
                Some(Token::Pipe) => {
                    self.next += 1;
                    break;
                }
                _ => return Err((Problem::syntax("two values need a space between them"), self.at())),
            }
        }
        let at = self.at();
        let mut operands = operands.into_iter();
        let first = operands.next().ok_or_else(|| (Problem::syntax("a command is empty"), at))?;
        Ok(Command { first, arguments: operands.collect() })
    }

    /// One operand with the fields that follow it; nothing where none begins.
    fn operand(&mut self) -> Result<Option<Operand>, Failure> {
        let at = self.at();
        let Some(token) = self.peek().cloned() else { return Ok(None) };
        let mut fields = Vec::new();
        let kind = match token {
            Token::Dot => OperandKind::Dot,
            Token::Root => OperandKind::Root,
            Token::Field(name) => {
                fields.push(name);
                OperandKind::Dot
            }
            Token::Integer(value) => OperandKind::Literal(Value::Int(value.into())),
            Token::Quoted(text) => OperandKind::Literal(Value::Text(text)),
            Token::Word(word) => word_operand(&word).map_err(|problem| (problem, at))?,
            Token::Left => {
                self.next += 1;
                OperandKind::Nested(self.deeper(|parser| parser.pipeline(&Token::Right))?)
            }
            _ => return Ok(None),
        };
        if !matches!(kind, OperandKind::Nested(_)) {
            self.next += 1;
        }
        let takes_fields = may_take_arguments(&kind) || !fields.is_empty();
        while let Some(Token::Field(name)) = self.peek().cloned() {
            if !takes_fields {
                return Err((Problem::Syntax(format!("`.{name}` cannot follow this")), self.at()));
            }
            fields.push(name);
            self.next += 1;
        }
        let operand = Operand { kind, at };
        if fields.is_empty() {
            return Ok(Some(operand));
        }
        Ok(Some(Operand { kind: OperandKind::Fields(Box::new(operand), fields), at }))
    }
}

/// What can stand after a `|`, or before a field: all but constants and the bare dot.
fn may_take_arguments(kind: &OperandKind) -> bool {
    matches!(
        kind,
        OperandKind::Function(_) | OperandKind::Nested(_) | OperandKind::Fields(..) | OperandKind::Root
    )
}

fn word_operand(word: &str) -> Result<OperandKind, Problem> {
    match word {
        "true" => Ok(OperandKind::Literal(Value::Bool(true))),
        "false" => Ok(OperandKind::Literal(Value::Bool(false))),
        "nil" => Ok(OperandKind::Nil),
        word => Function::find(word).map(OperandKind::Function),
    }
}
