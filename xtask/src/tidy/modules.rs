//! Cycles among the modules of a crate. Modules that need each other cannot be read, tested or moved
//! apart, so every crate is layered inside as the workspace is outside.
//!
//! Two modules with the same parent are compared: whatever lies in or below one of them counts as it.
//! Items that a parent itself defines are no part of a cycle.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::Findings;
use super::allowed::{self, EDGES};
use super::paths::{CratePath, Modules};
use super::source::Source;

/// Number of child modules from which on they are compared with each other, below the root.
const LARGE: usize = 6;

/// A module and another that it uses.
type Edge = (CratePath, CratePath);

type Edges = BTreeMap<Edge, Uses>;

/// The uses of one module by another.
#[derive(Clone, Debug)]
struct Uses {
    /// File and item of the first.
    example: String,
    num_uses: usize,
}

/// Checks the targets of one package, each with its sources.
pub(super) fn check(package: &str, targets: &[Vec<Source>], findings: &mut Findings) {
    check_against(EDGES, package, targets, findings);
}

fn check_against(
    list: &[allowed::Edge],
    package: &str,
    targets: &[Vec<Source>],
    findings: &mut Findings,
) {
    let all: Edges = targets.iter().flat_map(|it| edges(it)).collect();
    let edges = without(list, package, &all, findings);
    let show = |(from, to): &Edge| format!("`{}` -> `{}`", from.join("::"), to.join("::"));
    for (cycle, weakest) in cycles(&edges) {
        let steps: Vec<String> =
            cycle.iter().map(|it| format!("{} ({})", show(it), edges[it].example)).collect();
        findings.errors.push(format!(
            "{package}: modules form a cycle: {}; its weakest edge is {}",
            steps.join(", "),
            show(&weakest)
        ));
    }
}

/// The edges that the list does not name. An entry whose edge closes no cycle among them is an error.
fn without(list: &[allowed::Edge], package: &str, all: &Edges, findings: &mut Findings) -> Edges {
    let list: Vec<Edge> =
        list.iter().filter(|it| it.0 == package).map(|it| (path(it.1), path(it.2))).collect();
    let mut edges = all.clone();
    edges.retain(|edge, _| !list.contains(edge));
    for (from, to) in list {
        if way(&edges, &to, &from).is_some() && all.contains_key(&(from.clone(), to.clone())) {
            continue;
        }
        findings.errors.push(format!(
            "xtask/src/tidy/allowed.rs: {package}: `{}` -> `{}` closes no cycle any more; remove it \
             from the list",
            from.join("::"),
            to.join("::")
        ));
        edges.extend(
            all.get_key_value(&(from, to)).map(|(edge, uses)| (edge.clone(), uses.clone())),
        );
    }
    edges
}

fn path(text: &str) -> CratePath {
    text.split("::").map(str::to_owned).collect()
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
                    let example = format!("{}: {}", source.file, reference.join("::"));
                    edges
                        .entry((from.to_vec(), to.to_vec()))
                        .or_insert(Uses { example, num_uses: 0 })
                        .num_uses += 1;
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

/// Cycles, shortest first, until nothing is left of any when the weakest edge of each is taken out.
fn cycles(edges: &Edges) -> Vec<(Vec<Edge>, Edge)> {
    let mut left = edges.clone();
    let mut cycles = Vec::new();
    loop {
        let through = |edge: &Edge| {
            let mut cycle = vec![edge.clone()];
            cycle.extend(way(&left, &edge.1, &edge.0)?);
            Some(cycle)
        };
        let Some(cycle) = left.keys().filter_map(through).min_by_key(Vec::len) else {
            return cycles;
        };
        let weakest = cycle.iter().min_by_key(|it| left[it].num_uses);
        let weakest = weakest.expect("a cycle has edges").clone();
        left.remove(&weakest);
        cycles.push((cycle, weakest));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::source::parse;

    #[track_caller]
    fn check(list: &[allowed::Edge], sources: &[(&str, &str)], expected: &[&str]) {
        let sources: Vec<Source> = sources
            .iter()
            .map(|(module, text)| {
                let module: CratePath =
                    module.split("::").filter(|it| !it.is_empty()).map(str::to_owned).collect();
                parse(&format!("{}.rs", module.join("/")), module, text).unwrap()
            })
            .collect();
        let mut findings = Findings::default();
        check_against(list, "p", &[sources], &mut findings);
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
        let found = "p: modules form a cycle: `a` -> `b` (a.rs: Y), `b` -> `a` (b/c.rs: a::X); \
                     its weakest edge is `a` -> `b`";
        check(&[], &TWO, &[found]);
        let sources = [
            ("", ""),
            ("a", "fn f() { crate::b::g() }"),
            ("b", "use super::c::Z;"),
            ("c", "type Z = crate::a::X;"),
        ];
        check(
            &[],
            &sources,
            &["p: modules form a cycle: `a` -> `b` (a.rs: b::g), `b` -> `c` (b.rs: c::Z), \
               `c` -> `a` (c.rs: a::X); its weakest edge is `a` -> `b`"],
        );
    }

    #[test]
    fn layers_parents_and_tests_are_fine() {
        check(&[], &[("", "use self::a::X;"), ("a", "use crate::b::Y;"), ("b", "")], &[]);
        check(&[], &[("", "pub struct Own; use self::a::X;"), ("a", "use crate::Own;")], &[]);
        check(&[], &[("", ""), ("a", "use self::b::Y;"), ("a::b", "use super::X;")], &[]);
        let tests = "#[cfg(test)] mod tests { use crate::a::X; }";
        check(&[], &[("", ""), ("a", "use crate::b::Y;"), ("b", tests)], &[]);
    }

    #[test]
    fn modules_of_a_large_one_are_compared() {
        let below = [("m::a", "use super::b::Y;"), ("m::b", "use crate::m::a::X;")];
        let more = [("", ""), ("m", ""), ("m::c", ""), ("m::d", ""), ("m::e", ""), ("m::f", "")];
        check(&[], &[&below[..], &more[..5]].concat(), &[]);
        let found = "p: modules form a cycle: `m::a` -> `m::b` (m/a.rs: m::b::Y), \
                     `m::b` -> `m::a` (m/b.rs: m::a::X); its weakest edge is `m::a` -> `m::b`";
        check(&[], &[&below[..], &more].concat(), &[found]);
    }

    #[test]
    fn the_list_holds_what_is_there() {
        check(&[("p", "b", "a", "r")], &TWO, &[]);
        let stale = "xtask/src/tidy/allowed.rs: p: `a` -> `b` closes no cycle any more; remove \
                     it from the list";
        check(&[("p", "a", "b", "r"), ("p", "b", "a", "r")], &TWO, &[stale]);
        check(&[("p", "b", "a", "r"), ("other", "a", "b", "r")], &TWO, &[]);
    }
}
