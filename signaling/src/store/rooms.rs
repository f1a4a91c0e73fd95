//! The table `rooms`.

use sfu::RoomId;
use sqlx::{Row, sqlite::SqliteRow};

use super::Store;

/// A room as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) id: RoomId,
    pub(crate) slug: String,
    pub(crate) title: String,
}

impl Store {
    /// Returns the room with this name.
    pub(crate) async fn find_room(&self, slug: &str) -> Result<Option<Record>, sqlx::Error> {
        let row = sqlx::query("SELECT id, slug, title FROM rooms WHERE slug = ?")
            .bind(slug)
            .fetch_optional(&self.pool)
            .await?;
        row.as_ref().map(read).transpose()
    }

    /// Makes a room. Returns `None` when there is one of this name.
    pub(crate) async fn create_room(
        &self,
        slug: &str,
        title: &str,
        now_ms: u64,
    ) -> Result<Option<Record>, sqlx::Error> {
        let row = sqlx::query(
            "INSERT INTO rooms (slug, title, created_at_ms) VALUES (?, ?, ?)
             ON CONFLICT (slug) DO NOTHING RETURNING id, slug, title",
        )
        .bind(slug)
        .bind(title)
        .bind(now_ms.cast_signed())
        .fetch_optional(&self.pool)
        .await?;
        row.as_ref().map(read).transpose()
    }

    /// Returns the room with this name, making it when there is none.
    pub(crate) async fn find_or_create_room(
        &self,
        slug: &str,
        now_ms: u64,
    ) -> Result<Record, sqlx::Error> {
        if let Some(found) = self.find_room(slug).await? {
            return Ok(found);
        }
        if let Some(made) = self.create_room(slug, slug, now_ms).await? {
            return Ok(made);
        }
        self.find_room(slug).await?.ok_or(sqlx::Error::RowNotFound)
    }

    /// Returns the newest rooms.
    pub(crate) async fn newest_rooms(&self, limit: u32) -> Result<Vec<Record>, sqlx::Error> {
        let rows = sqlx::query("SELECT id, slug, title FROM rooms ORDER BY id DESC LIMIT ?")
            .bind(limit)
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(read).collect()
    }
}

fn read(row: &SqliteRow) -> Result<Record, sqlx::Error> {
    Ok(Record {
        id: RoomId(row.try_get::<i64, _>("id")?.cast_unsigned()),
        slug: row.try_get("slug")?,
        title: row.try_get("title")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn names_are_unique_and_outlive_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).await.unwrap();
        let one = store.create_room("one", "One", 1).await.unwrap().unwrap();
        assert_eq!(store.create_room("one", "Other", 2).await.unwrap(), None);
        assert_eq!(store.find_or_create_room("one", 3).await.unwrap(), one);
        let two = store.find_or_create_room("two", 3).await.unwrap();
        assert_eq!(two.title, "two");
        store.close().await;

        let store = Store::open(folder.path()).await.unwrap();
        assert_eq!(store.find_room("one").await.unwrap().as_ref(), Some(&one));
        assert_eq!(store.newest_rooms(9).await.unwrap(), [two, one]);
        assert_eq!(store.find_room("three").await.unwrap(), None);
    }
}
