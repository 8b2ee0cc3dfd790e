//! What a template is once it is read.

use super::{function::Function, value::Value};

/// A part of a template.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Part {
    /// Text as it is.
    Text(String),
    /// `{{ pipeline }}`
    Output(Pipeline),
    /// `{{ if }}` and `{{ with }}`.
    Branch(Branch),
}

/// `{{ if pipeline }} then {{ else }} otherwise {{ end }}`, or `with`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Branch {
    /// Whether the value becomes the dot of `then`.
    pub(super) is_with: bool,
    pub(super) condition: Pipeline,
    pub(super) then: Vec<Part>,
    pub(super) otherwise: Vec<Part>,
}

/// `command | command`; the value of each is the last argument of the next.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Pipeline {
    pub(super) commands: Vec<Command>,
}

/// A first operand and its arguments; never empty.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Command {
    pub(super) first: Operand,
    pub(super) arguments: Vec<Operand>,
}

/// A value, or how to get one.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Operand {
    pub(super) kind: OperandKind,
    /// The byte it begins at.
    pub(super) at: usize,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum OperandKind {
    /// `.`
    Dot,
    /// `$`
    Root,
    /// `nil`
    Nil,
    /// A constant.
    Literal(Value),
    /// A function's name.
    Function(Function),
    /// `( pipeline )`
    Nested(Pipeline),
    /// Fields of another value, in order; never empty.
    Fields(Box<Operand>, Vec<String>),
}
