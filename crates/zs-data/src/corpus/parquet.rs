//! Rows in Parquet: the columns `id`, `title`, `text` and `contents`; others are not read.

use std::fs::File;
use std::path::Path;

use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use parquet::schema::types::Type;

use super::{CorpusError, Id, Row, Visit};

const COLUMNS: [&str; 5] = ["id", "_id", "title", "text", "contents"];

/// Shows the document of every row.
pub(super) fn for_each_row(path: &Path, visit: &mut Visit<'_>) -> Result<(), CorpusError> {
    let file =
        File::open(path).map_err(|source| CorpusError::Read { path: path.to_owned(), source })?;
    let mut row = 0;
    let parquet = |row, source| CorpusError::Parquet { path: path.to_owned(), row, source };
    let reader = SerializedFileReader::new(file).map_err(|it| parquet(0, it))?;
    let metadata = reader.metadata().file_metadata();
    let num_rows = metadata.num_rows().max(1) as f64;
    let projection = projection(metadata.schema()).map_err(|it| parquet(0, it))?;
    let rows = reader.get_row_iter(Some(projection)).map_err(|it| parquet(0, it))?;
    for columns in rows {
        let columns = columns.map_err(|it| parquet(row, it))?;
        row += 1;
        let mut parsed = Row::default();
        let field_error = |problem| CorpusError::Field { path: path.to_owned(), row, problem };
        for (name, value) in columns.into_columns() {
            set(&mut parsed, &name, value).map_err(field_error)?;
        }
        let document = parsed.into_document().map_err(field_error)?;
        if visit(document, row as f64 / num_rows).is_break() {
            break;
        }
    }
    Ok(())
}

/// The file's schema with the columns of documents only.
fn projection(schema: &Type) -> Result<Type, ParquetError> {
    let known = schema.get_fields().iter().filter(|it| COLUMNS.contains(&it.name()));
    Type::group_type_builder(schema.name()).with_fields(known.cloned().collect()).build()
}

fn set(row: &mut Row, name: &str, value: Field) -> Result<(), String> {
    let text = match value {
        Field::Null => return Ok(()),
        Field::Str(text) => text,
        // Writers that predate the string annotation store text as plain bytes.
        Field::Bytes(bytes) => String::from_utf8(bytes.data().to_vec())
            .map_err(|_| format!("`{name}` is not UTF-8"))?,
        Field::Int(number) if is_id(name) => number.to_string(),
        Field::Long(number) if is_id(name) => number.to_string(),
        Field::UInt(number) if is_id(name) => number.to_string(),
        Field::ULong(number) if is_id(name) => number.to_string(),
        _ => return Err(format!("`{name}` is not text")),
    };
    match name {
        "title" => row.title = Some(text),
        "text" => row.text = Some(text),
        "contents" => row.contents = Some(text),
        _ => row.id = Some(Id::Text(text)),
    }
    Ok(())
}

fn is_id(name: &str) -> bool {
    matches!(name, "id" | "_id")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
    use parquet::file::properties::WriterProperties;
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;

    use super::super::read_corpus;
    use super::*;

    /// A file with a number, a title, a text, and a column that nobody asked for.
    fn write(path: &Path, texts: &[Option<&[u8]>]) {
        let schema = "message rows { required int64 id; required binary title (UTF8); \
                      optional binary text (UTF8); required int64 other; }";
        let schema = Arc::new(parse_message_type(schema).unwrap());
        let properties = Arc::new(WriterProperties::default());
        let file = File::create(path).unwrap();
        let mut writer = SerializedFileWriter::new(file, schema, properties).unwrap();
        let mut group = writer.next_row_group().unwrap();
        let count = texts.len() as i64;
        let numbers: Vec<i64> = (0..count).collect();
        for column in 0..4 {
            let mut writer = group.next_column().unwrap().unwrap();
            match column {
                0 | 3 => {
                    writer.typed::<Int64Type>().write_batch(&numbers, None, None).unwrap();
                }
                1 => {
                    let titles: Vec<ByteArray> =
                        numbers.iter().map(|it| format!("T{it}").as_str().into()).collect();
                    writer.typed::<ByteArrayType>().write_batch(&titles, None, None).unwrap();
                }
                _ => {
                    let values: Vec<ByteArray> =
                        texts.iter().flatten().map(|it| it.to_vec().into()).collect();
                    let levels: Vec<i16> = texts.iter().map(|it| i16::from(it.is_some())).collect();
                    let writer = writer.typed::<ByteArrayType>();
                    writer.write_batch(&values, Some(&levels), None).unwrap();
                }
            }
            writer.close().unwrap();
        }
        group.close().unwrap();
        writer.close().unwrap();
    }

    #[test]
    fn reads_known_columns_and_names_bad_rows() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("corpus.parquet");
        write(&path, &[Some(b"a"), Some("é".as_bytes())]);
        let read = read_corpus(&path).unwrap();
        let rows: Vec<_> =
            read.iter().map(|it| (it.id.as_str(), it.title.as_str(), it.text.as_str())).collect();
        assert_eq!(rows, [("0", "T0", "a"), ("1", "T1", "é")]);
        write(&path, &[Some(b"a"), None]);
        let error = read_corpus(&path).unwrap_err().to_string();
        assert!(error.contains("row 2: no field `text`"), "{error}");
        std::fs::write(&path, b"PAR1 and nothing else").unwrap();
        assert!(matches!(read_corpus(&path), Err(CorpusError::Parquet { row: 0, .. })));
    }
}
