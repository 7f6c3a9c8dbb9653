//! Answers with a string that is not UTF-8. Ends `invalid-output`.

use tollgate_guests::{Event, Failure, Guest, Proposal};

struct Component;

impl Guest for Component {
    fn process(_event: Event, _config: String) -> Result<Vec<Proposal>, Failure> {
        // SAFETY: unsound on purpose; the string goes straight to the host.
        Err(Failure::Refuse(unsafe {
            String::from_utf8_unchecked(vec![0xff, 0xfe, 0xfd])
        }))
    }
}

tollgate_guests::guest!(Component, "bad_utf8");
