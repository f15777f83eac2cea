//! Files that are opened elsewhere than in the two modules that decide which files may be: a pipe in the
//! directory of a stranger would never answer, and a device never end.

use syn::visit::Visit;
use syn::{ExprPath, Item};

use super::Findings;
use super::allowed::{READS, Read};
use super::source::{Source, attributes, is_test};

/// Functions of the standard library that open a file to read it, by their last two segments.
const OPENERS: [[&str; 2]; 3] = [["fs", "read"], ["fs", "read_to_string"], ["File", "open"]];

/// Checks the sources of all published packages.
pub(super) fn check<'a>(sources: impl Iterator<Item = &'a Source>, findings: &mut Findings) {
    check_against(READS, sources, findings);
}

fn check_against<'a>(
    list: &[Read],
    sources: impl Iterator<Item = &'a Source>,
    findings: &mut Findings,
) {
    for source in sources {
        let (found, is_listed) = (opened(&source.items), list.iter().any(|it| it.0 == source.file));
        match (found.first(), is_listed) {
            (Some(opener), false) => findings.errors.push(format!(
                "{}: `{opener}` waits for a pipe and reads a device; call `zs_data::open_regular`, or \
                 add the file with its reason to xtask/src/tidy/allowed.rs",
                source.file
            )),
            (None, true) => findings.errors.push(format!(
                "xtask/src/tidy/allowed.rs: {} opens no file any more; remove it from the list",
                source.file
            )),
            _ => {}
        }
    }
}

/// The openers that some items call, tests left out.
fn opened(items: &[Item]) -> Vec<String> {
    #[derive(Default)]
    struct Visitor(Vec<String>);
    impl<'ast> Visit<'ast> for Visitor {
        fn visit_item(&mut self, item: &'ast Item) {
            if !is_test(attributes(item)) {
                syn::visit::visit_item(self, item);
            }
        }

        fn visit_expr_path(&mut self, path: &'ast ExprPath) {
            let names: Vec<String> =
                path.path.segments.iter().map(|it| it.ident.to_string()).collect();
            if let [.., module, function] = &names[..]
                && OPENERS.iter().any(|it| it[..] == [module.as_str(), function])
            {
                self.0.push(format!("{module}::{function}"));
            }
        }
    }
    let mut visitor = Visitor::default();
    items.iter().for_each(|it| visitor.visit_item(it));
    visitor.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::source::parse;

    #[track_caller]
    fn check(text: &str, list: &[Read], expected: &str) {
        let source = parse("a.rs", Vec::new(), text).unwrap();
        let mut findings = Findings::default();
        check_against(list, [&source].into_iter(), &mut findings);
        assert!(findings.errors.concat().contains(expected), "{text}: {:?}", findings.errors);
        assert_eq!(findings.errors.is_empty(), expected.is_empty(), "{text}");
    }

    #[test]
    fn openers_are_found_outside_of_tests() {
        check("fn f() { std::fs::read(p) }", &[], "a.rs: `fs::read` waits");
        check("fn f() { p.map(File::open) }", &[], "`File::open`");
        check("fn f() { GgufFile::open(p); fs::write(p, q); open_regular(p) }", &[], "");
        check("#[cfg(test)] mod tests { fn f() { fs::read(p) } }", &[], "");
        check("fn f() { fs::read(p) }", &[("a.rs", "of the kernel")], "");
        check("fn f() {}", &[("a.rs", "of the kernel")], "opens no file any more");
    }
}
