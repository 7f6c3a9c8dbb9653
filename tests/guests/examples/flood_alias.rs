//! Answers with 4000 strings that are all the same 64 KiB of its memory: 256 MB to lift out of a small guest.
//! Ends `output-too-big`.

use tollgate_guests::{Event, Failure, Guest, Proposal, flag};

struct Component;

impl Guest for Component {
    fn process(_event: Event, _config: String) -> Result<Vec<Proposal>, Failure> {
        let bytes = Vec::leak(vec![b'x'; 64 * 1024]);
        let reasons = (0..4000)
            .map(|_| {
                // SAFETY: it is unsound to drop or change these strings, and nobody does: they are handed to the host as they
                // are, and the run ends there.
                unsafe { String::from_raw_parts(bytes.as_mut_ptr(), bytes.len(), bytes.len()) }
            })
            .collect();
        Ok(vec![flag("flood", 1, reasons)])
    }
}

tollgate_guests::guest!(Component, "flood_alias");
