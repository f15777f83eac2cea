//! The source files of a target, parsed, with the module that each one is. Code of tests is left out.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use syn::{Attribute, Expr, Item, Lit, Meta};

/// One file of a target.
pub(super) struct Source {
    /// Path below the root of the workspace.
    pub(super) file: String,
    /// Path of the module below the root of the crate; empty for the root itself.
    pub(super) module: Vec<String>,
    pub(super) items: Vec<Item>,
}

/// Reads a target from the file of its root, following its modules.
pub(super) fn read(target_root: &Path, workspace_root: &Path) -> anyhow::Result<Vec<Source>> {
    let folder = target_root.parent().context("a target lies in a folder")?;
    let mut sources = Vec::new();
    let mut pending = vec![(target_root.to_owned(), Vec::new(), folder.to_owned())];
    while let Some((path, module, folder)) = pending.pop() {
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let file = path.strip_prefix(workspace_root).unwrap_or(&path).display().to_string();
        let source = parse(&file, module, &text)?;
        children(&path, &folder, &source.module, &source.items, &mut pending)?;
        sources.push(source);
    }
    sources.sort_by(|a, b| a.file.cmp(&b.file));
    Ok(sources)
}

/// Parses the text of one file, without its tests.
pub(super) fn parse(file: &str, module: Vec<String>, text: &str) -> anyhow::Result<Source> {
    let syntax = syn::parse_file(text).with_context(|| format!("{file}: cannot be parsed"))?;
    Ok(Source { file: file.to_owned(), module, items: syntax.items })
}

/// A file to read: its path, its module, and the folder of its child modules.
type Pending = (PathBuf, Vec<String>, PathBuf);

fn children(
    path: &Path,
    folder: &Path,
    module: &[String],
    items: &[Item],
    pending: &mut Vec<Pending>,
) -> anyhow::Result<()> {
    for item in items {
        let Item::Mod(child) = item else { continue };
        if is_test(&child.attrs) {
            continue;
        }
        let name = child.ident.to_string();
        let child_module: Vec<String> = module.iter().cloned().chain([name.clone()]).collect();
        let child_folder = folder.join(&name);
        if let Some((_, items)) = &child.content {
            children(path, &child_folder, &child_module, items, pending)?;
            continue;
        }
        let beside = path.parent().context("a file lies in a folder")?;
        let found = match explicit_path(&child.attrs) {
            Some(explicit) => beside.join(explicit),
            None => {
                let candidates = [folder.join(format!("{name}.rs")), child_folder.join("mod.rs")];
                match candidates.into_iter().find(|it| it.is_file()) {
                    Some(found) => found,
                    None => bail!("{}: the file of the module `{name}` is missing", path.display()),
                }
            }
        };
        pending.push((found, child_module, child_folder));
    }
    Ok(())
}

/// The value of `#[path = "…"]`.
fn explicit_path(attributes: &[Attribute]) -> Option<String> {
    attributes.iter().find_map(|it| match &it.meta {
        Meta::NameValue(pair) if pair.path.is_ident("path") => match &pair.value {
            Expr::Lit(literal) => match &literal.lit {
                Lit::Str(text) => Some(text.value()),
                _ => None,
            },
            _ => None,
        },
        _ => None,
    })
}

/// Tests whether something is compiled for tests only.
pub(super) fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|it| match &it.meta {
        Meta::Path(path) => path.is_ident("test"),
        Meta::List(list) if list.path.is_ident("cfg") => {
            let condition = list.tokens.to_string().replace(' ', "");
            condition == "test" || condition.starts_with("all(test")
        }
        _ => false,
    })
}

/// The attributes of an item.
pub(super) fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(it) => &it.attrs,
        Item::Enum(it) => &it.attrs,
        Item::ExternCrate(it) => &it.attrs,
        Item::Fn(it) => &it.attrs,
        Item::ForeignMod(it) => &it.attrs,
        Item::Impl(it) => &it.attrs,
        Item::Macro(it) => &it.attrs,
        Item::Mod(it) => &it.attrs,
        Item::Static(it) => &it.attrs,
        Item::Struct(it) => &it.attrs,
        Item::Trait(it) => &it.attrs,
        Item::TraitAlias(it) => &it.attrs,
        Item::Type(it) => &it.attrs,
        Item::Union(it) => &it.attrs,
        Item::Use(it) => &it.attrs,
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_followed_from_its_root() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("src/lib.rs", "mod a; mod b; #[cfg(test)] mod tests; #[path = \"x.rs\"] mod d;");
        write("src/a.rs", "mod deep;");
        write("src/a/deep.rs", "");
        write("src/b/mod.rs", "mod inline { mod c; }");
        write("src/b/inline/c.rs", "");
        write("src/x.rs", "");
        let sources = read(&folder.path().join("src/lib.rs"), folder.path()).unwrap();
        let found: Vec<(&str, String)> =
            sources.iter().map(|it| (it.file.as_str(), it.module.join("::"))).collect();
        let expected = [
            ("src/a.rs", "a"),
            ("src/a/deep.rs", "a::deep"),
            ("src/b/inline/c.rs", "b::inline::c"),
            ("src/b/mod.rs", "b"),
            ("src/lib.rs", ""),
            ("src/x.rs", "d"),
        ];
        assert_eq!(found, expected.map(|(file, module)| (file, module.to_owned())));
        write("src/a.rs", "mod absent;");
        let error = read(&folder.path().join("src/lib.rs"), folder.path()).err().unwrap();
        assert!(error.to_string().contains("the module `absent` is missing"), "{error}");
    }

    #[track_caller]
    fn check(text: &str, expected: bool) {
        let source = parse("a.rs", Vec::new(), text).unwrap();
        assert_eq!(is_test(attributes(&source.items[0])), expected, "{text}");
    }

    #[test]
    fn tests_are_recognised() {
        check("#[test] fn f() {}", true);
        check("#[cfg(test)] mod tests {}", true);
        check("#[cfg(all(test, unix))] use a::b;", true);
        check("#[cfg(not(test))] fn f() {}", false);
        check("#[cfg(any(test, unix))] fn f() {}", false);
        check("fn test() {}", false);
    }
}
