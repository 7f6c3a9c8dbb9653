//! Behaves, but its manifest is not JSON. Refused by vetting.

use tollgate_guests::{Event, Failure, Guest, Proposal};

struct Component;

impl Guest for Component {
    fn process(_event: Event, _config: String) -> Result<Vec<Proposal>, Failure> {
        Ok(Vec::new())
    }
}

#[used]
#[unsafe(link_section = "tollgate:manifest")]
static MANIFEST: [u8; 8] = *b"{\"name\":";

tollgate_guests::bindings::export_guest!(Component with_types_in tollgate_guests::bindings);
