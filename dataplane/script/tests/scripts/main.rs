//! Whole scripts: read by the parser, and played against the stack.

mod folders;
mod language;
mod reasons;
mod stack;
