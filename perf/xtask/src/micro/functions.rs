//! Which functions the instructions of a callgrind file belong to, each by itself: what it calls is theirs.
//!
//! Inlined functions count for the one they were inlined into.

use std::collections::BTreeMap;

/// Instructions by function, largest first.
pub(super) fn functions_in(profile: &str) -> Vec<(String, f64)> {
    let mut names: BTreeMap<&str, &str> = BTreeMap::new();
    let mut costs: BTreeMap<&str, f64> = BTreeMap::new();
    let (mut current, mut is_callee) = ("", false);
    for line in profile.lines() {
        if let Some(word) = line.strip_prefix("cfn=") {
            resolve(word, &mut names);
        } else if let Some(word) = line.strip_prefix("fn=") {
            current = resolve(word, &mut names);
        } else if line.starts_with("calls=") {
            // The next line is what the call cost, which the callee's own lines say again.
            is_callee = true;
        } else if is_cost(line) && !std::mem::take(&mut is_callee) {
            let cost = line.split_whitespace().nth(1);
            let cost: Option<f64> = cost.and_then(|cost| cost.parse().ok());
            *costs.entry(current).or_default() += cost.unwrap_or(0.0);
        }
    }
    let mut short: BTreeMap<String, f64> = BTreeMap::new();
    for (name, cost) in costs {
        *short.entry(shortened(name)).or_default() += cost;
    }
    let mut functions: Vec<(String, f64)> = short.into_iter().collect();
    functions.sort_by(|a, b| b.1.total_cmp(&a.1));
    functions
}

/// A line with a position, absolute or relative to the last one, and what was spent there.
fn is_cost(line: &str) -> bool {
    line.starts_with(|first: char| first.is_ascii_digit() || "+-*".contains(first))
}

/// A name is written once, with a number, and referred to by the number from then on.
fn resolve<'p>(word: &'p str, names: &mut BTreeMap<&'p str, &'p str>) -> &'p str {
    let (number, name) = word.split_once(' ').unwrap_or((word, ""));
    if !name.is_empty() {
        names.insert(number, name);
    }
    names.get(number).copied().unwrap_or(word)
}

/// The last two words of a path, without what it is generic over and the compiler's hash.
fn shortened(name: &str) -> String {
    let mut plain = String::new();
    let mut depth = 0usize;
    for letter in name.chars() {
        match letter {
            '<' => depth += 1,
            '>' => depth = depth.saturating_sub(1),
            '\'' if depth == 0 => break,
            _ if depth == 0 => plain.push(letter),
            _ => {}
        }
    }
    let is_hash = |word: &&str| {
        word.len() == 17
            && word.starts_with('h')
            && word[1..].chars().all(|c| c.is_ascii_hexdigit())
    };
    let words: Vec<&str> = plain
        .split("::")
        .filter(|word| !word.is_empty() && !is_hash(word) && *word != "{{closure}}")
        .collect();
    let kept = words.len().saturating_sub(2);
    let kept = words.get(kept..).unwrap_or_default().join("::");
    // A method of a trait for a type is nothing but brackets up to its own name.
    if words.len() < 2 && name.starts_with('<') {
        let of = name.trim_start_matches(['<', '&']);
        let of = of.split([' ', '<', '>']).next().unwrap_or_default();
        let of = of.rsplit("::").next().unwrap_or_default();
        return match (of, kept.as_str()) {
            (of, kept) if of == kept || of.is_empty() => kept.to_owned(),
            (of, kept) => format!("{of}::{kept}"),
        };
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_call_cost_is_not_the_callers() {
        let profile = "events: Ir\nfn=(1) crate::outer::hfedcba9876543210\n10 100\n+2 20\ncfn=(2) \
                       crate::deep::inner\ncalls=3 50\n+1 300\n*  7\nfn=(2)\n50 300\n\ntotals: 427\n";
        assert_eq!(
            functions_in(profile),
            [
                ("deep::inner".to_owned(), 300.0),
                ("crate::outer".to_owned(), 127.0)
            ]
        );
    }

    #[test]
    fn generics_and_hashes_are_left_out() {
        assert_eq!(
            shortened("stack::burst::Stack<P>::handle_burst"),
            "Stack::handle_burst"
        );
        assert_eq!(
            shortened("<base::heap_buf::HeapBuf as base::buf::PacketBuf>::bytes_mut"),
            "HeapBuf::bytes_mut"
        );
        assert_eq!(shortened("memcpy@plt'2"), "memcpy@plt");
    }
}
