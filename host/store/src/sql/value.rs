//! Values as SQLite has them, and how Rust's become such.

/// A value of its own.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// SQL's NULL.
    Null,
    /// A whole number of up to 8 bytes.
    Integer(i64),
    /// A floating-point number.
    Real(f64),
    /// UTF-8.
    Text(String),
    /// Bytes.
    Blob(Vec<u8>),
}

/// A value that is lent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum ValueRef<'a> {
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
    pub(crate) fn as_str(&self) -> Result<&'a str, NotThat> {
        match *self {
            Self::Text(text) => Ok(text),
            _ => Err(NotThat::Type),
        }
    }

    pub(crate) fn as_str_or_null(&self) -> Result<Option<&'a str>, NotThat> {
        match *self {
            Self::Null => Ok(None),
            _ => self.as_str().map(Some),
        }
    }

    pub(crate) fn as_blob(&self) -> Result<&'a [u8], NotThat> {
        match *self {
            Self::Blob(bytes) => Ok(bytes),
            _ => Err(NotThat::Type),
        }
    }
}

/// Why a value is not what was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotThat {
    #[error("it has another type")]
    Type,
    #[error("{0} is out of range")]
    OutOfRange(i64),
    #[error("it has {found} bytes instead of {expected}")]
    Length { expected: usize, found: usize },
}

/// What a value can be read as.
pub(crate) trait FromSql: Sized {
    /// # Errors
    /// When it is not one.
    fn of(value: ValueRef<'_>) -> Result<Self, NotThat>;
}

impl FromSql for bool {
    fn of(value: ValueRef<'_>) -> Result<Self, NotThat> {
        Ok(i64::of(value)? != 0)
    }
}

impl FromSql for String {
    fn of(value: ValueRef<'_>) -> Result<Self, NotThat> {
        Ok(value.as_str()?.to_owned())
    }
}

impl FromSql for Vec<u8> {
    fn of(value: ValueRef<'_>) -> Result<Self, NotThat> {
        Ok(value.as_blob()?.to_vec())
    }
}

impl<const N: usize> FromSql for [u8; N] {
    fn of(value: ValueRef<'_>) -> Result<Self, NotThat> {
        let bytes = value.as_blob()?;
        bytes.try_into().map_err(|_| NotThat::Length {
            expected: N,
            found: bytes.len(),
        })
    }
}

impl<T: FromSql> FromSql for Option<T> {
    fn of(value: ValueRef<'_>) -> Result<Self, NotThat> {
        match value {
            ValueRef::Null => Ok(None),
            _ => T::of(value).map(Some),
        }
    }
}

/// What can be a parameter.
pub(crate) trait ToSql {
    fn to_sql(&self) -> ValueRef<'_>;
}

macro_rules! integers {
    ($($integer:ty),+) => {$(
        impl FromSql for $integer {
            fn of(value: ValueRef<'_>) -> Result<Self, NotThat> {
                match value {
                    ValueRef::Integer(number) => number.try_into().map_err(|_| NotThat::OutOfRange(number)),
                    _ => Err(NotThat::Type),
                }
            }
        }

        impl ToSql for $integer {
            fn to_sql(&self) -> ValueRef<'_> {
                ValueRef::Integer(i64::from(*self))
            }
        }
    )+};
}
integers!(i64, i32, u32, u16);

impl ToSql for ValueRef<'_> {
    fn to_sql(&self) -> ValueRef<'_> {
        *self
    }
}

impl ToSql for bool {
    fn to_sql(&self) -> ValueRef<'_> {
        ValueRef::Integer(i64::from(*self))
    }
}

impl ToSql for str {
    fn to_sql(&self) -> ValueRef<'_> {
        ValueRef::Text(self)
    }
}

impl ToSql for String {
    fn to_sql(&self) -> ValueRef<'_> {
        ValueRef::Text(self)
    }
}

impl ToSql for [u8] {
    fn to_sql(&self) -> ValueRef<'_> {
        ValueRef::Blob(self)
    }
}

impl ToSql for Vec<u8> {
    fn to_sql(&self) -> ValueRef<'_> {
        ValueRef::Blob(self)
    }
}

impl<T: ToSql> ToSql for Option<T> {
    fn to_sql(&self) -> ValueRef<'_> {
        self.as_ref().map_or(ValueRef::Null, T::to_sql)
    }
}

impl<T: ToSql + ?Sized> ToSql for &T {
    fn to_sql(&self) -> ValueRef<'_> {
        (**self).to_sql()
    }
}
