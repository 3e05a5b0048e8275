//! System calls: `+0...0.010 connect(3, ..., ...) = -1 EINPROGRESS (Operation now in progress)`.

use super::{DEPTH_MAX, Parser};
use crate::ast::{CallLine, Expression, Field, Value, When};
use crate::fault::Fault;
use crate::lexer::Kind;

impl Parser {
    pub(super) fn call(&mut self, time: When) -> Result<CallLine, Fault> {
        let mut end = None;
        if self.peek().kind == Kind::Ellipsis {
            let at = self.take().at;
            let until = self.time("the time at which the call returns")?;
            if let When::Absolute(start) | When::Relative(start) = time
                && until < start
            {
                return Err(Fault::new(at, "this call returns before it begins"));
            }
            end = Some(until);
        }
        let at = self.peek().at;
        let name = self.word("the name of a system call")?;
        self.sign('(', "after the call's name")?;
        let arguments = self.expressions(')', "the call's arguments")?;
        self.sign('=', "before the call's result")?;
        let result = self.expression()?;
        let mut errno = None;
        if self.peek().kind == Kind::Word {
            let at = self.peek().at;
            errno = Some((at, self.take().text));
            if !self.is_sign('(') {
                return Err(self.expected("`(` and a note after the error's name"));
            }
        }
        self.note()?;
        Ok(CallLine {
            at,
            name,
            arguments,
            result,
            errno,
            end,
        })
    }

    /// `(Operation now in progress)`: for readers only.
    fn note(&mut self) -> Result<(), Fault> {
        if !self.take_if_sign('(') {
            return Ok(());
        }
        while !self.take_if_sign(')') {
            if self.peek().kind == Kind::End {
                return Err(self.expected("`)` after the note"));
            }
            self.take();
        }
        Ok(())
    }

    /// A list up to `close`, which is taken too.
    fn expressions(&mut self, close: char, what: &str) -> Result<Vec<Expression>, Fault> {
        let mut found = Vec::new();
        if self.take_if_sign(close) {
            return Ok(found);
        }
        loop {
            found.push(self.expression()?);
            if self.take_if_sign(close) {
                return Ok(found);
            }
            self.sign(',', &format!("or `{close}` in {what}"))?;
        }
    }

    fn expression(&mut self) -> Result<Expression, Fault> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(Fault::new(self.peek().at, "this nests too deep"));
        }
        let mut left = self.operand()?;
        while self.take_if_sign('|') {
            let right = self.operand()?;
            let at = left.at;
            left = Expression {
                at,
                value: Value::Or(Box::new(left), Box::new(right)),
            };
        }
        self.depth -= 1;
        Ok(left)
    }

    fn operand(&mut self) -> Result<Expression, Fault> {
        let token = self.peek().clone();
        let value = match token.kind {
            Kind::Ellipsis => {
                self.take();
                Value::Ellipsis
            }
            Kind::Integer(value) | Kind::Hex(value) => {
                self.take();
                Value::Integer(value)
            }
            Kind::Text(_) => Value::Text(self.text()),
            Kind::Word => {
                self.take();
                if self.take_if_sign('(') {
                    Value::Function(token.text, self.expressions(')', "the arguments")?)
                } else {
                    Value::Word(token.text)
                }
            }
            Kind::Sign('[') => {
                self.take();
                Value::List(self.expressions(']', "the list")?)
            }
            Kind::Sign('{') => {
                self.take();
                self.braces()?
            }
            _ => {
                return Err(self.expected("a value: a number, a name, `...`, a string, `[` or `{`"));
            }
        };
        Ok(Expression {
            at: token.at,
            value,
        })
    }

    /// Adjacent strings are one, as in C; an ellipsis after the last is for readers.
    fn text(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while let Kind::Text(piece) = &self.peek().kind {
            bytes.extend_from_slice(piece);
            self.take();
        }
        if self.peek().kind == Kind::Ellipsis {
            self.take();
        }
        bytes
    }

    /// After `{`: members with names, or plain values.
    fn braces(&mut self) -> Result<Value, Fault> {
        let named =
            self.peek().kind == Kind::Word && matches!(self.peek_at(1).kind, Kind::Sign('=' | '('));
        if !named {
            return Ok(Value::Group(self.expressions('}', "the structure")?));
        }
        let mut fields = Vec::new();
        loop {
            let at = self.peek().at;
            let name = self.word("a member's name")?;
            let mut argument = None;
            if self.take_if_sign('(') {
                argument = Some(self.expression()?);
                self.sign(')', "after the argument")?;
            }
            self.sign('=', "before the member's value")?;
            let value = self.expression()?;
            fields.push(Field {
                at,
                name,
                argument,
                value,
            });
            if self.take_if_sign('}') {
                return Ok(Value::Structure(fields));
            }
            self.sign(',', "or `}` in the structure")?;
        }
    }
}
