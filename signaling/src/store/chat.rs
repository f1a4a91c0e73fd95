//! The table `chat_messages`.

use sfu::RoomId;
use sqlx::{Row, sqlite::SqliteRow};

use super::Store;
use crate::protocol::ChatMessage;

impl Store {
    /// Keeps a message. Its id must be new in the room.
    pub(crate) async fn add_chat_message(
        &self,
        room: RoomId,
        message: &ChatMessage,
    ) -> Result<(), sqlx::Error> {
        sqlx::query(
            "INSERT INTO chat_messages (room_id, id, identity, name, host, text, at_ms)
             VALUES (?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(room.0.cast_signed())
        .bind(message.id)
        .bind(&message.identity)
        .bind(&message.name)
        .bind(message.host)
        .bind(&message.text)
        .bind(message.at_ms.cast_signed())
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Returns the newest messages, oldest first.
    pub(crate) async fn chat_history(
        &self,
        room: RoomId,
        limit: usize,
    ) -> Result<Vec<ChatMessage>, sqlx::Error> {
        let mut rows = sqlx::query(
            "SELECT id, identity, name, host, text, at_ms FROM chat_messages
             WHERE room_id = ? ORDER BY id DESC LIMIT ?",
        )
        .bind(room.0.cast_signed())
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .fetch_all(&self.pool)
        .await?;
        rows.reverse();
        rows.iter().map(read).collect()
    }

    /// Forgets the messages of a room up to and including this id.
    pub(crate) async fn prune_chat(&self, room: RoomId, up_to: i64) -> Result<(), sqlx::Error> {
        sqlx::query("DELETE FROM chat_messages WHERE room_id = ? AND id <= ?")
            .bind(room.0.cast_signed())
            .bind(up_to)
            .execute(&self.pool)
            .await?;
        Ok(())
    }
}

fn read(row: &SqliteRow) -> Result<ChatMessage, sqlx::Error> {
    Ok(ChatMessage {
        id: row.try_get("id")?,
        identity: row.try_get("identity")?,
        name: row.try_get("name")?,
        host: row.try_get("host")?,
        text: row.try_get("text")?,
        at_ms: row.try_get::<i64, _>("at_ms")?.cast_unsigned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn history_is_the_newest_in_order_and_per_room() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).await.unwrap();
        let one = store.find_or_create_room("one", 0).await.unwrap().id;
        let two = store.find_or_create_room("two", 0).await.unwrap().id;
        for id in 1..=5 {
            store.add_chat_message(one, &message(id)).await.unwrap();
        }
        store.add_chat_message(two, &message(1)).await.unwrap();

        let ids = |messages: Vec<ChatMessage>| messages.iter().map(|m| m.id).collect::<Vec<_>>();
        assert_eq!(ids(store.chat_history(one, 3).await.unwrap()), [3, 4, 5]);
        store.prune_chat(one, 3).await.unwrap();
        assert_eq!(
            store.chat_history(one, 9).await.unwrap(),
            [message(4), message(5)]
        );
        assert_eq!(ids(store.chat_history(two, 9).await.unwrap()), [1]);
        assert!(
            store.add_chat_message(one, &message(5)).await.is_err(),
            "an id is used once"
        );
    }

    fn message(id: i64) -> ChatMessage {
        ChatMessage {
            id,
            identity: "ann".into(),
            name: "Ann 🌻".into(),
            host: true,
            text: "'; DROP TABLE rooms; --".into(),
            at_ms: 1_800_000_000_000,
        }
    }
}
