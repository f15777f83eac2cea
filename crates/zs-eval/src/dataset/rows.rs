//! Rows of a file, in the format that its extension names.

use std::path::Path;

use super::{DatasetError, Rows, delimited, json_array, json_lines, parquet, text};

/// Opens a file; gives its name without extensions, and its rows.
pub(crate) fn open(path: &Path) -> Result<(String, Rows), DatasetError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let is_gzipped = has_suffix(&name, ".gz");
    let inner = if is_gzipped { &name[..name.len() - ".gz".len()] } else { &name[..] };
    let unknown = || DatasetError::UnknownFormat { path: path.to_owned() };
    let (stem, extension) = inner.rsplit_once('.').ok_or_else(unknown)?;
    let rows: Rows = match extension.to_ascii_lowercase().as_str() {
        "jsonl" | "ndjson" => Box::new(json_lines::rows(path, text::open(path, is_gzipped)?)),
        "json" => json_array::rows_or_lines(path, text::open(path, is_gzipped)?)?,
        "csv" => Box::new(delimited::rows(path, text::open(path, is_gzipped)?, b',')?),
        "tsv" => Box::new(delimited::rows(path, text::open(path, is_gzipped)?, b'\t')?),
        "parquet" if !is_gzipped => Box::new(parquet::rows(path)?),
        _ => return Err(unknown()),
    };
    Ok((stem.to_owned(), rows))
}

fn has_suffix(name: &str, suffix: &str) -> bool {
    name.len() > suffix.len()
        && name.is_char_boundary(name.len() - suffix.len())
        && name[name.len() - suffix.len()..].eq_ignore_ascii_case(suffix)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use crate::read_questions;

    #[test]
    fn gzipped_files_are_unpacked_member_by_member() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("q.JSONL.GZ");
        let mut packed = Vec::new();
        for text in ["{\"question\":\"é\",\"answer\":\"x\"}\n{\"question\":", "\"r\",\"answer\":1}"]
        {
            let mut encoder = flate2::write::GzEncoder::new(&mut packed, Default::default());
            encoder.write_all(text.as_bytes()).unwrap();
            encoder.finish().unwrap();
        }
        std::fs::write(&path, &packed).unwrap();
        let questions = read_questions(&path).unwrap();
        assert_eq!(questions.iter().map(|it| &it.id[..]).collect::<Vec<_>>(), ["q-1", "q-2"]);
        std::fs::write(&path, &packed[..packed.len() - 4]).unwrap();
        let message = read_questions(&path).unwrap_err().to_string();
        assert!(message.contains("q.JSONL.GZ") && message.contains("cannot read"), "{message}");
        std::fs::write(&path, "{}").unwrap();
        let message = read_questions(&path).unwrap_err().to_string();
        assert!(message.contains("q.JSONL.GZ") && message.contains("cannot read"), "{message}");
    }
}
