//! A limit on the idle connections of several pools together: the one that has been idle longest is closed first.

use std::cell::RefCell;
use std::rc::{Rc, Weak};

use slab::Slab;

/// The idle connections of a group of pools on one reactor, in the order in which they became idle.
///
/// Entering and leaving take one step each, however many there are: the entries are a linked list.
pub struct IdleGroup {
    limit: usize,
    list: RefCell<List>,
}

/// An owner of idle connections that are in an [`IdleGroup`].
pub(crate) trait GroupMember {
    /// Closes the idle connection with that key. Returns false if it has none.
    fn evict(&self, key: usize) -> bool;
}

#[derive(Default)]
struct List {
    entries: Slab<Entry>,
    oldest: Option<usize>,
    newest: Option<usize>,
}

struct Entry {
    owner: Weak<dyn GroupMember>,
    older: Option<usize>,
    newer: Option<usize>,
}

impl List {
    fn push(&mut self, owner: Weak<dyn GroupMember>) -> usize {
        let key = self.entries.insert(Entry { owner, older: self.newest, newer: None });
        self.link(self.newest, Some(key));
        self.link(Some(key), None);
        key
    }

    fn remove(&mut self, key: usize) -> Option<Entry> {
        let entry = self.entries.try_remove(key)?;
        self.link(entry.older, entry.newer);
        Some(entry)
    }

    /// Makes two entries neighbours; `None` means the end of the list on that side.
    fn link(&mut self, older: Option<usize>, newer: Option<usize>) {
        match older.and_then(|key| self.entries.get_mut(key)) {
            Some(entry) => entry.newer = newer,
            None => self.oldest = newer,
        }
        match newer.and_then(|key| self.entries.get_mut(key)) {
            Some(entry) => entry.older = older,
            None => self.newest = older,
        }
    }
}

impl IdleGroup {
    /// Creates a group that keeps at most `limit` connections idle; 0 closes each one after its response.
    pub fn new(limit: usize) -> Rc<Self> {
        Rc::new(IdleGroup { limit, list: RefCell::default() })
    }

    /// Returns the number of idle connections.
    pub fn idle(&self) -> usize {
        self.list.borrow().entries.len()
    }

    /// Adds a connection that has just become idle. It counts until the returned entry is dropped.
    ///
    /// Nothing is closed here, since the caller may hold a borrow: [`close_excess`](IdleGroup::close_excess) does that.
    pub(crate) fn enter(self: &Rc<Self>, owner: Weak<dyn GroupMember>) -> IdlePlace {
        IdlePlace { key: self.list.borrow_mut().push(owner), group: self.clone() }
    }

    /// Closes the oldest connections as long as there are more than `limit`. Must be called without any borrow: closing
    /// may run code of the program, which may call any pool of the group.
    pub(crate) fn close_excess(&self) {
        while let Some((key, owner)) = self.excess() {
            // An owner that is being dropped takes its connections with it.
            if !owner.upgrade().is_some_and(|owner| owner.evict(key)) {
                break;
            }
        }
    }

    fn excess(&self) -> Option<(usize, Weak<dyn GroupMember>)> {
        let list = self.list.borrow();
        if list.entries.len() <= self.limit {
            return None;
        }
        let key = list.oldest?;
        list.entries.get(key).map(|entry| (key, entry.owner.clone()))
    }
}

/// Entry of one idle connection in its group; dropping it leaves the group.
pub(crate) struct IdlePlace {
    group: Rc<IdleGroup>,
    key: usize,
}

impl IdlePlace {
    pub(crate) fn key(&self) -> usize {
        self.key
    }
}

impl Drop for IdlePlace {
    fn drop(&mut self) {
        let removed = self.group.list.borrow_mut().remove(self.key);
        drop(removed);
    }
}

#[cfg(test)]
#[allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    /// Keeps places, and notes the order in which it has to close them.
    #[derive(Default)]
    struct Owner {
        places: RefCell<Vec<(char, IdlePlace)>>,
        evicted: RefCell<String>,
    }

    impl GroupMember for Owner {
        fn evict(&self, key: usize) -> bool {
            let position = self.places.borrow().iter().position(|(_, place)| place.key() == key);
            let evicted = position.map(|position| self.places.borrow_mut().remove(position));
            evicted.inspect(|(name, _)| self.evicted.borrow_mut().push(*name)).is_some()
        }
    }

    fn enter(group: &Rc<IdleGroup>, owner: &Rc<Owner>, names: &str) {
        for name in names.chars() {
            let owner_of = Rc::downgrade(owner) as Weak<dyn GroupMember>;
            owner.places.borrow_mut().push((name, group.enter(owner_of)));
        }
    }

    #[test]
    fn test_close_excess_over_the_limit_evicts_the_oldest_first() {
        let (group, owner) = (IdleGroup::new(3), Rc::new(Owner::default()));
        enter(&group, &owner, "abcdef");
        group.close_excess();
        assert_eq!((owner.evicted.take().as_str(), group.idle()), ("abc", 3));
        // One from the middle, one from either end, and a key that is used again.
        owner.places.borrow_mut().remove(1);
        enter(&group, &owner, "g");
        owner.places.borrow_mut().remove(0);
        owner.places.borrow_mut().pop();
        enter(&group, &owner, "hijk");
        group.close_excess();
        assert_eq!((owner.evicted.take().as_str(), group.idle()), ("fh", 3));
        owner.places.borrow_mut().clear();
        assert_eq!(group.idle(), 0);
        enter(&group, &owner, "l");
        group.close_excess();
        assert_eq!((owner.evicted.take().as_str(), group.idle()), ("", 1));
    }

    #[test]
    fn test_close_excess_with_an_owner_that_does_not_answer_ends() {
        let (group, owner) = (IdleGroup::new(0), Rc::new(Owner::default()));
        enter(&group, &owner, "a");
        let place = owner.places.borrow_mut().pop();
        group.close_excess();
        assert_eq!(group.idle(), 1);
        drop(owner);
        group.close_excess();
        assert_eq!(group.idle(), 1);
        drop(place);
        assert_eq!(group.idle(), 0);
    }
}
