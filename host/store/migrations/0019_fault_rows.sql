-- Schema 19. Runs in a row that ended in a fault of the plugin's, by version and route, for hosts that remember nothing from one request to the
-- next. A run that goes well removes the row, and so does a quarantine.
CREATE TABLE fault_rows (
    tenant TEXT NOT NULL,
    route  TEXT NOT NULL,
    digest BLOB NOT NULL,
    faults INTEGER NOT NULL,
    PRIMARY KEY (tenant, route, digest)
) STRICT, WITHOUT ROWID;
