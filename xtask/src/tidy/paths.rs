//! Paths in source code that start in the crate itself, and the module that each of them ends in.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::Visit;
use syn::{Item, UseTree};

use super::source::{Source, attributes, is_test};

/// Path of a module or item below the root of the crate.
pub(super) type CratePath = Vec<String>;

/// Number of `use` that a name is followed through.
const MAX_HOPS: usize = 16;

/// The names of a module that stand for something else, and the items that are its own.
#[derive(Debug, Default)]
struct Names {
    own: BTreeSet<String>,
    /// Name and path of what is imported or re-exported.
    imported: BTreeMap<String, CratePath>,
    /// Modules of which everything is imported.
    globs: Vec<CratePath>,
}

/// The modules of a crate, with the names in each.
#[derive(Debug, Default)]
pub(super) struct Modules(BTreeMap<CratePath, Names>);

impl Modules {
    /// Reads the names of every module.
    pub(super) fn new(sources: &[Source]) -> Self {
        let mut modules = Self::default();
        for source in sources {
            modules.declare(&source.module, &source.items);
        }
        for source in sources {
            modules.import(&source.module, &source.items);
        }
        modules
    }

    /// The child modules of a module.
    pub(super) fn children(&self, module: &[String]) -> usize {
        self.0.keys().filter(|it| it.len() == module.len() + 1 && it.starts_with(module)).count()
    }

    /// Paths of all modules.
    pub(super) fn paths(&self) -> impl Iterator<Item = &CratePath> {
        self.0.keys()
    }

    /// The module that holds what a path names.
    pub(super) fn holder(&self, path: &[String]) -> CratePath {
        self.follow(path, MAX_HOPS).unwrap_or_default()
    }

    fn follow(&self, path: &[String], hops: usize) -> Option<CratePath> {
        let length = (0..=path.len()).rev().find(|it| self.0.contains_key(&path[..*it]))?;
        let (module, rest) = path.split_at(length);
        let Some((name, rest)) = rest.split_first() else { return Some(module.to_vec()) };
        let names = &self.0[module];
        if hops == 0 || names.own.contains(name) {
            return Some(module.to_vec());
        }
        if let Some(target) = names.imported.get(name) {
            let target: CratePath = target.iter().chain(rest).cloned().collect();
            return self.follow(&target, hops - 1);
        }
        let in_globs = names.globs.iter().find_map(|glob| {
            let target: CratePath = glob.iter().chain([name]).cloned().collect();
            let found = self.follow(&target, hops - 1)?;
            (found != *module && self.knows(&found, name)).then_some(found)
        });
        Some(in_globs.unwrap_or_else(|| module.to_vec()))
    }

    fn knows(&self, module: &[String], name: &str) -> bool {
        self.0.get(module).is_some_and(|it| it.own.contains(name))
    }

    fn declare(&mut self, module: &[String], items: &[Item]) {
        let names = self.0.entry(module.to_vec()).or_default();
        names.own.extend(items.iter().filter_map(own_name));
        for (child, items) in inline_modules(module, items) {
            self.declare(&child, items);
        }
    }

    fn import(&mut self, module: &[String], items: &[Item]) {
        let mut names = Names::default();
        for item in items {
            let Item::Use(it) = item else { continue };
            if is_test(&it.attrs) {
                continue;
            }
            for (name, path) in leaves(&it.tree) {
                let Some(target) = self.absolute(module, &path) else { continue };
                match name {
                    Some(name) => drop(names.imported.insert(name, target)),
                    None => names.globs.push(target),
                }
            }
        }
        let known = self.0.entry(module.to_vec()).or_default();
        known.imported.append(&mut names.imported);
        known.globs.append(&mut names.globs);
        for (child, items) in inline_modules(module, items) {
            self.import(&child, items);
        }
    }

    /// The path from the root of the crate; `None` where it leads out of the crate.
    fn absolute(&self, module: &[String], path: &[String]) -> Option<CratePath> {
        let (first, rest) = path.split_first()?;
        let mut base = match first.as_str() {
            "crate" => Vec::new(),
            "self" => module.to_vec(),
            "super" => module.split_last()?.1.to_vec(),
            child => {
                let path: CratePath = module.iter().cloned().chain([child.to_owned()]).collect();
                return self.0.contains_key(&path).then(|| [path, rest.to_vec()].concat());
            }
        };
        for segment in rest {
            if segment == "super" {
                base.pop()?;
            } else {
                base.push(segment.clone());
            }
        }
        Some(base)
    }

    /// Every path into the crate itself that some items of a module hold, from the root.
    pub(super) fn references(&self, module: &[String], items: &[Item]) -> BTreeSet<CratePath> {
        let mut collector =
            Collector { modules: self, module: module.to_vec(), found: BTreeSet::new() };
        items.iter().for_each(|it| collector.visit_item(it));
        collector.found
    }
}

fn own_name(item: &Item) -> Option<String> {
    let name = match item {
        Item::Const(it) => &it.ident,
        Item::Enum(it) => &it.ident,
        Item::Fn(it) => &it.sig.ident,
        Item::Macro(it) => it.ident.as_ref()?,
        Item::Static(it) => &it.ident,
        Item::Struct(it) => &it.ident,
        Item::Trait(it) => &it.ident,
        Item::Type(it) => &it.ident,
        Item::Union(it) => &it.ident,
        _ => return None,
    };
    Some(name.to_string())
}

fn inline_modules<'a>(
    module: &'a [String],
    items: &'a [Item],
) -> impl Iterator<Item = (CratePath, &'a [Item])> {
    items.iter().filter_map(|item| match item {
        Item::Mod(it) if !is_test(&it.attrs) => {
            let path = module.iter().cloned().chain([it.ident.to_string()]).collect();
            it.content.as_ref().map(|(_, items)| (path, items.as_slice()))
        }
        _ => None,
    })
}

/// The leaves of a `use`: the name that each binds, `None` for a glob, and the path that is written.
fn leaves(tree: &UseTree) -> Vec<(Option<String>, CratePath)> {
    match tree {
        UseTree::Path(it) => {
            let mut below = leaves(&it.tree);
            for (_, path) in &mut below {
                path.insert(0, it.ident.to_string());
            }
            // `a::{self}` binds `a`.
            for (name, path) in &mut below {
                if path.len() > 1 && path.last().is_some_and(|it| it == "self") {
                    path.pop();
                    if name.as_deref() == Some("self") {
                        *name = path.last().cloned();
                    }
                }
            }
            below
        }
        UseTree::Name(it) => vec![(Some(it.ident.to_string()), vec![it.ident.to_string()])],
        UseTree::Rename(it) => vec![(Some(it.rename.to_string()), vec![it.ident.to_string()])],
        UseTree::Glob(_) => vec![(None, Vec::new())],
        UseTree::Group(it) => it.items.iter().flat_map(leaves).collect(),
    }
}

struct Collector<'a> {
    modules: &'a Modules,
    module: CratePath,
    found: BTreeSet<CratePath>,
}

impl Collector<'_> {
    fn add(&mut self, path: &[String]) {
        let is_inside =
            path.first().is_some_and(|it| matches!(it.as_str(), "crate" | "self" | "super"));
        if is_inside && path.len() > 1 {
            self.found.extend(self.modules.absolute(&self.module, path));
        }
    }

    fn add_tokens(&mut self, tokens: TokenStream) {
        let mut path: CratePath = Vec::new();
        let mut num_colons = 0;
        for token in tokens {
            match &token {
                TokenTree::Punct(it) if it.as_char() == ':' && num_colons < 2 => {
                    num_colons += 1;
                    continue;
                }
                TokenTree::Ident(it) if num_colons == 2 && !path.is_empty() => {
                    path.push(it.to_string());
                }
                TokenTree::Ident(it) => {
                    self.add(&path);
                    path = vec![it.to_string()];
                }
                TokenTree::Group(it) => {
                    self.add(&path);
                    path.clear();
                    self.add_tokens(it.stream());
                }
                _ => {
                    self.add(&path);
                    path.clear();
                }
            }
            num_colons = 0;
        }
        self.add(&path);
    }
}

impl<'ast> Visit<'ast> for Collector<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        if !is_test(attributes(item)) {
            syn::visit::visit_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        self.module.push(item.ident.to_string());
        syn::visit::visit_item_mod(self, item);
        self.module.pop();
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        if !is_test(&item.attrs) {
            syn::visit::visit_impl_item_fn(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        for (_, path) in leaves(&item.tree) {
            self.add(&path);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: CratePath = path.segments.iter().map(|it| it.ident.to_string()).collect();
        self.add(&segments);
        syn::visit::visit_path(self, path);
    }

    // `pub(in crate::a)` names no dependency.
    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {}

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        syn::visit::visit_macro(self, call);
        self.add_tokens(call.tokens.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::source::parse;

    fn path(text: &str) -> CratePath {
        text.split("::").filter(|it| !it.is_empty()).map(str::to_owned).collect()
    }

    fn modules(sources: &[(&str, &str)]) -> (Modules, Vec<Source>) {
        let sources: Vec<Source> = sources
            .iter()
            .map(|(module, text)| parse("x.rs", path(module), text).unwrap())
            .collect();
        (Modules::new(&sources), sources)
    }

    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        let (modules, sources) = modules(&[("a::b", text), ("a::b::c", ""), ("a", ""), ("", "")]);
        let found = modules.references(&sources[0].module, &sources[0].items);
        let found: Vec<String> = found.iter().map(|it| it.join("::")).collect();
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn paths_are_found() {
        check("use crate::x::{Y, z::*, self as w};", &["x", "x::Y", "x::z"]);
        check(
            "use super::Y; use super::super::x::Z; use self::c::D;",
            &["a::Y", "a::b::c::D", "x::Z"],
        );
        check("fn f(x: &crate::x::Y<super::Z>) { self.f(); crate::g(); }", &["a::Z", "g", "x::Y"]);
        check("fn f() { vec![super::y(crate::x::Y), self.z, a::b]; }", &["a::y", "x::Y"]);
        check("mod inline { use super::super::Y; use super::c; }", &["a::Y", "a::b::c"]);
    }

    #[test]
    fn tests_visibilities_and_other_crates_are_not() {
        check("#[cfg(test)] mod tests { use crate::x::Y; }", &[]);
        check("pub(in crate::a) struct S; pub(crate) fn f() {}", &[]);
        check("use std::fmt; use burn::x; fn f() { std::mem::drop(1); }", &[]);
        check("/// [`crate::x::Y`]\nfn f() {}", &[]);
    }

    #[track_caller]
    fn check_holder(name: &str, expected: &str) {
        let (modules, _) = modules(&[
            ("", "pub use self::a::{B, C as D}; pub use self::e::*; use std::fmt; pub struct Own;"),
            ("a", "pub use self::b::{B, C}; mod b;"),
            ("a::b", "pub struct B; pub enum C { X }"),
            ("e", "pub use crate::a::b::C as F; pub struct G;"),
        ]);
        assert_eq!(modules.holder(&path(name)).join("::"), expected, "{name}");
    }

    #[test]
    fn names_are_followed_to_where_they_are_defined() {
        check_holder("B", "a::b");
        check_holder("D::X", "a::b");
        check_holder("a::b::C", "a::b");
        check_holder("G", "e");
        check_holder("e::F", "a::b");
        check_holder("a::b", "a::b");
        check_holder("Own", "");
        check_holder("unknown", "");
    }
}
