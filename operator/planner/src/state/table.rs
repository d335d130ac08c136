//! Tables of rows that are found by name or by a small number, and that may be referred to before
//! they are known.

use std::collections::hash_map::Entry;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;

use rustc_hash::FxHashMap;

use daylight_base::Name;

/// The number of a row of type `T`.
///
/// Numbers depend on the order in which rows were added, so nothing that decides a plan may compare
/// them.
pub(crate) struct Id<T>(u32, PhantomData<fn() -> T>);

impl<T> Clone for Id<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Id<T> {}
impl<T> PartialEq for Id<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}
impl<T> Eq for Id<T> {}
impl<T> PartialOrd for Id<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl<T> Ord for Id<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.cmp(&other.0)
    }
}
impl<T> Hash for Id<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}
impl<T> fmt::Debug for Id<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// Rows of type `T`.
#[derive(Clone, Debug)]
pub(crate) struct Table<T> {
    ids: FxHashMap<Name, Id<T>>,
    rows: Vec<Option<(Name, T)>>,
    free: Vec<u32>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { ids: FxHashMap::default(), rows: Vec::new(), free: Vec::new() }
    }
}

impl<T> Table<T> {
    pub(crate) fn find(&self, name: &str) -> Option<Id<T>> {
        self.ids.get(name).copied()
    }

    /// Reserves memory for `rows` more rows.
    pub(crate) fn reserve(&mut self, rows: usize) {
        self.ids.reserve(rows);
        self.rows.reserve(rows);
    }

    /// Adds a row that is found by `name`.
    ///
    /// # Errors
    ///
    /// The number of the row that already has this name, and the row given.
    pub(crate) fn insert_new(&mut self, name: &Name, row: T) -> Result<Id<T>, (Id<T>, T)> {
        let vacant = match self.ids.entry(name.clone()) {
            Entry::Occupied(entry) => return Err((*entry.get(), row)),
            Entry::Vacant(vacant) => vacant,
        };
        let row = Some((name.clone(), row));
        let id = if let Some(index) = self.free.pop() {
            self.rows[index as usize] = row;
            Id(index, PhantomData)
        } else {
            self.rows.push(row);
            Id((self.rows.len() - 1) as u32, PhantomData)
        };
        vacant.insert(id);
        Ok(id)
    }

    /// Adds a row that is found by `name`.
    pub(crate) fn insert(&mut self, name: &Name, row: T) -> Id<T> {
        let id = self.insert_unnamed(name, row);
        self.ids.insert(name.clone(), id);
        id
    }

    /// Adds a row that is found by its number only.
    pub(crate) fn insert_unnamed(&mut self, name: &Name, row: T) -> Id<T> {
        let row = Some((name.clone(), row));
        if let Some(index) = self.free.pop() {
            self.rows[index as usize] = row;
            Id(index, PhantomData)
        } else {
            self.rows.push(row);
            Id((self.rows.len() - 1) as u32, PhantomData)
        }
    }

    /// Makes a row that was added without a name findable by it.
    pub(crate) fn name_row(&mut self, id: Id<T>) {
        let name = self.name(id).clone();
        self.ids.insert(name, id);
    }

    pub(crate) fn remove(&mut self, id: Id<T>) -> Option<T> {
        let (name, row) = self.rows[id.0 as usize].take()?;
        if self.ids.get(&name) == Some(&id) {
            self.ids.remove(&name);
        }
        self.free.push(id.0);
        Some(row)
    }

    pub(crate) fn name(&self, id: Id<T>) -> &Name {
        &self.row(id).0
    }

    /// Returns all rows, in an order that must not decide anything.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Id<T>, &Name, &T)> {
        self.rows.iter().enumerate().filter_map(|(index, row)| {
            row.as_ref().map(|(name, row)| (Id(index as u32, PhantomData), name, row))
        })
    }

    fn row(&self, id: Id<T>) -> &(Name, T) {
        self.rows[id.0 as usize].as_ref().expect("an id is used only while its row lives")
    }
}

impl<T: Default> Table<T> {
    /// Returns the row of that name; adds an empty one if there is none.
    pub(crate) fn entry(&mut self, name: &Name) -> Id<T> {
        match self.find(name) {
            Some(id) => id,
            None => self.insert(name, T::default()),
        }
    }
}

impl<T> std::ops::Index<Id<T>> for Table<T> {
    type Output = T;

    fn index(&self, id: Id<T>) -> &T {
        &self.row(id).1
    }
}

impl<T> std::ops::IndexMut<Id<T>> for Table<T> {
    fn index_mut(&mut self, id: Id<T>) -> &mut T {
        &mut self.rows[id.0 as usize].as_mut().expect("an id is used only while its row lives").1
    }
}
