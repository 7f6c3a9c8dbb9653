//! Makes NaNs in several ways and flags with their bits as reasons. Ends `completed`, with the same canonical bits
//! (`7ff8000000000000`, `7fc00000`) on every machine.

use tollgate_guests::{Event, Failure, Guest, Proposal, flag};

struct Component;

impl Guest for Component {
    fn process(event: Event, _config: String) -> Result<Vec<Proposal>, Failure> {
        use std::hint::black_box;
        let zero = black_box(0.0_f64);
        let quotient = zero / black_box(0.0);
        let negated = black_box(-zero) / zero;
        let difference = f64::INFINITY - black_box(f64::INFINITY);
        let payload = f64::from_bits(black_box(0xfff8_0000_dead_beef)) + zero;
        let narrow = black_box(0.0_f32) / black_box(0.0_f32);
        let mut reasons: Vec<String> = [quotient, negated, difference, payload]
            .iter()
            .map(|nan| format!("{:016x}", nan.to_bits()))
            .collect();
        reasons.push(format!("{:08x}", narrow.to_bits()));
        Ok(vec![flag(&format!("nan:{}", event.id), 1, reasons)])
    }
}

tollgate_guests::guest!(Component, "nan");
