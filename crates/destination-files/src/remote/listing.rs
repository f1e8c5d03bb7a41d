//! Listings that are remembered for as long as somebody looks at many files.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::names;
use crate::place::Listed;

/// The names in a folder with the sizes of files; none: it is a folder.
pub(crate) type Listing = BTreeMap<String, Option<u64>>;

/// The folders that were listed while there is a view.
#[derive(Clone, Debug, Default)]
pub(crate) struct Listings(Arc<Mutex<Held>>);

#[derive(Debug, Default)]
struct Held {
    views: usize,
    folders: HashMap<PathBuf, Listing>,
}

impl Listings {
    fn lock(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers listings until what is returned is dropped.
    pub(crate) fn hold(&self) -> Box<dyn Listed> {
        self.lock().views += 1;
        Box::new(Hold(self.clone()))
    }

    /// True while listings are remembered.
    pub(crate) fn is_held(&self) -> bool {
        self.lock().views > 0
    }

    /// The listing of a folder, if it is remembered.
    pub(crate) fn get<T>(&self, folder: &Path, look: impl FnOnce(&Listing) -> T) -> Option<T> {
        self.lock().folders.get(folder).map(look)
    }

    /// Remembers a listing, if anybody wants that.
    pub(crate) fn put(&self, folder: &Path, listing: &Listing) {
        let mut held = self.lock();
        if held.views > 0 {
            held.folders.insert(folder.to_owned(), listing.clone());
        }
    }

    /// This process has made, replaced or removed a file.
    pub(crate) fn change(&self, path: &Path, len: Option<u64>) {
        let mut held = self.lock();
        let listing = path
            .parent()
            .and_then(|folder| held.folders.get_mut(folder));
        if let (Some(listing), Some(name)) = (listing, names::of(path)) {
            match len {
                Some(len) => drop(listing.insert(name.to_owned(), Some(len))),
                None => drop(listing.remove(name)),
            }
        }
    }

    /// This process has moved a file.
    pub(crate) fn moved(&self, from: &Path, to: &Path) {
        let len = from.parent().and_then(|folder| {
            let name = names::of(from)?;
            self.get(folder, |listing| listing.get(name).copied())??
        });
        self.change(from, None);
        match len {
            Some(_) => self.change(to, len),
            // Its size is not known: the folder is listed again when it is looked at.
            None => {
                if let Some(folder) = to.parent() {
                    self.lock().folders.remove(folder);
                }
            }
        }
    }
}

#[derive(Debug)]
struct Hold(Listings);

impl Listed for Hold {}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut held = self.0.lock();
        held.views -= 1;
        if held.views == 0 {
            held.folders = HashMap::new();
        }
    }
}
