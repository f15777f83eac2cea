//! Cycles among the modules of a crate. Modules that need each other cannot be read, tested or moved
//! apart, so every crate is layered inside as the workspace is outside.
//!
//! Two modules with the same parent are compared: whatever lies in or below one of them counts as it.
//! Items that a parent itself defines are no part of a cycle.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::Findings;
use super::paths::{CratePath, Modules};
use super::source::Source;

/// Number of child modules from which on they are compared with each other, below the root.
const LARGE: usize = 6;

/// A module and another that it uses.
type Edge = (CratePath, CratePath);

/// File and item of a use, by its edge.
type Edges = BTreeMap<Edge, String>;

/// Checks the targets of one package, each with its sources.
pub(super) fn check(package: &str, targets: &[Vec<Source>], findings: &mut Findings) {
    let edges: Edges = targets.iter().flat_map(|it| edges(it)).collect();
    let show = |edge: &Edge| {
        format!("`{}` -> `{}` ({})", edge.0.join("::"), edge.1.join("::"), edges[edge])
    };
    findings.errors.extend(shortest_cycle(&edges).map(|cycle| {
        let steps: Vec<String> = cycle.iter().map(show).collect();
        format!("{package}: modules form a cycle: {}", steps.join(", "))
    }));
}

/// Every edge between modules with the same parent, where the parent is the root or large.
fn edges(sources: &[Source]) -> Edges {
    let modules = Modules::new(sources);
    let parents: BTreeSet<&CratePath> =
        modules.paths().filter(|it| it.is_empty() || modules.children(it) >= LARGE).collect();
    let mut edges = Edges::new();
    for source in sources {
        for reference in modules.references(&source.module, &source.items) {
            let holder = modules.holder(&reference);
            for parent in parents.iter().filter(|it| source.module.starts_with(it)) {
                let depth = parent.len();
                if source.module.len() == depth
                    || holder.len() <= depth
                    || !holder.starts_with(parent)
                {
                    continue;
                }
                let (from, to) = (&source.module[..=depth], &holder[..=depth]);
                if from != to {
                    edges
                        .entry((from.to_vec(), to.to_vec()))
                        .or_insert_with(|| format!("{}: {}", source.file, reference.join("::")));
                }
            }
        }
    }
    edges
}

/// The edges of a shortest way from one module to another.
fn way(edges: &Edges, from: &CratePath, to: &CratePath) -> Option<Vec<Edge>> {
    let mut came_from: BTreeMap<&CratePath, &CratePath> = BTreeMap::new();
    let mut pending = VecDeque::from([from]);
    while let Some(at) = pending.pop_front() {
        if at == to {
            let mut way = Vec::new();
            let mut at = to;
            while at != from {
                let before = came_from[at];
                way.push((before.clone(), at.clone()));
                at = before;
            }
            way.reverse();
            return Some(way);
        }
        for (_, next) in edges.keys().filter(|it| it.0 == *at) {
            if next != from && !came_from.contains_key(next) {
                came_from.insert(next, at);
                pending.push_back(next);
            }
        }
    }
    None
}

fn shortest_cycle(edges: &Edges) -> Option<Vec<Edge>> {
    let through = |edge: &Edge| {
        let mut cycle = vec![edge.clone()];
        cycle.extend(way(edges, &edge.1, &edge.0)?);
        Some(cycle)
    };
    edges.keys().filter_map(through).min_by_key(Vec::len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::source::parse;

    #[track_caller]
    fn check(sources: &[(&str, &str)], expected: &[&str]) {
        let sources: Vec<Source> = sources
            .iter()
            .map(|(module, text)| {
                let module: CratePath =
                    module.split("::").filter(|it| !it.is_empty()).map(str::to_owned).collect();
                parse(&format!("{}.rs", module.join("/")), module, text).unwrap()
            })
            .collect();
        let mut findings = Findings::default();
        super::check("p", &[sources], &mut findings);
        assert_eq!(findings.errors, expected);
    }

    const TWO: [(&str, &str); 4] = [
        ("", "pub use self::b::Y;"),
        ("a", "use crate::Y; pub struct X;"),
        ("b", "mod c; pub struct Y;"),
        ("b::c", "use crate::a::X;"),
    ];

    #[test]
    fn a_cycle_is_refused() {
        let found = "p: modules form a cycle: `a` -> `b` (a.rs: Y), `b` -> `a` (b/c.rs: a::X)";
        check(&TWO, &[found]);
        let sources = [
            ("", ""),
            ("a", "fn f() { crate::b::g() }"),
            ("b", "use super::c::Z;"),
            ("c", "type Z = crate::a::X;"),
        ];
        check(
            &sources,
            &["p: modules form a cycle: `a` -> `b` (a.rs: b::g), `b` -> `c` (b.rs: c::Z), \
               `c` -> `a` (c.rs: a::X)"],
        );
    }

    #[test]
    fn layers_parents_and_tests_are_fine() {
        check(&[("", "use self::a::X;"), ("a", "use crate::b::Y;"), ("b", "")], &[]);
        check(&[("", "pub struct Own; use self::a::X;"), ("a", "use crate::Own;")], &[]);
        check(&[("", ""), ("a", "use self::b::Y;"), ("a::b", "use super::X;")], &[]);
        let tests = "#[cfg(test)] mod tests { use crate::a::X; }";
        check(&[("", ""), ("a", "use crate::b::Y;"), ("b", tests)], &[]);
    }

    #[test]
    fn modules_of_a_large_one_are_compared() {
        let below = [("m::a", "use super::b::Y;"), ("m::b", "use crate::m::a::X;")];
        let more = [("", ""), ("m", ""), ("m::c", ""), ("m::d", ""), ("m::e", ""), ("m::f", "")];
        check(&[&below[..], &more[..5]].concat(), &[]);
        let found = "p: modules form a cycle: `m::a` -> `m::b` (m/a.rs: m::b::Y), \
                     `m::b` -> `m::a` (m/b.rs: m::a::X)";
        check(&[&below[..], &more].concat(), &[found]);
    }
}
