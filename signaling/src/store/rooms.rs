//! The table `rooms`.

use sfu::RoomId;
use sqlx::{Row, sqlite::SqliteRow};

use super::Store;
use crate::{
    look::Look,
    protocol::{Layout, RoomInfo, STAGE_LIMIT, STAGE_SIZE},
};

/// A room as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) id: RoomId,
    pub(crate) slug: String,
    pub(crate) title: String,
    /// Most participants on stage.
    pub(crate) stage_size: u32,
    pub(crate) layout: Layout,
    pub(crate) look: Look,
}

/// What is to change of a room; what is `None` stays.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Change<'a> {
    pub(crate) title: Option<&'a str>,
    pub(crate) stage_size: Option<u32>,
    pub(crate) layout: Option<Layout>,
    pub(crate) look: Option<&'a Look>,
}

impl Record {
    /// Returns the room as it is while nobody is in it.
    pub(crate) fn idle_info(&self) -> RoomInfo {
        RoomInfo {
            slug: self.slug.clone(),
            title: self.title.clone(),
            live: false,
            paused: false,
            live_since_ms: None,
            viewers: 0,
            hls: false,
            stage_size: self.stage_size,
            stage: Vec::new(),
            featured: None,
            layout: self.layout,
            look: Box::new(self.look.shown(&self.slug)),
        }
    }
}

impl Store {
    /// Returns the room with this name.
    pub(crate) async fn find_room(&self, slug: &str) -> Result<Option<Record>, sqlx::Error> {
        let row = sqlx::query("SELECT * FROM rooms WHERE slug = ?")
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
        stage_size: u32,
        now_ms: u64,
    ) -> Result<Option<Record>, sqlx::Error> {
        let row = sqlx::query(
            "INSERT INTO rooms (slug, title, stage_size, created_at_ms) VALUES (?, ?, ?, ?)
             ON CONFLICT (slug) DO NOTHING RETURNING *",
        )
        .bind(slug)
        .bind(title)
        .bind(stage_size)
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
        if let Some(made) = self.create_room(slug, slug, STAGE_SIZE, now_ms).await? {
            return Ok(made);
        }
        self.find_room(slug).await?.ok_or(sqlx::Error::RowNotFound)
    }

    /// Changes a room. Returns `None` when there is none of this id.
    pub(crate) async fn change_room(
        &self,
        id: RoomId,
        change: &Change<'_>,
    ) -> Result<Option<Record>, sqlx::Error> {
        let row = sqlx::query(
            "UPDATE rooms SET title = coalesce(?, title), stage_size = coalesce(?, stage_size),
                 layout = coalesce(?, layout), look = coalesce(?, look)
             WHERE id = ? RETURNING *",
        )
        .bind(change.title)
        .bind(change.stage_size)
        .bind(change.layout.map(layout_word))
        .bind(
            change
                .look
                .map(|look| serde_json::to_string(look).expect("a look is JSON")),
        )
        .bind(id.0.cast_signed())
        .fetch_optional(&self.pool)
        .await?;
        row.as_ref().map(read).transpose()
    }

    /// Returns the newest rooms.
    pub(crate) async fn newest_rooms(&self, limit: u32) -> Result<Vec<Record>, sqlx::Error> {
        let rows = sqlx::query("SELECT * FROM rooms ORDER BY id DESC LIMIT ?")
            .bind(limit)
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(read).collect()
    }
}

fn layout_word(layout: Layout) -> String {
    match serde_json::to_value(layout) {
        Ok(serde_json::Value::String(word)) => word,
        _ => unreachable!("a layout is a JSON string"),
    }
}

fn read(row: &SqliteRow) -> Result<Record, sqlx::Error> {
    Ok(Record {
        id: RoomId(row.try_get::<i64, _>("id")?.cast_unsigned()),
        slug: row.try_get("slug")?,
        title: row.try_get("title")?,
        stage_size: row.try_get::<u32, _>("stage_size")?.clamp(1, STAGE_LIMIT),
        // What a newer version has written is left to it.
        layout: serde_json::from_value(row.try_get::<&str, _>("layout")?.into())
            .unwrap_or_default(),
        look: serde_json::from_str(row.try_get("look")?).unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn names_are_unique_and_outlive_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).await.unwrap();
        let one = store
            .create_room("one", "One", 9, 1)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(store.create_room("one", "Other", 9, 2).await.unwrap(), None);
        assert_eq!(store.find_or_create_room("one", 3).await.unwrap(), one);
        let two = store.find_or_create_room("two", 3).await.unwrap();
        assert_eq!((&*two.title, two.stage_size), ("two", 9));
        let look = Look {
            names: false,
            ..Look::default()
        };
        let change = Change {
            stage_size: Some(4),
            layout: Some(Layout::PictureInPicture),
            look: Some(&look),
            ..Change::default()
        };
        let two = store.change_room(two.id, &change).await.unwrap();
        let two = two.unwrap();
        assert_eq!((two.layout, &two.look), (Layout::PictureInPicture, &look));
        assert_eq!((&*two.title, two.stage_size), ("two", 4));
        store.close().await;

        let store = Store::open(folder.path()).await.unwrap();
        assert_eq!(store.find_room("one").await.unwrap().as_ref(), Some(&one));
        assert_eq!(store.newest_rooms(9).await.unwrap(), [two, one]);
        assert_eq!(store.find_room("three").await.unwrap(), None);
    }
}
