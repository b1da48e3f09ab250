//! Events as a Parquet file: a flat table, a column for each common value and the whole event
//! beside them.
//!
//! The columns are read from the line as it is sent, so what a sink may not see (`fields`) is in
//! none. All of them are optional. The order and the names of [`COLUMNS`] are a promise to whoever
//! queries the files: columns are only added, at the end. The same events always make the same
//! bytes.

use std::sync::Arc;

use parquet::basic::{Compression, LogicalType, Repetition, TimeUnit, TimestampType, Type as Physical};
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DoubleType, Int32Type, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use parquet::schema::types::Type;
use serde_json::Value;

use crate::event::Timestamp;
use crate::format::tree::Tree;
use crate::sinks::SinkError;
use crate::spool::Stored;

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holds {
    /// UTF-8 text.
    Text,
    /// Milliseconds since 1970 in UTC, from a text of RFC 3339.
    Time,
    /// A number of 32 bits.
    Int,
    /// A number of 64 bits.
    Long,
    /// A floating-point number.
    Double,
    /// True or false.
    Truth,
    /// The whole event as JSON.
    Event,
}

/// The columns: name, what it holds, and where that stands in the native event.
pub const COLUMNS: &[(&str, Holds, &str)] = &[
    ("id", Holds::Text, "/id"),
    ("timestamp", Holds::Time, "/timestamp"),
    ("event_type", Holds::Text, "/event_type"),
    ("outcome", Holds::Text, "/outcome"),
    ("reason", Holds::Text, "/reason"),
    ("actor_id", Holds::Text, "/actor/id"),
    ("actor_email", Holds::Text, "/actor/email"),
    ("actor_login", Holds::Text, "/actor/login"),
    ("actor_type", Holds::Text, "/actor/type"),
    ("target_type", Holds::Text, "/target/type"),
    ("target_id", Holds::Text, "/target/id"),
    ("target_email", Holds::Text, "/target/email"),
    ("organization", Holds::Text, "/organization/id"),
    ("ip_address", Holds::Text, "/metadata/ip_address"),
    ("user_agent", Holds::Text, "/metadata/user_agent"),
    ("method", Holds::Text, "/metadata/method"),
    ("provider", Holds::Text, "/metadata/provider"),
    ("session_id", Holds::Text, "/metadata/session_id"),
    ("country", Holds::Text, "/metadata/geo/country"),
    ("region", Holds::Text, "/metadata/geo/region"),
    ("city", Holds::Text, "/metadata/geo/city"),
    ("latitude", Holds::Double, "/metadata/geo/latitude"),
    ("longitude", Holds::Double, "/metadata/geo/longitude"),
    ("asn", Holds::Long, "/metadata/network/asn"),
    ("network", Holds::Text, "/metadata/network/organization"),
    ("browser", Holds::Text, "/metadata/client/browser"),
    ("os", Holds::Text, "/metadata/client/os"),
    ("device", Holds::Text, "/metadata/client/device"),
    ("bot", Holds::Truth, "/metadata/client/bot"),
    ("ja4", Holds::Text, "/metadata/tls/ja4"),
    ("request_id", Holds::Text, "/metadata/request/id"),
    ("request_method", Holds::Text, "/metadata/request/method"),
    ("host", Holds::Text, "/metadata/request/host"),
    ("path", Holds::Text, "/metadata/request/path"),
    ("status", Holds::Int, "/metadata/request/status"),
    ("duration_ms", Holds::Double, "/metadata/request/duration_ms"),
    ("route", Holds::Text, "/source/route"),
    ("rule", Holds::Text, "/source/rule"),
    ("preset", Holds::Text, "/source/preset"),
    ("mode", Holds::Text, "/source/mode"),
    ("confidence", Holds::Double, "/source/confidence"),
    ("schema_version", Holds::Int, "/schema_version"),
    ("event", Holds::Event, ""),
];

/// A file with one row for each event, in order.
///
/// # Errors
/// The writer failed, which it has no reason to; what it says may hold a value and is not repeated.
pub fn file(run: &[Stored]) -> Result<Vec<u8>, SinkError> {
    write(run).map_err(|_| SinkError::Other("cannot write Parquet".into()))
}

fn write(run: &[Stored]) -> Result<Vec<u8>, ParquetError> {
    let trees: Vec<Option<Tree>> = run.iter().map(|one| Tree::parse(&one.line).ok()).collect();
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_created_by(concat!("authtap ", env!("CARGO_PKG_VERSION")).to_owned())
        .build();
    let mut writer = SerializedFileWriter::new(Vec::new(), schema()?, Arc::new(properties))?;
    let mut rows = writer.next_row_group()?;
    for (_, holds, pointer) in COLUMNS {
        let Some(mut column) = rows.next_column()? else { break };
        let values = trees.iter().map(|tree| tree.as_ref()?.leaf(pointer));
        match holds {
            Holds::Text => fill::<ByteArrayType>(&mut column, values.map(|value| Some(value?.as_str()?.into())))?,
            Holds::Time => {
                let time = |value: &Value| Timestamp::parse(value.as_str()?).map(Timestamp::as_millis);
                fill::<Int64Type>(&mut column, values.map(|value| value.and_then(time)))?;
            }
            Holds::Int => {
                let int = |value: &Value| i32::try_from(value.as_i64()?).ok();
                fill::<Int32Type>(&mut column, values.map(|value| value.and_then(int)))?;
            }
            Holds::Long => fill::<Int64Type>(&mut column, values.map(|value| value.and_then(Value::as_i64)))?,
            Holds::Double => fill::<DoubleType>(&mut column, values.map(|value| value.and_then(Value::as_f64)))?,
            Holds::Truth => fill::<BoolType>(&mut column, values.map(|value| value.and_then(Value::as_bool)))?,
            Holds::Event => {
                fill::<ByteArrayType>(&mut column, run.iter().map(|one| Some(ByteArray::from(&*one.line))))?;
            }
        }
        column.close()?;
    }
    rows.close()?;
    writer.into_inner()
}

/// Writes all values of a column; what is absent is null.
fn fill<T: parquet::data_type::DataType>(
    column: &mut SerializedColumnWriter<'_>,
    values: impl Iterator<Item = Option<T::T>>,
) -> Result<(), ParquetError> {
    let mut there = Vec::new();
    let levels: Vec<i16> = values
        .map(|value| {
            let level = i16::from(value.is_some());
            there.extend(value);
            level
        })
        .collect();
    column.typed::<T>().write_batch(&there, Some(&levels), None)?;
    Ok(())
}

fn schema() -> Result<Arc<Type>, ParquetError> {
    let mut fields = Vec::with_capacity(COLUMNS.len());
    for (name, holds, _) in COLUMNS {
        let (physical, logical) = match holds {
            Holds::Text => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
            Holds::Event => (Physical::BYTE_ARRAY, Some(LogicalType::Json)),
            Holds::Time => {
                let unit = TimeUnit::MILLIS;
                (Physical::INT64, Some(LogicalType::Timestamp(TimestampType { is_adjusted_to_u_t_c: true, unit })))
            }
            Holds::Int => (Physical::INT32, None),
            Holds::Long => (Physical::INT64, None),
            Holds::Double => (Physical::DOUBLE, None),
            Holds::Truth => (Physical::BOOLEAN, None),
        };
        let column = Type::primitive_type_builder(name, physical)
            .with_repetition(Repetition::OPTIONAL)
            .with_logical_type(logical)
            .build()?;
        fields.push(Arc::new(column));
    }
    Ok(Arc::new(Type::group_type_builder("event").with_fields(fields).build()?))
}
