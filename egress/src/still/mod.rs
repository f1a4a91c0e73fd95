//! Pictures of broadcasts and recordings: one child process with few rights decodes a keyframe to JPEG.
//!
//! What broadcasters send is never decoded in the server's own process.

mod child;
mod decode;
mod worker;

pub(crate) use decode::Picture;
pub use worker::run_still_worker;

use std::{
    path::PathBuf,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread,
};

use tokio::sync::oneshot;

use child::Child;
use decode::Request;

/// Makes pictures. Cheap to clone; the process is started on demand and ends with the last clone.
#[derive(Clone, Debug)]
pub(crate) struct Stills {
    /// At most [`QUEUE_LIMIT`] requests wait. When full, live pictures are left out and recordings wait.
    requests: SyncSender<Order>,
}

/// A request, and where its answer goes.
#[derive(Debug)]
struct Order {
    request: Request,
    answer: oneshot::Sender<Option<Vec<u8>>>,
}

impl Stills {
    /// Starts the thread that runs `program still-worker` when there is something to do.
    pub(crate) fn start(program: PathBuf) -> Self {
        let (requests, orders) = sync_channel(QUEUE_LIMIT);
        thread::spawn(move || serve(program, &orders));
        Self { requests }
    }

    /// Returns `picture` as JPEG; `None` when it cannot be decoded, or too much is waiting.
    pub(crate) async fn decode(&self, picture: Picture, width: u16) -> Option<Vec<u8>> {
        let (answer, answered) = oneshot::channel();
        let request = Request::decode(picture, width, None);
        self.requests.try_send(Order { request, answer }).ok()?;
        answered.await.ok()?
    }

    /// Likewise, but waits for its turn. With a height, the picture is fitted into both. Blocks.
    pub(crate) fn decode_waiting(
        &self,
        picture: Picture,
        width: u16,
        height: Option<u16>,
    ) -> Option<Vec<u8>> {
        self.ask(Request::decode(picture, width, height))
    }

    /// Puts pictures of this size (JPEG; an empty one leaves its place black) on one sheet. Blocks.
    pub(crate) fn sheet(
        &self,
        tiles: &[Vec<u8>],
        size: (u16, u16),
        columns: usize,
    ) -> Option<Vec<u8>> {
        self.ask(Request::sheet(tiles, size, columns))
    }

    fn ask(&self, request: Request) -> Option<Vec<u8>> {
        let (answer, answered) = oneshot::channel();
        self.requests.send(Order { request, answer }).ok()?;
        answered.blocking_recv().ok()?
    }
}

fn serve(program: PathBuf, orders: &Receiver<Order>) {
    let mut child = Child::new(program);
    for order in orders {
        // Nobody waits for a picture whose asker is gone.
        if !order.answer.is_closed() {
            let _ = order.answer.send(child.ask(&order.request));
        }
    }
}

const QUEUE_LIMIT: usize = 16;
