//! Opening the file, and what its errors mean to us.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use ::redb::backends::FileBackend;
use ::redb::{
    Builder, CommitError, Database, DatabaseError, ReadTransaction, ReadableDatabase,
    StorageBackend, StorageError, TableDefinition, TableError, TransactionError, WriteTransaction,
};

use crate::StoreError;

/// A table of the file: bytes to bytes, see `keys`.
pub(super) type Table = TableDefinition<'static, &'static [u8], &'static [u8]>;

pub(super) const CELLS: Table = TableDefinition::new("cells");
pub(super) const PARTS: Table = TableDefinition::new("parts");
pub(super) const HISTORY: Table = TableDefinition::new("history");
const META: TableDefinition<'static, &'static str, u64> = TableDefinition::new("meta");

/// The format of everything in the file, under this name in `meta`.
const FORMAT: &str = "format";
const FORMAT_NOW: u64 = 1;

/// The number of the last batch, under this name in `meta`: tells whether a commit that failed was done.
const BATCH: &str = "batch";

/// Bytes of pages kept in memory.
const CACHE: usize = 64 * 1024 * 1024;

/// Files up to this size are read and checked whole at each opening, which takes a fraction of a second;
/// larger ones only after a crash.
const CHECK_MAX: u64 = 256 * 1024 * 1024;

type Opener = dyn Fn(&Builder, File) -> Result<Database, DatabaseError> + Send + Sync;

/// Where the file is, and how it is opened.
pub(super) struct Place {
    path: PathBuf,
    opener: Box<Opener>,
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.path, f)
    }
}

impl Place {
    pub(super) fn new(path: &Path) -> Self {
        Place {
            path: path.to_owned(),
            opener: Box::new(|builder, file| builder.create_with_backend(FileBackend::new(file)?)),
        }
    }

    /// With another backend than the file itself.
    pub(super) fn on<B: StorageBackend>(
        path: &Path,
        backend: impl Fn(File) -> io::Result<B> + Send + Sync + 'static,
    ) -> Self {
        Place {
            path: path.to_owned(),
            opener: Box::new(move |builder, file| builder.create_with_backend(backend(file)?)),
        }
    }

    fn name(&self) -> String {
        self.path.display().to_string()
    }

    /// Opens the file, makes it when there is none, checks what it is.
    pub(super) fn open(&self) -> Result<Database, StoreError> {
        let open = || {
            if let Some(parent) = self.path.parent() {
                std::fs::create_dir_all(parent)?;
            }
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(&self.path)?;
            let len = file.metadata()?.len();
            Ok((file, len))
        };
        let (file, len) = open().map_err(|err| self.io(&err))?;
        let mut builder = Builder::new();
        builder
            .set_cache_size(CACHE)
            .set_check_integrity_on_open(len > 0 && len <= CHECK_MAX);
        let db = (self.opener)(&builder, file).map_err(|err| match err {
            DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => {
                StoreError::InUse { place: self.name() }
            }
            DatabaseError::UpgradeRequired(_) => {
                self.unreadable("the file has an older release's format", OLDER)
            }
            DatabaseError::Storage(err) => self.error(err),
            err => self.unreadable(&err.to_string(), DAMAGED),
        })?;
        self.check_format(&db)?;
        Ok(db)
    }

    fn check_format(&self, db: &Database) -> Result<(), StoreError> {
        let read = self.read(db)?;
        let known = read
            .list_tables()
            .map_err(|err| self.error(err))?
            .next()
            .is_some();
        if !known {
            return self.make_tables(db);
        }
        let not_ours = || {
            self.unreadable(
                "it is a redb file, but not a store of OnAir",
                "name another file",
            )
        };
        let format = match read.open_table(META) {
            Ok(meta) => self.number(&meta, FORMAT)?.ok_or_else(not_ours)?,
            Err(TableError::Storage(err)) => return Err(self.error(err)),
            Err(_) => return Err(not_ours()),
        };
        match format {
            FORMAT_NOW => Ok(()),
            newer if newer > FORMAT_NOW => Err(self.unreadable(
                &format!("it has format {newer}, this release knows {FORMAT_NOW}"),
                "use the release that wrote it, or an empty --data-dir (everything is then scanned again)",
            )),
            older => Err(self.unreadable(
                &format!("it has format {older}, this release needs {FORMAT_NOW}"),
                OLDER,
            )),
        }
    }

    /// All tables at once: a file has all of them or none.
    fn make_tables(&self, db: &Database) -> Result<(), StoreError> {
        let write = self.write(db)?;
        for table in [CELLS, PARTS, HISTORY] {
            write.open_table(table).map_err(|err| self.table(err))?;
        }
        write
            .open_table(META)
            .map_err(|err| self.table(err))?
            .insert(FORMAT, FORMAT_NOW)
            .map_err(|err| self.error(err))?;
        write.commit().map_err(|err| self.commit(err))
    }

    /// The number of the last batch that is in the file.
    pub(super) fn last_batch(&self, db: &Database) -> Result<u64, StoreError> {
        let read = self.read(db)?;
        let meta = read.open_table(META).map_err(|err| self.table(err))?;
        Ok(self.number(&meta, BATCH)?.unwrap_or(0))
    }

    /// Numbers the batch that `write` will commit.
    pub(super) fn next_batch(&self, write: &WriteTransaction) -> Result<u64, StoreError> {
        let mut meta = write.open_table(META).map_err(|err| self.table(err))?;
        let number = self.number(&meta, BATCH)?.unwrap_or(0) + 1;
        meta.insert(BATCH, number).map_err(|err| self.error(err))?;
        Ok(number)
    }

    fn number(
        &self,
        meta: &impl ::redb::ReadableTable<&'static str, u64>,
        name: &str,
    ) -> Result<Option<u64>, StoreError> {
        let number = meta.get(name).map_err(|err| self.error(err))?;
        Ok(number.map(|number| number.value()))
    }

    pub(super) fn read(&self, db: &Database) -> Result<ReadTransaction, StoreError> {
        db.begin_read().map_err(|err| self.begin(err))
    }

    pub(super) fn write(&self, db: &Database) -> Result<WriteTransaction, StoreError> {
        db.begin_write().map_err(|err| self.begin(err))
    }

    fn begin(&self, err: TransactionError) -> StoreError {
        match err {
            TransactionError::Storage(err) => self.error(err),
            err => self.unavailable(&err),
        }
    }

    pub(super) fn table(&self, err: TableError) -> StoreError {
        match err {
            TableError::Storage(err) => self.error(err),
            err => self.unreadable(&err.to_string(), DAMAGED),
        }
    }

    pub(super) fn commit(&self, err: CommitError) -> StoreError {
        match err {
            CommitError::Storage(err) => self.error(err),
            err => self.unavailable(&err),
        }
    }

    /// What an error of the storage means; for a commit, only after it is known that nothing was done.
    pub(super) fn error(&self, err: StorageError) -> StoreError {
        match err {
            StorageError::Io(err) => self.io(&err),
            StorageError::Corrupted(reason) => {
                self.unreadable(&format!("damaged: {reason}"), DAMAGED)
            }
            err => self.unavailable(&err),
        }
    }

    fn io(&self, err: &io::Error) -> StoreError {
        match err.kind() {
            io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::FileTooLarge => StoreError::Full {
                place: self.name(),
                reason: err.to_string(),
            },
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
                self.unreadable(&format!("not a store, or damaged: {err}"), DAMAGED)
            }
            _ => self.unavailable(err),
        }
    }

    fn unavailable(&self, err: &dyn fmt::Display) -> StoreError {
        StoreError::Unavailable {
            reason: format!("{}: {err}", self.path.display()),
        }
    }

    fn unreadable(&self, reason: &str, remedy: &str) -> StoreError {
        StoreError::Unreadable {
            place: self.name(),
            reason: reason.to_owned(),
            remedy: remedy.to_owned(),
        }
    }

    /// A value whose checksum differs.
    pub(super) fn damaged(&self, what: impl fmt::Display) -> StoreError {
        self.unreadable(&format!("damaged: {what}"), DAMAGED)
    }
}

const DAMAGED: &str =
    "put a copy of the file back, or use an empty --data-dir (everything is then scanned again)";
const OLDER: &str =
    "use the release that wrote it, or an empty --data-dir (everything is then scanned again)";
