//! Opens the file and brings its tables up to date.

use std::{borrow::Cow, fs::File, io, path::Path, time::Duration};

use sqlx::{
    SqlSafeStr, SqlitePool,
    migrate::{MigrateError, Migration, MigrationType, Migrator},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use thiserror::Error;

/// The open file. Cloning shares it.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    pub(super) pool: SqlitePool,
}

/// Why the store could not be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The file cannot be opened.
    #[error("cannot open the database")]
    File(#[from] sqlx::Error),
    /// Its tables cannot be brought up to date; a newer version may have written it.
    #[error("cannot bring the database's tables up to date")]
    Migrate(#[from] MigrateError),
}

impl Store {
    /// Opens `fanlight.db` in the folder, creating it. Several processes may have it open.
    pub(crate) async fn open(folder: &Path) -> Result<Self, OpenError> {
        let options = SqliteConnectOptions::new()
            .filename(folder.join("fanlight.db"))
            .create_if_missing(true)
            .foreign_keys(true)
            .journal_mode(SqliteJournalMode::Wal)
            // With WAL: a power failure loses the last moments, never the file.
            .synchronous(SqliteSynchronous::Normal)
            .busy_timeout(Duration::from_secs(5));
        let pool = SqlitePoolOptions::new()
            .max_connections(4)
            .connect_with(options)
            .await?;
        let lock = lock(folder).await.map_err(sqlx::Error::Io)?;
        migrator().run(&pool).await?;
        drop(lock);
        Ok(Self { pool })
    }

    /// Writes everything back and closes the file.
    pub(crate) async fn close(&self) {
        self.pool.close().await;
    }
}

/// Waits until no other process brings the tables up to date; the lock ends with the returned file.
async fn lock(folder: &Path) -> io::Result<File> {
    let path = folder.join("migrate.lock");
    let locked = tokio::task::spawn_blocking(move || {
        let file = File::create(path)?;
        file.lock()?;
        Ok(file)
    });
    locked
        .await
        .unwrap_or_else(|error| Err(io::Error::other(error)))
}

fn migrator() -> Migrator {
    let migrations = MIGRATIONS.iter().map(|&(version, name, sql)| {
        let (name, sql) = (Cow::Borrowed(name), sql.into_sql_str());
        Migration::new(version, name, MigrationType::Simple, sql, false)
    });
    Migrator::with_migrations(migrations.collect())
}

/// Never changed once released: what is in the files is compared with what was run.
const MIGRATIONS: [(i64, &str, &str); 3] = [
    (
        1,
        "rooms and chat",
        include_str!("../../migrations/0001_rooms_and_chat.sql"),
    ),
    (2, "stage", include_str!("../../migrations/0002_stage.sql")),
    (3, "look", include_str!("../../migrations/0003_look.sql")),
];
