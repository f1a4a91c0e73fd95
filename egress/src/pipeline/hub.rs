//! Hands every frame of the programme to every output.

use std::{
    collections::BTreeMap,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use sfu::MediaKind;

use super::{Air, Clock, Frame, program::Program};

/// Takes the programme's frames. Called with the hub locked: must not block.
pub(crate) trait Output: Send {
    /// The programme starts over, or ends.
    fn switch(&mut self, air: Air);
    /// The next frame. Times of one kind only grow.
    fn push(&mut self, frame: &Frame);
    /// A frame of a lower rendition, if the output makes use of them. Times are on the same timeline.
    fn push_layer(&mut self, _frame: &Frame) {}
}

/// The programme and its outputs.
pub(crate) struct Hub {
    clock: Clock,
    state: Mutex<State>,
    switched: Condvar,
}

struct State {
    program: Program,
    air: Air,
    outputs: Vec<(u64, Box<dyn Output>)>,
    next_output: u64,
    /// What a still is made of.
    last_keyframe: Option<Frame>,
    /// The frames since the newest keyframe, with which an output starts at once. At most [`RECENT_LIMIT`];
    /// when there are more, an output waits for the next keyframe.
    recent: Vec<Frame>,
    /// The same of each lower rendition: what begins with a programme may come before the frame that starts it.
    recent_layers: BTreeMap<u8, Vec<Frame>>,
    last_times: [Option<Duration>; 2],
    /// When a packet last arrived for the composer, whose own frames come all the time.
    composed_of: Option<Duration>,
    /// The most that a frame came out after its time, in this second and the one before.
    lateness: [(u64, Duration); 2],
}

/// Takes its output out of the hub when dropped.
pub(crate) struct Attached {
    hub: Arc<Hub>,
    output: u64,
}

/// What stands in for missing media.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Due {
    /// Where the programme starts: sound begins here if none has come.
    pub(crate) since: Duration,
    /// Sound reaches at least this time.
    pub(crate) sound_until: Duration,
}

impl Hub {
    pub(crate) fn new(hold: Duration, audio_only: bool, clock: Clock) -> Arc<Self> {
        Arc::new(Self {
            clock,
            state: Mutex::new(State {
                program: Program::new(hold, audio_only),
                air: Air::Off,
                outputs: Vec::new(),
                next_output: 0,
                last_keyframe: None,
                recent: Vec::new(),
                recent_layers: BTreeMap::new(),
                last_times: [None; 2],
                composed_of: None,
                lateness: <[(u64, Duration); 2]>::default(),
            }),
            switched: Condvar::new(),
        })
    }

    pub(crate) fn air(&self) -> Air {
        self.lock().air
    }

    pub(crate) fn is_receiving(&self) -> bool {
        let now = self.clock.now();
        let state = self.lock();
        match state.composed_of {
            Some(last) => now < last + Duration::from_secs(1),
            None => state.program.is_receiving(now),
        }
    }

    /// Takes in that a packet has arrived of what the programme is composed of.
    pub(crate) fn handle_input(&self) {
        self.lock().composed_of = Some(self.clock.now());
    }

    /// Returns whether there is no broadcast, not even one about to go on air.
    pub(crate) fn is_off(&self) -> bool {
        self.lock().program.is_off()
    }

    /// Returns how long after its time the latest frame of the last seconds came.
    pub(crate) fn lateness(&self) -> Duration {
        let second = self.clock.now().as_secs();
        let state = self.lock();
        let lately = state.lateness.iter().filter(|(at, _)| at + 1 >= second);
        lately.map(|(_, late)| *late).max().unwrap_or_default()
    }

    /// Waits at most `timeout` for something to be on air, and returns what is.
    pub(crate) fn wait_on_air(&self, timeout: Duration) -> Air {
        let state = self.lock();
        let (state, _) = self
            .switched
            .wait_timeout_while(state, timeout, |state| state.air == Air::Off)
            .unwrap_or_else(PoisonError::into_inner);
        state.air
    }

    /// Hands frames to `output` until the returned guard is dropped.
    pub(crate) fn attach(self: &Arc<Self>, mut output: Box<dyn Output>) -> Attached {
        let mut state = self.lock();
        output.switch(state.air);
        let id = state.next_output;
        state.next_output += 1;
        state.outputs.push((id, output));
        Attached {
            hub: self.clone(),
            output: id,
        }
    }

    /// Like [`Self::attach`], but begins with the newest keyframe and what followed it.
    pub(crate) fn attach_at_keyframe(self: &Arc<Self>, mut output: Box<dyn Output>) -> Attached {
        let mut state = self.lock();
        output.switch(state.air);
        for frame in &state.recent {
            output.push(frame);
        }
        let id = state.next_output;
        state.next_output += 1;
        state.outputs.push((id, output));
        Attached {
            hub: self.clone(),
            output: id,
        }
    }

    /// Takes in that a packet has arrived.
    pub(crate) fn handle_packet(&self, kind: MediaKind) {
        self.lock().program.handle_packet(kind, self.clock.now());
    }

    /// Takes in that a packet has arrived of a picture that cannot be read.
    pub(crate) fn handle_unreadable(&self) {
        self.lock().program.handle_unreadable(self.clock.now());
    }

    /// Returns whether nothing is on air because the picture that comes cannot be read.
    pub(crate) fn is_unreadable(&self) -> bool {
        self.lock().program.is_unreadable()
    }

    /// Takes in a frame.
    pub(crate) fn handle_frame(&self, frame: Frame) {
        let now = self.clock.now();
        let mut state = self.lock();
        let wanted = state
            .program
            .handle_frame(frame.kind, frame.keyframe, frame.time, now);
        self.follow_program(&mut state);
        if wanted {
            state.note_lateness(now.saturating_sub(frame.time), now);
            if frame.kind == MediaKind::Video && frame.keyframe {
                state.last_keyframe = Some(frame.clone());
            }
            state.deliver(frame);
        }
    }

    /// Takes in a frame of a lower rendition: it decides nothing, and outputs that want it get it.
    pub(crate) fn handle_layer(&self, frame: &Frame) {
        let mut state = self.lock();
        if let Air::On { video: true, .. } = state.air {
            for (_, output) in &mut state.outputs {
                output.push_layer(frame);
            }
        }
        state.keep_layer(frame);
    }

    /// Does what is due. `None` while nothing is on air.
    pub(crate) fn handle_timeout(&self) -> Option<Due> {
        let now = self.clock.now();
        let mut state = self.lock();
        let still = state.program.handle_timeout(now);
        self.follow_program(&mut state);
        if let (Some(time), Some(mut frame)) = (still, state.last_keyframe.clone()) {
            frame.time = time;
            state.deliver(frame);
        }
        Some(Due {
            since: state.program.on_air_since()?,
            sound_until: state.program.sound_until(now),
        })
    }

    fn follow_program(&self, state: &mut State) {
        let air = state.program.air();
        if air == state.air {
            return;
        }
        state.air = air;
        state.last_keyframe = None;
        state.recent.clear();
        let has_video = matches!(air, Air::On { video: true, .. });
        for (_, output) in &mut state.outputs {
            output.switch(air);
            if has_video {
                let layers = state.recent_layers.values().flatten();
                layers.for_each(|frame| output.push_layer(frame));
            }
        }
        if air == Air::Off {
            state.recent_layers.clear();
        }
        self.switched.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn note_lateness(&mut self, late: Duration, now: Duration) {
        let second = now.as_secs();
        let [newest, before] = &mut self.lateness;
        if newest.0 == second {
            newest.1 = newest.1.max(late);
        } else {
            *before = std::mem::replace(newest, (second, late));
        }
    }

    fn keep_layer(&mut self, frame: &Frame) {
        let recent = self.recent_layers.entry(frame.rendition).or_default();
        if frame.keyframe || recent.len() >= RECENT_LIMIT {
            recent.clear();
        }
        if frame.keyframe || !recent.is_empty() {
            recent.push(frame.clone());
        }
    }

    fn deliver(&mut self, mut frame: Frame) {
        let last = &mut self.last_times[usize::from(frame.kind == MediaKind::Video)];
        // The mapping from RTP time to the clock is refined now and then, and may step back a little.
        if let Some(last) = *last {
            frame.time = frame.time.max(last + Duration::from_millis(1));
        }
        *last = Some(frame.time);
        if frame.kind == MediaKind::Video && frame.keyframe {
            self.recent.clear();
        }
        let started = self
            .recent
            .first()
            .is_some_and(|first| first.kind == MediaKind::Video);
        let begins = frame.kind == MediaKind::Video && frame.keyframe;
        if self.recent.len() >= RECENT_LIMIT {
            self.recent.clear();
        } else if started || begins {
            self.recent.push(frame.clone());
        }
        for (_, output) in &mut self.outputs {
            output.push(&frame);
        }
    }
}

/// Over four seconds of 60 frames and 47 blocks of sound each.
const RECENT_LIMIT: usize = 512;

impl Drop for Attached {
    fn drop(&mut self) {
        let gone = {
            let mut state = self.hub.lock();
            let at = state.outputs.iter().position(|(id, _)| *id == self.output);
            at.map(|at| state.outputs.swap_remove(at))
        };
        drop(gone);
    }
}

#[cfg(test)]
mod tests {
    use gstreamer as gst;

    use super::*;

    /// A programme that starts, or a frame: its rendition and its time in ms.
    type Note = Option<(u8, u64)>;

    /// Notes what it gets.
    struct Notes(Arc<Mutex<Vec<Note>>>);

    impl Notes {
        fn add(&self, note: Note) {
            self.0.lock().unwrap().push(note);
        }

        fn add_frame(&self, frame: &Frame) {
            let ms = u64::try_from(frame.time.as_millis()).unwrap();
            self.add(Some((frame.rendition, ms)));
        }
    }

    impl Output for Notes {
        fn switch(&mut self, air: Air) {
            if air != Air::Off {
                self.add(None);
            }
        }

        fn push(&mut self, frame: &Frame) {
            self.add_frame(frame);
        }

        fn push_layer(&mut self, frame: &Frame) {
            self.add_frame(frame);
        }
    }

    fn picture(rendition: u8, ms: u64, keyframe: bool) -> Frame {
        gst::init().unwrap();
        Frame {
            kind: MediaKind::Video,
            rendition,
            time: Duration::from_millis(ms),
            keyframe,
            buffer: gst::Buffer::new(),
            caps: gst::Caps::new_empty(),
        }
    }

    #[test]
    fn what_lower_layers_sent_before_the_frame_that_starts_the_programme_is_not_lost() {
        let clock = Clock::start();
        let hub = Hub::new(Duration::from_secs(5), false, clock);
        let notes = Arc::default();
        let attached = hub.attach(Box::new(Notes(Arc::clone(&notes))));
        hub.handle_packet(MediaKind::Video);
        for (layer, ms, keyframe) in [(1, 10, false), (1, 20, true), (2, 21, true), (1, 53, false)]
        {
            hub.handle_layer(&picture(layer, ms, keyframe));
        }
        hub.handle_frame(picture(0, 20, true));
        hub.handle_layer(&picture(1, 86, false));
        let seen = notes.lock().unwrap().clone();
        let frames = [(1, 20), (1, 53), (2, 21), (0, 20), (1, 86)].map(Some);
        assert_eq!(seen, [&[None][..], &frames].concat());
        drop(attached);
    }
}
