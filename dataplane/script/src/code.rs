//! Code blocks: `%{ assert tcpi_snd_cwnd == 10, tcpi_snd_cwnd }%`.
//!
//! The blocks are the part of Python that scripts use: assertions, `print`, assignments, integers,
//! strings with `%`, comparisons and arithmetic. Names are variables of earlier blocks, constants,
//! or fields of `TCP_INFO`. `code/parse.rs` reads, `code/evaluate.rs` computes.

mod evaluate;
mod parse;

use crate::fault::Position;

pub(crate) use evaluate::{Scope, run};
pub(crate) use parse::parse;

/// What stands between `%{` and `}%`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Block {
    pub(crate) statements: Vec<Statement>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Statement {
    pub(crate) at: Position,
    pub(crate) does: Does,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Does {
    /// The text is the condition as written, for the failure's message.
    Assert {
        text: String,
        condition: Term,
        message: Option<Term>,
    },
    Print(Vec<Term>),
    Assign {
        name: String,
        value: Term,
    },
}

/// An expression.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Term {
    pub(crate) at: Position,
    pub(crate) is: Is,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Is {
    Integer(i64),
    Text(String),
    Name(String),
    Tuple(Vec<Term>),
    Negative(Box<Term>),
    Complement(Box<Term>),
    Not(Box<Term>),
    Binary(Operator, Box<Term>, Box<Term>),
    /// `a <= b <= c`
    Compare(Box<Term>, Vec<(Relation, Term)>),
    Both(Box<Term>, Box<Term>),
    Either(Box<Term>, Box<Term>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operator {
    Or,
    Xor,
    And,
    ShiftLeft,
    ShiftRight,
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Relation {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[cfg(test)]
mod tests;
