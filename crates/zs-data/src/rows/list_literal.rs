//! Lists inside a cell of a table: as JSON writes them, or as Python prints them (DPR).

/// The texts of a list; `None` where the cell is not a list of texts.
pub(super) fn parse(cell: &str) -> Option<Vec<String>> {
    let cell = cell.trim();
    if !cell.starts_with('[') {
        return None;
    }
    serde_json::from_str::<Vec<String>>(cell).ok().or_else(|| parse_python(cell))
}

/// `['a', "b's", 'c\n']`: what Python's `repr` writes for a list of texts.
fn parse_python(cell: &str) -> Option<Vec<String>> {
    let mut chars = cell.strip_prefix('[')?.strip_suffix(']')?.chars().peekable();
    let mut items = Vec::new();
    loop {
        while chars.next_if(|it| it.is_whitespace()).is_some() {}
        let Some(quote) = chars.next() else { return Some(items) };
        if !matches!(quote, '\'' | '"') {
            return None;
        }
        items.push(text(&mut chars, quote)?);
        while chars.next_if(|it| it.is_whitespace()).is_some() {}
        match chars.next() {
            None => return Some(items),
            Some(',') => {}
            Some(_) => return None,
        }
    }
}

/// The rest of a quoted text, its closing quote included.
fn text(chars: &mut impl Iterator<Item = char>, quote: char) -> Option<String> {
    let mut text = String::new();
    loop {
        match chars.next()? {
            it if it == quote => return Some(text),
            '\\' => match chars.next()? {
                'n' => text.push('\n'),
                't' => text.push('\t'),
                'r' => text.push('\r'),
                'x' => text.push(hexadecimal(chars, 2)?),
                'u' => text.push(hexadecimal(chars, 4)?),
                'U' => text.push(hexadecimal(chars, 8)?),
                it @ ('\\' | '\'' | '"') => text.push(it),
                other => text.extend(['\\', other]),
            },
            it => text.push(it),
        }
    }
}

fn hexadecimal(chars: &mut impl Iterator<Item = char>, digits: usize) -> Option<char> {
    let mut code = 0;
    for _ in 0..digits {
        code = 16 * code + chars.next()?.to_digit(16)?;
    }
    char::from_u32(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(cell: &str, expected: Option<&[&str]>) {
        let parsed = parse(cell);
        assert_eq!(
            parsed.as_deref(),
            expected
                .map(|it| it.to_vec())
                .map(|it| it.into_iter().map(str::to_owned).collect::<Vec<_>>())
                .as_deref(),
            "{cell}"
        );
    }

    #[test]
    fn reads_json_and_python() {
        check(r#"["a", "b\"c", "\u00e9"]"#, Some(&["a", "b\"c", "é"]));
        check("['a', \"b's\", 'c\"d']", Some(&["a", "b's", "c\"d"]));
        check(
            r"['it\'s', 'a\\b', 'x\ny', '\xe9\u2019', '\d']",
            Some(&["it's", "a\\b", "x\ny", "é’", "\\d"]),
        );
        check(" [] ", Some(&[]));
        check("['a',]", Some(&["a"]));
        for broken in ["", "a", "[", "['a'", "['a' 'b']", "[1]", "['a]", r"['\x4']"] {
            check(broken, None);
        }
    }
}
