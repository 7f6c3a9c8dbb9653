//! Quarantine: a version that fails again and again on a route is not run there any more (promise P6).
//!
//! One failed run is no reason for it; many failed runs in a row are.

use crate::outcome::Fault;

/// The outcome of a run that was not made, because its plugin is in quarantine.
pub const OUTCOME: &str = "quarantined";

/// How many faults in a row are enough for quarantine, unless the operator says another number.
pub const FAULTS_MAX: u32 = 20;

/// Whether a fault speaks against the plugin. What the host did does not.
pub fn counts(fault: Fault) -> bool {
    match fault {
        Fault::InvalidOutput
        | Fault::OutOfFuel
        | Fault::Deadline
        | Fault::Memory
        | Fault::OutputTooBig
        | Fault::Trap => true,
        Fault::HostFault => false,
    }
}

/// Faults of one version on one route, one after the other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Row(u32);

impl Row {
    /// So many faults in a row, as a store has counted them.
    pub fn of(faults: u32) -> Self {
        Self(faults)
    }

    /// How many there are in a row.
    pub fn faults(self) -> u32 {
        self.0
    }

    /// Adds a run that ended with `fault`, or with none. Returns how many there are in a row if they are now enough for quarantine.
    /// `faults_max` 0 never is.
    pub fn add(&mut self, fault: Option<Fault>, faults_max: u32) -> Option<u32> {
        match fault {
            Some(fault) if counts(fault) => {
                self.0 = self.0.saturating_add(1);
                (faults_max > 0 && self.0 >= faults_max).then_some(self.0)
            }
            // Neither for nor against it.
            Some(_) => None,
            None => {
                self.0 = 0;
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p6_only_a_row_of_the_plugin_s_own_faults_is_enough() {
        let mut row = Row::default();
        assert_eq!(row.add(Some(Fault::Trap), 3), None);
        assert_eq!(row.add(Some(Fault::OutOfFuel), 3), None);
        assert_eq!(row.add(Some(Fault::HostFault), 3), None, "the host's does not count");
        assert_eq!(row.add(None, 3), None);
        assert_eq!(
            row.add(Some(Fault::Trap), 3),
            None,
            "one that went well begins the row anew"
        );
        assert_eq!(row.add(Some(Fault::Deadline), 3), None);
        assert_eq!(row.add(Some(Fault::Memory), 3), Some(3));
        assert_eq!(Row::of(row.faults()), row, "a row may be kept elsewhere");
        let mut never = Row::default();
        assert!((0..1000).all(|_| never.add(Some(Fault::Trap), 0).is_none()));
    }
}
