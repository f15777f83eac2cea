//! Header of a template file: a comment at its start with name, version and source.

use serde::{Deserialize, Serialize};

/// The first comment of a template, read as lines of `key: value`.
///
/// A line without a key continues the one before. Other keys are passed over, and a template without
/// such a comment says nothing about itself, which is no error.
///
/// ```
/// use zs_simulator::TemplateHeader;
///
/// let header = TemplateHeader::of("{#-\nname: mine\nversion: 2\nsource: a paper,\n  table 2\n-#}\n{{ query }}");
/// assert_eq!(header.name.as_deref(), Some("mine"));
/// assert_eq!(header.version.as_deref(), Some("2"));
/// assert_eq!(header.source.as_deref(), Some("a paper, table 2"));
/// assert_eq!(TemplateHeader::of("{{ query }}"), TemplateHeader::default());
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemplateHeader {
    /// Its name.
    pub name: Option<String>,
    /// Its version: another one for every change that changes a prompt.
    pub version: Option<String>,
    /// Source of its wording.
    pub source: Option<String>,
}

impl TemplateHeader {
    /// The header of a template's text.
    #[must_use]
    pub fn of(template: &str) -> Self {
        let comment = template.trim_start().strip_prefix("{#").and_then(|it| it.split_once("#}"));
        let Some((comment, _)) = comment else { return Self::default() };
        let mut values: [Option<String>; 3] = Default::default();
        let mut current = None;
        for line in comment.trim_matches(['-', '+']).lines().map(str::trim) {
            let (key, value) = line.split_once(": ").unwrap_or_default();
            match ["name", "version", "source"].iter().position(|it| *it == key) {
                Some(index) => {
                    values[index] = Some(value.to_owned());
                    current = Some(index);
                }
                None => {
                    let text = current.and_then(|it: usize| values[it].as_mut());
                    if let (Some(text), false) = (text, line.is_empty()) {
                        text.push(' ');
                        text.push_str(line);
                    }
                }
            }
        }
        let [name, version, source] = values;
        Self { name, version, source }
    }
}
