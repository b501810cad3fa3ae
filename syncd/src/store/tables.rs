//! The tables of a folder's database. Keys and values are bytes, numbers and fixed arrays only: their encoding in
//! the file does not change with redb's versions. A path's key is `codec::path_key`, so tables sort as paths do.

use redb::{ReadableTable, Table, TableDefinition, WriteTransaction};

/// Bytes to bytes.
type Bytes = TableDefinition<'static, &'static [u8], &'static [u8]>;
/// A set of byte strings.
type Set = TableDefinition<'static, &'static [u8], ()>;

/// Path to `have` with its sequence number.
pub(super) const ROWS: Bytes = TableDefinition::new("rows");
/// Path to wants, apart from the rows so that pending work is found without reading the tree.
pub(super) const WANTS: Bytes = TableDefinition::new("wants");
/// Path to the receive-only finding.
pub(super) const LOCALS: Bytes = TableDefinition::new("locals");
/// Sequence number to path.
pub(super) const SEQUENCES: TableDefinition<'static, u64, &'static [u8]> = TableDefinition::new("sequences");
/// Content hash to packed chunk list.
pub(super) const MANIFESTS: TableDefinition<'static, &'static [u8; 32], &'static [u8]> =
    TableDefinition::new("manifests");
/// `codec::holder_key` of every live file.
pub(super) const HOLDERS: Set = TableDefinition::new("holders");
/// The same for wanted files whose chunk list is not in the entry: what keeps a manifest alive.
pub(super) const WANTERS: Set = TableDefinition::new("wanters");
/// Device id to cursor.
pub(super) const PEERS: TableDefinition<'static, &'static [u8; 32], &'static [u8]> = TableDefinition::new("peers");
/// Device id and replica id to the run and sequence number that are remembered of it.
pub(super) const REMEMBERED: TableDefinition<'static, &'static [u8; 40], &'static [u8]> =
    TableDefinition::new("remembered");
/// Action id to the action that may have reached the tree.
pub(super) const INSTALLING: TableDefinition<'static, u64, &'static [u8]> = TableDefinition::new("installing");
/// Action id to the displaced object.
pub(super) const HELD: TableDefinition<'static, u64, &'static [u8]> = TableDefinition::new("held");
/// Schema version and tally.
pub(super) const META: TableDefinition<'static, &'static str, &'static [u8]> = TableDefinition::new("meta");

/// Row of `META`: the version of this layout, four little-endian bytes, readable by every version.
pub(super) const META_SCHEMA: &str = "schema";
/// Row of `META`: the `Tally`.
pub(super) const META_TALLY: &str = "tally";

/// Row of `META`: the `History`; none before the first run.
pub(super) const META_HISTORY: &str = "history";

/// Every table, open for writing, once per transaction.
pub(super) struct Tables<'t> {
    pub(super) rows: Table<'t, &'static [u8], &'static [u8]>,
    pub(super) wants: Table<'t, &'static [u8], &'static [u8]>,
    pub(super) locals: Table<'t, &'static [u8], &'static [u8]>,
    pub(super) sequences: Table<'t, u64, &'static [u8]>,
    pub(super) manifests: Table<'t, &'static [u8; 32], &'static [u8]>,
    pub(super) holders: Table<'t, &'static [u8], ()>,
    pub(super) wanters: Table<'t, &'static [u8], ()>,
    pub(super) peers: Table<'t, &'static [u8; 32], &'static [u8]>,
    pub(super) remembered: Table<'t, &'static [u8; 40], &'static [u8]>,
    pub(super) installing: Table<'t, u64, &'static [u8]>,
    pub(super) held: Table<'t, u64, &'static [u8]>,
    pub(super) meta: Table<'t, &'static str, &'static [u8]>,
}

impl<'t> Tables<'t> {
    /// Opens all, and makes those that do not exist.
    pub(super) fn open(txn: &'t WriteTransaction) -> Result<Self, redb::TableError> {
        Ok(Self {
            rows: txn.open_table(ROWS)?,
            wants: txn.open_table(WANTS)?,
            locals: txn.open_table(LOCALS)?,
            sequences: txn.open_table(SEQUENCES)?,
            manifests: txn.open_table(MANIFESTS)?,
            holders: txn.open_table(HOLDERS)?,
            wanters: txn.open_table(WANTERS)?,
            peers: txn.open_table(PEERS)?,
            remembered: txn.open_table(REMEMBERED)?,
            installing: txn.open_table(INSTALLING)?,
            held: txn.open_table(HELD)?,
            meta: txn.open_table(META)?,
        })
    }
}

/// Whether `set` has a key that starts with `prefix`.
pub(super) fn any_with_prefix(
    set: &impl ReadableTable<&'static [u8], ()>,
    prefix: &[u8],
) -> Result<bool, redb::StorageError> {
    match set.range::<&[u8]>(prefix..)?.next() {
        Some(found) => Ok(found?.0.value().starts_with(prefix)),
        None => Ok(false),
    }
}
