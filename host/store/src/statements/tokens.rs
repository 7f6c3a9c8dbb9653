//! Tokens of the private listener (promise O2).

use tollgate_core::ids::TokenId;
use tollgate_core::time::UnixMillis;

use super::fault::Fault;
use super::receipts::View;
use super::rows::{self, get};
use super::transaction::Transaction;
use crate::sql::{Connection, OptionalExtension as _, params};
use crate::{NewToken, Revocation, TokenRecord, Topic};

/// Keeps a token.
pub(crate) fn issue(transaction: &mut Transaction<'_>, token: &NewToken) -> Result<TokenId, Fault> {
    transaction
        .connection
        .prepare_cached(
            "INSERT INTO tokens (digest, name, role, tenant, created_at, created_by, why, expires_at) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute(params![
            token.digest.0.as_slice(),
            token.name,
            token.role.as_str(),
            token.tenant.as_ref().map(|tenant| tenant.as_str()),
            token.now.0,
            token.created_by,
            token.why,
            token.expires_at.map(|at| at.0),
        ])?;
    transaction.changed.push(Topic::Tokens);
    Ok(TokenId(transaction.connection.last_insert_rowid()))
}

/// All tokens, the newest first.
pub(crate) fn list(view: View<'_>) -> Result<Vec<TokenRecord>, Fault> {
    let mut statement = view.prepare_cached(
        "SELECT id, digest, name, role, tenant, created_at, created_by, why, expires_at, revoked_at, revoked_by, revoked_why \
         FROM tokens ORDER BY id DESC",
    )?;
    let mut found = statement.query([])?;
    let mut tokens = Vec::new();
    while let Some(row) = found.next()? {
        let role: String = get(row, "role")?;
        let tenant: Option<String> = get(row, "tenant")?;
        let millis = |column: &'static str| Ok::<_, Fault>(get::<Option<i64>>(row, column)?.map(UnixMillis));
        tokens.push(TokenRecord {
            id: TokenId(get(row, "id")?),
            digest: rows::digest(row, "digest")?,
            name: get(row, "name")?,
            role: role.parse().map_err(|error| Fault::damaged("token", error))?,
            tenant: tenant
                .map(|name| name.parse())
                .transpose()
                .map_err(|error| Fault::damaged("token", error))?,
            created_at: rows::millis(row, "created_at")?,
            created_by: get(row, "created_by")?,
            why: get(row, "why")?,
            expires_at: millis("expires_at")?,
            revoked: millis("revoked_at")?
                .map(|at| {
                    Ok::<_, Fault>(Revocation {
                        by: get(row, "revoked_by")?,
                        why: get(row, "revoked_why")?,
                        at,
                    })
                })
                .transpose()?,
        });
    }
    Ok(tokens)
}

/// Ends a token. Returns whether it was not ended before.
pub(crate) fn revoke(transaction: &mut Transaction<'_>, id: TokenId, end: &Revocation) -> Result<bool, Fault> {
    let connection: &Connection = transaction.connection;
    let exists = connection
        .prepare_cached("SELECT 1 FROM tokens WHERE id = ?1")?
        .query_row([id.0], |_| Ok(()))
        .optional()?
        .is_some();
    if !exists {
        return Err(Fault::NotFound(id.to_string()));
    }
    let changed = connection
        .prepare_cached(
            "UPDATE tokens SET revoked_at = ?2, revoked_by = ?3, revoked_why = ?4 WHERE id = ?1 AND revoked_at IS NULL",
        )?
        .changed(params![id.0, end.at.0, end.by, end.why])?;
    transaction.changed.push(Topic::Tokens);
    Ok(changed == 1)
}
