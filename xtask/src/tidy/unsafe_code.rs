//! Unsafe code, which ARCHITECTURE lists: how much of it a file has, and why.

use std::collections::BTreeMap;

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::Visit;
use syn::{Item, Safety};

use super::Findings;
use super::source::{Source, attributes, is_test};

/// Heading of the list in ARCHITECTURE.md.
const HEADING: &str = "## Unsafe code";

/// Adds what some sources have, by file.
pub(super) fn count<'a>(
    sources: impl Iterator<Item = &'a Source>,
    counts: &mut BTreeMap<String, usize>,
) {
    for source in sources {
        let mut visitor = Visitor(0);
        source.items.iter().for_each(|it| visitor.visit_item(it));
        if visitor.0 > 0 {
            // A file may belong to several targets.
            counts.insert(source.file.clone(), visitor.0);
        }
    }
}

/// Compares what was counted with the list.
pub(super) fn check(counts: &BTreeMap<String, usize>, architecture: &str, findings: &mut Findings) {
    let listed = listed(architecture);
    for (file, found) in counts {
        let problem = match listed.get(file) {
            Some(count) if count == found => continue,
            Some(count) => format!("{found} blocks, functions and implementations, not {count}"),
            None => format!("{found} blocks, functions and implementations, and is not listed"),
        };
        findings.errors.push(format!(
            "{file}: has {problem}; list unsafe code with its reason in ARCHITECTURE.md, `{HEADING}`"
        ));
    }
    for file in listed.keys().filter(|it| !counts.contains_key(*it)) {
        findings.errors.push(format!("ARCHITECTURE.md: {file} has no unsafe code any more"));
    }
}

/// Rows of the list: `path`, number, reason.
fn listed(architecture: &str) -> BTreeMap<String, usize> {
    let section = architecture.split_once(HEADING).map_or("", |it| it.1);
    let section = section.split_once("\n## ").map_or(section, |it| it.0);
    let row = |line: &str| {
        let mut cells = line.strip_prefix("| `")?.split('|');
        let file = cells.next()?.trim().strip_suffix('`')?.to_owned();
        let count = cells.next()?.trim().parse().ok()?;
        cells.next().filter(|it| !it.trim().is_empty()).map(|_| (file, count))
    };
    section.lines().filter_map(row).collect()
}

struct Visitor(usize);

impl<'ast> Visit<'ast> for Visitor {
    fn visit_item(&mut self, item: &'ast Item) {
        if is_test(attributes(item)) {
            return;
        }
        self.0 += usize::from(matches!(item, Item::Impl(it) if it.unsafety.is_some()));
        syn::visit::visit_item(self, item);
    }

    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        self.0 += usize::from(matches!(function.sig.safety, Safety::Unsafe(_)));
        syn::visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        self.0 += usize::from(matches!(function.sig.safety, Safety::Unsafe(_)));
        syn::visit::visit_impl_item_fn(self, function);
    }

    fn visit_expr_unsafe(&mut self, block: &'ast syn::ExprUnsafe) {
        self.0 += 1;
        syn::visit::visit_expr_unsafe(self, block);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.0 += in_tokens(call.tokens.clone());
    }
}

fn in_tokens(tokens: TokenStream) -> usize {
    let count = |it| match it {
        TokenTree::Ident(it) => usize::from(it == "unsafe"),
        TokenTree::Group(it) => in_tokens(it.stream()),
        _ => 0,
    };
    tokens.into_iter().map(count).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::source::parse;

    #[track_caller]
    fn check_list(text: &str, list: &str, expected: &[&str]) {
        let source = parse("a.rs", Vec::new(), text).unwrap();
        let mut counts = BTreeMap::new();
        count(std::iter::once(&source), &mut counts);
        let mut findings = Findings::default();
        check(
            &counts,
            &format!("{HEADING}\n{list}\n\n## Next\n| `z.rs` | 1 | x |\n"),
            &mut findings,
        );
        let parts = findings.errors.iter().zip(expected);
        assert!(parts.clone().all(|(it, part)| it.contains(part)), "{:?}", findings.errors);
        assert_eq!(findings.errors.len(), expected.len(), "{:?}", findings.errors);
    }

    #[test]
    fn the_list_agrees_with_the_code() {
        let block = "fn f() { unsafe { g() } }";
        check_list(block, "| `a.rs` | 1 | a call |", &[]);
        check_list(
            block,
            "| `a.rs` | 2 | a call |",
            &["a.rs: has 1 blocks, functions and implementations, not 2"],
        );
        check_list(block, "| `a.rs` | 1 | |", &["is not listed"]);
        check_list(block, "", &["is not listed"]);
        check_list("fn f() {}", "| `a.rs` | 1 | a call |", &["no unsafe code any more"]);
        check_list("fn f() {}", "| file | number | reason |", &[]);
    }

    #[test]
    fn every_form_counts() {
        check_list("unsafe fn f() { unsafe { g() } }", "| `a.rs` | 2 | x |", &[]);
        check_list(
            "unsafe impl Send for A {} impl A { unsafe fn f() {} }",
            "| `a.rs` | 2 | x |",
            &[],
        );
        check_list("fn f() { m!({ unsafe { g() } }) }", "| `a.rs` | 1 | x |", &[]);
        check_list("type F = unsafe extern \"C\" fn();", "", &[]);
        check_list("#[cfg(test)] mod tests { fn f() { unsafe { g() } } }", "", &[]);
    }
}
