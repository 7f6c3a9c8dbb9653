//! The tenants' pieces, each read once in an invocation: an edit has no effect before the app is started anew.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use tollgate_core::ids::TenantName;
use tollgate_spin_shell::tenants;
use tollgate_tenants::Work;

#[derive(Default)]
pub(crate) struct Tenants(RefCell<BTreeMap<TenantName, Rc<Work>>>);

impl Tenants {
    /// `Ok(None)` when there is no such tenant.
    ///
    /// # Errors
    /// In words, when its piece cannot be read.
    pub(crate) fn get(&self, tenant: &TenantName) -> Result<Option<Rc<Work>>, String> {
        if let Some(known) = self.0.borrow().get(tenant) {
            return Ok(Some(Rc::clone(known)));
        }
        let Some(read) = tenants::work(tenant)?.map(Rc::new) else {
            return Ok(None);
        };
        self.0.borrow_mut().insert(tenant.clone(), Rc::clone(&read));
        Ok(Some(read))
    }
}
