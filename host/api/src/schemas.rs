//! The schemas of what a call takes and gives, for the document that is made of the calls.

use schemars::{JsonSchema, Schema, SchemaGenerator};

/// What the types of a call are as schemas.
pub(crate) struct Schemas {
    pub(crate) path: fn(&mut SchemaGenerator) -> Schema,
    pub(crate) query: fn(&mut SchemaGenerator) -> Schema,
    pub(crate) body: fn(&mut SchemaGenerator) -> Schema,
    pub(crate) answer: fn(&mut SchemaGenerator) -> Schema,
}

impl Schemas {
    pub(crate) const fn of<P: JsonSchema, Q: JsonSchema, B: JsonSchema, A: JsonSchema>() -> Self {
        Self {
            // Each field of the struct is a parameter of its own.
            path: P::json_schema,
            query: Q::json_schema,
            body: SchemaGenerator::subschema_for::<B>,
            answer: SchemaGenerator::subschema_for::<A>,
        }
    }
}
