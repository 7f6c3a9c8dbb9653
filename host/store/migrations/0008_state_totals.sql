-- Schema 8. How much state a plugin has for a tenant, all keys together: what a route's quota bounds.
CREATE TABLE plugin_state_totals (
    tenant TEXT NOT NULL,
    plugin TEXT NOT NULL,
    bytes  INTEGER NOT NULL,             -- keys and values
    PRIMARY KEY (tenant, plugin)
) STRICT, WITHOUT ROWID;
INSERT INTO plugin_state_totals (tenant, plugin, bytes)
    SELECT tenant, plugin, sum(length(CAST(key AS BLOB)) + length(value)) FROM plugin_state GROUP BY tenant, plugin;
