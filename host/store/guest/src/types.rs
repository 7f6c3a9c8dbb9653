//! Values as SQLite has them, and how Rust's become such.

use crate::{Error, Result};

/// A value of its own.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Null,
    Integer(i64),
    Real(f64),
    Text(String),
    Blob(Vec<u8>),
}

/// A value that is lent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ValueRef<'a> {
    Null,
    Integer(i64),
    Real(f64),
    Text(&'a str),
    Blob(&'a [u8]),
}

impl From<ValueRef<'_>> for Value {
    fn from(value: ValueRef<'_>) -> Self {
        match value {
            ValueRef::Null => Self::Null,
            ValueRef::Integer(number) => Self::Integer(number),
            ValueRef::Real(number) => Self::Real(number),
            ValueRef::Text(text) => Self::Text(text.to_owned()),
            ValueRef::Blob(bytes) => Self::Blob(bytes.to_vec()),
        }
    }
}

impl<'a> From<&'a Value> for ValueRef<'a> {
    fn from(value: &'a Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Integer(number) => Self::Integer(*number),
            Value::Real(number) => Self::Real(*number),
            Value::Text(text) => Self::Text(text),
            Value::Blob(bytes) => Self::Blob(bytes),
        }
    }
}

impl<'a> ValueRef<'a> {
    /// # Errors
    /// When it is no text.
    pub fn as_str(&self) -> FromSqlResult<&'a str> {
        match *self {
            Self::Text(text) => Ok(text),
            _ => Err(FromSqlError::InvalidType),
        }
    }

    /// # Errors
    /// When it is neither text nor NULL.
    pub fn as_str_or_null(&self) -> FromSqlResult<Option<&'a str>> {
        match *self {
            Self::Null => Ok(None),
            _ => self.as_str().map(Some),
        }
    }

    /// # Errors
    /// When it is no BLOB.
    pub fn as_blob(&self) -> FromSqlResult<&'a [u8]> {
        match *self {
            Self::Blob(bytes) => Ok(bytes),
            _ => Err(FromSqlError::InvalidType),
        }
    }
}

/// Why a value is not what was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FromSqlError {
    #[error("it has another type")]
    InvalidType,
    #[error("{0} is out of range")]
    OutOfRange(i64),
    #[error("it has {found} bytes instead of {expected}")]
    InvalidBlobSize { expected: usize, found: usize },
}

impl FromSqlError {
    pub(crate) fn in_column(self, column: &str) -> Error {
        match self {
            Self::InvalidType => Error::InvalidColumnType(column.to_owned(), self.to_string()),
            Self::OutOfRange(number) => Error::IntegralValueOutOfRange(column.to_owned(), number),
            Self::InvalidBlobSize { .. } => Error::FromSqlConversionFailure(column.to_owned(), self.to_string()),
        }
    }
}

pub type FromSqlResult<T> = std::result::Result<T, FromSqlError>;

/// What a value can be read as.
pub trait FromSql: Sized {
    /// # Errors
    /// When it is not one.
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self>;
}

impl FromSql for i64 {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        match value {
            ValueRef::Integer(number) => Ok(number),
            _ => Err(FromSqlError::InvalidType),
        }
    }
}

impl FromSql for u32 {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let number = i64::column_result(value)?;
        number.try_into().map_err(|_| FromSqlError::OutOfRange(number))
    }
}

impl FromSql for bool {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        Ok(i64::column_result(value)? != 0)
    }
}

impl FromSql for String {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        Ok(value.as_str()?.to_owned())
    }
}

impl FromSql for Vec<u8> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        Ok(value.as_blob()?.to_vec())
    }
}

impl<const N: usize> FromSql for [u8; N] {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let bytes = value.as_blob()?;
        bytes.try_into().map_err(|_| FromSqlError::InvalidBlobSize {
            expected: N,
            found: bytes.len(),
        })
    }
}

impl<T: FromSql> FromSql for Option<T> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        match value {
            ValueRef::Null => Ok(None),
            _ => T::column_result(value).map(Some),
        }
    }
}

/// A parameter's value, lent where it can be.
#[derive(Debug, Clone, PartialEq)]
pub enum ToSqlOutput<'a> {
    Borrowed(ValueRef<'a>),
    Owned(Value),
}

impl From<i64> for ToSqlOutput<'_> {
    fn from(number: i64) -> Self {
        Self::Owned(Value::Integer(number))
    }
}

/// What can be a parameter.
pub trait ToSql {
    /// # Errors
    /// When the value cannot be one.
    fn to_sql(&self) -> Result<ToSqlOutput<'_>>;
}

macro_rules! integers {
    ($($integer:ty),+) => {$(
        impl ToSql for $integer {
            fn to_sql(&self) -> Result<ToSqlOutput<'_>> {
                Ok(ToSqlOutput::from(i64::from(*self)))
            }
        }
    )+};
}
integers!(i64, i32, u32, bool);

impl ToSql for str {
    fn to_sql(&self) -> Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(ValueRef::Text(self)))
    }
}

impl ToSql for String {
    fn to_sql(&self) -> Result<ToSqlOutput<'_>> {
        self.as_str().to_sql()
    }
}

impl ToSql for [u8] {
    fn to_sql(&self) -> Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(ValueRef::Blob(self)))
    }
}

impl ToSql for Vec<u8> {
    fn to_sql(&self) -> Result<ToSqlOutput<'_>> {
        self.as_slice().to_sql()
    }
}

impl<T: ToSql> ToSql for Option<T> {
    fn to_sql(&self) -> Result<ToSqlOutput<'_>> {
        match self {
            Some(value) => value.to_sql(),
            None => Ok(ToSqlOutput::Owned(Value::Null)),
        }
    }
}

impl<T: ToSql + ?Sized> ToSql for &T {
    fn to_sql(&self) -> Result<ToSqlOutput<'_>> {
        (**self).to_sql()
    }
}
