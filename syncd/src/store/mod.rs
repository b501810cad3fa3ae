//! A folder's database on redb.
