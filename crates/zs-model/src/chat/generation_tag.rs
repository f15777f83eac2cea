//! Translation of what Jinja2 knows and minijinja does not: the block `generation`, which marks the
//! tokens to train on, and some escapes in texts.

/// Source in which `{% generation %}…{% endgeneration %}` is `{% with %}…{% endwith %}`: a block
/// with a scope of its own, as in transformers, and escapes such as `\U0001F600` are the characters
/// that they stand for.
pub(super) fn translated(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(at) = rest.find(['{']).filter(|_| !rest.is_empty()) {
        let (before, tag) = rest.split_at(at);
        out.push_str(before);
        let len = match tag.as_bytes().get(1) {
            Some(b'#') => tag.find("#}").map_or(tag.len(), |it| it + 2),
            Some(b'{') => expression_len(tag, "}}"),
            Some(b'%') => match BlockTag::parse(tag) {
                Some(BlockTag { name: "raw", .. }) => raw_len(tag),
                Some(BlockTag { name: "generation", start, end }) => {
                    push_renamed(&mut out, &tag[..end], start, "with");
                    rest = &tag[end..];
                    continue;
                }
                Some(BlockTag { name: "endgeneration", start, end }) => {
                    push_renamed(&mut out, &tag[..end], start, "endwith");
                    rest = &tag[end..];
                    continue;
                }
                _ => expression_len(tag, "%}"),
            },
            _ => 1,
        };
        match tag.as_bytes().get(1) {
            Some(b'{' | b'%') if tag[..len].contains('\\') => push_unescaped(&mut out, &tag[..len]),
            _ => out.push_str(&tag[..len]),
        }
        rest = &tag[len..];
    }
    out.push_str(rest);
    out
}

/// Adds a tag in whose texts `\U` with eight digits is the character, and `\/`, which Python reads as
/// two characters, has its backslash escaped.
fn push_unescaped(out: &mut String, tag: &str) {
    let (mut rest, mut quote) = (tag, None);
    while let Some(sign) = rest.chars().next() {
        let escape = quote.filter(|_| sign == '\\').and_then(|_| rest[1..].chars().next());
        let len = sign.len_utf8() + escape.map_or(0, char::len_utf8);
        match (quote, sign) {
            (Some(open), _) if open == sign => quote = None,
            (None, '\'' | '"') => quote = Some(sign),
            _ => {}
        }
        let code = || u32::from_str_radix(rest.get(2..10)?, 16).ok();
        match escape {
            Some('U') if let Some(character) = code().and_then(char::from_u32) => {
                out.push(character);
                rest = &rest[10..];
            }
            Some('/') => {
                out.push_str("\\\\/");
                rest = &rest[len..];
            }
            _ => {
                out.push_str(&rest[..len]);
                rest = &rest[len..];
            }
        }
    }
}

/// Tag of a block: `{%`, a sign, a name, and for a tag without arguments the end.
struct BlockTag<'a> {
    name: &'a str,
    /// Position of the name.
    start: usize,
    /// Position after the tag, for a tag without arguments.
    end: usize,
}

impl<'a> BlockTag<'a> {
    fn parse(tag: &'a str) -> Option<Self> {
        let inside = tag.strip_prefix("{%")?;
        let inside = inside.strip_prefix(['-', '+']).unwrap_or(inside).trim_start();
        let start = tag.len() - inside.len();
        let is_name = |it: char| it.is_alphanumeric() || it == '_';
        let name = &inside[..inside.find(|it| !is_name(it)).unwrap_or(inside.len())];
        let after = inside[name.len()..].trim_start();
        let after = after.strip_prefix(['-', '+']).unwrap_or(after).strip_prefix("%}")?;
        Some(Self { name, start, end: tag.len() - after.len() })
    }
}

fn push_renamed(out: &mut String, tag: &str, start: usize, name: &str) {
    let old = tag[start..].trim_start_matches(|it: char| it.is_alphanumeric() || it == '_');
    out.push_str(&tag[..start]);
    out.push_str(name);
    out.push_str(old);
}

/// Length of a tag up to and with `end`, which does not count inside of strings.
fn expression_len(tag: &str, end: &str) -> usize {
    let mut quote = None;
    let mut signs = tag.char_indices().skip(2);
    while let Some((at, sign)) = signs.next() {
        match (quote, sign) {
            (Some(_), '\\') => drop(signs.next()),
            (Some(open), _) if open == sign => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(sign),
            (None, _) if tag[at..].starts_with(end) => return at + end.len(),
            (None, _) => {}
        }
    }
    tag.len()
}

/// Length of `{% raw %}…{% endraw %}`.
fn raw_len(tag: &str) -> usize {
    let ends = tag.match_indices("{%").filter_map(|(at, _)| {
        let end = BlockTag::parse(&tag[at..])?;
        (end.name == "endraw").then_some(at + end.end)
    });
    ends.min().unwrap_or(tag.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(source: &str, expected: &str) {
        assert_eq!(translated(source), expected);
    }

    #[test]
    fn only_the_tag_is_translated() {
        check("a{%- generation -%}é{%endgeneration+%}", "a{%- with -%}é{%endwith+%}");
        check("{% generation %}{{ '{% generation %}' }}", "{% with %}{{ '{% generation %}' }}");
        check("{# {% generation %} #}{", "{# {% generation %} #}{");
        check(
            "{{ generation }}{% set generation = 1 %}",
            "{{ generation }}{% set generation = 1 %}",
        );
        let raw = "{% raw -%}{% generation %}{%- endraw %}";
        check(&format!("{raw}{{% generation %}}"), &format!("{raw}{{% with %}}"));
        check(
            "{% if '%}{% generation %}' %}{% generation %}",
            "{% if '%}{% generation %}' %}{% with %}",
        );
        check(r"{{ '\'{% generation %}' }}", r"{{ '\'{% generation %}' }}");
        check("{% generation", "{% generation");
        check(r"{{ '\U0001F600\/é' }}\U0001F600", r"{{ '😀\\/é' }}\U0001F600");
        check(r"{{ '\U00\\U' }}{% raw %}\U", r"{{ '\U00\\U' }}{% raw %}\U");
        check("{{ open {% generation %}", "{{ open {% generation %}");
    }
}
