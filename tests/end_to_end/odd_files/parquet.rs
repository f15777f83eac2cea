//! Rows of JSON as a Parquet file: what pyarrow writes for the same rows.

use std::sync::Arc;

use parquet::basic::Compression;
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DataType, DoubleType, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{
    SerializedColumnWriter, SerializedFileWriter, SerializedRowGroupWriter,
};
use parquet::schema::parser::parse_message_type;
use serde_json::Value;

/// Form of a column, or of a part of one.
enum Node {
    Text,
    Integer,
    Float,
    Truth,
    List(Box<Node>),
    Group(Vec<(String, Node)>),
}

impl Node {
    /// The form of values that may be null.
    fn of(values: &[&Value]) -> Self {
        let present: Vec<&Value> = values.iter().copied().filter(|it| !it.is_null()).collect();
        match present.first() {
            Some(Value::Bool(_)) => Self::Truth,
            Some(Value::Number(_)) if present.iter().all(|it| it.is_i64()) => Self::Integer,
            Some(Value::Number(_)) => Self::Float,
            Some(Value::Array(_)) => {
                let items: Vec<&Value> =
                    present.iter().flat_map(|it| it.as_array().unwrap()).collect();
                Self::List(Box::new(Self::of(&items)))
            }
            Some(Value::Object(_)) => {
                let mut names: Vec<&String> = Vec::new();
                for name in present.iter().flat_map(|it| it.as_object().unwrap().keys()) {
                    if !names.contains(&name) {
                        names.push(name);
                    }
                }
                let child = |name: &String| {
                    let values: Vec<&Value> =
                        present.iter().filter_map(|it| it.get(name.as_str())).collect();
                    (name.clone(), Self::of(&values))
                };
                Self::Group(names.into_iter().map(child).collect())
            }
            _ => Self::Text,
        }
    }

    fn schema(&self, name: &str) -> String {
        match self {
            Self::Text => format!("OPTIONAL BYTE_ARRAY {name} (STRING);"),
            Self::Integer => format!("OPTIONAL INT64 {name};"),
            Self::Float => format!("OPTIONAL DOUBLE {name};"),
            Self::Truth => format!("OPTIONAL BOOLEAN {name};"),
            Self::List(item) => format!(
                "OPTIONAL group {name} (LIST) {{ REPEATED group list {{ {} }} }}",
                item.schema("element")
            ),
            Self::Group(children) => {
                let children: String = children.iter().map(|(name, it)| it.schema(name)).collect();
                format!("OPTIONAL group {name} {{ {children} }}")
            }
        }
    }

    /// Appends a value to the leaves below, and gives the index behind them.
    fn shred(&self, value: &Value, place: Place, leaves: &mut Vec<Leaf>, at: usize) -> usize {
        let present = !value.is_null();
        match self {
            Self::List(item) => {
                let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
                let depth = place.depth + 1;
                let inside = Place { definition: place.definition + 2, depth, ..place };
                if items.is_empty() {
                    let definition = place.definition + i16::from(present);
                    return item.shred(
                        &Value::Null,
                        Place { definition, depth, ..place },
                        leaves,
                        at,
                    );
                }
                let mut end = at;
                for (index, value) in items.iter().enumerate() {
                    let repetition = if index == 0 { place.repetition } else { depth };
                    end = item.shred(value, Place { repetition, ..inside }, leaves, at);
                }
                end
            }
            Self::Group(children) => {
                let definition = place.definition + i16::from(present);
                children.iter().fold(at, |at, (name, child)| {
                    let value = value.get(name.as_str()).unwrap_or(&Value::Null);
                    child.shred(value, Place { definition, ..place }, leaves, at)
                })
            }
            leaf => {
                if leaves.len() == at {
                    leaves.push(Leaf::default());
                }
                leaves[at].definitions.push(place.definition + i16::from(present));
                leaves[at].repetitions.push(place.repetition);
                if present {
                    leaves[at].values.push(value.clone());
                }
                let _ = leaf;
                at + 1
            }
        }
    }

    fn leaves(&self) -> Vec<&Self> {
        match self {
            Self::List(item) => item.leaves(),
            Self::Group(children) => children.iter().flat_map(|(_, it)| it.leaves()).collect(),
            leaf => vec![leaf],
        }
    }
}

/// Levels of a value, as Dremel has them.
#[derive(Clone, Copy, Default)]
struct Place {
    definition: i16,
    repetition: i16,
    /// Lists around the value.
    depth: i16,
}

#[derive(Default)]
struct Leaf {
    values: Vec<Value>,
    definitions: Vec<i16>,
    repetitions: Vec<i16>,
}

/// The bytes of a Parquet file with these rows, which are objects.
pub(super) fn write(rows: &[Value]) -> Vec<u8> {
    write_packed(rows, Compression::UNCOMPRESSED)
}

/// The bytes of a Parquet file with these rows, with packed pages.
pub(super) fn write_packed(rows: &[Value], packing: Compression) -> Vec<u8> {
    let all: Vec<&Value> = rows.iter().collect();
    let Node::Group(columns) = Node::of(&all) else { panic!("rows are objects") };
    let fields: String = columns.iter().map(|(name, it)| it.schema(name)).collect();
    let schema = Arc::new(parse_message_type(&format!("message rows {{ {fields} }}")).unwrap());
    let mut bytes = Vec::new();
    let properties = Arc::new(WriterProperties::builder().set_compression(packing).build());
    let mut writer = SerializedFileWriter::new(&mut bytes, schema, properties).unwrap();
    let mut group = writer.next_row_group().unwrap();
    for (name, node) in &columns {
        let mut leaves = Vec::new();
        for row in rows {
            node.shred(row.get(name).unwrap_or(&Value::Null), Place::default(), &mut leaves, 0);
        }
        for (leaf, node) in leaves.iter().zip(node.leaves()) {
            let mut column = group.next_column().unwrap().unwrap();
            match node {
                Node::Integer => put::<Int64Type>(&mut column, leaf, |it| it.as_i64().unwrap()),
                Node::Float => put::<DoubleType>(&mut column, leaf, |it| it.as_f64().unwrap()),
                Node::Truth => put::<BoolType>(&mut column, leaf, |it| it.as_bool().unwrap()),
                _ => put::<ByteArrayType>(&mut column, leaf, |it| {
                    ByteArray::from(it.as_str().unwrap())
                }),
            }
            column.close().unwrap();
        }
    }
    group.close().unwrap();
    writer.close().unwrap();
    bytes
}

/// A file with one row of texts, whose columns may have the same name.
pub(super) fn write_columns(columns: &[(&str, &str)]) -> Vec<u8> {
    let fields: String =
        columns.iter().map(|(name, _)| format!("REQUIRED BYTE_ARRAY {name} (STRING);")).collect();
    write_row(&fields, |group| {
        for (_, text) in columns {
            let mut column = group.next_column().unwrap().unwrap();
            let values = [ByteArray::from(*text)];
            column.typed::<ByteArrayType>().write_batch(&values, None, None).unwrap();
            column.close().unwrap();
        }
    })
}

/// A file with the question `when?` and a time as the answer.
pub(super) fn write_time(unit: &str, seconds: i64) -> Vec<u8> {
    let fields = format!(
        "REQUIRED BYTE_ARRAY question (STRING); REQUIRED INT64 answer (TIMESTAMP({unit},false));"
    );
    let scale = match unit {
        "MILLIS" => 1_000,
        "MICROS" => 1_000_000,
        _ => 1_000_000_000,
    };
    write_row(&fields, |group| {
        let mut column = group.next_column().unwrap().unwrap();
        let values = [ByteArray::from("when?")];
        column.typed::<ByteArrayType>().write_batch(&values, None, None).unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<Int64Type>().write_batch(&[seconds * scale], None, None).unwrap();
        column.close().unwrap();
    })
}

fn write_row(
    fields: &str,
    fill: impl FnOnce(&mut SerializedRowGroupWriter<'_, &mut Vec<u8>>),
) -> Vec<u8> {
    let schema = Arc::new(parse_message_type(&format!("message rows {{ {fields} }}")).unwrap());
    let mut bytes = Vec::new();
    let mut writer = SerializedFileWriter::new(&mut bytes, schema, Arc::default()).unwrap();
    let mut group = writer.next_row_group().unwrap();
    fill(&mut group);
    group.close().unwrap();
    writer.close().unwrap();
    bytes
}

fn put<T: DataType>(
    column: &mut SerializedColumnWriter<'_>,
    leaf: &Leaf,
    convert: impl Fn(&Value) -> T::T,
) {
    let values: Vec<T::T> = leaf.values.iter().map(convert).collect();
    let typed = column.typed::<T>();
    typed.write_batch(&values, Some(&leaf.definitions), Some(&leaf.repetitions)).unwrap();
}
