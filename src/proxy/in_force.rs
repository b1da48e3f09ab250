//! The configuration in force, as one traffic thread sees it.
//!
//! Every request holds the configuration that it began with to its end. The threads share it, and what is
//! shared costs atomic operations: seven to take it while others of the thread hold it too, two to give it
//! back. Here a thread has a count of its own, and asks only whether there is a newer one.
//!
//! The invariant: whoever asks after a reload gets the new one. An old one lives as long as somebody holds
//! it, and on a thread without requests until its next look, [`InForce::get`], which is made each second.

use std::cell::RefCell;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;

use arc_swap::{ArcSwap, Cache};

use super::handler::Live;

/// See the module.
pub struct InForce(RefCell<Seen>);

struct Seen {
    source: Cache<Arc<ArcSwap<Live>>, Arc<Live>>,
    held: Rc<Held>,
}

/// A configuration, for whoever on this thread holds it.
pub struct Held(Arc<Live>);

impl Deref for Held {
    type Target = Live;

    fn deref(&self) -> &Live {
        &self.0
    }
}

impl InForce {
    /// What is in force in `source`.
    pub fn new(source: Arc<ArcSwap<Live>>) -> InForce {
        let mut source = Cache::new(source);
        let held = Rc::new(Held(source.load().clone()));
        InForce(RefCell::new(Seen { source, held }))
    }

    /// The configuration of whoever begins now.
    pub fn get(&self) -> Rc<Held> {
        let Seen { source, held } = &mut *self.0.borrow_mut();
        let newest = source.load();
        if !Arc::ptr_eq(newest, &held.0) {
            *held = Rc::new(Held(newest.clone()));
        }
        held.clone()
    }
}
