//! State of the whole process: statics that change, and thread-locals. A library that holds any cannot
//! be used twice in a process, so each one is named here with its reason.

use syn::visit::Visit;
use syn::{Item, ItemStatic, StaticMutability};

use super::Findings;
use super::allowed::{STATICS, Static};
use super::source::{Source, attributes, is_test};

/// Types that can be changed, or are filled, behind a shared reference.
const INTERIOR: [&str; 13] = [
    "Cell",
    "Condvar",
    "Lazy",
    "LazyCell",
    "LazyLock",
    "Mutex",
    "Once",
    "OnceCell",
    "OnceLock",
    "RefCell",
    "RwLock",
    "SyncUnsafeCell",
    "UnsafeCell",
];

/// Checks the sources of one package.
pub(super) fn check<'a>(
    package: &str,
    sources: impl Iterator<Item = &'a Source>,
    findings: &mut Findings,
) {
    check_against(STATICS, package, sources, findings);
}

fn check_against<'a>(
    list: &[Static],
    package: &str,
    sources: impl Iterator<Item = &'a Source>,
    findings: &mut Findings,
) {
    let list: Vec<&Static> = list.iter().filter(|it| it.0 == package).collect();
    let mut used = Vec::new();
    for source in sources {
        for (name, what) in state(&source.items) {
            if list.iter().any(|it| it.1 == name) {
                used.push(name);
                continue;
            }
            findings.errors.push(format!(
                "{}: {what} `{name}` is state of the whole process; pass it in a value, or add it \
                 with its reason to xtask/src/tidy/allowed.rs",
                source.file
            ));
        }
    }
    for (_, name, _) in list.into_iter().filter(|it| !used.iter().any(|name| name == it.1)) {
        findings.errors.push(format!(
            "xtask/src/tidy/allowed.rs: {package} has no `{name}` any more; remove it from the list"
        ));
    }
}

/// The state that some items hold: name and kind.
fn state(items: &[Item]) -> Vec<(String, &'static str)> {
    #[derive(Default)]
    struct Visitor(Vec<(String, &'static str)>);
    impl<'ast> Visit<'ast> for Visitor {
        fn visit_item(&mut self, item: &'ast Item) {
            if !is_test(attributes(item)) {
                syn::visit::visit_item(self, item);
            }
        }

        fn visit_item_static(&mut self, item: &'ast ItemStatic) {
            if matches!(item.mutability, StaticMutability::Mut(_)) {
                self.0.push((item.ident.to_string(), "the `static mut`"));
            } else if has_interior(&item.ty) {
                self.0.push((item.ident.to_string(), "the static"));
            }
            syn::visit::visit_item_static(self, item);
        }

        fn visit_macro(&mut self, call: &'ast syn::Macro) {
            if call.path.segments.last().is_some_and(|it| it.ident == "thread_local") {
                self.0.extend(thread_locals(call).into_iter().map(|it| (it, "the thread-local")));
            }
        }
    }
    let mut visitor = Visitor::default();
    items.iter().for_each(|it| visitor.visit_item(it));
    visitor.0
}

/// The names that follow `static` in a `thread_local!`.
fn thread_locals(call: &syn::Macro) -> Vec<String> {
    let words: Vec<String> = call.tokens.clone().into_iter().map(|it| it.to_string()).collect();
    words.windows(2).filter(|it| it[0] == "static").map(|it| it[1].clone()).collect()
}

fn has_interior(kind: &syn::Type) -> bool {
    struct Visitor(bool);
    impl<'ast> Visit<'ast> for Visitor {
        fn visit_path_segment(&mut self, segment: &'ast syn::PathSegment) {
            let name = segment.ident.to_string();
            self.0 |= name.starts_with("Atomic") || INTERIOR.contains(&name.as_str());
            syn::visit::visit_path_segment(self, segment);
        }
    }
    let mut visitor = Visitor(false);
    visitor.visit_type(kind);
    visitor.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::source::parse;

    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        let source = parse("a.rs", Vec::new(), text).unwrap();
        let found: Vec<String> = state(&source.items).into_iter().map(|it| it.0).collect();
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn what_changes_is_found() {
        check("static A: std::sync::Mutex<u8> = x();", &["A"]);
        check("static A: [AtomicUsize; 2] = x();", &["A"]);
        check("fn f() { static A: OnceLock<u8> = OnceLock::new(); }", &["A"]);
        check("mod m { static mut A: u8 = 0; }", &["A"]);
        check("impl T { fn f() { static A: LazyLock<u8> = x(); } }", &["A"]);
        check("thread_local! { static A: u8 = 0; pub static B: Cell<u8> = x(); }", &["A", "B"]);
        check("fn f() { std::thread_local!(static A: u8 = 0); }", &["A"]);
    }

    #[test]
    fn what_stays_is_not() {
        check("static A: &[&str] = &[]; const B: Mutex<u8> = x();", &[]);
        check("static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;", &[]);
        check("#[cfg(test)] mod tests { static A: Mutex<u8> = x(); }", &[]);
        check("fn f() { let a: Mutex<u8> = x(); }", &[]);
    }

    #[test]
    fn the_list_holds_what_is_there() {
        let list: &[Static] = &[("a", "A", "r"), ("a", "GONE", "r"), ("other", "B", "r")];
        let text = "static A: Once = x(); static B: Once = x();";
        let sources = [parse("a.rs", Vec::new(), text).unwrap()];
        let mut findings = Findings::default();
        check_against(list, "a", sources.iter(), &mut findings);
        assert_eq!(findings.errors.len(), 2, "{findings:?}");
        assert!(findings.errors[0].starts_with("a.rs: the static `B` is"), "{findings:?}");
        assert!(findings.errors[1].contains("a has no `GONE` any more"), "{findings:?}");
    }
}
