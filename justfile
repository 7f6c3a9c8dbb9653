# What people type most often; `cargo xtask` lists everything.

# Builds all and shows signed events on their way from intake to actions.
demo *arguments:
    cargo xtask demo {{arguments}}

# All tests, or those whose names contain FILTER.
test *filter:
    cargo xtask test {{filter}}

# Format, lints, documentation, licences, purity.
ci:
    cargo xtask ci

# Breaks things and counts what was lost; without a name it lists the campaigns.
campaign *arguments:
    cargo xtask campaign {{arguments}}
