//! Files that are compiled into a published crate: they must lie in its folder, since nothing else is
//! packaged.

use std::path::{Component, Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::Visit;
use syn::{Item, Lit};

use super::Findings;
use super::source::{Source, attributes, is_test};

/// Checks the sources of a published package, whose folder lies below the root of the workspace.
pub(super) fn check<'a>(
    folder: &Path,
    sources: impl Iterator<Item = &'a Source>,
    findings: &mut Findings,
) {
    for source in sources {
        let beside = Path::new(&source.file).parent().unwrap_or(Path::new(""));
        for included in included(&source.items) {
            if !normal(&beside.join(&included)).starts_with(folder) {
                findings.errors.push(format!(
                    "{}: compiles in `{included}`, which is not packaged with the crate; move the \
                     file into {}",
                    source.file,
                    folder.display()
                ));
            }
        }
    }
}

/// The paths, or their first literal parts, in `include!`, `include_str!` and `include_bytes!`.
fn included(items: &[Item]) -> Vec<String> {
    struct Visitor(Vec<String>);
    impl<'ast> Visit<'ast> for Visitor {
        fn visit_item(&mut self, item: &'ast Item) {
            if !is_test(attributes(item)) {
                syn::visit::visit_item(self, item);
            }
        }

        fn visit_macro(&mut self, call: &'ast syn::Macro) {
            let name = call.path.segments.last().map(|it| it.ident.to_string());
            if name.is_some_and(|it| is_include(&it)) {
                self.0.extend(first_text(call.tokens.clone()));
            }
            inside(call.tokens.clone(), &mut self.0);
        }
    }
    let mut visitor = Visitor(Vec::new());
    items.iter().for_each(|it| visitor.visit_item(it));
    visitor.0
}

fn is_include(name: &str) -> bool {
    matches!(name, "include" | "include_bytes" | "include_str")
}

/// Adds the paths of calls within the tokens of another macro.
fn inside(tokens: TokenStream, found: &mut Vec<String>) {
    let mut is_call = false;
    for token in tokens {
        match token {
            TokenTree::Ident(it) => is_call = is_include(&it.to_string()),
            TokenTree::Punct(it) if it.as_char() == '!' => {}
            TokenTree::Group(it) => {
                if is_call {
                    found.extend(first_text(it.stream()));
                } else {
                    inside(it.stream(), found);
                }
                is_call = false;
            }
            _ => is_call = false,
        }
    }
}

fn first_text(tokens: TokenStream) -> Option<String> {
    tokens.into_iter().find_map(|it| match it {
        TokenTree::Literal(it) => match Lit::new(it) {
            Lit::Str(text) => Some(text.value()),
            _ => None,
        },
        TokenTree::Group(it) => first_text(it.stream()),
        _ => None,
    })
}

/// A path without `..` inside.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for component in path.components() {
        if component == Component::ParentDir && normal.file_name().is_some() {
            normal.pop();
        } else {
            normal.push(component);
        }
    }
    normal
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::source::parse;

    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        let source = parse("crates/a/src/b/c.rs", Vec::new(), text).unwrap();
        let mut findings = Findings::default();
        super::check(Path::new("crates/a"), std::iter::once(&source), &mut findings);
        let expected: Vec<String> = expected
            .iter()
            .map(|it| {
                format!(
                    "crates/a/src/b/c.rs: compiles in `{it}`, which is not packaged with the crate; \
                     move the file into crates/a"
                )
            })
            .collect();
        assert_eq!(findings.errors, expected);
    }

    #[test]
    fn files_of_other_folders_are_found() {
        check(
            "const A: &str = include_str!(\"../../../../runs/a.toml\");",
            &["../../../../runs/a.toml"],
        );
        check("fn f() { g(include_bytes!(\"../../../b/x\")); }", &["../../../b/x"]);
        check(
            "macro_rules! m { ($n:literal) => { [$(($n, include_str!(concat!(\"../../../p/\", $n)))),*] } }",
            &["../../../p/"],
        );
    }

    #[test]
    fn files_of_the_crate_are_fine() {
        check("const A: &str = include_str!(\"../../presets/a.toml\");", &[]);
        check("const A: &str = include_str!(\"d.txt\");", &[]);
        check("#[cfg(test)] mod tests { const A: &str = include_str!(\"../../../../x\"); }", &[]);
    }
}
