//! Tokens of the private listener (promise O2).

use tollgate_core::access::{Capabilities, Role};
use tollgate_core::ids::{TenantName, TokenId};
use tollgate_core::limits;
use tollgate_core::portal::{Appearance, NoColour, NoScheme};
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
            "INSERT INTO tokens (digest, name, role, tenant, created_at, created_by, why, expires_at, capabilities, accent, scheme) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
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
            capabilities(token.role).map(|all| all.to_string()),
            token.look.accent.map(|accent| accent.to_string()),
            token.look.scheme.map(|scheme| scheme.as_str()),
        ])?;
    let id = TokenId(transaction.connection.last_insert_rowid());
    if let (Some(_), Some(tenant)) = (capabilities(token.role), &token.tenant) {
        forget(transaction.connection, tenant, token)?;
    }
    transaction.changed.push(Topic::Tokens);
    Ok(id)
}

fn capabilities(role: Role) -> Option<Capabilities> {
    match role {
        Role::Portal(capabilities) => Some(capabilities),
        _ => None,
    }
}

/// Forgets the oldest of a tenant's links that are over, where there are many: a link is made for every visit of somebody. The newest
/// token is the one that was just made, so no number is given twice.
fn forget(connection: &Connection, tenant: &TenantName, made: &NewToken) -> Result<(), Fault> {
    connection
        .prepare_cached(
            "DELETE FROM tokens WHERE id IN (SELECT id FROM tokens WHERE role = 'portal' AND tenant = ?1 \
             AND (revoked_at IS NOT NULL OR expires_at <= ?2) ORDER BY id DESC LIMIT 100 OFFSET ?3)",
        )?
        .execute(params![
            tenant.as_str(),
            made.now.0,
            i64::try_from(limits::PORTAL_LINKS_OVER_MAX).unwrap_or(i64::MAX),
        ])?;
    Ok(())
}

/// All tokens, the newest first.
pub(crate) fn list(view: View<'_>) -> Result<Vec<TokenRecord>, Fault> {
    let mut statement = view.prepare_cached(
        "SELECT id, digest, name, role, tenant, created_at, created_by, why, expires_at, revoked_at, revoked_by, revoked_why, \
         capabilities, accent, scheme FROM tokens ORDER BY id DESC",
    )?;
    let mut found = statement.query([])?;
    let mut tokens = Vec::new();
    while let Some(row) = found.next()? {
        let role: String = get(row, "role")?;
        let tenant: Option<String> = get(row, "tenant")?;
        let damaged = |error: &dyn std::fmt::Display| Fault::damaged("token", error);
        let capabilities: Option<String> = get(row, "capabilities")?;
        let role = match capabilities {
            Some(capabilities) if role == "portal" => {
                Role::Portal(capabilities.parse().map_err(|error: String| damaged(&error))?)
            }
            _ => role.parse().map_err(|error| damaged(&error))?,
        };
        let (accent, scheme): (Option<String>, Option<String>) = (get(row, "accent")?, get(row, "scheme")?);
        let look = Appearance {
            accent: accent
                .map(|text| text.parse())
                .transpose()
                .map_err(|error: NoColour| damaged(&error))?,
            scheme: scheme
                .map(|text| text.parse())
                .transpose()
                .map_err(|error: NoScheme| damaged(&error))?,
        };
        let millis = |column: &'static str| Ok::<_, Fault>(get::<Option<i64>>(row, column)?.map(UnixMillis));
        tokens.push(TokenRecord {
            id: TokenId(get(row, "id")?),
            digest: rows::digest(row, "digest")?,
            name: get(row, "name")?,
            role,
            look,
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
