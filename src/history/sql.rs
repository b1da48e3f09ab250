//! `authtap events --sql`: a question in SQL, which can do nothing but read this one file.
//!
//! Three fences: the file is opened read-only, `query_only` is on, and an authorizer refuses
//! whatever is not reading (ATTACH, PRAGMA, extensions).

use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::types::ValueRef;
use serde_json::Value;

use super::{History, HistoryError};

impl History {
    /// Answers a question: the names of the columns, then each row as JSON values.
    ///
    /// # Errors
    /// It is no SQL, it would do more than read, or the file cannot be read.
    pub fn sql(
        &mut self,
        question: &str,
        columns: &mut dyn FnMut(&[String]) -> std::io::Result<()>,
        row: &mut dyn FnMut(Vec<Value>) -> std::io::Result<()>,
    ) -> Result<(), HistoryError> {
        self.db.authorizer(Some(|context: AuthContext<'_>| match context.action {
            AuthAction::Select | AuthAction::Read { .. } | AuthAction::Recursive => Authorization::Allow,
            AuthAction::Function { function_name } if !function_name.eq_ignore_ascii_case("load_extension") => {
                Authorization::Allow
            }
            _ => Authorization::Deny,
        }))?;
        let mut statement = self.db.prepare(question).map_err(|error| match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::AuthorizationForStatementDenied) => {
                HistoryError::Refused("--sql only reads: write one SELECT over the tables of docs/store.md".into())
            }
            _ => error.into(),
        })?;
        if !statement.readonly() {
            return Err(HistoryError::Refused("--sql only reads: write one SELECT".into()));
        }
        let names: Vec<String> = statement.column_names().map(str::to_owned).collect();
        columns(&names)?;
        let mut rows = statement.query([])?;
        while let Some(found) = rows.next()? {
            let mut values = Vec::with_capacity(names.len());
            for column in 0..names.len() {
                values.push(match found.get_ref(column)? {
                    ValueRef::Null => Value::Null,
                    ValueRef::Integer(number) => number.into(),
                    ValueRef::Real(number) => number.into(),
                    ValueRef::Text(text) => String::from_utf8_lossy(text).into(),
                    ValueRef::Blob(bytes) => bytes.iter().map(|b| format!("{b:02x}")).collect::<String>().into(),
                });
            }
            row(values)?;
        }
        Ok(())
    }
}
