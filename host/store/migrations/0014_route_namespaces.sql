-- Schema 14. Under which namespace each route records its operations: whoever moves a route to another hears that what it did before is
-- not recognised there. A route that was removed keeps its row, and comes back to it.
CREATE TABLE route_namespaces (
    tenant    TEXT NOT NULL,
    route     TEXT NOT NULL,
    namespace TEXT NOT NULL,
    since     INTEGER NOT NULL,
    PRIMARY KEY (tenant, route)
) STRICT, WITHOUT ROWID;
INSERT INTO route_namespaces (tenant, route, namespace, since) SELECT tenant, route, plugin, changed_at FROM plugin_bindings;
