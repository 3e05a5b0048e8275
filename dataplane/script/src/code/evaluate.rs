//! Statements to values: variables, assertions, lines to print.

use std::collections::BTreeMap;
use std::fmt;

use super::{Block, Does, Is, Operator, Relation, Term};
use crate::fault::Fault;

/// What a term is worth. Truth is an integer, as in Python.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Worth {
    Integer(i64),
    Text(String),
    Tuple(Vec<Worth>),
}

impl fmt::Display for Worth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(value) => write!(f, "{value}"),
            Self::Text(text) => f.write_str(text),
            Self::Tuple(values) => {
                f.write_str("(")?;
                for (index, value) in values.iter().enumerate() {
                    write!(f, "{}{value}", if index == 0 { "" } else { ", " })?;
                }
                f.write_str(")")
            }
        }
    }
}

/// What a block sees and leaves behind.
#[derive(Debug, Default)]
pub(crate) struct Scope {
    variables: BTreeMap<String, Worth>,
    /// Lines of `print`.
    pub(crate) printed: Vec<String>,
}

/// Runs a block. `lookup` knows the names that are no variables: constants and the connection's
/// fields. An assertion that fails is a fault with the condition and the message.
pub(crate) fn run(
    block: &Block,
    scope: &mut Scope,
    lookup: &dyn Fn(&str) -> Option<i64>,
) -> Result<(), Fault> {
    for statement in &block.statements {
        let view = View {
            variables: &scope.variables,
            lookup,
        };
        match &statement.does {
            Does::Assert {
                text,
                condition,
                message,
            } => {
                if !is_true(&view.worth(condition)?) {
                    let mut said = format!("assertion failed: {text}");
                    if let Some(message) = message {
                        said = format!("{said}: {}", view.worth(message)?);
                    }
                    return Err(Fault::new(statement.at, said));
                }
            }
            Does::Print(terms) => {
                let worths: Result<Vec<_>, _> = terms.iter().map(|term| view.worth(term)).collect();
                let words: Vec<_> = worths?.iter().map(ToString::to_string).collect();
                scope.printed.push(words.join(" "));
            }
            Does::Assign { name, value } => {
                let value = view.worth(value)?;
                scope.variables.insert(name.clone(), value);
            }
        }
    }
    Ok(())
}

fn is_true(worth: &Worth) -> bool {
    match worth {
        Worth::Integer(value) => *value != 0,
        Worth::Text(text) => !text.is_empty(),
        Worth::Tuple(values) => !values.is_empty(),
    }
}

struct View<'a> {
    variables: &'a BTreeMap<String, Worth>,
    lookup: &'a dyn Fn(&str) -> Option<i64>,
}

impl View<'_> {
    fn worth(&self, term: &Term) -> Result<Worth, Fault> {
        Ok(match &term.is {
            Is::Integer(value) => Worth::Integer(*value),
            Is::Text(text) => Worth::Text(text.clone()),
            Is::Name(name) => match (self.variables.get(name), (self.lookup)(name)) {
                (Some(worth), _) => worth.clone(),
                (None, Some(value)) => Worth::Integer(value),
                (None, None) => {
                    let message =
                        format!("`{name}` is no variable, no constant and no field of TCP_INFO");
                    return Err(Fault::new(term.at, message));
                }
            },
            Is::Tuple(terms) => Worth::Tuple(
                terms
                    .iter()
                    .map(|term| self.worth(term))
                    .collect::<Result<_, _>>()?,
            ),
            Is::Negative(inner) => {
                let value = self.integer(inner)?.checked_neg();
                Worth::Integer(value.ok_or_else(|| overflow(term))?)
            }
            Is::Complement(inner) => Worth::Integer(!self.integer(inner)?),
            Is::Not(inner) => truth(!is_true(&self.worth(inner)?)),
            Is::Both(left, right) => {
                let left = self.worth(left)?;
                if is_true(&left) {
                    self.worth(right)?
                } else {
                    left
                }
            }
            Is::Either(left, right) => {
                let left = self.worth(left)?;
                if is_true(&left) {
                    left
                } else {
                    self.worth(right)?
                }
            }
            Is::Compare(first, links) => truth(self.compare(first, links)?),
            Is::Binary(operator, left, right) => self.binary(term, *operator, left, right)?,
        })
    }

    fn integer(&self, term: &Term) -> Result<i64, Fault> {
        match self.worth(term)? {
            Worth::Integer(value) => Ok(value),
            other => Err(Fault::new(term.at, format!("`{other}` is no number"))),
        }
    }

    fn compare(&self, first: &Term, links: &[(Relation, Term)]) -> Result<bool, Fault> {
        let mut left = self.worth(first)?;
        for (relation, term) in links {
            let right = self.worth(term)?;
            let order = match (&left, &right) {
                (Worth::Integer(left), Worth::Integer(right)) => left.cmp(right),
                (Worth::Text(left), Worth::Text(right)) => left.cmp(right),
                _ => return Err(Fault::new(term.at, "a number and a string do not compare")),
            };
            let holds = match relation {
                Relation::Equal => order.is_eq(),
                Relation::NotEqual => order.is_ne(),
                Relation::Less => order.is_lt(),
                Relation::LessOrEqual => order.is_le(),
                Relation::Greater => order.is_gt(),
                Relation::GreaterOrEqual => order.is_ge(),
            };
            if !holds {
                return Ok(false);
            }
            left = right;
        }
        Ok(true)
    }

    fn binary(
        &self,
        term: &Term,
        operator: Operator,
        left: &Term,
        right: &Term,
    ) -> Result<Worth, Fault> {
        let left = match (operator, self.worth(left)?) {
            (Operator::Remainder, Worth::Text(text)) => {
                return formatted(&text, self.worth(right)?)
                    .map(Worth::Text)
                    .map_err(|message| Fault::new(term.at, message));
            }
            (_, Worth::Integer(value)) => value,
            (_, other) => return Err(Fault::new(term.at, format!("`{other}` is no number"))),
        };
        let right = self.integer(right)?;
        let shift = u32::try_from(right).ok().filter(|bits| *bits < 63);
        let value = match operator {
            Operator::Or => Some(left | right),
            Operator::Xor => Some(left ^ right),
            Operator::And => Some(left & right),
            Operator::ShiftLeft => shift.and_then(|bits| left.checked_mul(1_i64 << bits)),
            Operator::ShiftRight => shift.map(|bits| left >> bits),
            Operator::Add => left.checked_add(right),
            Operator::Subtract => left.checked_sub(right),
            Operator::Multiply => left.checked_mul(right),
            // Python rounds down; so does this for the positive divisors that scripts have.
            Operator::Divide if right > 0 => left.checked_div_euclid(right),
            Operator::Remainder if right > 0 => left.checked_rem_euclid(right),
            Operator::Divide | Operator::Remainder => {
                return Err(Fault::new(term.at, format!("{right} is no divisor")));
            }
        };
        value.map(Worth::Integer).ok_or_else(|| overflow(term))
    }
}

fn truth(value: bool) -> Worth {
    Worth::Integer(i64::from(value))
}

fn overflow(term: &Term) -> Fault {
    Fault::new(term.at, "the value does not fit into 64 bits")
}

/// `'cwnd=%d' % value`
fn formatted(template: &str, values: Worth) -> Result<String, String> {
    let mut values = match values {
        Worth::Tuple(values) => values,
        single => vec![single],
    }
    .into_iter();
    let mut text = String::new();
    let mut rest = template.chars();
    while let Some(c) = rest.next() {
        if c != '%' {
            text.push(c);
            continue;
        }
        let conversion = rest.next();
        if conversion == Some('%') {
            text.push('%');
            continue;
        }
        let value = values.next().ok_or("more conversions than values")?;
        match (conversion, value) {
            (Some('d' | 'u' | 'i' | 's'), Worth::Integer(value)) => {
                text.push_str(&value.to_string())
            }
            (Some('x'), Worth::Integer(value)) => text.push_str(&format!("{value:x}")),
            (Some('s'), value) => text.push_str(&value.to_string()),
            (other, _) => {
                return Err(format!(
                    "`%{}` does not fit its value",
                    other.unwrap_or(' ')
                ));
            }
        }
    }
    Ok(text)
}
