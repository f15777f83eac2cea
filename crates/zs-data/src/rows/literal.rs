//! Values that are written inside a text: as JSON, as Python prints them, as numpy prints them.

use serde_json::{Map, Number, Value};

/// Depth of nested values that is read.
const MAX_DEPTH: usize = 16;

/// True for a text that may hold a list or an object.
pub(crate) fn is_candidate(text: &str) -> bool {
    let text = text.trim();
    text.starts_with(['[', '{', '(']) && text.ends_with([']', '}', ')'])
        || text.ends_with(')') && CALLS.iter().any(|it| text.starts_with(it))
}

/// Parses a list or an object that is written inside a text; `None` where it holds neither.
///
/// Accepted are JSON; what Python's `repr` writes for lists, tuples, sets and dictionaries of texts,
/// numbers, truth values and `None`; and arrays and scalars as numpy's `repr` and `str` write them,
/// with a `dtype` or without, with commas or without. An array that numpy has shortened (`...`) is
/// none.
pub(crate) fn parse(text: &str) -> Option<Value> {
    if !is_candidate(text) {
        return None;
    }
    let text = text.trim();
    let value = serde_json::from_str(text).ok().or_else(|| {
        let mut parser = Parser { rest: text, depth: 0 };
        let value = parser.value()?;
        parser.skip_blank();
        parser.rest.is_empty().then_some(value)
    });
    value.filter(|it| it.is_array() || it.is_object())
}

/// Calls that `repr` writes around a value.
const CALLS: [&str; 6] = ["array(", "np.", "numpy.", "set(", "frozenset(", "list("];

/// True for a text that looks like a value which a program has printed: brackets, a call such as
/// `deque(['a'])` or `Timestamp('2020-01-01')`, bytes, or several texts in quotes.
pub(crate) fn is_like_value(text: &str) -> bool {
    let text = text.trim();
    let is_name = |it: char| it.is_ascii_alphanumeric() || matches!(it, '_' | '.');
    let is_call = text.split_once('(').is_some_and(|(name, inside)| {
        !name.is_empty()
            && name.chars().all(is_name)
            && inside.starts_with(['[', '{', '(', '\'', '"'])
            && inside.ends_with(')')
    });
    let is_quoted = |text: &str, quote: char| {
        text.len() > 2 && text.starts_with(quote) && text.ends_with(quote)
    };
    let is_bytes = text
        .strip_prefix('b')
        .is_some_and(|it| ['\'', '"'].iter().any(|quote| is_quoted(it, *quote)));
    let is_tuple = ['\'', '"']
        .iter()
        .any(|quote| is_quoted(text, *quote) && text.contains(&format!("{quote}, {quote}")));
    is_candidate(text) && !text.starts_with('(') || is_call || is_bytes || is_tuple
}

struct Parser<'a> {
    rest: &'a str,
    depth: usize,
}

impl Parser<'_> {
    fn value(&mut self) -> Option<Value> {
        self.skip_blank();
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return None;
        }
        let value = match self.rest.chars().next()? {
            '[' => self.items('[', ']').map(Value::Array),
            '(' => self.tuple(),
            '{' => self.braces(),
            '\'' | '"' => self.text().map(Value::String),
            // Python 2.
            'u' if self.rest[1..].starts_with(['\'', '"']) => {
                self.rest = &self.rest[1..];
                self.text().map(Value::String)
            }
            it if it.is_ascii_digit() || matches!(it, '-' | '+' | '.') => self.number(),
            _ => self.word(),
        };
        self.depth -= 1;
        value
    }

    /// Items between brackets. numpy's `str` has blanks between them, all others have commas.
    fn items(&mut self, opening: char, closing: char) -> Option<Vec<Value>> {
        self.take(opening).then_some(())?;
        let mut items = Vec::new();
        let mut is_separated = true;
        loop {
            let blank = self.skip_blank();
            if self.take(closing) {
                return Some(items);
            }
            if !(is_separated || blank && opening == '[') {
                return None;
            }
            items.push(self.value()?);
            let before = self.rest;
            self.skip_blank();
            is_separated = self.take(',');
            if !is_separated {
                self.rest = before;
            }
        }
    }

    /// A tuple; in parentheses without a comma stands its only value, which is no list.
    fn tuple(&mut self) -> Option<Value> {
        let start = self.rest;
        let items = self.items('(', ')')?;
        let text = &start[1..start.len() - self.rest.len() - 1];
        match items.len() {
            1 if !text.trim_end().ends_with(',') => items.into_iter().next(),
            _ => Some(items.into()),
        }
    }

    /// A dictionary, or a set.
    fn braces(&mut self) -> Option<Value> {
        let start = self.rest;
        if let Some(items) = self.items('{', '}').filter(|it| !it.is_empty()) {
            return Some(items.into());
        }
        self.rest = start.strip_prefix('{')?;
        let mut fields = Map::new();
        loop {
            self.skip_blank();
            if self.take('}') {
                return Some(fields.into());
            }
            let Value::String(key) = self.value()? else { return None };
            self.skip_blank();
            self.take(':').then_some(())?;
            fields.insert(key, self.value()?);
            self.skip_blank();
            if !self.take(',') && !self.rest.starts_with('}') {
                return None;
            }
        }
    }

    /// The text between two quotes, and those that follow it without a comma, as Python joins them,
    /// do not: numpy's `str` separates items so.
    fn text(&mut self) -> Option<String> {
        let mut chars = self.rest.chars();
        let quote = chars.next()?;
        let mut text = String::new();
        loop {
            match chars.next()? {
                it if it == quote => break,
                '\\' => match chars.next()? {
                    'n' => text.push('\n'),
                    't' => text.push('\t'),
                    'r' => text.push('\r'),
                    'x' => text.push(hexadecimal(&mut chars, 2)?),
                    'u' => text.push(hexadecimal(&mut chars, 4)?),
                    'U' => text.push(hexadecimal(&mut chars, 8)?),
                    it @ ('\\' | '\'' | '"') => text.push(it),
                    other => text.extend(['\\', other]),
                },
                it => text.push(it),
            }
        }
        self.rest = chars.as_str();
        Some(text)
    }

    fn number(&mut self) -> Option<Value> {
        let is_part = |it: char| it.is_ascii_alphanumeric() || matches!(it, '-' | '+' | '.');
        let end = self.rest.find(|it| !is_part(it)).unwrap_or(self.rest.len());
        let (text, rest) = self.rest.split_at(end);
        self.rest = rest;
        // numpy writes `1.` for 1.0.
        let text = text.trim_start_matches('+');
        let text = match text.strip_suffix('.') {
            Some(whole) => format!("{whole}.0"),
            None => text.to_owned(),
        };
        text.parse::<Number>().ok().map(Value::Number)
    }

    /// A name, or a call of numpy's: `array([…], dtype=object)`, `np.str_('…')`.
    fn word(&mut self) -> Option<Value> {
        let is_part = |it: char| it.is_ascii_alphanumeric() || matches!(it, '_' | '.');
        let end = self.rest.find(|it| !is_part(it)).unwrap_or(self.rest.len());
        let (name, rest) = self.rest.split_at(end);
        self.rest = rest;
        match name {
            "None" | "null" | "nan" | "NaN" => return Some(Value::Null),
            "True" | "true" => return Some(true.into()),
            "False" | "false" => return Some(false.into()),
            _ => {}
        }
        let bare = name.strip_prefix("np.").or(name.strip_prefix("numpy.")).unwrap_or(name);
        let is_call = matches!(bare, "array" | "set" | "frozenset" | "list" | "str_" | "bool_")
            || bare.starts_with("int")
            || bare.starts_with("float");
        if !is_call || !self.take('(') {
            return None;
        }
        self.skip_blank();
        if matches!(bare, "set" | "frozenset") && self.take(')') {
            return Some(Value::Array(Vec::new()));
        }
        let value = self.value()?;
        self.skip_blank();
        if self.take(',') {
            self.skip_blank();
            self.rest = self.rest.strip_prefix("dtype=")?;
            let end = self.rest.find(')')?;
            let kind = self.rest[..end].trim();
            let is_kind = |it: char| {
                it.is_ascii_alphanumeric()
                    || matches!(it, '\'' | '"' | '<' | '>' | '|' | '.' | '_' | '=')
            };
            if !kind.chars().all(is_kind) {
                return None;
            }
            self.rest = &self.rest[end..];
        }
        self.take(')').then_some(value)
    }

    /// Passes over white space, and says whether there was any.
    fn skip_blank(&mut self) -> bool {
        let rest = self.rest.trim_start();
        let was_blank = rest.len() < self.rest.len();
        self.rest = rest;
        was_blank
    }

    fn take(&mut self, expected: char) -> bool {
        match self.rest.strip_prefix(expected) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
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

    /// Compares a text with the JSON of the value that it holds; blank where it holds none.
    #[track_caller]
    fn check(text: &str, expected: &str) {
        let parsed = parse(text).map_or_else(String::new, |it| it.to_string());
        assert_eq!(parsed, expected, "{text}");
    }

    #[test]
    fn json_and_python() {
        check(r#"["a", "b\"c", "\u00e9"]"#, r#"["a","b\"c","é"]"#);
        check("['a', \"b's\", 'c\"d']", r#"["a","b's","c\"d"]"#);
        check(
            r"['it\'s', 'a\\b', 'x\ny', '\xe9\u2019', '\d']",
            r#"["it's","a\\b","x\ny","é’","\\d"]"#,
        );
        check(" [] ", "[]");
        check("['a',]", r#"["a"]"#);
        check("[1, 2.5, None, True, 'x']", r#"[1,2.5,null,true,"x"]"#);
        check("('a', 'b')", r#"["a","b"]"#);
        check("('a',)", r#"["a"]"#);
        check("{'a', 'b'}", r#"["a","b"]"#);
        check("{'target': ['a'], 'n': {}}", r#"{"target":["a"],"n":{}}"#);
        check("set()", "[]");
        check("[['a'], ['b']]", r#"[["a"],["b"]]"#);
    }

    #[test]
    fn numpy() {
        check("['a' 'b c']", r#"["a","b c"]"#);
        check("['a'\n 'b']", r#"["a","b"]"#);
        check("array(['a', 'b'], dtype=object)", r#"["a","b"]"#);
        check("array(['a',\n       'b'], dtype='<U5')", r#"["a","b"]"#);
        check("np.array([1, 2])", "[1,2]");
        check("[np.str_('a'), np.int64(3), np.float64(1.)]", r#"["a",3,1.0]"#);
        check("{'target': array(['a'], dtype=object)}", r#"{"target":["a"]}"#);
        check("[1 2]", "[1,2]");
        check("['a' ... 'z']", "");
    }

    #[test]
    fn texts_that_only_look_like_values() {
        for text in [
            "",
            "a",
            "[",
            "['a'",
            "['a]",
            r"['\x4']",
            "[sic]",
            "(I Can't Get No) Satisfaction",
            "('a')",
            "(1999)",
            "['a']['b']",
            "[a] and [b]",
            "{}{}",
            "array(['a'], dtype=f(x))",
            "array(['a'",
            "np.load('x')",
            "('a' 'b')",
            "['a'x]",
        ] {
            check(text, "");
        }
        check(&"[".repeat(100_000), "");
        check(&format!("{}{}", "(".repeat(40), ")".repeat(40)), "");
    }
}
