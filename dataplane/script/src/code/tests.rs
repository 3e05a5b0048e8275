//! Code blocks, by what they say and by what they refuse.

use super::{Scope, parse, run};
use crate::fault::Position;

fn fields(name: &str) -> Option<i64> {
    match name {
        "tcpi_rtt" => Some(9_000),
        "tcpi_options" => Some(0x22),
        "TCPI_OPT_SYN_DATA" => Some(0x20),
        _ => None,
    }
}

fn outcome(text: &str) -> Result<Vec<String>, String> {
    let at = Position { line: 7, column: 4 };
    let block = parse(text, at).map_err(|fault| format!("{}: {}", fault.at, fault.message))?;
    let mut scope = Scope::default();
    run(&block, &mut scope, &fields).map_err(|fault| format!("{}: {}", fault.at, fault.message))?;
    Ok(scope.printed)
}

#[test]
fn comparisons_chain_as_in_python() {
    assert_eq!(
        outcome(" assert 5000 <= tcpi_rtt <= 20000, 'rtt' "),
        Ok(vec![])
    );
    let failed = outcome(" assert 5000 <= tcpi_rtt <= 8000, 'rtt=%d us' % tcpi_rtt ");
    assert_eq!(
        failed,
        Err("7:7: assertion failed: 5000 <= tcpi_rtt <= 8000: rtt=9000 us".to_owned())
    );
}

#[test]
fn bits_bind_tighter_than_comparisons() {
    assert_eq!(
        outcome("assert (tcpi_options & TCPI_OPT_SYN_DATA) != 0"),
        Ok(vec![])
    );
    assert_eq!(
        outcome("assert tcpi_options & TCPI_OPT_SYN_DATA == 0x20"),
        Ok(vec![])
    );
}

#[test]
fn statements_end_at_semicolons_and_lines_and_go_on_after_a_backslash() {
    let text = "\n# a comment\ncwnd = 10; cwnd += 2; print(cwnd)\nassert 12 == \\\n cwnd; \\\n\
                print('a', (cwnd - 2) * 3 // 4 % 5); ";
    assert_eq!(outcome(text), Ok(vec!["12".to_owned(), "a 2".to_owned()]));
}

#[test]
fn a_fault_names_its_own_line_inside_the_block() {
    assert_eq!(
        outcome("\n x = 1\n  assert unknown == 1"),
        Err("9:10: `unknown` is no variable, no constant and no field of TCP_INFO".to_owned())
    );
    assert_eq!(
        outcome("\n import os"),
        Err("8:9: expected `=` of an assignment, found `os`".to_owned())
    );
}
