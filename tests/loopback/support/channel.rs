//! A data channel of a peer: JSON up and down.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use serde_json::Value;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::timeout,
};
use webrtc::data_channel::{DataChannel, DataChannelEvent};

use super::wait;

/// One end of a data channel.
pub(crate) struct Channel {
    channel: Arc<dyn DataChannel>,
    open: watch::Receiver<bool>,
    messages: mpsc::Receiver<Value>,
    passed_over: VecDeque<Value>,
    _reader: JoinSet<()>,
}

impl Channel {
    pub(crate) fn new(channel: Arc<dyn DataChannel>) -> Self {
        let (opened, open) = watch::channel(false);
        let (incoming, messages) = mpsc::channel(1024);
        let mut reader = JoinSet::new();
        reader.spawn({
            let channel = Arc::clone(&channel);
            async move {
                while let Some(event) = channel.poll().await {
                    if matches!(event, DataChannelEvent::OnOpen) {
                        opened.send_replace(true);
                    }
                    if let DataChannelEvent::OnMessage(message) = event {
                        let value = serde_json::from_slice(&message.data).unwrap();
                        if incoming.send(value).await.is_err() {
                            return;
                        }
                    }
                }
            }
        });
        Self {
            channel,
            open,
            messages,
            passed_over: VecDeque::new(),
            _reader: reader,
        }
    }

    /// Sends a text message, once the channel is open.
    pub(crate) async fn send(&mut self, text: &str) {
        timeout(wait::PATIENCE, self.open.wait_for(|open| *open))
            .await
            .expect("the data channel opens")
            .unwrap();
        self.channel.send_text(text).await.unwrap();
    }

    /// Returns the next message for which `wanted` holds; the ones before it stay for later calls.
    pub(crate) async fn next(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        if let Some(at) = self.passed_over.iter().position(&wanted) {
            return self.passed_over.remove(at).unwrap();
        }
        let deadline = tokio::time::Instant::now() + wait::PATIENCE;
        loop {
            match tokio::time::timeout_at(deadline, self.messages.recv()).await {
                Ok(Some(message)) if wanted(&message) => return message,
                Ok(Some(message)) => self.passed_over.push_back(message),
                Ok(None) => panic!("channel ended before {what}; had: {:?}", self.passed_over),
                Err(_) => panic!("no {what} on the channel; had: {:?}", self.passed_over),
            }
        }
    }

    /// Returns what has arrived within `time` and was not asked for.
    pub(crate) async fn rest(&mut self, time: Duration) -> Vec<Value> {
        let deadline = tokio::time::Instant::now() + time;
        while let Ok(Some(message)) = tokio::time::timeout_at(deadline, self.messages.recv()).await
        {
            self.passed_over.push_back(message);
        }
        self.passed_over.drain(..).collect()
    }
}
